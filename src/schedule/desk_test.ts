import assert from "node:assert/strict";
import {
  fakeSchedule,
  HOUR,
  MINUTE,
  NEW_YEAR,
  owner,
  program,
} from "../../tests/fakes/schedule.ts";
import { Gate, says } from "../../tests/fakes/models.ts";
import { scratch } from "../../tests/process/processes.ts";
import { ModelError } from "../core/model.ts";
import type { Tool } from "../core/tool.ts";
import { messageSend } from "../tools/message.ts";

const cronDaily = {
  kind: "cron" as const,
  expr: "0 9 * * *",
  tz: "Europe/Berlin",
};

function names(told: { payload: Record<string, unknown> }[]): string[] {
  return told.map(({ payload }) =>
    [payload["action"], payload["status"]].filter((w) => w !== undefined)
      .join(" ")
  );
}

Deno.test("A job runs at its due times, each once, and says what became of it", async () => {
  await using one = await fakeSchedule();
  const job = await one.add({ name: "look around" });
  assert.equal(job.when, "every 1 h");
  assert.equal(job.state.nextRunAtMs, NEW_YEAR + HOUR);
  await one.pass(HOUR - 1);
  assert.deepEqual(await one.history(job.id), []);
  await one.pass(1);
  assert.deepEqual(await one.history(job.id), ["60 ok"]);
  await one.pass(MINUTE);
  assert.deepEqual(await one.history(job.id), ["60 ok"]);
  await one.pass(HOUR - MINUTE);
  assert.deepEqual(await one.history(job.id), ["60 ok", "120 ok"]);
  assert.deepEqual(names(one.told), [
    "added",
    ...["started", "finished ok", "started", "finished ok"],
  ]);
  const { entries: [last] } = await one.schedule.run(
    "cron.runs",
    { id: job.id, limit: 1 },
    owner,
  );
  assert.equal(last?.summary, "done");
  assert.equal(last?.lateMs, 0);
  assert.equal(last?.inputTokens, 10);
  assert.equal(last?.sessionKey, `agent:main:cron:${job.id}`);
});

Deno.test("Each run of an isolated job begins anew; an event goes to the main session", async () => {
  await using one = await fakeSchedule();
  const job = await one.add({});
  const event = await one.add({
    payload: { kind: "systemEvent", text: "tea" },
  });
  assert.equal(event.sessionKey, "agent:main:main");
  await one.pass(HOUR);
  await one.pass(HOUR);
  const { store } = one.house;
  const own = await store.sessions.find(job.sessionKey);
  const main = await store.sessions.find("agent:main:main");
  assert.equal(own?.seq, 2);
  assert.equal(main?.seq, 4);
  const [said] = await store.messages.tail(main?.id ?? "", { limit: 4 });
  const text = said?.parts[0]?.kind === "text" ? said.parts[0].text : "";
  assert.match(
    text,
    /^\[Event of the job "tea", due 2026-01-01 01:00 UTC\]\ntea$/,
  );
});

Deno.test("A job at a time runs once and is off then; one to be deleted is gone", async () => {
  await using one = await fakeSchedule();
  const schedule = { kind: "at" as const, at: "2026-01-01T02:00" };
  const kept = await one.add({ schedule });
  const gone = await one.add({ schedule, deleteAfterRun: true });
  await one.pass(2 * HOUR);
  const { jobs } = await one.schedule.run("cron.list", {}, owner);
  assert.deepEqual(jobs.map(({ id }) => id), [kept.id]);
  assert.equal(jobs[0]?.enabled, false);
  assert.equal(jobs[0]?.state.lastStatus, "ok");
  assert.deepEqual(await one.history(kept.id), ["120 ok"]);
  await assert.rejects(one.history(gone.id), { code: "not_found" });
});

Deno.test("What was missed while nothing ran is made up for as the job says", async () => {
  await using scratched = await scratch();
  const dir = scratched.path;
  const ids: Record<string, string> = {};
  {
    await using one = await fakeSchedule({ dir });
    for (const missed of ["run_once", "skip", "run_all"] as const) {
      ids[missed] = (await one.add({ missed })).id;
    }
    const at = { kind: "at" as const, at: "2026-01-01T01:30" };
    ids["at"] = (await one.add({ schedule: at })).id;
  }
  await using one = await fakeSchedule({
    dir,
    now: NEW_YEAR + 3 * HOUR + 5 * MINUTE,
  });
  await one.settle();
  const of = async (name: string) => await one.history(ids[name] ?? "");
  assert.deepEqual(await of("run_once"), ["120 missed 2", "180 ok"]);
  assert.deepEqual(await of("skip"), ["180 missed 3"]);
  assert.deepEqual(await of("run_all"), ["60 ok", "120 ok", "180 ok"]);
  assert.deepEqual(await of("at"), ["90 ok"]);
  await one.pass(55 * MINUTE);
  assert.deepEqual((await of("skip")).slice(1), ["240 ok"]);
  assert.deepEqual((await of("run_all")).slice(3), ["240 ok"]);
});

