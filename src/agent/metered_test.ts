import assert from "node:assert/strict";
import { z } from "zod";
import {
  collect,
  type FakeHouse,
  fakeHouse,
  ownerAuthority,
  request,
} from "../../tests/fakes/house.ts";
import { calls, Gate, says } from "../../tests/fakes/models.ts";
import { dayOf, type Price } from "../core/cost.ts";
import { label } from "../core/label.ts";
import type { AppError } from "../core/errors.ts";
import type { Usage } from "../core/message.ts";
import { ModelError, type ModelEvent } from "../core/model.ts";
import { tool } from "../core/tool.ts";
import type { TurnEvent } from "../core/turn.ts";
import type { BudgetNotice } from "../guard/spending.ts";
import type { UsageCall } from "../store/usage.ts";
import { paidStream } from "./metered.ts";

/** Only output costs: a dollar a million tokens. */
const OUTPUT: Price = {
  input: 0,
  output: 1,
  cached: 0,
  cacheWrite: 0,
  because: "a test",
};
const DOLLAR: Price = { ...OUTPUT, input: 1, cached: 1, cacheWrite: 1 };

function used(inputTokens: number, outputTokens: number): ModelEvent {
  const usage: Usage = {
    inputTokens,
    outputTokens,
    cachedTokens: 0,
    cacheWriteTokens: 0,
  };
  return { kind: "usage", usage };
}

/** An answer of so many tokens. */
function answers(outputTokens: number): ModelEvent[] {
  return [
    { kind: "text", text: "ok" },
    used(10, outputTokens),
    { kind: "end", reason: "stop" },
  ];
}

function endOf(events: readonly TurnEvent[]): TurnEvent & { kind: "end" } {
  const last = events.at(-1);
  assert.ok(last?.kind === "end", `the last event is ${last?.kind}`);
  return last;
}

async function stored(house: FakeHouse): Promise<UsageCall[]> {
  return await Array.fromAsync(house.store.usage.calls(dayOf(Date.now())));
}

function spentOf(house: FakeHouse): { spent: number; reserved: number } {
  const { spent, reserved } = house.spending.ledger.standing("day", "");
  return { spent: spent.usd, reserved: reserved.usd };
}

Deno.test("64 turns at once against a budget for ten never spend more", async () => {
  const gate = new Gate();
  // A turn takes 1,000 tokens of output and may take 1,000: a thousandth dollar.
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { usdPerDay: 0.01 },
    limits: { outputTokensMax: 1000, runningMax: 64 },
    forever: async function* (_, signal) {
      await gate.pass(signal);
      yield* answers(1000);
    },
  });
  const runs = await Promise.all(
    Array.from({ length: 64 }, (_, n) =>
      house.desk.start(request(`turn ${n}`, {
        sessionKey: `agent:main:test:${n}`,
      }))),
  );
  await gate.arrivals(10);
  assert.deepEqual(spentOf(house), { spent: 0, reserved: 10_000_000 });
  gate.open();
  const ends = await Promise.all(
    runs.map(async (run) => endOf(await collect(run.events))),
  );
  const reasons = ends.map(({ reason }) => reason);
  assert.equal(reasons.filter((r) => r === "done").length, 10);
  assert.equal(reasons.filter((r) => r === "budget").length, 54);
  assert.deepEqual(spentOf(house), { spent: 10_000_000, reserved: 0 });
  assert.equal(house.models.requests.length, 10);
  const refused = ends.find(({ reason }) => reason === "budget");
  assert.match(refused?.hint ?? "", /Raise budgets\.usdPerDay/);
  // From here on a turn is not even taken.
  await assert.rejects(house.desk.start(request("one more")), {
    code: "budget",
  });
});

Deno.test("calls that take more than was thought are over by their last step only", async () => {
  // Reserved: 100 tokens. Taken: 150. The budget is for a thousand.
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { usdPerDay: 0.001 },
    limits: { outputTokensMax: 100 },
    forever: answers(150),
  });
  const ends = await Promise.all(Array.from({ length: 64 }, async (_, n) => {
    const sessionKey = `agent:main:test:${n}`;
    try {
      const run = await house.desk.start(request("hi", { sessionKey }));
      return endOf(await collect(run.events)).reason;
    } catch (error) {
      return (error as AppError).code;
    }
  }));
  const { spent } = spentOf(house);
  const running = 8;
  assert.ok(spent <= 1_000_000 + running * 50_000, `${spent}`);
  assert.ok(spent >= 900_000);
  assert.ok(ends.includes("budget"));
});

