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
import type { AppError } from "../core/errors.ts";
import { textOf } from "../core/message.ts";
import { ModelError } from "../core/model.ts";
import { type Tool, tool } from "../core/tool.ts";
import type { TurnEvent } from "../core/turn.ts";

function kinds(events: readonly TurnEvent[]): string {
  return events.map((event) => event.kind).join(" ");
}

function endOf(events: readonly TurnEvent[]): TurnEvent & { kind: "end" } {
  const last = events.at(-1);
  assert.ok(last?.kind === "end", `the last event is ${last?.kind}`);
  return last;
}

async function transcript(house: FakeHouse): Promise<string[]> {
  const session = await house.store.sessions.find("agent:main:main");
  const stored = await house.store.messages.tail(session?.id ?? "", {
    limit: 100,
  });
  return stored.map((m) =>
    `${m.role}: ${
      m.parts.map((p) =>
        p.kind === "text"
          ? p.text
          : p.kind === "tool_call"
          ? `call ${p.name}`
          : p.kind === "tool_result"
          ? `result ${p.text}`
          : p.kind
      ).join("")
    }`
  );
}

/** A tool with an effect, that counts its runs. */
function writer(run: () => Promise<string> | string): Tool {
  return tool({
    name: "note_write",
    about: "Write a note",
    input: z.strictObject({ text: z.string() }),
    scope: "chat",
    effect: "write",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [],
    run,
  });
}

Deno.test("a turn streams, replies, ends, and is stored", async () => {
  await using house = await fakeHouse({ steps: [says("Hel", "lo")] });
  const events = await house.say("hi");
  assert.equal(kinds(events), "accepted step text text usage reply end");
  assert.deepEqual(events.map((e) => e.seq), [1, 2, 3, 4, 5, 6, 7]);
  assert.equal(endOf(events).reason, "done");
  assert.deepEqual(await transcript(house), ["user: hi", "assistant: Hello"]);
  const run = await house.store.runs.find(events[0]?.runId ?? "");
  assert.equal(run?.state, "done");
  assert.equal(run?.reply, "Hello");
  assert.deepEqual(await house.store.runs.open(), []);
});

Deno.test("tool calls run together and their results go back to the model", async () => {
  await using house = await fakeHouse({
    steps: [
      calls(["math_eval", { expression: "6*7" }], ["current_time", {}]),
      says("42"),
    ],
  });
  const events = await house.say("what is 6*7?");
  assert.equal(
    kinds(events),
    "accepted step tool_call tool_call usage decision decision tool_result tool_result step text usage reply end",
  );
  const last = house.models.requests[1]?.messages.at(-1);
  assert.equal(last?.role, "tool");
  assert.deepEqual(
    last?.parts.map((p) => p.kind === "tool_result" && p.name),
    ["math_eval", "current_time"],
  );
  const [first] = last?.parts ?? [];
  assert.equal(first?.kind === "tool_result" && first.text, "42");
});

Deno.test("what a model may get wrong becomes a result it can read", async (t) => {
  const rows: [why: string, call: [string, unknown], want: RegExp][] = [
    ["unknown tool", ["rm_rf", {}], /no tool "rm_rf".*current_time/],
    ["wrong arguments", ["math_eval", { expr: 1 }], /do not fit/],
    ["a failing tool", ["math_eval", { expression: "1+" }], /^Failed: /],
    ["bad zone", ["current_time", { zone: "Mars" }], /"Mars".*IANA/],
  ];
  for (const [why, call, want] of rows) {
    await t.step(why, async () => {
      await using house = await fakeHouse({ steps: [calls(call), says("ok")] });
      const events = await house.say("go");
      const result = events.find((e) => e.kind === "tool_result");
      assert.match(result?.text ?? "", want);
      assert.equal(result?.isError, true);
      assert.equal(endOf(events).reason, "done");
    });
  }
});

