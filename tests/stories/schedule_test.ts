/**
 * Jobs over the whole house, as clients and the command line meet them: every
 * method answers by its contract, a job at a time runs within a second of it,
 * others see only what is theirs.
 */
import assert from "node:assert/strict";
import { cron } from "../../src/cli/verbs/cron.ts";
import { METHODS } from "../../src/core/methods.ts";
import { SCHEDULE_METHODS } from "../../src/core/methods/schedule.ts";
import { systemClock } from "../../src/core/time.ts";
import { type AnyFrame, FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

async function join(
  { url }: RealHouse,
  token: string,
): Promise<FakeClient> {
  const client = new FakeClient(`${url.replace("http", "ws")}/ws`);
  await client.opened;
  const hello = await client.connect({ auth: { token } });
  assert.equal(hello.ok, true, JSON.stringify(hello));
  const { events } = hello.payload.features;
  assert.ok(events.includes("cron") && events.includes("heartbeat"));
  return client;
}

const asked = new Set<string>();

async function ask(
  client: FakeClient,
  method: keyof typeof METHODS,
  params: object = {},
): Promise<AnyFrame> {
  const { ok, payload, error } = await client.call(method, params);
  assert.ok(ok, `${method}: ${JSON.stringify(error)}`);
  METHODS[method].output.parse(payload);
  asked.add(method);
  return payload;
}

Deno.test("every method of the schedule answers by its contract, and tells who may know", async (t) => {
  await using house = await openRealHouse({
    script: () => ({ text: ["all is well"] }),
    settings: { schedule: { zone: "Europe/Berlin" } },
  });
  await house.house.resume();
  using owner = await join(house, house.owner);
  using app = await join(house, await house.token());
  using other = await join(house, await house.token());
  let id = "";
  await t.step("a job at a time runs within a second of it", async () => {
    const at = systemClock.now() + 400;
    const job = await ask(owner, "cron.add", {
      name: "soon",
      schedule: { kind: "at", atMs: at },
      payload: { kind: "agentTurn", message: "look" },
      delivery: { mode: "announce" },
    });
    id = job.id;
    const begun = await owner.event(
      "cron",
      (p) => p.jobId === id && p.action === "started",
    );
    assert.ok(systemClock.now() - at < 1_000);
    const done = await owner.event(
      "cron",
      (p) => p.jobId === id && p.action === "finished",
    );
    assert.equal(done.status, "ok");
    assert.equal(done.summary, "all is well");
    assert.equal(done.runId, begun.runId);
    // Its answer reaches the owner's clients.
    await owner.event(
      "chat",
      (p) =>
        p.sessionKey === "agent:main:main" && p.state === "final" &&
        JSON.stringify(p.message).includes("all is well"),
    );
    const { entries: [run] } = await ask(owner, "cron.runs", { id });
    assert.equal(run.status, "ok");
    assert.ok(run.lateMs < 1_000);
  });
  await t.step("a program's jobs are its own", async () => {
    const job = await ask(app, "cron.add", {
      schedule: { kind: "every", everyMs: 3_600_000 },
      payload: { kind: "agentTurn", message: "mine" },
    });
    assert.equal(job.integrity, "untrusted");
    const { jobs } = await ask(app, "cron.list");
    assert.deepEqual(jobs.map((j: AnyFrame) => j.id), [job.id]);
    assert.deepEqual((await ask(other, "cron.list")).jobs, []);
    assert.equal((await ask(owner, "cron.list")).jobs.length, 2);
    const foreign = await other.call("cron.run", { id: job.id });
    assert.equal(foreign.error.code, "NOT_FOUND");
    const patch = { name: "x" };
    const changed = await owner.call("cron.update", { id: job.id, patch });
    assert.equal(changed.error.code, "FORBIDDEN");
    const params = { id: job.id, idempotencyKey: "once" };
    assert.equal((await ask(app, "cron.run", params)).ran, true);
    await app.event(
      "cron",
      (p) => p.jobId === job.id && p.action === "finished",
    );
    assert.equal((await ask(app, "cron.run", params)).ran, false);
    const leaked = other.frames.filter((f) => f.event === "cron");
    assert.deepEqual(leaked, []);
    await ask(app, "cron.update", { id: job.id, patch });
    assert.equal(
      (await ask(owner, "cron.remove", { id: job.id })).removed,
      true,
    );
  });
  await t.step("its maker is revoked", async () => {
    const { id: token, token: text } = await ask(owner, "token.create", {
      name: "short",
      scopes: ["write"],
    });
    using brief = await join(house, text);
    const job = await ask(brief, "cron.add", {
      schedule: { kind: "every", everyMs: 3_600_000 },
      payload: { kind: "agentTurn", message: "mine" },
    });
    await ask(owner, "token.revoke", { id: token });
    await owner.event(
      "cron",
      (p) => p.jobId === job.id && /revoked/.test(p.error ?? ""),
    );
    const { jobs } = await ask(owner, "cron.list");
    const gone = jobs.find((j: AnyFrame) => j.id === job.id);
    assert.equal(gone.enabled, false);
    assert.match(gone.disabledBecause, /revoked/);
  });
  await t.step("wake and heartbeat", async () => {
    const { runId } = await ask(owner, "wake", { text: "hello" });
    await owner.event("chat", (p) => p.runId === runId && p.state === "final");
    const left = await ask(app, "wake", { mode: "next-heartbeat", text: "hi" });
    assert.deepEqual([left.queued, left.heartbeats], [1, false]);
    assert.equal(await ask(owner, "last-heartbeat"), null);
    const refused = await app.call("set-heartbeats", { enabled: true });
    assert.equal(refused.error.code, "FORBIDDEN");
    assert.equal(
      (await ask(owner, "set-heartbeats", { enabled: true })).enabled,
      true,
    );
    assert.equal((await ask(owner, "cron.status")).heartbeat.enabled, true);
  });
  await t.step("what is wrong is named", async () => {
    const add = async (schedule: object) =>
      (await owner.call("cron.add", {
        schedule,
        payload: { kind: "agentTurn", message: "x" },
      })).error.message;
    assert.match(
      await add({ kind: "cron", expr: "61 * * * *" }),
      /schedule\.expr/,
    );
    assert.match(
      await add({ kind: "cron", expr: "0 9 * * *", tz: "Mars/X" }),
      /tz/,
    );
    assert.match(await add({ kind: "at", at: "soon" }), /schedule\.at/);
    const nameless = await owner.call("cron.run", {});
    assert.equal(nameless.error.code, "INVALID_REQUEST");
    await ask(owner, "cron.preview", {
      schedule: { kind: "cron", expr: "0 9 * * *" },
    });
  });
  assert.deepEqual(
    Object.keys(SCHEDULE_METHODS).filter((name) => !asked.has(name)),
    [],
  );
});

Deno.test("carapace cron adds, lists, changes, runs and removes", async (t) => {
  await using house = await openRealHouse({
    script: () => ({ text: ["all is well"] }),
  });
  await house.house.resume();
  const run = async (...args: string[]) => {
    const said = { out: "", err: "" };
    const env: Record<string, string> = {
      CARAPACE_URL: house.url,
      CARAPACE_TOKEN: house.owner,
      CARAPACE_STATE_DIR: "tests/.tmp",
    };
    const io = {
      args,
      env: { get: (name: string) => env[name] },
      clock: systemClock,
      out: (text: string) => void (said.out += text),
      err: (text: string) => void (said.err += text),
      isTerminal: false,
      color: false,
      stdin: new ReadableStream<Uint8Array<ArrayBuffer>>(),
      stdinIsTerminal: false,
      onInterrupt: () => ({ [Symbol.dispose]: () => {} }),
    };
    const code = await cron.run(io, {} as never);
    return { code, ...said };
  };
  let id = "";
  await t.step("add and list", async () => {
    const added = await run(
      "add",
      "0 9 * * 1-5",
      "calendar?",
      "--zone",
      "Europe/Berlin",
      "--json",
    );
    const job = JSON.parse(added.out);
    id = job.id;
    assert.deepEqual(job.schedule, {
      kind: "cron",
      expr: "0 9 * * 1-5",
      tz: "Europe/Berlin",
    });
    assert.match(
      (await run("add", "every 2h", "check the build")).out,
      /^added job_\w+ "check the build": every 2 h, next in 2 h\n$/,
    );
    const { out } = await run("list");
    assert.match(out, /calendar\?\s+0 9 \* \* 1-5 \(Europe\/Berlin\)/);
  });
  await t.step("change, run, history, remove", async () => {
    assert.match((await run("update", id, "--off")).out, /next off/);
    const { out } = await run(
      "update",
      id,
      "--on",
      "--text",
      "and mail?",
      "--json",
    );
    assert.equal(JSON.parse(out).payload.message, "and mail?");
    assert.match((await run("run", id)).out, /^started run_/);
    assert.match((await run("runs", id)).out, /running|ok/);
    assert.match((await run("status")).out, /^2 jobs, .* heartbeat off\n$/);
    assert.match((await run("remove", id)).out, /^removed job_/);
    await assert.rejects(run("runs", id), /There is no job/);
  });
  await t.step("mistakes are named before a gateway is asked", async () => {
    for (
      const [args, what] of [
        [["add", "every 2h"], /TEXT is missing/],
        [["add", "every two hours", "x"], /Cannot read schedule/],
        [["add", "every", "2h", "x"], /one too many/],
        [["add", "0 9 * * *", "x", "--zone", "Berlin"], /Cannot use zone/],
        [["add", "every 2h", "x", "--missed", "some"], /--missed/],
        [["add", "every 2h", "x", "--on", "--off"], /--on or --off/],
        [["update", "job_x"], /what to change/],
        [["runs", "job_x", "--limit", "0"], /--limit/],
        [["frobnicate"], /Unknown form/],
      ] as [string[], RegExp][]
    ) await assert.rejects(run(...args), what, args.join(" "));
  });
});
