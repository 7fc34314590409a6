/** Promise 10: a chat command that was acknowledged is done, kill -9 or not. */
import assert from "node:assert/strict";
import { fakeHouse, request } from "../fakes/house.ts";
import { Gate, says } from "../fakes/models.ts";

const KEY = "agent:main:main";

/** Runs a house up to the command's acknowledgement; the command's run. */
async function killed(dir: string, command: string): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-all",
      "--frozen",
      new URL("10_killed_command.ts", import.meta.url).href,
      dir,
      command,
    ],
    stdout: "piped",
    stderr: "piped",
  });
  const { stdout, stderr, signal } = await child.output();
  assert.equal(signal, "SIGKILL", new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
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