Deno.test("a turn ends by its bounds, and says which", async (t) => {
  await t.step("steps", async () => {
    let n = 0;
    await using house = await fakeHouse({
      limits: { stepsMax: 4 },
      forever: () => calls(["math_eval", { expression: `1+${n++}` }]),
    });
    const end = endOf(await house.say("go"));
    assert.equal(end.reason, "steps");
    assert.match(end.hint ?? "", /limits\.stepsMax/);
  });
  await t.step("the same call and result three times", async () => {
    await using house = await fakeHouse({
      forever: calls(["math_eval", { expression: "1+1" }]),
    });
    const end = endOf(await house.say("go"));
    assert.equal(end.reason, "loop_detected");
    assert.equal(house.models.requests.length, 3);
  });
  await t.step("time", async () => {
    const gate = new Gate();
    await using house = await fakeHouse({
      steps: [async function* (_, signal) {
        await gate.pass(signal);
        yield* says("late");
      }],
    });
    const events = await house.say("go", { limitMs: 20 });
    assert.equal(endOf(events).reason, "time");
  });
  await t.step("length", async () => {
    await using house = await fakeHouse({
      steps: [[{ kind: "text", text: "cut o" }, {
        kind: "end",
        reason: "length",
      }]],
    });
    const events = await house.say("go");
    assert.equal(endOf(events).reason, "tokens");
    assert.equal(
      events.find((e) => e.kind === "reply")?.text,
      "cut o",
    );
  });
});

Deno.test("a vendor's failure ends the turn with its class and a hint", async () => {
  const error = new ModelError("auth", "the key was refused", {
    hint: "check it",
  });
  await using house = await fakeHouse({ steps: [[error], says("now")] });
  const end = endOf(await house.say("hi"));
  assert.equal(end.reason, "error");
  assert.equal(end.errorClass, "auth");
  assert.equal(end.hint, "check it");
  assert.equal(endOf(await house.say("again")).reason, "done");
  assert.deepEqual(await transcript(house), [
    "user: hi",
    "user: again",
    "assistant: now",
  ]);
});

Deno.test("what was seen of an answer that broke is kept", async () => {
  const error = new ModelError("network", "the line broke");
  await using house = await fakeHouse({
    steps: [[{ kind: "text", text: "Half" }, error]],
  });
  assert.equal(endOf(await house.say("hi")).reason, "error");
  assert.deepEqual(await transcript(house), ["user: hi", "assistant: Half"]);
});

Deno.test("turns of one session run in order, of two at once", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    forever: async function* (_, signal) {
      await gate.pass(signal);
      yield* says("ok");
    },
  });
  const first = await house.desk.start(request("1"));
  const second = await house.desk.start(request("2"));
  const other = await house.desk.start(
    request("3", { sessionKey: "agent:main:client:other" }),
  );
  assert.deepEqual(
    [first.status, second.status, other.status],
    ["started", "queued", "started"],
  );
  await gate.arrivals(2);
  assert.deepEqual(house.desk.counts(), { running: 2, queued: 1 });
  gate.open();
  const events = await collect(second.events);
  assert.ok(kinds(events).startsWith("accepted queued"));
  assert.deepEqual(await transcript(house), [
    "user: 1",
    "assistant: ok",
    "user: 2",
    "assistant: ok",
  ]);
});

Deno.test("the global cap makes turns wait with their position", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    limits: { runningMax: 1 },
    forever: async function* (_, signal) {
      await gate.pass(signal);
      yield* says("ok");
    },
  });
  const started = [];
  for (const n of [1, 2, 3]) {
    started.push(
      await house.desk.start(request("x", {
        sessionKey: `agent:main:client:s${n}`,
      })),
    );
  }
  await gate.arrivals(1);
  gate.open();
  const third = await collect(started[2]?.events ?? []);
  const queued = third.filter((e) => e.kind === "queued");
  assert.deepEqual(queued.map((e) => [e.behind, e.position]), [
    ["global", 1],
    ["global", 0],
  ]);
  assert.equal(endOf(third).reason, "done");
});

Deno.test("a session's queue has an end", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    limits: { queuedMax: 1 },
    forever: async function* (_, signal) {
      await gate.pass(signal);
      yield* says("ok");
    },
  });
  await house.desk.start(request("1"));
  await house.desk.start(request("2"));
  await assert.rejects(
    house.desk.start(request("3")),
    (error: AppError) => error.code === "rate_limited",
  );
  gate.open();
});