Deno.test("A run that is still going on is not run over; a stop leaves it to the next start", async () => {
  await using scratched = await scratch();
  const dir = scratched.path;
  const gate = new Gate();
  let id = "";
  {
    await using one = await fakeSchedule({
      dir,
      forever: async function* (_, signal) {
        await gate.pass(signal);
        yield* says("late");
      },
    });
    id = (await one.add({})).id;
    await one.clock.tick(HOUR);
    await gate.arrivals(1);
    const key = { id, idempotencyKey: "k" };
    const again = await one.schedule.run("cron.run", key, owner);
    assert.equal(again.ran, false);
    assert.equal(again.reason, "it is running");
    await one.clock.tick(HOUR);
    one.schedule.tick();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(await one.history(id), ["60 running", "120 missed 1"]);
  }
  await using one = await fakeSchedule({
    dir,
    now: NEW_YEAR + 2 * HOUR + MINUTE,
    start: false,
  });
  assert.equal(await one.house.desk.resume(), 1);
  one.schedule.start();
  await one.settle();
  assert.deepEqual(await one.history(id), ["60 ok", "120 missed 1"]);
});

Deno.test("A run by hand is made once for a key, and does not move the schedule", async () => {
  await using one = await fakeSchedule();
  const job = await one.add({});
  const run = (idempotencyKey: string, mode?: "due" | "force") =>
    one.schedule.run("cron.run", {
      id: job.id,
      idempotencyKey,
      ...(mode === undefined ? {} : { mode }),
    }, owner);
  assert.equal((await run("z", "due")).reason, "it is not due");
  const first = await run("a");
  await one.settle();
  const second = await run("a");
  assert.deepEqual([first.ran, second.ran], [true, false]);
  assert.equal(first.runId, second.runId);
  assert.equal(one.house.models.requests.length, 1);
  await one.pass(HOUR);
  assert.deepEqual(await one.history(job.id), ["0 ok", "60 ok"]);
});

Deno.test("A run that fails is told of, with why", async () => {
  await using one = await fakeSchedule({
    forever: [new ModelError("auth", "The key was refused")],
  });
  const job = await one.add({});
  await one.pass(HOUR);
  const { jobs: [shown] } = await one.schedule.run("cron.list", {}, owner);
  assert.equal(shown?.state.lastStatus, "error");
  assert.match(shown?.state.lastError ?? "", /key was refused/);
  assert.equal(shown?.state.consecutiveErrors, 1);
  assert.deepEqual(await one.history(job.id), ["60 error"]);
});

Deno.test("A job's budget ends it before a model is asked, and says so", async () => {
  const budgets: { jobs: Record<string, { tokensPerDay: number }> } = {
    jobs: {},
  };
  await using scratched = await scratch();
  const dir = scratched.path;
  let id = "";
  {
    await using one = await fakeSchedule({ dir });
    // An event in the main session is the job's expense too.
    const payload = { kind: "systemEvent" as const, text: "x" };
    id = (await one.add({ payload })).id;
    budgets.jobs[id] = { tokensPerDay: 0 };
  }
  await using one = await fakeSchedule({ dir, budgets });
  await one.pass(HOUR);
  assert.deepEqual(await one.history(id), ["60 error"]);
  assert.equal(one.house.models.requests.length, 0);
  const { entries: [entry] } = await one.schedule.run(
    "cron.runs",
    { id },
    owner,
  );
  assert.match(entry?.error ?? "", /budget/);
});

function sender(sent: string[], fails = false): Tool {
  return messageSend([{
    about: "owner",
    takes: () => true,
    deliver: ({ to, text }) => {
      if (fails) return Promise.reject(new RangeError("no line"));
      sent.push(`${to}: ${text}`);
      return Promise.resolve(`Shown to ${to}`);
    },
  }]);
}

Deno.test("An answer goes where the job says, once; NO_REPLY goes nowhere", async () => {
  const sent: string[] = [];
  const answers = ["news", "NO_REPLY", "more"];
  await using one = await fakeSchedule({
    tools: [sender(sent)],
    forever: () => says(answers.shift() ?? "?"),
  });
  const job = await one.add({ delivery: { mode: "announce" } });
  for (let n = 0; n < 3; n++) await one.pass(HOUR);
  assert.deepEqual(sent, ["owner: news", "owner: more"]);
  const { entries } = await one.schedule.run(
    "cron.runs",
    { id: job.id },
    owner,
  );
  assert.deepEqual(
    entries.map(({ delivered }) => delivered).reverse(),
    ["sent to owner", undefined, "sent to owner"],
  );
});

Deno.test("An answer that cannot be delivered is said to be so", async () => {
  await using one = await fakeSchedule({ tools: [sender([], true)] });
  const job = await one.add({ delivery: { mode: "announce", to: "owner" } });
  await one.pass(HOUR);
  const { entries: [entry] } = await one.schedule.run(
    "cron.runs",
    { id: job.id },
    owner,
  );
  assert.match(entry?.delivered ?? "", /^not sent: .*no line/);
  assert.equal(entry?.status, "ok");
});

