import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock } from "../../tests/fakes/clock.ts";
import type { Price } from "../core/cost.ts";
import { AppError } from "../core/errors.ts";
import { type Log, silentLog } from "../core/log.ts";
import type { Usage } from "../core/message.ts";
import type { Journal } from "../store/journal.ts";
import { openStore, type Store } from "../store/store.ts";
import { BudgetsConfig } from "./budget.ts";
import {
  type BudgetNotice,
  openSpending,
  type PaidCall,
  type Spending,
} from "./spending.ts";
import { UsageDesk } from "./usage_desk.ts";

/** A dollar a million tokens: a token is 1,000 nano-dollars. */
const DOLLAR: Price = {
  input: 1,
  output: 1,
  cached: 0.5,
  cacheWrite: 1,
  because: "a test",
};
const RUN = "run_0123456789";

function usage(inputTokens: number, outputTokens = 0, cachedTokens = 0): Usage {
  return { inputTokens, outputTokens, cachedTokens, cacheWriteTokens: 0 };
}

function call(change: Partial<PaidCall> = {}): PaidCall {
  return {
    agent: "main",
    model: "paid:1",
    principal: "owner",
    credential: "tok_owner",
    session: "agent:main:main",
    runId: RUN,
    step: 1,
    inputTokens: 1000,
    outputTokensMax: 1000,
    ...change,
  };
}

interface Purse {
  store: Store;
  spending: Spending;
  usage: UsageDesk;
  clock: FakeClock;
  notices: BudgetNotice[];
  /** Forgets what is only in memory, as a crash does, and opens anew. */
  crash(): Promise<void>;
  commits: () => number;
}

