import assert from "node:assert/strict";
import {
  collect,
  type FakeHouse,
  fakeHouse,
  ownerAuthority,
  request,
} from "../../../tests/fakes/house.ts";
import { Gate, says } from "../../../tests/fakes/models.ts";
import type { AuthorityRecord } from "../../core/authority.ts";
import type { AppError } from "../../core/errors.ts";
import { label } from "../../core/label.ts";
import { textOf } from "../../core/message.ts";
import type { MethodInput, SessionMethod } from "../../core/methods.ts";
import { type Clock, systemClock } from "../../core/time.ts";
import { type Actor, siblingKey } from "./session_desk.ts";

const KEY = "agent:main:main";

function actor(change: Partial<AuthorityRecord> = {}): Actor {
  return {
    authority: ownerAuthority(change),
    channel: "test",
    owns: () => true,
  };
}

function act<M extends SessionMethod>(
  house: FakeHouse,
  method: M,
  params: MethodInput<M>,
  by = actor(),
) {
  return house.desk.operations.run(method, params, by);
}

async function reply(house: FakeHouse, text: string): Promise<string> {
  const events = await house.say(text);
  const end = events.at(-1);
  const said = events.find((e) => e.kind === "reply")?.text;
  return said ?? (end?.kind === "end" ? end.message ?? "" : "");
}

async function texts(house: FakeHouse, key = KEY): Promise<string[]> {
  const session = await house.store.sessions.find(key);
  if (session === undefined) return [];
  const all = await Array.fromAsync(house.store.messages.all(session.id));
  return all.map(textOf);
}

const code = (want: string) => (error: unknown) =>
  (error as AppError).code === want;

Deno.test("/new begins anew and keeps what was said; /reset drops the settings too", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  await house.say("first");
  assert.match(await reply(house, "/model fake:2"), /fake:2 answers/);
  assert.match(await reply(house, "/queue steer"), /steer/);
  const said = await reply(house, "/new");
  const old = /kept as (\S+)\.$/.exec(said)?.[1] ?? "";
  assert.deepEqual(await texts(house), []);
  assert.deepEqual(await texts(house, old), ["first", "ok"]);
  const fresh = await house.store.sessions.find(KEY);
  assert.equal(fresh?.model, "fake:2");
  assert.equal(fresh?.queueMode, "steer");
  await house.say("second");
  assert.equal(house.models.names.at(-1), "fake:2");
  assert.equal(house.models.requests.at(-1)?.messages.length, 1);
  await reply(house, "/reset");
  const reset = await house.store.sessions.find(KEY);
  assert.equal(reset?.model, undefined);
  assert.equal(reset?.queueMode, "queue");
  // Put away: not listed, not talked to, until it is restored.
  const listed = await house.store.sessions.list({ limit: 10 });
  assert.deepEqual(listed.map((s) => s.key), [KEY]);
  const away = await house.store.sessions.list({ limit: 10, archived: true });
  assert.equal(away.length, 2);
  await assert.rejects(
    house.desk.start(request("hi", { sessionKey: old })),
    code("conflict"),
  );
});

Deno.test("/new stops what runs; the running turn's words stay with the old conversation", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    steps: [async function* (_, signal) {
      yield { kind: "text", text: "half" };
      await gate.pass(signal);
    }],
    forever: says("ok"),
  });
  const run = await house.desk.start(request("go"));
  await gate.arrivals(1);
  const old = /kept as (\S+)\.$/.exec(await reply(house, "/new"))?.[1] ?? "";
  const end = (await collect(run.events)).at(-1);
  assert.equal(end?.kind === "end" && end.reason, "cancelled");
  assert.deepEqual(await texts(house, old), ["go", "half"]);
  await house.say("again");
  assert.deepEqual(await texts(house), ["again", "ok"]);
});

Deno.test("settings change while a turn runs and are not lost at its end", async () => {
  const gate = new Gate();
  await using house = await fakeHouse({
    steps: [async function* (_, signal) {
      await gate.pass(signal);
      yield* says("done");
    }],
  });
  const run = await house.desk.start(request("go"));
  await gate.arrivals(1);
  await act(house, "sessions.patch", {
    key: KEY,
    label: "Plants",
    thinkingLevel: "high",
  });
  assert.equal((await house.store.sessions.find(KEY))?.label, "Plants");
  gate.open();
  await collect(run.events);
  const session = await house.store.sessions.find(KEY);
  assert.equal(session?.label, "Plants");
  assert.equal(session?.thinkingTokens, 24_576);
  assert.equal(session?.seq, 2);
  await act(house, "sessions.patch", { key: KEY, label: null });
  assert.equal((await house.store.sessions.find(KEY))?.label, undefined);
});