Deno.test("What cannot be a job is refused, naming the field", async () => {
  await using one = await fakeSchedule();
  const bad = (
    fields: Parameters<typeof one.add>[0],
    what: RegExp,
    by = owner,
  ) => assert.rejects(one.add(fields, by), what);
  await bad({ schedule: { kind: "at", at: "yesterday" } }, /schedule\.at/);
  await bad({ schedule: { kind: "at", atMs: NEW_YEAR } }, /has passed/);
  await bad({ schedule: { kind: "every", everyMs: 59_000 } }, /everyMs.*60 s/);
  await one.add({ schedule: { kind: "every", everyMs: 60_000 } });
  await bad(
    { schedule: { kind: "cron", expr: "*/30 * * * * *" } },
    /schedule\.expr.*30 s apart/,
  );
  await bad({ schedule: { kind: "cron", expr: "0 0 30 2 *" } }, /never due/);
  await bad({ agentId: "nobody" }, /agentId/);
  await bad({ sessionTarget: "main" }, /sessionTarget/, program());
  await bad(
    { wakeMode: "next-heartbeat" },
    /wakeMode/,
  );
  const grants = [{ tool: "message_send", places: ["owner"] }];
  await bad({ grants }, /grants/, program());
  await bad({ grants, sessionTarget: "main" }, /grants/);
  await one.add({ grants });
});

Deno.test("There are so many jobs and no more, of one and in all", async () => {
  await using one = await fakeSchedule({ start: false });
  const app = program();
  for (let n = 0; n < 50; n++) await one.add({}, app);
  await assert.rejects(one.add({}, app), { code: "rate_limited" });
  const at = { kind: "at" as const, at: "2026-01-01T01:00" };
  const first = await one.add({ schedule: at });
  for (let n = 51; n < 500; n++) await one.add({});
  await assert.rejects(one.add({}), { code: "rate_limited" });
  // One that has nothing more to do makes room.
  one.schedule.start();
  await one.pass(HOUR);
  await one.add({});
  const { jobs } = await one.schedule.run("cron.list", {}, owner);
  assert.equal(jobs.length, 500);
  assert.ok(!jobs.some(({ id }) => id === first.id));
});

Deno.test("History comes in pages, newest first", async () => {
  await using one = await fakeSchedule();
  const job = await one.add({});
  for (let n = 0; n < 5; n++) await one.pass(HOUR);
  const page = (before?: number) =>
    one.schedule.run("cron.runs", {
      jobId: job.id,
      limit: 2,
      ...(before === undefined ? {} : { before }),
    }, owner);
  const all: number[] = [];
  let next: number | undefined;
  do {
    const { entries, nextBefore } = await page(next);
    all.push(...entries.map(({ dueAtMs }) => (dueAtMs - NEW_YEAR) / HOUR));
    next = nextBefore;
  } while (next !== undefined);
  assert.deepEqual(all, [5, 4, 3, 2, 1]);
});

Deno.test("Jitter puts a job off, by the same every time", async () => {
  await using one = await fakeSchedule();
  const job = await one.add({ jitterMs: 10 * MINUTE });
  const at = job.state.nextRunAtMs ?? 0;
  const offset = at - NEW_YEAR - HOUR;
  assert.ok(offset >= 0 && offset <= 10 * MINUTE);
  await one.pass(HOUR + offset - 1);
  assert.deepEqual(await one.history(job.id), []);
  await one.pass(1);
  assert.deepEqual(await one.history(job.id), ["60 ok"]);
});

Deno.test("Times are said on the clocks of the job's zone", async () => {
  await using one = await fakeSchedule();
  const said = await one.schedule.run(
    "cron.preview",
    { schedule: cronDaily, count: 2 },
    owner,
  );
  assert.equal(said.when, "0 9 * * * (Europe/Berlin)");
  assert.deepEqual(said.text, [
    "2026-01-01 09:00 Europe/Berlin",
    "2026-01-02 09:00 Europe/Berlin",
  ]);
  assert.deepEqual(
    await one.schedule.words("every 2h"),
    [
      "every 2 h",
      "2026-01-01 02:00 UTC",
      "2026-01-01 04:00 UTC",
      "2026-01-01 06:00 UTC",
    ],
  );
});

Deno.test("Nothing to do takes no timer", async () => {
  await using one = await fakeSchedule();
  await one.settle();
  assert.equal(one.clock.sleeping, 0);
  await one.add({});
  await one.settle();
  assert.equal(one.clock.sleeping, 1);
});

Deno.test("A wake-up starts a turn now, once for a key, or waits for the heartbeat", async () => {
  await using one = await fakeSchedule();
  const wake = (mode: "now" | "next-heartbeat", idempotencyKey?: string) =>
    one.schedule.run("wake", {
      mode,
      text: "the door",
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    }, owner);
  const a = await wake("now", "k");
  const b = await wake("now", "k");
  assert.ok(a.runId !== undefined && a.runId === b.runId);
  await one.settle();
  assert.equal(one.house.models.requests.length, 1);
  const said = JSON.stringify(one.house.models.requests[0]?.messages);
  assert.match(said, /the door/);
  assert.deepEqual(await wake("next-heartbeat"), {
    ok: true,
    queued: 1,
    heartbeats: false,
  });
});
