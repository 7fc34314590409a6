/**
 * What the store costs: `deno bench -A tests/bench/store_bench.ts`. Each commit
 * is what one step of a turn stores: a run, a session, two messages.
 */
import { PUBLIC_OWNER } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import { NO_USAGE, type StoredMessage } from "../../src/core/message.ts";
import { systemClock } from "../../src/core/time.ts";
import type { Session } from "../../src/store/sessions.ts";
import { openStore, type Store } from "../../src/store/store.ts";

const SESSIONS = 1000;
const HISTORY = 50;

function makeSession(n: number, updatedAt: number): Session {
  return {
    key: `agent:main:client:s${n}`,
    id: `ses_${String(n).padStart(12, "0")}`,
    agentId: "main",
    kind: "api",
    title: `Session number ${n} about milk and bread`,
    createdAt: 1,
    updatedAt,
    seq: HISTORY,
    queueMode: "queue",
    usage: { ...NO_USAGE },
    joined: PUBLIC_OWNER,
    owner: "owner",
  };
}

function makeMessage(seq: number): StoredMessage {
  const origin = { kind: "owner", ref: "cli", at: 1 } as const;
  const label = {
    integrity: "owner",
    secrecy: ["owner"],
    origins: [origin],
  } as const;
  return {
    role: seq % 2 === 1 ? "user" : "assistant",
    parts: [{
      kind: "text",
      text: "A sentence of the talk. ".repeat(15),
      label,
    }],
    seq,
    at: seq,
  };
}

let opened: Promise<Store> | undefined;

function open(): Promise<Store> {
  return opened ??= fill();
}

async function fill(): Promise<Store> {
  const parent = new URL("../.tmp/", import.meta.url).pathname;
  await Deno.mkdir(parent, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: parent, prefix: "bench-" });
  const store = await openStore({ dir, clock: systemClock, log: silentLog });
  globalThis.addEventListener(
    "unload",
    () => Deno.removeSync(dir, { recursive: true }),
  );
  for (let n = 0; n < SESSIONS; n++) {
    await store.journal.commit(store.sessions.rows(makeSession(n, n)));
  }
  const { id } = makeSession(0, 0);
  for (let seq = 1; seq <= HISTORY; seq++) {
    await store.journal.commit(store.messages.rows(id, makeMessage(seq)));
  }
  return store;
}

let turn = SESSIONS;

async function step(store: Store): Promise<void> {
  const n = turn++;
  const session = makeSession(n % SESSIONS, n);
  await store.journal.commit([
    ...store.sessions.rows(session, makeSession(n % SESSIONS, n - SESSIONS)),
    ...store.messages.rows(session.id, makeMessage(2 * n + 1)),
    ...store.messages.rows(session.id, makeMessage(2 * n + 2)),
    store.audit.row({ event: "bench.step", fields: { n } }),
  ]);
}

for (const callers of [1, 16, 64]) {
  Deno.bench({
    name: `commit a step, ${callers} callers at once`,
    group: "commit",
    fn: async () => {
      const store = await open();
      await Promise.all(Array.from({ length: callers }, () => step(store)));
    },
  });
}

Deno.bench("the last 50 messages of a session", async () => {
  const store = await open();
  const { id } = makeSession(0, 0);
  await store.messages.tail(id, { limit: HISTORY });
});

Deno.bench("1,000 sessions listed", async () => {
  const store = await open();
  const found = await store.sessions.list({ limit: SESSIONS });
  if (found.length !== SESSIONS) throw new RangeError(`${found.length} listed`);
});

Deno.bench("sessions counted", async () => {
  const store = await open();
  await store.sessions.count();
});