Deno.test("a step that would exceed ends its run, and what went before is kept", async () => {
  let n = 0;
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { usdPerDay: 0.003 },
    limits: { outputTokensMax: 1000 },
    forever: () => [
      ...calls(["math_eval", { expression: `1+${n++}` }]).slice(0, 1),
      used(10, 1000),
      { kind: "end", reason: "tool_calls" },
    ],
  });
  const events = await house.say("go on for ever");
  const end = endOf(events);
  assert.equal(end.reason, "budget");
  assert.match(end.message ?? "", /the day's budget of \$0\.003/);
  assert.equal(events.filter((e) => e.kind === "tool_result").length, 3);
  const run = await house.store.runs.find(end.runId);
  assert.equal(run?.state, "failed");
  assert.equal(run?.end?.reason, "budget");
  assert.deepEqual(
    (await stored(house)).map(({ step, nano }) => [step, nano]),
    [[1, 1_000_000], [2, 1_000_000], [3, 1_000_000]],
  );
});

Deno.test("a step's usage is in the same commit as the step", async () => {
  await using house = await fakeHouse({
    priceOf: () => DOLLAR,
    steps: [says("hi")],
  });
  const { journal } = house.store;
  const commit = journal.commit.bind(journal);
  const units: string[] = [];
  journal.commit = (rows) => {
    units.push([...new Set(rows.map(({ key }) => String(key[0])))].join(" "));
    return commit(rows);
  };
  await house.say("hi");
  const withUsage = units.filter((unit) => unit.includes("usage_day"));
  assert.equal(withUsage.length, 1);
  assert.match(
    withUsage[0] ?? "",
    /run .*message .*usage_open usage usage_day/,
  );
  assert.equal(units.filter((unit) => unit === "usage_open").length, 1);
});

Deno.test("a run that waits for an approval holds nothing back", async () => {
  const write = tool({
    name: "note_write",
    about: "Write a note",
    input: z.strictObject({ text: z.string() }),
    scope: "chat",
    effect: "write",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [],
    run: () => "written",
  });
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    tools: [write],
    policy: [{ verdict: "ask", tool: "note_write", args: [] }],
    steps: [[
      ...calls(["note_write", { text: "x" }]).slice(0, 1),
      used(10, 7),
      { kind: "end", reason: "tool_calls" },
    ], says("done")],
  });
  const run = await house.desk.start(request("write it"));
  for await (const event of run.events) {
    if (event.kind !== "ask") continue;
    assert.deepEqual(spentOf(house), { spent: 7_000, reserved: 0 });
    assert.deepEqual(await house.store.usage.open(), []);
    assert.equal((await stored(house)).length, 1);
    await house.desk.start(request(`/approve ${event.approvalId} deny`));
  }
  assert.equal(spentOf(house).reserved, 0);
});

Deno.test("what the vendor did not count is guessed, what it did not do is free", async (t) => {
  const text: ModelEvent = { kind: "text", text: "x".repeat(400) };
  const broken = new ModelError("network", "the line broke");
  const refused = new ModelError("auth", "no");
  const rows: [
    why: string,
    step: (ModelEvent | Error)[],
    want: [by: string, output: number] | undefined,
  ][] = [
    ["counted", [text, used(10, 5), { kind: "end", reason: "stop" }], [
      "vendor",
      5,
    ]],
    ["no count at the end", [text, { kind: "end", reason: "stop" }], [
      "estimate",
      100,
    ]],
    ["cut off", [text, broken], ["estimate", 100]],
    ["cut off after a first count", [used(10, 1), text, broken], [
      "estimate",
      100,
    ]],
    ["refused", [refused], undefined],
  ];
  for (const [why, step, want] of rows) {
    await t.step(why, async () => {
      await using house = await fakeHouse({
        priceOf: () => OUTPUT,
        steps: [step],
      });
      await house.say("hi");
      const found = await stored(house);
      assert.deepEqual(
        found.map(({ by, usage }) => [by, usage.outputTokens]),
        want === undefined ? [] : [want],
      );
      assert.equal(spentOf(house).reserved, 0);
      assert.deepEqual(await house.store.usage.open(), []);
    });
  }
});

