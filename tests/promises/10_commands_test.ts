/** Promise 10: a chat command that was acknowledged is done, kill -9 or not. */
import assert from "node:assert/strict";
import { FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse } from "../fakes/real_house.ts";
import { type FakeHouse, fakeHouse, request } from "../fakes/house.ts";
import { Gate, says } from "../fakes/models.ts";

const KEY = "agent:main:main";

/** Runs a house up to the last acknowledgement; the runs of what was said. */
async function killedAfter(dir: string, texts: string[]): Promise<string[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-all",
      "--frozen",
      new URL("10_killed_command.ts", import.meta.url).href,
      dir,
      ...texts,
    ],
    stdout: "piped",
    stderr: "piped",
  });
  const { stdout, stderr, signal } = await child.output();
  assert.equal(signal, "SIGKILL", new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n");
}

async function killed(dir: string, command: string): Promise<string> {
  const [runId = ""] = await killedAfter(dir, [command]);
  return runId;
}

async function inDir(story: (dir: string) => Promise<void>): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  try {
    await story(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("10: /stop that was acknowledged stops, also when the process is killed then", async () => {
  await inDir(async (dir) => {
    const runId = await killed(dir, "/stop");
    // As a model does, it takes its time: nothing opens this gate.
    const gate = new Gate();
    const slow = async function* (_: unknown, signal: AbortSignal) {
      await gate.pass(signal);
      yield* says("went on");
    };
    await using house = await fakeHouse({ dir, steps: [slow] });
    const open = await house.store.runs.open();
    assert.ok(open.some(({ id }) => id === runId), "it was not stored");
    const turn = open.find(({ id }) => id !== runId);
    assert.ok(turn !== undefined, "the turn was over before it was killed");
    await house.desk.resume();
    const said = await house.desk.wait(runId, { timeoutMs: 10_000 });
    assert.equal(said?.reply, "Stopped.");
    const ended = await house.desk.wait(turn.id, { timeoutMs: 10_000 });
    assert.equal(ended?.reason, "cancelled");
    assert.deepEqual(await house.store.runs.open(), []);
  });
});

Deno.test("10: /new that was acknowledged begins anew, once", async () => {
  await inDir(async (dir) => {
    const runId = await killed(dir, "/new");
    await using house = await fakeHouse({ dir, steps: [says("went on")] });
    const before = await house.store.sessions.find(KEY);
    assert.ok((before?.seq ?? 0) > 0, "it was done before it was killed");
    await house.desk.resume();
    const said = await house.desk.wait(runId, { timeoutMs: 10_000 });
    assert.match(said?.reply ?? "", /^A new conversation\. The old one is/);
    const after = await house.store.sessions.find(KEY);
    assert.notEqual(after?.id, before?.id);
    assert.equal(after?.seq, 0);
    // At the next start there is nothing left to do.
    assert.deepEqual(await house.store.runs.open(), []);
  });
});

Deno.test("10: a command of a credential that ended meanwhile is not done", async () => {
  await inDir(async (dir) => {
    const runId = await killed(dir, "/new");
    await using house = await fakeHouse({ dir, isLive: () => false });
    const before = await house.store.sessions.find(KEY);
    await house.desk.resume();
    const said = await house.desk.wait(runId, { timeoutMs: 10_000 });
    assert.equal(said?.reason, "interrupted");
    assert.equal((await house.store.sessions.find(KEY))?.id, before?.id);
  });
});

Deno.test("10: the same command twice is one, and has its answer after a restart", async () => {
  await inDir(async (dir) => {
    const asked = request("/whoami");
    let runId = "";
    {
      await using house = await fakeHouse({ dir });
      const run = await house.desk.start(asked);
      await house.desk.wait(run.runId, { timeoutMs: 10_000 });
      runId = run.runId;
    }
    await using house = await fakeHouse({ dir });
    const again = await house.desk.start(asked);
    assert.equal(again.status, "duplicate");
    assert.equal(again.runId, runId);
    const outcome = await house.desk.wait(runId, { timeoutMs: 1_000 });
    assert.match(outcome?.reply ?? "", /^You are owner/);
  });
});

/** The texts a model was asked with last, call by call. */
function asked({ models }: FakeHouse): (string | undefined)[] {
  return models.requests.map(({ messages }) =>
    messages.at(-1)?.parts.map((part) => part.kind === "text" ? part.text : "")
      .join("")
  );
}

async function isOver(house: FakeHouse, runId = "") {
  const outcome = await house.desk.wait(runId, { timeoutMs: 10_000 });
  return { reason: outcome?.reason, reply: outcome?.reply };
}

Deno.test("10: an acknowledged /stop comes before a model that answers at once, and ends only what was before it", async () => {
  await inDir(async (dir) => {
    const [queued, stop, later] = await killedAfter(dir, [
      "queued before",
      "/stop",
      "said after",
    ]);
    await using house = await fakeHouse({ dir, forever: says("went on") });
    const open = await house.store.runs.open();
    assert.equal(open.length, 4, "something was over before it was killed");
    await house.desk.resume();
    assert.deepEqual(await isOver(house, open[0]?.id), {
      reason: "cancelled",
      reply: "",
    });
    assert.equal((await isOver(house, queued)).reason, "cancelled");
    assert.equal((await isOver(house, stop)).reply, "Stopped.");
    assert.deepEqual(await isOver(house, later), {
      reason: "done",
      reply: "went on",
    });
    assert.deepEqual(asked(house), ["said after"]);
    assert.deepEqual(await house.store.runs.open(), []);
  });
});

Deno.test("10: what came after an acknowledged /new is said in the new conversation", async () => {
  await inDir(async (dir) => {
    const [begin, later] = await killedAfter(dir, ["/new", "said after"]);
    await using house = await fakeHouse({ dir, forever: says("went on") });
    const before = await house.store.sessions.find(KEY);
    await house.desk.resume();
    assert.match((await isOver(house, begin)).reply ?? "", /^A new conv/);
    assert.equal((await isOver(house, later)).reply, "went on");
    const after = await house.store.sessions.find(KEY);
    assert.notEqual(after?.id, before?.id);
    assert.equal(after?.seq, 2, "one question and its answer");
    const [only] = house.models.requests;
    assert.equal(only?.messages.length, 1, "nothing of before is shown");
  });
});

Deno.test("10: an acknowledged /model is set before the turns that wait go on", async () => {
  await inDir(async (dir) => {
    const [, set, later] = await killedAfter(dir, [
      "queued before",
      "/model fake:2",
      "said after",
    ]);
    await using house = await fakeHouse({ dir, forever: says("went on") });
    await house.desk.resume();
    assert.match((await isOver(house, set)).reply ?? "", /^fake:2 answers/);
    assert.equal((await isOver(house, later)).reply, "went on");
    assert.deepEqual([...new Set(house.models.names)], ["fake:2"]);
  });
});

Deno.test("10: a turn goes on when the command that would end it may not be done any more", async () => {
  await inDir(async (dir) => {
    const [stop] = await killedAfter(dir, ["as:tok_gone /stop"]);
    await using house = await fakeHouse({
      dir,
      forever: says("went on"),
      isLive: ({ credential }) => credential !== "tok_gone",
    });
    const [turn] = await house.store.runs.open();
    await house.desk.resume();
    assert.equal((await isOver(house, stop)).reason, "interrupted");
    assert.equal((await isOver(house, turn?.id)).reply, "went on");
  });
});

Deno.test("10: chat.abort is acknowledged when the ends are stored", async () => {
  const asked = Promise.withResolvers<void>();
  await using house = await openRealHouse({
    script: () => {
      asked.resolve();
      return { hang: true };
    },
  });
  using owner = new FakeClient(`${house.url.replace("http", "ws")}/ws`);
  await owner.connect({ auth: { token: house.owner } });
  const { payload: { runId } } = await owner.call("chat.send", {
    sessionKey: "main",
    message: "go",
    idempotencyKey: "1",
  });
  await asked.promise;
  const { store } = house.house;
  const commit = store.journal.commit.bind(store.journal);
  const held = Promise.withResolvers<void>();
  store.journal.commit = async (rows) => {
    await held.promise;
    await commit(rows);
  };
  let isAnswered = false;
  const stopping = owner.call("chat.abort", { sessionKey: "main" })
    .finally(() => isAnswered = true);
  await owner.call("health");
  await owner.call("health");
  const isEarly = isAnswered;
  held.resolve();
  assert.equal(isEarly, false, "nothing is stored yet");
  const { payload } = await stopping;
  assert.deepEqual(payload, { ok: true, aborted: true, runIds: [runId] });
  assert.deepEqual(await store.runs.open(), []);
});