async function purse(
  budgets: Parameters<typeof BudgetsConfig.parse>[0] = {},
  log: Log = silentLog,
): Promise<Purse & AsyncDisposable> {
  const clock = new FakeClock();
  const store = await openStore({ dir: ":memory:", clock, log });
  const config = BudgetsConfig.parse(budgets);
  const notices: BudgetNotice[] = [];
  let commits = 0;
  const journal: Journal = {
    commit: (rows) => {
      commits++;
      return store.journal.commit(rows);
    },
  };
  const open = () =>
    openSpending({
      rows: store.usage,
      journal,
      priceOf: (model) => model.startsWith("paid:") ? DOLLAR : undefined,
      config: () => config,
      clock,
      log,
      onNotice: (notice) => notices.push(notice),
    });
  const rows = store.usage;
  const make = async () => {
    const spending = await open();
    const usage = new UsageDesk({
      rows,
      spending,
      config: () => config,
      clock,
    });
    return { spending, usage };
  };
  const own = {
    store,
    clock,
    notices,
    ...await make(),
    crash: async () => void Object.assign(own, await make()),
    commits: () => commits,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
  return own;
}

async function save(
  { store, spending }: Purse,
  runId = RUN,
): Promise<void> {
  await store.journal.commit(spending.rowsFor(runId));
}

Deno.test("a call is reserved, settled, and its rows go with the run's commit", async () => {
  await using p = await purse();
  const hold = await p.spending.reserve(call());
  const day = () => p.spending.ledger.standing("day", "");
  assert.equal(day().reserved.usd, 2_000_000);
  assert.equal((await p.store.usage.open()).length, 1);
  hold.settle(usage(800, 100, 400), "vendor");
  hold.settle(usage(9, 9), "vendor"); // once is enough
  hold.release();
  assert.deepEqual(
    [day().reserved.usd, day().spent.usd],
    [0, 500_000 + 200_000],
  );
  // Not yet stored: the reservation stands for it.
  assert.equal((await p.store.usage.open()).length, 1);
  await save(p);
  assert.deepEqual(await p.store.usage.open(), []);
  assert.deepEqual(p.spending.rowsFor(RUN), []);
  const [row] = await Array.fromAsync(p.store.usage.calls("2026-01-01"));
  assert.equal(row?.nano, 700_000);
  assert.equal(row?.by, "vendor");
  const sums = await p.store.usage.sums("2026-01-01", "2026-01-01");
  assert.deepEqual(await p.usage.today(), {
    calls: 1,
    ...usage(800, 100, 400),
    usd: 0.0007,
    priced: true,
    unpricedTokens: 0,
  });
  assert.equal(sums.length, 1);
});

Deno.test("a call that was not made gives all of it back", async () => {
  await using p = await purse();
  const hold = await p.spending.reserve(call());
  hold.release();
  await save(p);
  assert.deepEqual(await p.store.usage.open(), []);
  assert.equal((await p.usage.today()).calls, 0);
  assert.equal(p.spending.ledger.isIdle, true);
});

Deno.test("a model without a price is limited by its tokens, and said to have none", async () => {
  await using p = await purse({ unpricedTokensPerDay: 3000 });
  const ask = call({ model: "free:1" });
  (await p.spending.reserve(ask)).settle(usage(1500, 200), "vendor");
  await assert.rejects(p.spending.reserve(ask), (error: AppError) => {
    assert.equal(error.code, "budget");
    assert.match(error.message, /"free:1".*1,300 tokens.*2,000 tokens/);
    assert.match(error.hint ?? "", /Raise budgets\.unpricedTokensPerDay/);
    assert.match(error.hint ?? "", /2026-01-02 00:00 UTC/);
    return true;
  });
  // Money is not asked for.
  (await p.spending.reserve(call())).release();
  const today = await p.usage.today();
  assert.deepEqual(
    [today.priced, today.unpricedTokens, today.usd],
    [false, 1700, 0],
  );
});

Deno.test("check() stops new turns when a budget is spent, not before", async () => {
  await using p = await purse({ usdPerDay: 0.001 });
  const who = call();
  p.spending.check(who);
  const hold = await p.spending.reserve(
    call({ inputTokens: 500, outputTokensMax: 500 }),
  );
  p.spending.check(who); // reserved is not spent
  hold.settle(usage(999), "vendor");
  p.spending.check(who);
  const last = await p.spending.reserve(
    call({ inputTokens: 1, outputTokensMax: 0 }),
  );
  last.settle(usage(1), "vendor");
  assert.throws(() => p.spending.check(who), {
    code: "budget",
    message: "Cannot begin a turn: the day's budget of $0.001 is spent",
  });
  p.spending.check(call({ model: "free:1" }));
  await p.clock.tick(86_400_000);
  p.spending.check(who);
});

Deno.test("four fifths and all of a limit are told once, a refusal once a day", async () => {
  const lines: string[] = [];
  await using p = await purse(
    { usdPerDay: 0.01, keys: { tok_owner: { usdPerDay: 0.005 } } },
    (_, event, fields) => {
      if (event === "usage.budget") {
        lines.push(`${fields?.["state"]} ${fields?.["scope"]}`);
      }
    },
  );
  const spend = async (tokens: number, change: Partial<PaidCall> = {}) => {
    const ask = call({ inputTokens: tokens, outputTokensMax: 0, ...change });
    (await p.spending.reserve(ask)).settle(usage(tokens), "vendor");
  };
  await spend(3_999);
  assert.deepEqual(lines, []);
  await spend(1);
  await spend(999);
  assert.deepEqual(lines, ["near key"]);
  await spend(1);
  assert.deepEqual(lines, ["near key", "reached key"]);
  await assert.rejects(spend(1), { code: "budget" });
  await assert.rejects(spend(1), { code: "budget" });
  assert.deepEqual(lines.slice(2), ["refused key"]);
  await spend(5_000, { credential: "tok_2" });
  assert.deepEqual(lines.slice(3), ["reached day"]);
  assert.equal(p.notices.length, 4);
  assert.equal(p.notices[0]?.limit.because, "budgets.keys.tok_owner.usdPerDay");
});

Deno.test("what a crash leaves open counts as spent, whole", async () => {
  const said: string[] = [];
  await using p = await purse({}, (_, event) => said.push(event));
  const one = await p.spending.reserve(call());
  await p.spending.reserve(call({ runId: "run_9999999999", model: "free:1" }));
  one.settle(usage(10, 10), "vendor"); // never stored
  await p.crash();
  const { spent, reserved } = p.spending.ledger.standing("day", "");
  assert.deepEqual(spent, { usd: 2_000_000, tokens: 4_000, unpriced: 2_000 });
  assert.equal(reserved.usd, 0);
  assert.deepEqual(await p.store.usage.open(), []);
  const rows = await Array.fromAsync(p.store.usage.calls("2026-01-01"));
  assert.deepEqual(rows.map(({ by }) => by), ["lost", "lost"]);
  // It counts once, however often it crashes.
  await p.crash();
  assert.equal(p.spending.ledger.standing("day", "").spent.usd, 2_000_000);
  assert.equal((await p.usage.today()).calls, 2);
  // The sums were right all along.
  assert.deepEqual(said, ["usage.lost"]);
});

Deno.test("sums that do not add up are made anew from the calls", async () => {
  await using p = await purse();
  for (const model of ["paid:1", "paid:2"]) {
    (await p.spending.reserve(call({ model }))).settle(usage(5), "vendor");
  }
  await save(p);
  const [sum] = await p.store.usage.sums("2026-01-01", "2026-01-01");
  assert.ok(sum);
  await p.store.journal.commit([
    { ...p.store.usage.sumRow(sum), value: undefined },
  ]);
  await p.crash();
  assert.equal((await p.usage.today()).calls, 2);
  assert.equal(p.spending.ledger.standing("day", "").spent.usd, 10_000);
});

Deno.test("cost() groups by every name, and another's spending is not shown", async () => {
  await using p = await purse();
  const spend = async (tokens: number, change: Partial<PaidCall>) => {
    (await p.spending.reserve(call(change))).settle(usage(tokens), "vendor");
    await save(p);
  };
  await spend(1, { agent: "a", session: "agent:a:main" });
  await spend(2, { model: "free:1" });
  await p.clock.tick(86_400_000);
  await spend(4, {
    principal: "token:tok_app",
    credential: "tok_app",
    agent: "a",
  });
  const names = async (by: Parameters<UsageDesk["cost"]>[0]["by"], days = 7) =>
    (await p.usage.cost({ by, days })).rows.map((row) =>
      `${row.name} ${row.inputTokens}`
    );
  assert.deepEqual(await names("day"), ["2026-01-01 3", "2026-01-02 4"]);
  assert.deepEqual(await names("day", 1), ["2026-01-02 4"]);
  assert.deepEqual(await names("model"), ["paid:1 5", "free:1 2"]);
  assert.deepEqual(await names("agent"), ["a 5", "main 2"]);
  assert.deepEqual(await names("session"), [
    "agent:main:main 6",
    "agent:a:main 1",
  ]);
  assert.deepEqual(await names("key"), ["tok_app 4", "tok_owner 3"]);
  assert.deepEqual(await names("sender"), ["token:tok_app 4", "owner 3"]);
  const who = { principal: "token:tok_app", credential: "tok_app" };
  const own = await p.usage.cost({ by: "day", days: 7 }, who);
  assert.equal(own.total.inputTokens, 4);
  assert.deepEqual(p.usage.budgets(who), []);
});

Deno.test("calls past the agents share a reservation: few writes, nothing lost", async (t) => {
  const pass = {
    model: "free:1",
    principal: "token:tok_app",
    credential: "tok_app",
    inputTokens: 100,
    outputTokensMax: 100,
  };
  await t.step("a hundred calls write a handful of times", async () => {
    await using p = await purse();
    const before = p.commits();
    for (let n = 0; n < 100; n++) {
      (await p.spending.reservePass(pass)).settle(usage(50, 50), "vendor");
    }
    assert.ok(p.commits() - before <= 3, `${p.commits() - before} commits`);
    const today = await p.usage.today();
    assert.deepEqual([today.calls, today.inputTokens], [100, 5000]);
    assert.deepEqual(await p.store.usage.open(), []);
  });
  await t.step(
    "a crash counts all that was answered, and a little more",
    async () => {
      await using p = await purse();
      for (let n = 0; n < 100; n++) {
        (await p.spending.reservePass(pass)).settle(usage(50, 50), "vendor");
      }
      await p.crash();
      const { spent } = p.spending.ledger.standing("key", "tok_app");
      assert.ok(spent.unpriced >= 10_000);
      assert.ok(spent.unpriced <= 20_000_000 * 0.02 + 200);
    },
  );
  await t.step("the budget holds for them, too", async () => {
    await using p = await purse({ keys: { tok_app: { tokensPerDay: 350 } } });
    (await p.spending.reservePass(pass)).settle(usage(100, 100), "vendor");
    await assert.rejects(p.spending.reservePass(pass), { code: "budget" });
    assert.equal(p.spending.ledger.isIdle, true);
  });
  await t.step("a store that fails ends the call, and only that", async () => {
    await using p = await purse();
    const commit = p.store.journal.commit;
    p.store.journal.commit = () =>
      Promise.reject(new AppError("unavailable", "disk"));
    await assert.rejects(p.spending.reservePass(pass), { code: "unavailable" });
    await assert.rejects(p.spending.reserve(call()), { code: "unavailable" });
    assert.equal(p.spending.ledger.isIdle, true);
    p.store.journal.commit = commit;
    (await p.spending.reservePass(pass)).settle(usage(1), "vendor");
    assert.equal((await p.usage.today()).calls, 1);
  });
  await t.step("midnight ends one day's and begins the next's", async () => {
    await using p = await purse();
    const open = await p.spending.reservePass(pass);
    await p.clock.tick(86_400_000);
    (await p.spending.reservePass(pass)).settle(usage(2), "vendor");
    open.settle(usage(1), "vendor");
    const rows = (await p.usage.cost({ by: "day", days: 2 })).rows;
    assert.deepEqual(rows.map((row) => row.inputTokens), [1, 2]);
    assert.deepEqual(await p.store.usage.open(), []);
  });
});

type Act =
  | { kind: "reserve" | "pass"; tokens: number; run: number }
  | { kind: "settle"; which: number; share: number }
  | { kind: "save"; run: number }
  | { kind: "crash" | "flush" | "midnight" };

const tokens = fc.nat(400);
const run = fc.nat(2);
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("reserve" as const),
      tokens,
      run,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("pass" as const), tokens, run }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("settle" as const),
      which: fc.nat(9),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("save" as const), run }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("crash" as const, "flush" as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("midnight" as const) }),
  },
);

