import assert from "node:assert/strict";
import { z } from "zod";
import {
  collect,
  type FakeHouse,
  fakeHouse,
  request,
} from "../../tests/fakes/house.ts";
import { calls, Gate, says } from "../../tests/fakes/models.ts";
import { AppError } from "../core/errors.ts";
import type { Journal, Row } from "../store/journal.ts";
import { tool } from "../core/tool.ts";
import type { TurnEvent } from "../core/turn.ts";

function endOf(events: readonly TurnEvent[]): TurnEvent & { kind: "end" } {
  const last = events.at(-1);
  assert.ok(last?.kind === "end", `the last event is ${last?.kind}`);
  return last;
}

/** Makes commits fail while `isBroken` says so. */
function breakable(
  journal: Journal,
  isBroken: (rows: readonly Row[]) => boolean,
): Disposable {
  const commit = journal.commit;
  journal.commit = (rows) =>
    isBroken(rows)
      ? Promise.reject(new AppError("unavailable", "Cannot store: disk full"))
      : commit.call(journal, rows);
  return { [Symbol.dispose]: () => void (journal.commit = commit) };
}

function holds(row: Row, collection: string, value: object): boolean {
  return row.key[0] === collection &&
    Object.entries(value).every(([name, one]) =>
      (row.value as Record<string, unknown> | undefined)?.[name] === one
    );
}

function inFlight({ key, value }: Row): boolean {
  return key[0] === "run" &&
    (value as { inFlight: unknown[] } | undefined)?.inFlight.length === 1;
}

async function transcript(
  store: FakeHouse["store"],
): Promise<{ seq: number; stored: string[] }> {
  const session = await store.sessions.find("agent:main:main");
  assert.ok(session);
  const stored = await store.messages.tail(session.id, { limit: 100 });
  return {
    seq: session.seq,
    stored: stored.map(({ seq, role }) => `${seq} ${role}`),
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
  run: () => "written",
});

Deno.test("messages of a commit that failed go out with the turn's end", async () => {
  await using house = await fakeHouse({
    steps: [calls(["note_write", {}])],
    tools: [writer],
  });
  let failures = 0;
  using _broken = breakable(
    house.store.journal,
    (rows) => rows.some(inFlight) && failures++ === 0,
  );
  const events = await house.say("hi");
  assert.equal(failures, 1);
  assert.equal(endOf(events).reason, "error");
  const { seq, stored } = await transcript(house.store);
  assert.deepEqual(stored, ["1 user", "2 assistant", "3 tool"]);
  assert.equal(seq, stored.length);
});

Deno.test("an answer that cannot be stored is not called done", async () => {
  await using house = await fakeHouse({ steps: [says("hello")] });
  using _broken = breakable(
    house.store.journal,
    (rows) => rows.some((row) => holds(row, "run", { state: "done" })),
  );
  const events = await house.say("hi");
  assert.equal(endOf(events).reason, "error");
  assert.match(endOf(events).message ?? "", /not be stored/);
});

Deno.test("a listener that throws does not cut a turn", async () => {
  await using house = await fakeHouse({ steps: [says("hello")] });
  using _bad = house.desk.watch(() => {
    throw new AppError("internal", "the listener is broken");
  });
  const events = await house.say("hi");
  assert.equal(endOf(events).reason, "done");
});

Deno.test("one stored run that cannot be taken up does not keep the others", async () => {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  try {
    const gate = new Gate();
    const hang = async function* (_: unknown, signal: AbortSignal) {
      yield { kind: "text" as const, text: "x" };
      await gate.pass(signal);
    };
    {
      await using house = await fakeHouse({ dir, steps: [hang, hang] });
      await house.desk.start(request("1"));
      await house.desk.start(request("2", { sessionKey: "agent:main:two" }));
      await gate.arrivals(2);
    }
    await using house = await fakeHouse({ dir, forever: says("again") });
    const first = await house.store.sessions.find("agent:main:main");
    const tail = house.store.messages.tail.bind(house.store.messages);
    house.store.messages.tail = (id, options) =>
      id === first?.id
        ? Promise.reject(new AppError("internal", "a stored message is broken"))
        : tail(id, options);
    assert.equal(await house.desk.resume(), 2);
    await house.desk.drain(10_000);
    assert.deepEqual(await house.store.runs.open(), []);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a credential that ends while its turn is being taken ends the turn", async () => {
  await using house = await fakeHouse({ forever: says("hello") });
  const find = house.store.sessions.find.bind(house.store.sessions);
  let isFirst = true;
  house.store.sessions.find = async (key) => {
    if (isFirst) house.desk.abortCredential("tok_owner");
    isFirst = false;
    return await find(key);
  };
  const outcome = await house.say("hi").then(
    (events) => endOf(events).reason,
    (error: AppError) => error.code,
  );
  assert.ok(["cancelled", "unauthorized"].includes(outcome), outcome);
});

Deno.test("a message between two starts does not overtake a turn that was cut off", async () => {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  try {
    const gate = new Gate();
    const hang = async function* (_: unknown, signal: AbortSignal) {
      yield { kind: "text" as const, text: "x" };
      await gate.pass(signal);
    };
    {
      await using house = await fakeHouse({ dir, steps: [hang] });
      await house.desk.start(request("1"));
      await gate.arrivals(1);
      await house.desk.start(request("2"));
    }
    const asked: string[] = [];
    await using house = await fakeHouse({
      dir,
      forever: (req) => {
        const last = req.messages.findLast((m) => m.role === "user");
        const part = last?.parts.at(-1);
        asked.push(part?.kind === "text" ? part.text : "?");
        return says("ok");
      },
    });
    const resumed = house.desk.resume();
    const third = await house.desk.start(request("3"));
    await resumed;
    await collect(third.events);
    await house.desk.drain(10_000);
    assert.deepEqual(asked.map((t) => t.trim().slice(-1)), ["1", "2", "3"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a command that was quick can be waited for by who sent it", async () => {
  await using house = await fakeHouse();
  const { runId, events } = await house.desk.start(request("/help"));
  await collect(events);
  assert.equal((await house.desk.find(runId))?.principal, "owner");
  const outcome = await house.desk.wait(runId, { timeoutMs: 10 });
  assert.equal(outcome?.reason, "done");
});
