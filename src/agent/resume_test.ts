import assert from "node:assert/strict";
import { z } from "zod";
import { collect, fakeHouse, request } from "../../tests/fakes/house.ts";
import { calls, Gate, says } from "../../tests/fakes/models.ts";
import { tool } from "../core/tool.ts";
import type { TurnEvent } from "../core/turn.ts";

/** A desk over a directory, stopped as a process is: what runs is suspended. */
async function inDir(
  story: (dir: string) => Promise<void>,
): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  try {
    await story(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function stuck(gate: Gate) {
  return async function* (_: unknown, signal: AbortSignal) {
    yield { kind: "text" as const, text: "never stored" };
    await gate.pass(signal);
  };
}

const writer = tool({
  name: "note_write",
  about: "",
  input: z.strictObject({}),
  scope: "chat",
  effect: "write",
  result: { integrity: "inherit", secrecy: "inherit" },
  destinations: [],
  run: () => new Promise<string>(() => {}),
});

Deno.test("a turn that was cut off while the model answered goes on at the next start", async () => {
  await inDir(async (dir) => {
    const gate = new Gate();
    let runId = "";
    {
      await using house = await fakeHouse({ dir, steps: [stuck(gate)] });
      runId = (await house.desk.start(request("hi"))).runId;
      await gate.arrivals(1);
    }
    await using house = await fakeHouse({ dir, steps: [says("here again")] });
    const seen: TurnEvent[] = [];
    using _watch = house.desk.watch((event) => void seen.push(event));
    assert.equal(await house.desk.resume(), 1);
    const outcome = await house.desk.wait(runId, { timeoutMs: 10_000 });
    assert.equal(outcome?.reason, "done");
    assert.equal(outcome?.reply, "here again");
    assert.ok((seen[0]?.seq ?? 0) > 1_000_000);
    const session = await house.store.sessions.find("agent:main:main");
    assert.equal(session?.seq, 2);
    assert.deepEqual(await house.store.runs.open(), []);
  });
});

Deno.test("a turn that waited in line is taken at the next start", async () => {
  await inDir(async (dir) => {
    const gate = new Gate();
    {
      await using house = await fakeHouse({ dir, steps: [stuck(gate)] });
      await house.desk.start(request("1"));
      const second = await house.desk.start(request("2"));
      assert.equal(second.status, "queued");
      await gate.arrivals(1);
    }
    await using house = await fakeHouse({ dir, forever: says("ok") });
    assert.equal(await house.desk.resume(), 2);
    await house.desk.drain(10_000);
    const session = await house.store.sessions.find("agent:main:main");
    const stored = await house.store.messages.tail(session?.id ?? "", {
      limit: 10,
    });
    assert.deepEqual(
      stored.map((m) => m.parts[0]?.kind === "text" && m.parts[0].text),
      ["1", "ok", "2", "ok"],
    );
  });
});

Deno.test("an act that may have happened is not done again, and says so", async () => {
  await inDir(async (dir) => {
    {
      await using house = await fakeHouse({
        dir,
        steps: [calls(["note_write", {}])],
        tools: [writer],
      });
      const run = await house.desk.start(request("note"));
      for await (const event of run.events) {
        if (event.kind === "decision") break;
      }
      while (true) {
        const stored = await house.store.runs.find(run.runId);
        if ((stored?.inFlight.length ?? 0) > 0) break;
      }
    }
    await using house = await fakeHouse({ dir, tools: [writer] });
    const [open] = await house.store.runs.open();
    await house.desk.resume();
    const outcome = await house.desk.wait(open?.id ?? "", {
      timeoutMs: 10_000,
    });
    assert.equal(outcome?.reason, "interrupted");
    assert.match(outcome?.message ?? "", /note_write.*may or may not/);
    assert.equal(house.models.requests.length, 0);
    const session = await house.store.sessions.find("agent:main:main");
    const [, , last] = await house.store.messages.tail(session?.id ?? "", {
      limit: 10,
    });
    assert.equal(last?.role, "tool");
  });
});

Deno.test("an ask survives the restart and is answered once", async () => {
  await inDir(async (dir) => {
    const policy = [{ verdict: "ask" as const, tool: "math_eval", args: [] }];
    let approvalId = "";
    let runId = "";
    {
      await using house = await fakeHouse({
        dir,
        policy,
        steps: [calls(["math_eval", { expression: "6*7" }])],
      });
      const run = await house.desk.start(request("go"));
      runId = run.runId;
      for await (const event of run.events) {
        if (event.kind !== "ask") continue;
        approvalId = event.approvalId;
        break;
      }
    }
    await using house = await fakeHouse({ dir, policy, steps: [says("42")] });
    await house.desk.resume();
    const asked: TurnEvent[] = [];
    using _watch = house.desk.watch((e) =>
      void (e.kind === "ask" && asked.push(e))
    );
    const answered = await house.say(`/approve ${approvalId} allow-once`);
    assert.equal(answered.at(-1)?.kind, "end");
    const outcome = await house.desk.wait(runId, { timeoutMs: 10_000 });
    assert.equal(outcome?.reply, "42");
    // It may be shown again, but it is the same ask.
    for (const event of asked) {
      assert.equal(event.kind === "ask" && event.approvalId, approvalId);
    }
  });
});

Deno.test("a run that is interrupted again and again is given up", async () => {
  await inDir(async (dir) => {
    let runId = "";
    for (let n = 0; n < 4; n++) {
      const gate = new Gate();
      await using house = await fakeHouse({ dir, steps: [stuck(gate)] });
      if (n === 0) runId = (await house.desk.start(request("hi"))).runId;
      else await house.desk.resume();
      await gate.arrivals(1);
    }
    await using house = await fakeHouse({ dir });
    await house.desk.resume();
    const outcome = await house.desk.wait(runId, { timeoutMs: 10_000 });
    assert.equal(outcome?.reason, "interrupted");
    assert.match(outcome?.message ?? "", /3 times in a row/);
    assert.deepEqual(
      await collect((await house.desk.start(request("next"))).events)
        .then((events) => events.at(-1)?.kind),
      "end",
    );
  });
});