Deno.test("no order of reserving, settling and crashing reports less than was spent", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 40 }), async (acts) => {
      // Small enough that a shared reservation is used up after a few calls.
      await using p = await purse({ unpricedTokensPerDay: 25_000 });
      let open: { max: number; end(tokens: number): void }[] = [];
      let real = 0;
      let asked = 0;
      for (const one of acts) {
        switch (one.kind) {
          case "reserve":
          case "pass": {
            const ask = {
              ...call({ runId: `run_000000000${one.run}` }),
              model: "free:1",
              inputTokens: one.tokens,
              outputTokensMax: 0,
            };
            const hold = one.kind === "pass"
              ? await p.spending.reservePass(ask)
              : await p.spending.reserve(ask);
            asked += one.tokens;
            const end = (used: number) => hold.settle(usage(used), "vendor");
            open.push({ max: one.tokens, end });
            break;
          }
          case "settle": {
            const [hold] = open.splice(one.which % (open.length || 1), 1);
            const used = Math.floor((hold?.max ?? 0) * one.share);
            hold?.end(used);
            real += used;
            break;
          }
          case "save":
            await save(p, `run_000000000${one.run}`);
            break;
          case "flush":
            await p.spending.flush();
            break;
          case "midnight":
            await p.clock.tick(86_400_000);
            break;
          case "crash":
            // The vendor had worked on what was open.
            real += open.reduce((sum, { max }) => sum + max, 0);
            open = [];
            await p.crash();
        }
      }
      // All days, from the store alone, after one more crash.
      for (const { max, end } of open) {
        end(max);
        real += max;
      }
      await p.crash();
      const sums = await p.store.usage.sums("2026-01-01", "2027-01-01");
      const told = sums.reduce((all, sum) => all + sum.unpriced, 0);
      assert.ok(told >= real, `${told} told, ${real} spent, ${asked} asked`);
      assert.deepEqual(await p.store.usage.open(), []);
    }),
    { numRuns: 60 },
  );
});
