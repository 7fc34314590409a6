import assert from "node:assert/strict";
import {
  collect,
  type FakeHouse,
  fakeHouse,
  ownerAuthority,
  request,
} from "../../tests/fakes/house.ts";
import { calls, Gate, says } from "../../tests/fakes/models.ts";
import { textOf } from "../core/message.ts";
import type { TurnEvent } from "../core/turn.ts";
import type { Session } from "../store/sessions.ts";

const KEY = "agent:main:main";

async function transcript(house: FakeHouse): Promise<string[]> {
  const session = await house.store.sessions.find(KEY);
  const stored = await house.store.messages.tail(session?.id ?? "", {
    limit: 100,
  });
  return stored.map((m) => `${m.role}: ${textOf(m) || m.parts[0]?.kind}`);
}

function endOf(events: readonly TurnEvent[]): TurnEvent & { kind: "end" } {
  const last = events.at(-1);
  assert.ok(last?.kind === "end");
  return last;
}

/** A house whose main session has a queue mode. */
async function withMode(
  mode: Session["queueMode"],
  options: Parameters<typeof fakeHouse>[0] = {},
): Promise<FakeHouse> {
  const house = await fakeHouse(options);
  await house.say("/whoami");
  const session = await house.store.sessions.find(KEY);
  assert.ok(session);
  await house.store.journal.commit(
    house.store.sessions.rows({ ...session, queueMode: mode }, session),
  );
  return house;
}

/** Answers once it is let go. */
function gated(gate: Gate, ...texts: string[]) {
  return async function* (_: unknown, signal: AbortSignal) {
    await gate.pass(signal);
    yield* says(...texts);
  };
}

Deno.test("steer: the new text joins the running turn at its next step", async () => {
  const gate = new Gate();
  await using house = await withMode("steer", {
    steps: [
      async function* (_, signal) {
        await gate.pass(signal);
        yield* calls(["math_eval", { expression: "1+1" }]);
      },
      says("both answered"),
    ],
  });
  const first = await house.desk.start(request("one"));
  await gate.arrivals(1);
  const second = await house.desk.start(request("and two"));
  assert.equal(second.status, "queued");
  gate.open();
  const joined = endOf(await collect(second.events));
  assert.equal(joined.reason, "done");
  assert.match(joined.message ?? "", new RegExp(first.runId));
  assert.equal(endOf(await collect(first.events)).reason, "done");
  assert.deepEqual(await transcript(house), [
    "user: one",
    "assistant: tool_call",
    "tool: tool_result",
    "user: and two",
    "assistant: both answered",
  ]);
  assert.equal(house.models.requests.length, 2);
  assert.equal((await house.store.runs.find(second.runId))?.state, "done");
  assert.deepEqual(await house.store.runs.open(), []);
});

Deno.test("steer: what comes too late is the next turn", async () => {
  const gate = new Gate();
  await using house = await withMode("steer", {
    steps: [gated(gate, "first"), says("second")],
  });
  const first = await house.desk.start(request("one"));
  await gate.arrivals(1);
  const second = await house.desk.start(request("two"));
  gate.open();
  await collect(first.events);
  const events = await collect(second.events);
  assert.equal(events.find((e) => e.kind === "reply")?.text, "second");
});

Deno.test("collect: what waits becomes one turn", async () => {
  const gate = new Gate();
  await using house = await withMode("collect", {
    steps: [gated(gate, "first"), says("all three")],
  });
  const first = await house.desk.start(request("one"));
  await gate.arrivals(1);
  const rest = [];
  for (const text of ["two", "three", "four"]) {
    rest.push(await house.desk.start(request(text)));
  }
  gate.open();
  await collect(first.events);
  const ends = await Promise.all(rest.map((r) => collect(r.events)));
  assert.deepEqual(ends.map((e) => endOf(e).reason), ["done", "done", "done"]);
  assert.deepEqual(await transcript(house), [
    "user: one",
    "assistant: first",
    "user: two",
    "user: three",
    "user: four",
    "assistant: all three",
  ]);
  assert.equal(house.models.requests.length, 2);
});

