import assert from "node:assert/strict";
import { AppError } from "../core/errors.ts";
import { label, PUBLIC_OWNER } from "../core/label.ts";
import { type Log, silentLog } from "../core/log.ts";
import { NO_USAGE, type StoredMessage } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { ApprovalRow } from "./approvals.ts";
import { makeCipher } from "./cipher.ts";
import type { Run } from "./runs.ts";
import type { Migration } from "./schema.ts";
import type { Session } from "./sessions.ts";
import { openStore, type Store, type StoreOptions } from "./store.ts";
import { makeKey } from "./keys.ts";
import type { TokenRow } from "./tokens.ts";

const clock: Clock = { now: () => 1_000_000, sleep: () => Promise.resolve() };

async function open(options: Partial<StoreOptions> = {}): Promise<Store> {
  return await openStore({
    dir: ":memory:",
    clock,
    log: silentLog,
    ...options,
  });
}

/** A scratch directory in tests/.tmp that goes when the test does. */
async function scratch(): Promise<{ dir: string } & AsyncDisposable> {
  const parent = new URL("../../tests/.tmp/", import.meta.url).pathname;
  await Deno.mkdir(parent, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: parent, prefix: "store-" });
  return {
    dir,
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

function code(error: unknown): string {
  return error instanceof AppError ? error.code : String(error);
}

const session = (n: number, more: Partial<Session> = {}): Session => ({
  key: `agent:main:s${n}`,
  id: `ses_${String(n).padStart(12, "0")}`,
  agentId: "main",
  kind: "api",
  createdAt: 1,
  updatedAt: n,
  seq: 0,
  queueMode: "queue",
  usage: { ...NO_USAGE },
  joined: PUBLIC_OWNER,
  owner: "owner",
  ...more,
});

const message = (
  seq: number,
  more: Partial<StoredMessage> = {},
): StoredMessage => ({
  role: "user",
  parts: [{
    kind: "text",
    text: `message ${seq}`,
    label: label("owner", ["owner"]),
  }],
  seq,
  at: seq,
  ...more,
});

const run = (n: number, more: Partial<Run> = {}): Run => ({
  id: `run_${String(n).padStart(12, "0")}`,
  sessionKey: "agent:main:s1",
  sessionId: session(1).id,
  agentId: "main",
  state: "running",
  authority: {
    principal: "owner",
    kind: "owner",
    credential: "tok_000000000001",
    revision: 0,
    scopes: ["chat"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
  },
  inbound: { channel: "ws", account: "a", id: "1" },
  channel: "ws",
  resumes: 0,
  step: 0,
  attended: true,
  transient: false,
  createdAt: n,
  updatedAt: n,
  inFlight: [],
  usage: { ...NO_USAGE },
  ...more,
});

const approval = (n: number, more: Partial<ApprovalRow> = {}): ApprovalRow => ({
  id: `apr_${String(n).padStart(12, "0")}`,
  runId: run(1).id,
  sessionKey: "agent:main:s1",
  callId: "c1",
  tool: "web_fetch",
  args: { url: "https://a.test/" },
  hash: "h",
  question: "Fetch?",
  label: PUBLIC_OWNER,
  createdAt: 1,
  expiresAt: 2,
  card: [],
  answers: ["allow-once", "deny"],
  state: "pending",
  ...more,
});

const token = (n: number, more: Partial<TokenRow> = {}): TokenRow => ({
  sha256: String(n).padStart(64, "0"),
  id: `tok_${String(n).padStart(12, "0")}`,
  name: `token ${n}`,
  scopes: ["read"],
  agents: "any",
  models: "any",
  tools: [],
  integrity: "untrusted",
  kind: "program",
  revision: 0,
  createdAt: 1,
  ...more,
});

Deno.test("Sessions keep one index row each and list the last used first", async () => {
  await using store = await open();
  const { sessions, journal } = store;
  for (const n of [1, 2, 3]) await journal.commit(sessions.rows(session(n)));
  await journal.commit(
    sessions.rows(session(1, { updatedAt: 9, title: "Milk" }), session(1)),
  );
  const keys = async (
    query: Partial<Parameters<typeof sessions.list>[0]> = {},
  ) =>
    (await sessions.list({ limit: 10, ...query })).map(({ key }) =>
      key.slice(11)
    );
  assert.deepEqual(await keys(), ["s1", "s3", "s2"]);
  assert.deepEqual(await keys({ limit: 1, offset: 1 }), ["s3"]);
  assert.deepEqual(await keys({ activeSince: 3 }), ["s1", "s3"]);
  assert.deepEqual(await keys({ search: "MILK" }), ["s1"]);
  assert.deepEqual(await keys({ agentId: "other" }), []);
  assert.deepEqual(await keys({ kinds: ["main"] }), []);
  assert.equal(await sessions.count(), 3);
  assert.equal((await sessions.find("agent:main:s1"))?.updatedAt, 9);
  assert.equal(await sessions.find("agent:main:none"), undefined);
});

Deno.test("Sessions list transient ones only when asked, and purge them by age", async () => {
  await using store = await open();
  const { sessions, messages, journal } = store;
  const transient = session(2, { kind: "transient" });
  await journal.commit([
    ...sessions.rows(session(1)),
    ...sessions.rows(transient),
    ...messages.rows(transient.id, message(1)),
  ]);
  assert.equal((await sessions.list({ limit: 9 })).length, 1);
  assert.equal(await sessions.count(), 1);
  const asked = await sessions.list({ limit: 9, kinds: ["transient", "api"] });
  assert.deepEqual(asked.map(({ updatedAt }) => updatedAt), [2, 1]);
  const own = run(1, { sessionId: transient.id, sessionKey: transient.key });
  await journal.commit(store.runs.rows(own));
  assert.equal(await sessions.purgeTransient(2), 0);
  assert.equal(await sessions.purgeTransient(3), 0, "its run did not end");
  await journal.commit(store.runs.rows({ ...own, state: "done" }, own));
  assert.equal(await sessions.purgeTransient(3), 1);
  assert.equal(await store.runs.find(own.id), undefined);
  assert.deepEqual(await messages.tail(transient.id, { limit: 9 }), []);
  assert.equal(await sessions.find(transient.key), undefined);
  assert.equal(await sessions.count(), 1);
});

Deno.test("Sessions list a session once when two writers left two index rows", async () => {
  await using store = await open();
  const { sessions, journal } = store;
  await journal.commit(sessions.rows(session(1)));
  assert.equal(await sessions.count(), 1);
  // Both read updatedAt 1 as the one before.
  await journal.commit(sessions.rows(session(1, { updatedAt: 5 }), session(1)));
  await journal.commit(sessions.rows(session(1, { updatedAt: 6 }), session(1)));
  const listed = await sessions.list({ limit: 9 });
  assert.deepEqual(listed.map(({ updatedAt }) => updatedAt), [6]);
  await sessions.purge(session(1, { updatedAt: 6 }));
  assert.deepEqual(await sessions.list({ limit: 9 }), []);
  assert.equal(await sessions.count(), 0);
});

Deno.test("Sessions.purge() leaves nothing of a session, and all of the others", async () => {
  await using home = await scratch();
  {
    await using store = await open({ dir: home.dir });
    const { sessions, messages, runs, approvals, journal } = store;
    for (const n of [1, 2]) {
      const { id } = session(n);
      const own = run(n, { sessionId: id, sessionKey: session(n).key });
      await journal.commit([
        ...sessions.rows(session(n, { title: "x".repeat(500) })),
        ...runs.rows(own),
        ...approvals.rows(approval(n, { runId: own.id })),
      ]);
      for (let seq = 1; seq <= 450; seq++) {
        const text = seq % 200 === 0 ? "big ".repeat(30_000) : "small";
        await journal.commit(messages.rows(
          id,
          message(seq, {
            runId: own.id,
            parts: [{ kind: "text", text, label: PUBLIC_OWNER }],
          }),
        ));
      }
    }
    await sessions.purge(session(1));
    assert.equal(
      (await messages.tail(session(2).id, { limit: 1000 })).length,
      450,
    );
    assert.equal(await runs.find(run(1).id), undefined);
    assert.equal((await runs.open()).length, 1);
    assert.equal((await approvals.pending()).length, 1);
  }
  using kv = await Deno.openKv(`${home.dir}/kv.db`);
  const decoder = new TextDecoder();
  for await (const { key, value } of kv.list<Uint8Array>({ prefix: [] })) {
    const text = JSON.stringify(key) + decoder.decode(value);
    assert.ok(!text.includes(session(1).id), text.slice(0, 200));
    assert.ok(
      !text.includes(session(1).key + '"') || key[0] !== "session",
      text,
    );
  }
});

Deno.test("Messages.tail() gives the last ones, oldest first", async () => {
  await using store = await open();
  const { messages, journal } = store;
  const id = session(1).id;
  const unit = Array.from({ length: 12 }, (_, n) => message(n + 1));
  await journal.commit(unit.flatMap((m) => messages.rows(id, m)));
  const seqs = async (options: { limit: number; beforeSeq?: number }) =>
    (await messages.tail(id, options)).map(({ seq }) => seq);
  assert.deepEqual(await seqs({ limit: 3 }), [10, 11, 12]);
  assert.deepEqual(await seqs({ limit: 3, beforeSeq: 10 }), [7, 8, 9]);
  assert.deepEqual(await seqs({ limit: 3, beforeSeq: 1 }), []);
  const all = await Array.fromAsync(messages.all(id));
  assert.deepEqual(all, unit);
});

Deno.test("Messages.rows() refuses a part without a label", async () => {
  await using store = await open();
  const bare = { ...message(1), parts: [{ kind: "text", text: "x" }] };
  assert.throws(
    () => store.messages.rows("ses_1", bare as unknown as StoredMessage),
    { name: "ZodError" },
  );
});

Deno.test("Runs.open() lists those that did not end", async () => {
  await using store = await open();
  const { runs, journal } = store;
  const states = [
    "accepted",
    "running",
    "waiting_approval",
    "replying",
  ] as const;
  for (const [n, state] of states.entries()) {
    await journal.commit(runs.rows(run(n + 1, { state })));
  }
  assert.equal((await runs.open()).length, 4);
  for (
    const [n, state] of (["done", "failed", "cancelled"] as const).entries()
  ) {
    await journal.commit(runs.rows(run(n + 1, { state }), run(n + 1)));
  }
  const left = await runs.open();
  assert.deepEqual(left.map(({ state }) => state), ["replying"]);
  assert.equal((await runs.find(run(1).id))?.state, "done");
});

Deno.test("InboundSeen takes an event once, whatever its id looks like", async (t) => {
  await using store = await open();
  const { inbound, journal } = store;
  const seen = { runId: run(1).id, at: 5 };
  const rows: [channel: string, account: string, id: string][] = [
    ["chat", "a", "1"],
    ["chat", "a", "x".repeat(512)],
    ["chat", "é".repeat(128), "\0".repeat(512)],
    ["chat", "#", "1"],
    ["chat", "a:1", ""],
  ];
  for (const [channel, account, id] of rows) {
    await t.step(`${account.slice(0, 9)} ${id.length}`, async () => {
      assert.equal(await inbound.find(channel, account, id), undefined);
      await journal.commit([inbound.row(channel, account, id, seen)]);
      assert.deepEqual(await inbound.find(channel, account, id), seen);
      await assert.rejects(
        journal.commit([inbound.row(channel, account, id, seen)]),
        { code: "conflict" },
      );
    });
  }
  await t.step("another account's event is another event", async () => {
    assert.equal(await inbound.find("chat", "b", "1"), undefined);
  });
});

Deno.test("ApprovalRows let one be answered once and used once", async () => {
  await using store = await open();
  const { approvals, journal } = store;
  const asked = approval(1);
  const allowed = approval(1, { state: "allowed", answeredBy: "owner" });
  const denied = approval(1, { state: "denied", answeredBy: "owner" });
  await journal.commit(approvals.rows(asked));
  assert.deepEqual(await approvals.pending(), [asked]);
  const answers = await Promise.allSettled([
    journal.commit(approvals.rows(allowed, asked)),
    journal.commit(approvals.rows(denied, asked)),
  ]);
  assert.deepEqual(answers.map(({ status }) => status), [
    "fulfilled",
    "rejected",
  ]);
  assert.deepEqual(await approvals.pending(), []);
  const used = approval(1, { state: "used" });
  const uses = await Promise.allSettled([
    journal.commit(approvals.rows(used, allowed)),
    journal.commit(approvals.rows(used, allowed)),
  ]);
  assert.deepEqual(uses.map(({ status }) => status), ["fulfilled", "rejected"]);
  assert.equal((await approvals.find(asked.id))?.state, "used");
});

Deno.test("TokenRows keep the last use apart, so that it cannot undo a revocation", async () => {
  await using store = await open();
  const { tokens, journal } = store;
  await journal.commit([tokens.row(token(1), { isNew: true })]);
  const before = tokens.revision;
  await journal.commit([tokens.row(token(1, { revokedAt: 7, revision: 1 }))]);
  assert.equal(tokens.revision, before + 1);
  await journal.commit([tokens.usedRow(token(1).id, 8)]);
  assert.equal(tokens.revision, before + 1);
  const rows = await tokens.list();
  assert.deepEqual(rows.map((r) => [r.revokedAt, r.lastUsedAt]), [[7, 8]]);
  await assert.rejects(
    journal.commit([tokens.row(token(1), { isNew: true })]),
    { code: "conflict" },
  );
});

Deno.test("A row that cannot be read is named, and does not end a list", async () => {
  await using home = await scratch();
  const id = session(1).id;
  {
    await using store = await open({ dir: home.dir });
    const { messages, sessions, journal } = store;
    await journal.commit([
      ...sessions.rows(session(1)),
      ...[1, 2, 3].flatMap((n) => messages.rows(id, message(n))),
    ]);
  }
  {
    using kv = await Deno.openKv(`${home.dir}/kv.db`);
    await kv.set(
      makeKey("message", id, 2),
      new TextEncoder().encode("\0{nonsense"),
    );
    await kv.set(makeKey("session", session(1).key), "not bytes");
  }
  const lines: string[] = [];
  const log: Log = (_level, event) => lines.push(event);
  await using store = await open({ dir: home.dir, log });
  const seqs = (await store.messages.tail(id, { limit: 9 })).map((m) => m.seq);
  assert.deepEqual(seqs, [1, 3]);
  assert.equal(store.unreadable(), 1);
  assert.deepEqual(lines, ["store.row.unreadable"]);
  await assert.rejects(store.sessions.find(session(1).key), {
    code: "internal",
    message: /^Cannot read row \["session",1,"agent:main:s1"\]/,
  });
});

Deno.test("A cipher seals every value, and a wrong one opens nothing", async () => {
  await using home = await scratch();
  const cipher = makeCipher(new Uint8Array(32).fill(7));
  const text = "the owner's words ".repeat(9000);
  {
    await using store = await open({ dir: home.dir, cipher });
    await store.journal.commit([
      ...store.sessions.rows(session(1, { title: "the owner's words" })),
      ...store.messages.rows(
        session(1).id,
        message(1, { parts: [{ kind: "text", text, label: PUBLIC_OWNER }] }),
      ),
      store.audit.row({
        event: "test.words",
        fields: { id: "the owner's words" },
      }),
    ]);
  }
  {
    using kv = await Deno.openKv(`${home.dir}/kv.db`);
    const decoder = new TextDecoder();
    for await (const { key, value } of kv.list<Uint8Array>({ prefix: [] })) {
      assert.ok(!decoder.decode(value).includes("owner's words"), String(key));
    }
  }
  const wrong = makeCipher(new Uint8Array(32).fill(8));
  await assert.rejects(open({ dir: home.dir, cipher: wrong }), {
    code: "forbidden",
    message: "Cannot open the store: the passphrase does not fit",
  });
  await assert.rejects(open({ dir: home.dir }), {
    code: "forbidden",
    message: "Cannot open the store: it is sealed with a passphrase",
  });
  await using store = await open({ dir: home.dir, cipher });
  const [found] = await store.messages.tail(session(1).id, { limit: 1 });
  assert.equal(found?.parts[0]?.kind === "text" && found.parts[0].text, text);
  assert.equal((await store.audit.verify()).ok, true);
});

Deno.test("Token rows are sealed without a passphrase, and worth nothing elsewhere", async () => {
  await using home = await scratch();
  {
    await using store = await open({ dir: home.dir });
    await store.journal.commit([
      store.tokens.row(token(1, { name: "laptop" })),
      store.tokens.row(token(2, { scopes: ["admin"] })),
    ]);
  }
  {
    using kv = await Deno.openKv(`${home.dir}/kv.db`);
    const admin = await kv.get<Uint8Array>(makeKey("token", token(2).sha256));
    const text = new TextDecoder().decode(admin.value ?? undefined);
    assert.ok(!text.includes("admin"));
    // The administrator's row under another token's key, and a clear one.
    await kv.set(makeKey("token", token(1).sha256), admin.value);
    const forged = JSON.stringify(token(3, { scopes: ["admin"] }));
    await kv.set(
      makeKey("token", token(3).sha256),
      new TextEncoder().encode("\0" + forged),
    );
  }
  await using store = await open({ dir: home.dir });
  await assert.rejects(store.tokens.find(token(1).sha256), {
    code: "internal",
  });
  await assert.rejects(store.tokens.find(token(3).sha256), {
    code: "internal",
  });
  assert.deepEqual((await store.tokens.list()).map(({ id }) => id), [
    token(2).id,
  ]);
});

Deno.test("makeCipher() opens only what it sealed under the same data", async (t) => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const cipher = makeCipher(new Uint8Array(32).fill(1));
  const sealed = cipher.seal(bytes("plain"), bytes("key"));
  assert.deepEqual(cipher.open(sealed, bytes("key")), bytes("plain"));
  assert.notDeepEqual(cipher.seal(bytes("plain"), bytes("key")), sealed);
  assert.deepEqual(
    cipher.open(cipher.seal(bytes(""), bytes("k")), bytes("k")),
    bytes(""),
  );
  const flipped = sealed.with(sealed.length - 17, (sealed.at(-17) ?? 0) ^ 1);
  const rows: [why: string, sealed: Uint8Array, aad: string][] = [
    ["another key of the store", sealed, "other"],
    ["one bit of it changed", flipped, "key"],
    ["its end cut off", sealed.slice(0, -1), "key"],
    ["nothing at all", new Uint8Array(0), "key"],
  ];
  for (const [why, given, aad] of rows) {
    await t.step(why, () => {
      assert.throws(() => cipher.open(given, bytes(aad)), {
        code: "forbidden",
      });
    });
  }
  assert.throws(() => makeCipher(new Uint8Array(16)), { code: "bad_input" });
});

Deno.test("migrate() brings an old store forward once, and refuses a newer one", async () => {
  await using home = await scratch();
  let runs = 0;
  const rename: Migration = {
    number: 2,
    about: "Titles in capitals",
    run: async ({ values, journal }) => {
      runs++;
      for await (const found of values.scan({ prefix: makeKey("session") })) {
        if (!found.ok) continue;
        const row = found.value as { title?: string };
        const value = { ...row, title: row.title?.toUpperCase() };
        await journal.commit([{ key: found.key, value }]);
      }
    },
  };
  {
    await using store = await open({ dir: home.dir });
    await store.journal.commit(
      store.sessions.rows(session(1, { title: "milk" })),
    );
  }
  for (let start = 0; start < 2; start++) {
    await using store = await open({ dir: home.dir, migrations: [rename] });
    assert.equal((await store.sessions.find(session(1).key))?.title, "MILK");
  }
  assert.equal(runs, 1);
  await assert.rejects(open({ dir: home.dir }), {
    code: "conflict",
    message:
      "Cannot open the store: its shape is number 2 and this program knows up to 1",
  });
  // A new store begins at the newest number and runs nothing.
  await using _fresh = await open({ migrations: [rename] });
  assert.equal(runs, 1);
});

Deno.test("A store writes no key whose prefix is not in COLLECTIONS", async () => {
  await using store = await open();
  await assert.rejects(
    store.journal.commit([{ key: ["sesion", 1, "x"], value: 1 }]),
    (error) => code(error) === "internal",
  );
  assert.ok(await store.probe() >= 0);
});