Deno.test("/clean goes on from before the first text of strangers", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  await house.say("mine");
  const foreign = request("from a page");
  foreign.inbound.label = label("untrusted", []);
  await collect((await house.desk.start(foreign)).events);
  await house.say("mine again");
  const said = await reply(house, "/clean");
  assert.match(said, /4 messages are left out/);
  assert.deepEqual(await texts(house), ["mine", "ok"]);
  const session = await house.store.sessions.find(KEY);
  assert.equal(session?.joined.integrity, "owner");
  assert.match(await reply(house, "/clean"), /Nothing here is from strangers/);
  await house.say("more");
  assert.deepEqual(await texts(house), ["mine", "ok", "more", "ok"]);
});

Deno.test("fork copies the beginning with its labels, and the copies part ways", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  for (const text of ["one", "two", "three"]) await house.say(text);
  const { key } = await act(house, "sessions.fork", {
    key: KEY,
    atSeq: 4,
    label: "what if",
  });
  assert.deepEqual(await texts(house, key), ["one", "ok", "two", "ok"]);
  await house.say("four", { sessionKey: key });
  assert.equal((await texts(house)).length, 6);
  const session = await house.store.sessions.find(key);
  assert.deepEqual(session?.forkOf, { key: KEY, seq: 4 });
  assert.equal(session?.joined.integrity, "owner");
});

Deno.test("archive, restore, delete", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  await house.say("hello");
  const { key: old } = await act(house, "sessions.archive", { key: KEY });
  assert.equal(await house.store.sessions.find(KEY), undefined);
  await house.say("another");
  await assert.rejects(
    act(house, "sessions.restore", { key: old }),
    code("conflict"),
  );
  const back = await act(house, "sessions.restore", {
    key: old,
    toKey: "agent:main:client:back",
  });
  assert.deepEqual(await texts(house, back.key), ["hello", "ok"]);
  assert.equal(back.entry.archivedAt, undefined);
  const session = await house.store.sessions.find(back.key);
  await act(house, "sessions.delete", { key: back.key });
  assert.equal(await house.store.sessions.find(back.key), undefined);
  assert.deepEqual(
    await Array.fromAsync(house.store.messages.all(session?.id ?? "")),
    [],
  );
  await assert.rejects(
    act(house, "sessions.delete", { key: back.key }),
    code("not_found"),
  );
});

Deno.test("purge deletes every session of one principal and no other", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  const authority = ownerAuthority({ principal: "peer:x", kind: "peer" });
  await house.say("mine");
  for (const name of ["a", "b"]) {
    const sessionKey = `agent:main:test:a:dm:${name}`;
    const theirs = request("theirs", { authority, sessionKey });
    theirs.inbound.label = label("peer", ["peer:x"]);
    await collect((await house.desk.start(theirs)).events);
  }
  await act(house, "sessions.archive", { key: "agent:main:test:a:dm:b" });
  const done = await act(house, "sessions.purge", { principal: "peer:x" });
  assert.equal(done.sessions, 2);
  const left = await house.store.sessions.list({ limit: 10 });
  assert.deepEqual(left.map((s) => s.key), [KEY]);
  assert.deepEqual(
    await house.store.sessions.list({ limit: 10, archived: true }),
    [],
  );
});