Deno.test("replace: the newer message stops the older turn", async () => {
  const gate = new Gate();
  await using house = await withMode("replace", {
    steps: [gated(gate, "never"), says("second")],
  });
  const first = await house.desk.start(request("one"));
  await gate.arrivals(1);
  const second = await house.desk.start(request("two"));
  const end = endOf(await collect(first.events));
  assert.equal(end.reason, "cancelled");
  assert.match(end.message ?? "", /[Rr]eplaced/);
  const events = await collect(second.events);
  assert.equal(events.find((e) => e.kind === "reply")?.text, "second");
});

Deno.test("the modes act on the same sender's turns only", async (t) => {
  const others = {
    "another sender": () => {
      const other = request("two");
      other.inbound.sender = { id: "somebody" };
      return other;
    },
    "less authority": () =>
      request("two", { authority: ownerAuthority({ scopes: ["chat"] }) }),
  };
  for (const mode of ["steer", "replace", "collect"] as const) {
    for (const [who, make] of Object.entries(others)) {
      await t.step(`${mode}, ${who}`, async () => {
        const gate = new Gate();
        await using house = await withMode(mode, {
          steps: [
            async function* (_, signal) {
              await gate.pass(signal);
              yield* calls(["math_eval", { expression: "1+1" }]);
            },
            says("first"),
            says("second"),
          ],
        });
        const first = await house.desk.start(request("one"));
        await gate.arrivals(1);
        const second = await house.desk.start(make());
        gate.open();
        const events = await collect(first.events);
        assert.equal(events.find((e) => e.kind === "reply")?.text, "first");
        const later = await collect(second.events);
        assert.equal(later.find((e) => e.kind === "reply")?.text, "second");
      });
    }
  }
});

Deno.test("a new message instead of an answer counts as no, and says so", async (t) => {
  const asking = {
    policy: [{ verdict: "ask" as const, tool: "math_eval", args: [] }],
    steps: [calls(["math_eval", { expression: "1+1" }]), says("I could not")],
    forever: says("sure"),
  };
  await t.step("of the same principal", async () => {
    await using house = await fakeHouse(asking);
    const run = await house.desk.start(request("go"));
    const seen: TurnEvent[] = [];
    let second: TurnEvent[] = [];
    for await (const event of run.events) {
      seen.push(event);
      if (event.kind === "ask") {
        const next = await house.desk.start(request("never mind, hello"));
        second = [];
        void collect(next.events).then((events) => second = events);
      }
    }
    const verdict = seen.findLast((e) => e.kind === "decision");
    assert.equal(verdict?.verdict, "deny");
    assert.match(verdict?.reason ?? "", /new message .* counts as no/);
    assert.equal(endOf(seen).reason, "done");
    await house.desk.drain(5_000);
    assert.equal(second.find((e) => e.kind === "reply")?.text, "sure");
  });
  await t.step("not of somebody else without the scope", async () => {
    await using house = await fakeHouse(asking);
    const run = await house.desk.start(request("go"));
    for await (const event of run.events) {
      if (event.kind !== "ask") continue;
      const peer = ownerAuthority({
        principal: "peer:x",
        kind: "peer",
        scopes: ["chat"],
        integrity: "peer",
      });
      await house.desk.start(request("hello", { authority: peer }));
      const [pending] = await house.approvals.pending(KEY);
      assert.equal(pending?.id, event.approvalId);
      await house.say(`/approve ${event.approvalId} allow-once`);
    }
    const outcome = await house.desk.wait(run.runId, { timeoutMs: 5_000 });
    assert.equal(outcome?.reason, "done");
  });
});

Deno.test("an agent's own cap lets other agents run", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    agents: { slow: { runningMax: 1 } },
    forever: gated(gate, "ok"),
  });
  const of = (agent: string, n: number) =>
    house.desk.start(
      request("x", { sessionKey: `agent:${agent}:client:s${n}` }),
    );
  const one = await of("slow", 1);
  const two = await of("slow", 2);
  const other = await of("main", 3);
  assert.deepEqual(
    [one.status, two.status, other.status],
    ["started", "queued", "started"],
  );
  await gate.arrivals(2);
  gate.open();
  const events = await collect(two.events);
  const queued = events.filter((e) => e.kind === "queued");
  assert.deepEqual(queued.map((e) => [e.behind, e.position]), [["agent", 0]]);
  assert.equal(endOf(events).reason, "done");
});
