import assert from "node:assert/strict";
import { says } from "../../tests/fakes/models.ts";
import {
  actor,
  type FakeSchedule,
  fakeSchedule,
  HOUR,
  MINUTE,
  owner,
  program,
} from "../../tests/fakes/schedule.ts";
import { scratch } from "../../tests/process/processes.ts";
import { ModelError } from "../core/model.ts";

const on = { heartbeat: { enabled: true, everyMinutes: 30 } };

function beats(one: FakeSchedule): string[] {
  return one.told.filter(({ event }) => event === "heartbeat")
    .map(({ payload }) =>
      `${payload["status"]}${
        payload["reason"] === undefined ? "" : `: ${payload["reason"]}`
      }`
    );
}

function status(one: FakeSchedule) {
  return one.schedule.run("cron.status", {}, owner);
}

Deno.test("The heartbeat is off until it is turned on", async () => {
  await using one = await fakeSchedule();
  await one.pass(24 * HOUR);
  assert.deepEqual(beats(one), []);
  assert.equal(await one.schedule.run("last-heartbeat", {}, owner), null);
  const set = await one.schedule.run(
    "set-heartbeats",
    { enabled: true },
    owner,
  );
  assert.equal(set.enabled, true);
  await one.pass(30 * MINUTE);
  assert.deepEqual(beats(one), ["sent"]);
  await one.schedule.run("set-heartbeats", { enabled: false }, owner);
  await one.pass(HOUR);
  assert.deepEqual(beats(one), ["sent"]);
});

Deno.test("It beats in a conversation of its own that begins anew, with the model of its own", async () => {
  await using one = await fakeSchedule({
    config: { heartbeat: { ...on.heartbeat, model: "fake:cheap" } },
    context: {
      memory: () => [{
        title: "Pinned",
        text: "a secret",
        label: actor().label,
      }],
    },
  });
  for (let n = 0; n < 3; n++) await one.pass(30 * MINUTE);
  const { models, store } = one.house;
  assert.deepEqual(models.names, ["fake:cheap", "fake:cheap", "fake:cheap"]);
  const session = await store.sessions.find("agent:main:heartbeat");
  assert.equal(session?.seq, 2);
  const said = JSON.stringify(models.requests.at(-1));
  assert.match(said, /Heartbeat\./);
  assert.doesNotMatch(said, /a secret/);
  const main = await store.sessions.find("agent:main:main");
  assert.equal(main, undefined);
});

Deno.test("Five beats in a row without a word end it, and it stays ended", async () => {
  await using dir = await scratch();
  {
    const words = ["HEARTBEAT_OK", "hello", "", "**HEARTBEAT_OK**", "NO_REPLY"];
    await using one = await fakeSchedule({
      dir: dir.path,
      config: on,
      forever: () => says(words.shift() ?? "HEARTBEAT_OK"),
    });
    for (let n = 0; n < 7; n++) await one.pass(30 * MINUTE);
    assert.deepEqual(beats(one), [
      ...["ok-token", "sent", "ok-empty", "ok-token", "ok-token"],
      ...["ok-token", "ok-token"],
    ]);
    const { heartbeat } = await status(one);
    assert.equal(heartbeat.enabled, false);
    assert.match(heartbeat.stoppedBecause ?? "", /5 beats/);
    await one.pass(HOUR);
    assert.equal(beats(one).length, 7);
  }
  await using one = await fakeSchedule({ dir: dir.path, config: on });
  await one.pass(24 * HOUR);
  assert.deepEqual(beats(one), []);
  await one.schedule.run("set-heartbeats", { enabled: true }, owner);
  await one.pass(30 * MINUTE);
  assert.deepEqual(beats(one), ["sent"]);
});

Deno.test("A refused key ends it, another failure does not", async () => {
  const failures = ["network", "auth"] as const;
  let n = 0;
  await using one = await fakeSchedule({
    config: on,
    forever: () => [new ModelError(failures[n++] ?? "auth", "no")],
  });
  await one.pass(30 * MINUTE);
  await one.pass(30 * MINUTE);
  await one.pass(30 * MINUTE);
  assert.deepEqual(beats(one), ["failed: no", "failed: no"]);
  assert.match(
    (await status(one)).heartbeat.stoppedBecause ?? "",
    /key was refused/,
  );
});

Deno.test("There are no beats in quiet hours, and so many a day", async () => {
  await using one = await fakeSchedule({
    config: {
      heartbeat: {
        enabled: true,
        everyMinutes: 60,
        quiet: { from: "22:00", to: "07:00" },
        zone: "Europe/Berlin",
        perDayMax: 3,
      },
    },
  });
  for (let n = 0; n < 24; n++) await one.pass(HOUR);
  const told = one.told.filter(({ event }) => event === "heartbeat")
    .map(({ payload }) => payload["status"]);
  // It is 01:00 in Berlin at the start; 07:00 is six hours later.
  assert.deepEqual(told.slice(0, 5), Array(5).fill("skipped"));
  assert.deepEqual(told.slice(5, 9), ["sent", "sent", "sent", "skipped"]);
  assert.equal(told.filter((word) => word === "sent").length, 3);
});

Deno.test("Words that were left are read with the next beat, once, as whose they are", async () => {
  await using dir = await scratch();
  {
    await using one = await fakeSchedule({ dir: dir.path, config: on });
    const leave = (text: string, by = owner) =>
      one.schedule.run("wake", { mode: "next-heartbeat", text }, by);
    await leave("the parcel is here");
    assert.equal((await leave("the sky falls", program())).queued, 2);
  }
  await using one = await fakeSchedule({ dir: dir.path, config: on });
  const event = await one.add({
    payload: { kind: "systemEvent", text: "tea time" },
    schedule: { kind: "at", at: "2026-01-01T00:20" },
    wakeMode: "next-heartbeat",
  });
  await one.pass(20 * MINUTE);
  assert.deepEqual(await one.history(event.id), ["20 ok"]);
  assert.equal(one.house.models.requests.length, 0);
  await one.pass(10 * MINUTE);
  await one.pass(30 * MINUTE);
  const [first, second] = one.house.models.requests.map((r) =>
    JSON.stringify(r.messages)
  );
  for (const word of [/parcel/, /sky falls/, /tea time/]) {
    assert.match(first ?? "", word);
    assert.doesNotMatch(second ?? "", word);
  }
  const runs = await one.house.store.runs.open();
  assert.deepEqual(runs, []);
  const last = await one.schedule.run("last-heartbeat", {}, owner);
  const run = await one.house.store.runs.find(last?.runId ?? "");
  assert.equal(run?.authority.integrity, "owner", "the second had none left");
});

Deno.test("It ends when the credential that turned it on does", async () => {
  await using one = await fakeSchedule();
  const by = actor({ credential: "tok_laptop" });
  await one.schedule.run("set-heartbeats", { enabled: true }, by);
  await one.pass(30 * MINUTE);
  one.revoke("tok_laptop");
  await one.pass(30 * MINUTE);
  assert.deepEqual(beats(one), ["sent"]);
  assert.match((await status(one)).heartbeat.stoppedBecause ?? "", /revoked/);
});