Deno.test("cancelling reaches the provider and a tool within 100 ms", async (t) => {
  await t.step("the provider", async () => {
    const gate = new Gate();
    let stopped = 0;
    await using house = await fakeHouse({
      steps: [async function* (_, signal) {
        yield { kind: "text", text: "so far" };
        try {
          await gate.pass(signal);
        } finally {
          stopped = performance.now();
        }
      }],
    });
    const run = await house.desk.start(request("go"));
    await gate.arrivals(1);
    const begun = performance.now();
    assert.deepEqual(house.desk.abort(run.sessionKey), [run.runId]);
    const end = endOf(await collect(run.events));
    assert.equal(end.reason, "cancelled");
    assert.ok(stopped - begun < 100);
    assert.deepEqual(await transcript(house), [
      "user: go",
      "assistant: so far",
    ]);
  });
  await t.step("a tool that does not listen", async () => {
    const entered = Promise.withResolvers<void>();
    const never = Promise.withResolvers<string>();
    await using house = await fakeHouse({
      steps: [calls(["note_write", { text: "x" }])],
      tools: [writer(() => {
        entered.resolve();
        return never.promise;
      })],
    });
    const run = await house.desk.start(request("go"));
    await entered.promise;
    const begun = performance.now();
    house.desk.abort(run.sessionKey, run.runId);
    assert.equal(endOf(await collect(run.events)).reason, "cancelled");
    assert.ok(performance.now() - begun < 100);
    const lines = await transcript(house);
    assert.match(lines.at(-1) ?? "", /result Not finished/);
  });
});

Deno.test("the same event is taken once", async (t) => {
  const gate = new Gate();
  await using house = await fakeHouse({
    forever: async function* (_, signal) {
      await gate.pass(signal);
      yield* says("once");
    },
  });
  const same = request("hi");
  await t.step("at the same time", async () => {
    const both = await Promise.all([
      house.desk.start(same),
      house.desk.start(same),
    ]);
    assert.deepEqual(both.map((run) => run.status), ["started", "duplicate"]);
    assert.equal(both[0]?.runId, both[1]?.runId);
    gate.open();
    const events = await collect(both[1]?.events ?? []);
    assert.equal(endOf(events).reason, "done");
  });
  await t.step("later, with the kept events", async () => {
    const again = await house.desk.start(same);
    assert.equal(again.status, "duplicate");
    const events = await collect(again.events);
    assert.equal(events.find((e) => e.kind === "reply")?.text, "once");
  });
  assert.equal(house.models.requests.length, 1);
});

Deno.test("admission refuses before anything is stored", async (t) => {
  await using house = await fakeHouse();
  const rows: [why: string, start: () => Promise<unknown>, code: string][] = [
    [
      "no chat scope",
      () => house.say("x", { authority: ownerAuthority({ scopes: ["read"] }) }),
      "forbidden",
    ],
    [
      "another agent",
      () => house.say("x", { authority: ownerAuthority({ agents: ["b"] }) }),
      "forbidden",
    ],
    ["no such agent", () => house.say("x", { agentId: "b" }), "not_found"],
    ["no such model", () => house.say("x", { model: "b:c" }), "not_found"],
    [
      "a model it may not use",
      () =>
        house.say("x", {
          model: "fake:2",
          authority: ownerAuthority({ models: ["fake:1"] }),
        }),
      "forbidden",
    ],
  ];
  for (const [why, start, code] of rows) {
    await t.step(why, async () => {
      await assert.rejects(start(), (error: AppError) => error.code === code);
    });
  }
  assert.equal(await house.store.sessions.count(), 0);
});

Deno.test("commands answer while a turn runs", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    forever: async function* (_, signal) {
      await gate.pass(signal);
      yield* says("late");
    },
  });
  const run = await house.desk.start(request("go"));
  await gate.arrivals(1);
  const who = await house.say("/whoami");
  assert.match(
    who.find((e) => e.kind === "reply")?.text ?? "",
    /^You are owner/,
  );
  const stop = await house.say("/stop");
  assert.equal(stop.find((e) => e.kind === "reply")?.text, "Stopped.");
  assert.equal(endOf(await collect(run.events)).reason, "cancelled");
  assert.deepEqual(await transcript(house), ["user: go"]);
});