Deno.test("export puts together to the whole document, whatever the sizes", async () => {
  await using house = await fakeHouse({ forever: says("fine") });
  const long = `${"words ".repeat(90_000)}\n\`\`\`\ncode\n\`\`\``;
  for (const text of ["small", long, "end"]) await house.say(text);
  for (const format of ["json", "markdown"] as const) {
    let document = "";
    let cursor: number | undefined;
    let pieces = 0;
    do {
      const piece = await act(house, "sessions.export", {
        key: KEY,
        format,
        ...(cursor === undefined ? {} : { cursor }),
      });
      assert.ok(piece.chunk.length <= 410_000);
      document += piece.chunk;
      cursor = piece.next;
      assert.ok(++pieces < 20);
    } while (cursor !== undefined);
    if (format === "json") {
      const { session, messages } = JSON.parse(document);
      assert.equal(session.key, KEY);
      assert.deepEqual(messages.map((m: { seq: number }) => m.seq), [
        1,
        2,
        3,
        4,
        5,
        6,
      ]);
      assert.equal(messages[2].parts[0].text, long);
    } else {
      assert.match(document, /^# agent:main:main/);
      assert.ok(document.includes(long));
      assert.equal(document.match(/^## /gm)?.length, 6);
    }
  }
});

Deno.test("search finds words in transcripts, also new ones, and no one else's", async () => {
  await using house = await fakeHouse({ forever: says("noted") });
  await house.say("the plumber comes on Thursday");
  await house.say("unrelated", { sessionKey: "agent:main:client:b" });
  const find = (query: string, by = actor()) =>
    act(house, "sessions.search", { query }, by);
  const first = await find("plumber");
  assert.deepEqual(first.results.map((r) => [r.key, r.seq, r.role]), [
    [KEY, 1, "user"],
  ]);
  assert.match(first.results[0]?.snippet ?? "", /plumber comes/);
  assert.equal(first.complete, true);
  await house.say("the plumber was late", {
    sessionKey: "agent:main:client:b",
  });
  assert.equal((await find("plumb")).results.length, 2);
  assert.equal((await find("plumber thursday")).results.length, 1);
  assert.equal((await find("electrician")).results.length, 0);
  const foreign: Actor = { ...actor(), owns: (key) => key.endsWith(":b") };
  assert.deepEqual(
    (await find("plumber", foreign)).results.map((r) => r.key),
    ["agent:main:client:b"],
  );
  await act(house, "sessions.delete", { key: KEY });
  assert.equal((await find("plumber")).results.length, 1);
});

Deno.test("acts need their scope, and a session that is one's own", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  await house.say("hi");
  const reader = actor({ scopes: ["read"] });
  const stranger: Actor = { ...actor(), owns: () => false };
  await assert.rejects(
    act(house, "sessions.reset", { key: KEY }, reader),
    code("forbidden"),
  );
  await assert.rejects(
    act(
      house,
      "sessions.purge",
      { principal: "owner" },
      actor({ scopes: ["write"] }),
    ),
    code("forbidden"),
  );
  for (
    const method of [
      "sessions.reset",
      "sessions.delete",
      "sessions.context",
    ] as const
  ) {
    await assert.rejects(
      act(house, method, { key: KEY }, stranger),
      code("not_found"),
      method,
    );
  }
  await assert.rejects(
    act(
      house,
      "sessions.patch",
      { key: KEY, model: "fake:9" },
      actor({ models: ["fake:1"] }),
    ),
    code("forbidden"),
  );
});

Deno.test("in a group one needs more than being in it", async () => {
  await using house = await fakeHouse({ forever: says("ok") });
  const key = "agent:main:test:a:group:g";
  const hi = request("hi", { sessionKey: key });
  hi.inbound.label = label("owner", []);
  await collect((await house.desk.start(hi)).events);
  const member = actor({ kind: "peer", principal: "peer:x", scopes: ["chat"] });
  await assert.rejects(
    act(house, "sessions.reset", { key }, member),
    code("forbidden"),
  );
  await act(house, "sessions.reset", { key });
});

Deno.test("/context and /compact", async () => {
  await using house = await fakeHouse({
    forever: ({ system }) =>
      says(
        system?.startsWith("You keep the notes")
          ? "Notes that are long enough to count."
          : "ok",
      ),
  });
  assert.match(await reply(house, "/compact"), /nothing to compact/);
  for (let n = 0; n < 12; n++) {
    await house.say(`message ${n} ${"x ".repeat(50)}`);
  }
  assert.match(await reply(house, "/context"), /history: \d+ tokens \(24\)/);
  assert.match(
    await reply(house, "/compact the dates"),
    /messages are notes now/,
  );
  const wish = house.models.requests.at(-1)?.messages[0]?.parts.at(-1);
  assert.match(wish?.kind === "text" ? wish.text : "", /the dates/);
  await house.say("go on");
  const [notes] = house.models.requests.at(-1)?.messages ?? [];
  assert.match(textOf(notes ?? { parts: [] }), /long enough to count/);
  assert.equal((await texts(house)).length, 26);
  assert.match(await reply(house, "/status"), /of 200000 tokens/);
});

Deno.test("a conversation begins anew by itself when its time has come", async () => {
  let ahead = 0;
  const clock: Clock = { ...systemClock, now: () => Date.now() + ahead };
  await using house = await fakeHouse({
    clock,
    sessions: { idleMinutes: 30 },
    forever: says("ok"),
  });
  await house.say("before");
  ahead = 29 * 60_000;
  await house.say("still");
  ahead += 31 * 60_000;
  await house.say("/status");
  assert.equal((await texts(house)).length, 4);
  await house.say("after");
  assert.deepEqual(await texts(house), ["after", "ok"]);
});

Deno.test("siblingKey() fits however long a key is", () => {
  const long = `agent:main:client:me:${"x".repeat(60)}:${"y".repeat(60)}:${
    "z".repeat(60)
  }:${"w".repeat(60)}`;
  for (const key of [KEY, long, "agent:main:a:b:c:d:e:f:g:h"]) {
    const beside = siblingKey(key, "old", "ses_0123456789ab");
    assert.ok(beside.length <= 300 && beside.split(":").length <= 10, beside);
  }
  assert.match(siblingKey(long, "old", "ses_1"), /^agent:main:client:me:/);
});
