/** What answers when a model cannot be reached, and when nothing else may. */
import assert from "node:assert/strict";
import { fakeHouse } from "../../tests/fakes/house.ts";
import { calls, says, type Step } from "../../tests/fakes/models.ts";
import { ModelError, type ModelErrorClass } from "../core/model.ts";

const failure = (errorClass: ModelErrorClass) =>
  new ModelError(errorClass, `it failed: ${errorClass}`);

const AGENTS = {
  main: { model: "fake:first", fallbacks: ["fake:second", "fake:third"] },
};

/** One message to an agent with two fallbacks. */
async function ask(...steps: Step[]) {
  await using house = await fakeHouse({ agents: AGENTS, steps });
  const events = await house.say("hello");
  return {
    events,
    names: house.models.names,
    requests: house.models.requests as { hasFallback?: boolean }[],
    reply: events.find((event) => event.kind === "reply"),
    end: events.findLast((event) => event.kind === "end"),
  };
}

Deno.test("a fallback answers at the first failure that may pass, and the reply says so", async (t) => {
  const classes: ModelErrorClass[] = [
    "rate",
    "overloaded",
    "network",
    "timeout",
    "server",
    "quota",
  ];
  for (const errorClass of classes) {
    await t.step(errorClass, async () => {
      const { names, reply, end, requests } = await ask(
        [failure(errorClass)],
        says("Hi"),
      );
      assert.deepEqual(names, ["fake:first", "fake:second"]);
      assert.ok(reply?.kind === "reply");
      assert.deepEqual([reply.text, reply.model, reply.insteadOf], [
        "Hi",
        "fake:second",
        "fake:first",
      ]);
      assert.equal(end?.kind === "end" && end.reason, "done");
      assert.deepEqual(requests.map((one) => one.hasFallback), [true, true]);
    });
  }
});

Deno.test("the chain is gone through in order, and its last failure is told", async () => {
  const { names, end, requests } = await ask(
    [failure("server")],
    [failure("overloaded")],
    [failure("timeout")],
  );
  assert.deepEqual(names, ["fake:first", "fake:second", "fake:third"]);
  assert.deepEqual(requests.map((one) => one.hasFallback), [
    true,
    true,
    undefined,
  ]);
  assert.ok(end?.kind === "end");
  assert.deepEqual([end.reason, end.errorClass], ["error", "timeout"]);
});

Deno.test("no fallback for what speaks of the request, or after anything was seen", async (t) => {
  const seen = { kind: "text", text: "Hel" } as const;
  const thought = { kind: "thinking", text: "hm" } as const;
  const rows: [why: string, step: Step][] = [
    ["a bad request", [failure("bad_request")]],
    ["a refusal", [failure("refused")]],
    ["a refused key", [failure("auth")]],
    ["an unknown model", [failure("not_found")]],
    ["after a word", [seen, failure("network")]],
    ["after a thought", [thought, failure("network")]],
    ["a spoken refusal", [seen, { kind: "end", reason: "refused" }]],
  ];
  for (const [why, step] of rows) {
    await t.step(why, async () => {
      assert.deepEqual((await ask(step, says("Hi"))).names, ["fake:first"]);
    });
  }
});

Deno.test("a fallback keeps the turn to its end; the next turn begins anew", async () => {
  await using house = await fakeHouse({
    agents: AGENTS,
    steps: [
      [failure("overloaded")],
      calls(["math_eval", { expression: "1 + 1" }]),
      says("Two"),
      says("Again"),
    ],
  });
  await house.say("what is 1 + 1?");
  const events = await house.say("and now?");
  assert.deepEqual(house.models.names, [
    "fake:first",
    "fake:second",
    "fake:second",
    "fake:first",
  ]);
  const reply = events.find((event) => event.kind === "reply");
  assert.equal(reply?.kind === "reply" && reply.insteadOf, undefined);
});