Deno.test("an ask waits without a slot and runs what was approved", async (t) => {
  const policy = [
    { verdict: "ask" as const, tool: "note_write", args: [] },
  ];
  for (const answer of ["allow-once", "deny"] as const) {
    await t.step(answer, async () => {
      let runs = 0;
      await using house = await fakeHouse({
        policy,
        limits: { runningMax: 1 },
        steps: [calls(["note_write", { text: "x" }]), says("told")],
        forever: says("meanwhile"),
        tools: [writer(() => `written ${++runs}`)],
      });
      const run = await house.desk.start(request("note it"));
      let asked: (TurnEvent & { kind: "ask" }) | undefined;
      const seen: TurnEvent[] = [];
      for await (const event of run.events) {
        seen.push(event);
        if (event.kind !== "ask") continue;
        asked = event;
        assert.equal(runs, 0);
        const stored = await house.store.runs.find(run.runId);
        assert.equal(stored?.state, "waiting_approval");
        // Its slot is free for another session meanwhile.
        house.models.requests.length = 0;
        const foreign = await house.say(`/approve ${event.approvalId}`, {
          sessionKey: "agent:main:client:other",
        });
        assert.match(endOf(foreign).message ?? "", /no approval/);
        const done = await house.say(`/approve ${event.approvalId} ${answer}`);
        assert.equal(endOf(done).reason, "done");
      }
      assert.ok(asked);
      assert.equal(endOf(seen).reason, "done");
      assert.equal(runs, answer === "deny" ? 0 : 1);
      const late = await house.say(`/approve ${asked.approvalId}`);
      assert.match(endOf(late).message ?? "", /already (used|denied)/);
    });
  }
});

Deno.test("policy hides a denied tool and refuses it when called", async () => {
  await using house = await fakeHouse({
    policy: [{ verdict: "deny", tool: "math_*", args: [] }],
    steps: [calls(["math_eval", { expression: "1" }]), says("no")],
  });
  const events = await house.say("go");
  assert.deepEqual(
    house.models.requests[0]?.tools?.map((spec) => spec.name),
    ["current_time"],
  );
  const decision = events.find((e) => e.kind === "decision");
  assert.equal(decision?.verdict, "deny");
});

Deno.test("tools of the caller are returned to the caller", async () => {
  await using house = await fakeHouse({
    steps: [calls(["lights_on", { room: "hall" }])],
  });
  const events = await house.say("lights", {
    clientTools: [{ name: "lights_on", description: "", schema: {} }],
  });
  assert.equal(kinds(events), "accepted step tool_call usage reply end");
  assert.equal(endOf(events).reason, "done");
});

Deno.test("every stored part carries a label, and untrusted text taints what follows", async () => {
  await using house = await fakeHouse({
    steps: [calls(["math_eval", { expression: "1+1" }]), says("2")],
  });
  const at = 1;
  const bad = request("from a page");
  bad.inbound.label = {
    integrity: "untrusted",
    secrecy: [],
    origins: [{ kind: "web", ref: "https://evil.test/", at }],
  };
  await collect((await house.desk.start(bad)).events);
  const session = await house.store.sessions.find("agent:main:main");
  assert.equal(session?.joined.integrity, "untrusted");
  const stored = await house.store.messages.tail(session?.id ?? "", {
    limit: 10,
  });
  for (const part of stored.flatMap((m) => m.parts)) {
    assert.equal(part.label.integrity, "untrusted");
    assert.ok(
      part.label.origins.some((o) => o.kind === "web" || o.kind === "tool"),
    );
  }
});

Deno.test("a stateless caller's history comes before its message", async () => {
  await using house = await fakeHouse({ steps: [says("yes")] });
  const foreign = { integrity: "untrusted" as const, secrecy: [], origins: [] };
  const { sessionKey: _, ...rest } = request("and now?");
  await collect(
    (await house.desk.start({
      ...rest,
      history: [
        { role: "user", parts: [{ kind: "text", text: "a", label: foreign }] },
        {
          role: "assistant",
          parts: [{ kind: "text", text: "b", label: foreign }],
        },
      ],
      preamble: "Be brief",
    })).events,
  );
  const [sent] = house.models.requests;
  assert.deepEqual(sent?.messages.map((m) => m.role), [
    "user",
    "assistant",
    "user",
  ]);
  assert.match(
    textOf(sent?.messages.at(-1) ?? { parts: [] }),
    /Be brief[^]*and now\?/,
  );
  assert.doesNotMatch(sent?.system ?? "", /Be brief/);
  assert.equal(await house.store.sessions.count(), 0);
});

Deno.test("wait() gives the outcome, or nothing in time", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    steps: [async function* (_, signal) {
      await gate.pass(signal);
      yield* says("done");
    }],
  });
  const { runId } = await house.desk.start(request("go"));
  assert.equal(await house.desk.wait(runId, { timeoutMs: 1 }), undefined);
  gate.open();
  const outcome = await house.desk.wait(runId, { timeoutMs: 10_000 });
  assert.equal(outcome?.reply, "done");
  assert.equal(
    (await house.desk.wait(runId, { timeoutMs: 1 }))?.reason,
    "done",
  );
});
