/**
 * Threats A3 and C2 for tools: one that is taken away in the middle of a turn is
 * gone at its next call; an approval is for what a name stood for when asked.
 */
import assert from "node:assert/strict";
import { z } from "zod";
import { type Tool, tool } from "../../src/core/tool.ts";
import { fakeHouse, request } from "../fakes/house.ts";
import { calls, says } from "../fakes/models.ts";
import { pageTool } from "../fakes/tools.ts";
import { scratch } from "../process/processes.ts";

function named(name: string, change: Partial<Tool> = {}): Tool {
  return {
    ...tool({
      name,
      about: name,
      input: z.strictObject({}),
      scope: "chat",
      effect: "none",
      result: { integrity: "inherit", secrecy: "inherit" },
      destinations: [],
      run: () => "ran",
    }),
    ...change,
  };
}

Deno.test("a tool denied in the middle of a turn is not there at its next call", async () => {
  const denied: string[] = [];
  await using house = await fakeHouse({
    toolsDenied: () => denied,
    tools: [named("look")],
    steps: [
      calls(["look", {}]),
      () => {
        denied.push("look");
        return calls(["look", {}]);
      },
      says("gone"),
    ],
  });
  const events = await house.say("look twice");
  const results = events.flatMap((e) =>
    e.kind === "tool_result" ? [e.text] : []
  );
  assert.equal(results[0], "ran");
  assert.match(results[1] ?? "", /There is no tool "look" here/);
});

Deno.test("a tool removed from the registry in the middle of a turn is not run", async () => {
  const registry: { remove?: (name: string) => void } = {};
  await using house = await fakeHouse({
    tools: [named("look")],
    onRegistry: (made) => void (registry.remove = (name) => made.remove(name)),
    steps: [
      calls(["look", {}]),
      () => {
        registry.remove?.("look");
        return calls(["look", {}]);
      },
      says("gone"),
    ],
  });
  const events = await house.say("look twice");
  const results = events.flatMap((e) =>
    e.kind === "tool_result" ? [e.text] : []
  );
  assert.match(results[1] ?? "", /There is no tool "look" here/);
});

Deno.test("an approval is not for what the name stands for now", async (t) => {
  const page = pageTool("obey");
  let ran = 0;
  const program = (binding: string) =>
    named("exec_x", { effect: "exec", binding, run: () => `ran ${++ran}` });
  /** Asks under one template, answers under another; the asks, in order. */
  const ask = async (first: string, second: string) => {
    await using folder = await scratch();
    const dir = `${folder.path}/state`;
    const asks: string[] = [];
    let runId = "";
    {
      await using house = await fakeHouse({
        dir,
        tools: [page, program(first)],
        steps: [calls(["read_page", {}]), calls(["exec_x", {}])],
      });
      const run = await house.desk.start(request("run it"));
      runId = run.runId;
      for await (const event of run.events) {
        if (event.kind !== "ask") continue;
        asks.push(event.approvalId);
        break;
      }
    }
    await using house = await fakeHouse({
      dir,
      tools: [page, program(second)],
      forever: says("done"),
    });
    using _watch = house.desk.watch((event) => {
      if (event.kind !== "ask") return;
      asks.push(event.approvalId);
      const answer = event.approvalId === asks[0] ? "allow-once" : "deny";
      void house.approvals.answer(event.approvalId, answer, { by: "owner" });
    });
    await house.desk.resume();
    await house.desk.wait(runId, { timeoutMs: 10_000 });
    return asks;
  };
  await t.step(
    "the same template: the ask that was shown is the one answered",
    async () => {
      ran = 0;
      const [first, second] = await ask("one", "one");
      assert.equal(first, second);
      assert.equal(ran, 1);
    },
  );
  await t.step("another one: it is asked anew", async () => {
    ran = 0;
    const [first, second] = await ask("one", "two");
    assert.notEqual(first, second);
    assert.equal(ran, 0);
  });
});
