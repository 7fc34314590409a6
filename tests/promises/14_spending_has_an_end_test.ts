/**
 * Promise 14: budgets are on without a line of configuration, a paired sender
 * has at most a fifth, and the run that would exceed one is stopped.
 */
import assert from "node:assert/strict";
import type { Price } from "../../src/core/cost.ts";
import type { ModelEvent } from "../../src/core/model.ts";
import type { TurnEvent } from "../../src/core/turn.ts";
import { calls } from "../fakes/models.ts";
import {
  collect,
  type FakeHouse,
  fakeHouse,
  ownerAuthority,
  request,
} from "../fakes/house.ts";

/** A hundred dollars a million tokens: a step of 5,000 is half a dollar. */
const DEAR: Price = {
  input: 0,
  output: 100,
  cached: 0,
  cacheWrite: 0,
  because: "a test",
};
const STEP_TOKENS = 5_000;
const STEP_USD = 0.5;

/** A model that calls a tool for ever, at half a dollar a step. */
let steps = 0;
function forever(): ModelEvent[] {
  const outputTokens = STEP_TOKENS;
  return [
    ...calls(["math_eval", { expression: `${steps++} + 1` }]).slice(0, 1),
    {
      kind: "usage",
      usage: {
        inputTokens: 0,
        outputTokens,
        cachedTokens: 0,
        cacheWriteTokens: 0,
      },
    },
    { kind: "end", reason: "tool_calls" },
  ];
}

async function open(priceOf: () => Price | undefined): Promise<FakeHouse> {
  return await fakeHouse({
    priceOf,
    limits: { stepsMax: 200, outputTokensMax: STEP_TOKENS },
    forever,
  });
}

function end(events: readonly TurnEvent[]): TurnEvent & { kind: "end" } {
  const last = events.at(-1);
  assert.ok(last?.kind === "end");
  return last;
}

const peer = () =>
  request("go on", {
    sessionKey: "agent:main:net:a:dm:1",
    authority: ownerAuthority({
      principal: "peer:net:a:1",
      kind: "peer",
      credential: "grant_1",
      scopes: ["chat", "tools"],
    }),
  });

Deno.test("spending has an end: five dollars a day without any configuration", async () => {
  await using house = await open(() => DEAR);
  const { reason, hint } = end(await house.say("go on"));
  assert.equal(reason, "budget");
  assert.match(hint ?? "", /budgets\.usdPerDay/);
  assert.equal(house.models.requests.length, 5 / STEP_USD);
  assert.equal((await house.usage.today()).usd, 5);
  await assert.rejects(house.desk.start(request("again")), { code: "budget" });
});

Deno.test("spending has an end: a paired sender has a fifth of it", async () => {
  await using house = await open(() => DEAR);
  const run = await house.desk.start(peer());
  assert.equal(end(await collect(run.events)).reason, "budget");
  assert.equal(house.models.requests.length, 1 / STEP_USD);
  assert.equal((await house.usage.today()).usd, 1);
  await assert.rejects(house.desk.start(peer()), { code: "budget" });
  // The other four fifths are not gone.
  assert.equal(end(await house.say("go on")).reason, "budget");
  assert.equal((await house.usage.today()).usd, 5);
});

Deno.test("spending has an end: twenty million tokens of models without a price", async () => {
  await using house = await open(() => undefined);
  const { ledger } = house.spending;
  ledger.load(
    { agent: "main", credential: "tok_owner", principal: "owner" },
    { usd: 0, tokens: 19_980_000, unpriced: 19_980_000 },
  );
  assert.equal(end(await house.say("go on")).reason, "budget");
  const { spent } = ledger.standing("day", "");
  assert.ok(spent.unpriced > 19_980_000 && spent.unpriced <= 20_000_000);
});
