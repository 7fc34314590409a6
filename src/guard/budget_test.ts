import assert from "node:assert/strict";
import fc from "fast-check";
import {
  add,
  type Amounts,
  BudgetsConfig,
  budgetText,
  crossed,
  Ledger,
  limitsFor,
  NOTHING,
  type Spender,
} from "./budget.ts";

const OWNER: Spender = {
  agent: "main",
  credential: "tok_1",
  principal: "owner",
};
const PEER: Spender = { ...OWNER, principal: "peer:net:a:1" };

function usd(amount: number): Amounts {
  return { ...NOTHING, usd: amount };
}

Deno.test("limitsFor() is on by default, and a paired sender has a fifth", () => {
  const config = BudgetsConfig.parse({});
  const show = (spender: Spender) =>
    limitsFor(spender, config).map(({ scope, meter, max }) =>
      `${scope} ${meter} ${max}`
    );
  assert.deepEqual(show(OWNER), [
    "day usd 5000000000",
    "day unpriced 20000000",
  ]);
  assert.deepEqual(show(PEER), [
    "day usd 5000000000",
    "day unpriced 20000000",
    "sender usd 1000000000",
    "sender unpriced 4000000",
  ]);
});

Deno.test("limitsFor() takes every line that is about a call", async (t) => {
  const config = BudgetsConfig.parse({
    usdPerDay: 2,
    unpricedTokensPerDay: "off",
    agents: { main: { tokensPerDay: 10 } },
    keys: { tok_1: { usdPerDay: 0 } },
    jobs: { "job_1": { usdPerDay: 0.5 } },
    senders: {
      "peer:net:a:1": { usdPerDay: "off", tokensPerDay: 7 },
      owner: { usdPerDay: 1 },
    },
  });
  const rows: [why: string, spender: Spender, want: string[]][] = [
    ["the owner", OWNER, [
      "budgets.usdPerDay",
      "budgets.agents.main.tokensPerDay",
      "budgets.keys.tok_1.usdPerDay",
      "budgets.senders.owner.usdPerDay",
    ]],
    ["a sender whose share is lifted", PEER, [
      "budgets.usdPerDay",
      "budgets.agents.main.tokensPerDay",
      "budgets.keys.tok_1.usdPerDay",
      'budgets.senders."peer:net:a:1".tokensPerDay',
    ]],
    ["a job of another agent and key", {
      agent: "other",
      credential: "tok_2",
      principal: "token:tok_2",
      job: "job_1",
    }, ["budgets.usdPerDay", "budgets.jobs.job_1.usdPerDay"]],
  ];
  for (const [why, spender, want] of rows) {
    await t.step(why, () => {
      const lines = limitsFor(spender, config).map((limit) => limit.because);
      assert.deepEqual(lines, want);
    });
  }
});

Deno.test("BudgetsConfig refuses what is no limit", () => {
  const bad = [
    { usdPerDay: -1 },
    { usdPerDay: "5" },
    { tokensPerDay: 1.5 },
    { senderShare: 2 },
    { agents: { "NOT AN ID": {} } },
    { keys: { tok: { usd: 1 } } },
  ];
  for (const one of bad) {
    assert.equal(BudgetsConfig.safeParse(one).success, false);
  }
});

Deno.test("Ledger.refusal() names the first limit without room, both sides of it", () => {
  const limits = limitsFor(OWNER, BudgetsConfig.parse({}));
  const ledger = new Ledger();
  ledger.load(OWNER, usd(4_000_000_000));
  ledger.hold("a", OWNER, usd(600_000_000));
  assert.equal(ledger.refusal(limits, usd(400_000_000)), undefined);
  const refusal = ledger.refusal(limits, usd(400_000_001));
  assert.equal(refusal?.limit.because, "budgets.usdPerDay");
  // A free model has room when no money is left.
  ledger.load(OWNER, usd(9_000_000_000));
  assert.equal(ledger.refusal(limits, { ...NOTHING, tokens: 99 }), undefined);
});

Deno.test("crossed() speaks once at four fifths and once at all", () => {
  const limit = { max: 100 };
  const steps = [0, 50, 79, 80, 81, 99, 100, 101, 200];
  const said = steps.slice(1).map((after, n) =>
    crossed(limit, steps[n] ?? 0, after)
  );
  assert.deepEqual(said.filter((one) => one !== undefined), [
    "near",
    "reached",
  ]);
  assert.equal(crossed(limit, 0, 500), "reached");
  assert.equal(crossed({ max: 0 }, 0, 500), undefined);
});

Deno.test("budgetText() says what may be spent", () => {
  assert.match(
    budgetText(BudgetsConfig.parse({})),
    /^\$5\.00 a day, 20,000,000 tokens a day of models without a price; then turns stop/,
  );
  assert.match(
    budgetText(
      BudgetsConfig.parse({ usdPerDay: "off", unpricedTokensPerDay: "off" }),
    ),
    /off/,
  );
});

type Act =
  | { kind: "reserve"; who: number; ask: number }
  | { kind: "settle"; which: number; actual: number };

const act: fc.Arbitrary<Act> = fc.oneof(
  fc.record({
    kind: fc.constant("reserve" as const),
    who: fc.nat(2),
    ask: fc.nat(50),
  }),
  fc.record({
    kind: fc.constant("settle" as const),
    which: fc.nat(20),
    actual: fc.nat(60),
  }),
);

Deno.test("Ledger's sums are exact in any order, and holds keep within limits", () => {
  const config = BudgetsConfig.parse({ usdPerDay: 200 / 1e9 });
  const spenders: Spender[] = [
    OWNER,
    PEER,
    { ...OWNER, agent: "other", credential: "tok_2" },
  ];
  fc.assert(fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
    const ledger = new Ledger();
    const open = new Map<string, { spender: Spender; ask: number }>();
    const spent = new Map<string, number>();
    let all = 0;
    let over = 0;
    for (const [n, one] of acts.entries()) {
      if (one.kind === "reserve") {
        const spender = spenders[one.who] ?? OWNER;
        const ask = usd(one.ask);
        const limits = limitsFor(spender, config);
        if (ledger.refusal(limits, ask) !== undefined) continue;
        ledger.hold(`${n}`, spender, ask);
        open.set(`${n}`, { spender, ask: one.ask });
      } else {
        const [id, hold] = [...open][one.which % (open.size || 1)] ?? [];
        if (id === undefined || hold === undefined) continue;
        open.delete(id);
        ledger.settle(id, usd(one.actual));
        // Twice is once.
        assert.deepEqual(ledger.settle(id, usd(one.actual)), []);
        all += one.actual;
        over += Math.max(0, one.actual - hold.ask);
        const name = hold.spender.principal;
        spent.set(name, (spent.get(name) ?? 0) + one.actual);
      }
      const day = ledger.standing("day", "");
      const held = [...open.values()].reduce((sum, h) => sum + h.ask, 0);
      assert.equal(day.spent.usd, all);
      assert.equal(day.reserved.usd, held);
      // Only what calls took beyond their reservation can be over.
      assert.ok(day.spent.usd + day.reserved.usd <= 200 + over);
      for (const [name, amount] of spent) {
        assert.equal(ledger.standing("sender", name).spent.usd, amount);
      }
    }
  }));
});

Deno.test("add() adds every meter", () => {
  const a = { usd: 1, tokens: 2, unpriced: 3 };
  assert.deepEqual(add(a, a), { usd: 2, tokens: 4, unpriced: 6 });
});