Deno.test("a turn that is stopped in the middle of an answer pays for what it saw", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    priceOf: () => DOLLAR,
    steps: [async function* (_, signal) {
      yield { kind: "text", text: "x".repeat(400) };
      await gate.pass(signal);
    }],
  });
  const run = await house.desk.start(request("hi"));
  await gate.arrivals(1);
  assert.ok(spentOf(house).reserved > 0);
  house.desk.abort(run.sessionKey);
  await collect(run.events);
  const [call] = await stored(house);
  assert.equal(call?.by, "estimate");
  assert.equal(call?.usage.outputTokens, 100);
  assert.equal(spentOf(house).reserved, 0);
});

Deno.test("a paired sender has a fifth; the owner still has the rest", async () => {
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { usdPerDay: 0.01 },
    limits: { outputTokensMax: 1000 },
    forever: answers(1000),
  });
  const peer = (n: number) => {
    const hello = request("hi", {
      sessionKey: `agent:main:test:a:dm:${n}`,
      authority: ownerAuthority({
        principal: "peer:test:a:1",
        kind: "peer",
        credential: "grant_1",
        scopes: ["chat"],
        integrity: "peer",
      }),
    });
    hello.inbound.label = label("peer", ["peer:test:a:1"]);
    return hello;
  };
  for (const n of [1, 2]) {
    const run = await house.desk.start(peer(n));
    assert.notEqual(endOf(await collect(run.events)).reason, "budget");
  }
  await assert.rejects(house.desk.start(peer(3)), (error: AppError) => {
    assert.equal(error.code, "budget");
    assert.match(error.hint ?? "", /budgets\.senderShare/);
    return true;
  });
  assert.equal(endOf(await house.say("hi")).reason, "done");
  const text = await house.usage.text(peer(1).authority);
  assert.match(
    text,
    /^Today: 2 model calls, 20 tokens in .*2000 out, \$0\.002\./,
  );
  assert.match(
    text,
    /Budget of the sender peer:test:a:1: \$0\.002 of \$0\.002 \(budgets\.senderShare\)/,
  );
  assert.doesNotMatch(text, /of the day/);
});

Deno.test("a job's turns count for its job", async () => {
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { jobs: { nightly: { usdPerDay: 0.001 } } },
    limits: { outputTokensMax: 1000 },
    forever: answers(1000),
  });
  const sessionKey = "agent:main:cron:nightly:1";
  await house.say("go", { sessionKey });
  await assert.rejects(house.say("go", { sessionKey }), { code: "budget" });
  assert.equal(endOf(await house.say("hi")).reason, "done");
});

Deno.test("/usage answers when nothing is left", async () => {
  const notices: BudgetNotice[] = [];
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { usdPerDay: 0.001 },
    limits: { outputTokensMax: 1000 },
    forever: answers(1000),
    onBudget: (notice) => notices.push(notice),
  });
  await house.say("hi");
  assert.deepEqual(notices.map(({ state }) => state), ["reached"]);
  const events = await house.say("/usage");
  const reply = events.find((e) => e.kind === "reply");
  assert.match(reply?.text ?? "", /Today: 1 model calls.*\$0\.001/);
  assert.match(reply?.text ?? "", /Budget of the day: \$0\.001 of \$0\.001/);
});

Deno.test("a transient session's calls are summed up without it", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  for (const text of ["a", "b"]) {
    const { sessionKey: _, ...transient } = request(text);
    await collect((await house.desk.start(transient)).events);
  }
  const { rows } = await house.usage.cost({ by: "session", days: 1 });
  assert.deepEqual(rows.map(({ name, calls }) => [name, calls]), [["-", 2]]);
});

Deno.test("work outside of runs is paid for by whoever asked for it", async () => {
  await using house = await fakeHouse({
    priceOf: () => OUTPUT,
    budgets: { keys: { tok_owner: { usdPerDay: 0.0002 } } },
    forever: answers(100),
  });
  const { spending, models } = house;
  const payer = {
    principal: "owner",
    credential: "tok_owner",
    agent: "main",
    session: "agent:main:main",
  };
  const stream = paidStream({ spending, models }, payer);
  const ask = () =>
    Array.fromAsync(stream("fake:1", {
      messages: [],
      outputTokensMax: 150,
    }, new AbortController().signal));
  assert.equal((await ask()).length, 3);
  assert.equal(spending.ledger.standing("key", "tok_owner").spent.usd, 100_000);
  await assert.rejects(ask(), { code: "budget" });
  const { rows } = await house.usage.cost({ by: "session", days: 1 });
  assert.deepEqual(rows.map(({ name }) => name), ["agent:main:main"]);
});
