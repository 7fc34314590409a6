/**
 * Conversations: one row each, and an index by the time they were last used
 * that holds a copy, so that a list is one read.
 *
 * Transient sessions have an index of their own and are not listed unless asked.
 *
 * @module
 */
import { z } from "zod";
import { AgentId, idSchema, SessionKey } from "../core/ids.ts";
import { Label } from "../core/label.ts";
import { Usage } from "../core/message.ts";
import { Blobs } from "./blobs.ts";
import type { Committed, KvJournal, Row } from "./journal.ts";
import { keyText, makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

export const SessionKind = z.enum([
  "main",
  "direct",
  "group",
  "api",
  "cron",
  "hook",
  "subagent",
  "transient",
]);
export type SessionKind = z.infer<typeof SessionKind>;

/** One conversation. */
export const Session = z.strictObject({
  key: SessionKey,
  id: idSchema("ses"),
  agentId: AgentId,
  kind: SessionKind,
  label: z.string().max(256).optional(),
  channel: z.string().max(64).optional(),
  createdAt: z.int(),
  updatedAt: z.int(),
  /** The last message's `seq`; 0 when there is none. */
  seq: z.int().nonnegative(),
  model: z.string().max(256).optional(),
  thinkingTokens: z.int().nonnegative().optional(),
  queueMode: z.enum(["queue", "steer", "replace", "collect"]).default("queue"),
  usage: Usage,
  /** The join of every label stored in it. */
  joined: Label,
  /** The principal who opened it. */
  owner: z.string().min(1).max(256),
  title: z.string().max(512).optional(),
  /** Messages up to this `seq` are shown to the model as their summary. */
  compactedSeq: z.int().positive().optional(),
  /** The last model call: what the vendor counted, and what we had guessed. */
  context: z.strictObject({
    tokens: z.int().nonnegative(),
    estimate: z.int().nonnegative(),
    windowTokens: z.int().positive(),
    model: z.string().max(256),
  }).optional(),
  /** Where it was copied from. */
  forkOf: z.strictObject({ key: SessionKey, seq: z.int().nonnegative() })
    .optional(),
  /** Set when it was put away, with the key it had. */
  archived: z.strictObject({ at: z.int(), key: SessionKey }).optional(),
});
export type Session = z.infer<typeof Session>;

/** What a list is made of. */
export interface SessionQuery {
  limit: number;
  offset?: number;
  agentId?: string;
  /** Only sessions used at or after this time. */
  activeSince?: number;
  /** Part of the key, label, title or channel; case does not matter. */
  search?: string;
  /** Without it: every kind but `transient`. */
  kinds?: readonly SessionKind[];
  /** Those that were put away, and no others. */
  archived?: boolean;
}

type IndexName = "session_by_time" | "session_transient" | "session_archived";
const INDEXES: readonly IndexName[] = [
  "session_by_time",
  "session_transient",
  "session_archived",
];

/** A copy in the index when it is surely short; else `null`: see the row. */
const Copy = z.union([Session, z.null()]);
const COPY_CHARS_MAX = 16_384;

const DELETES_A_UNIT = 400;

function indexOf(session: Session): IndexName {
  if (session.archived !== undefined) return "session_archived";
  return session.kind === "transient" ? "session_transient" : "session_by_time";
}

function indexKey(session: Session): Deno.KvKey {
  return makeKey(indexOf(session), session.updatedAt, session.key);
}

/** The `session` collection and its indexes. */
export class Sessions {
  readonly #values: Values;
  readonly #journal: KvJournal;
  /** Listed sessions and the time their index row carries, once it was read. */
  #listed: Promise<Map<string, number>> | undefined;
  #known: Map<string, number> | undefined;

  constructor(values: Values, journal: KvJournal) {
    this.#values = values;
    this.#journal = journal;
    journal.onCommitted((rows) => this.#follow(rows));
  }

  async find(key: string): Promise<Session | undefined> {
    return await this.#values.find(makeKey("session", key), Session);
  }

  /** How many sessions `list` could show. */
  async count(): Promise<number> {
    return (await this.#index()).size;
  }

  /** Last used first. */
  async list(query: SessionQuery): Promise<Session[]> {
    const offset = query.offset ?? 0;
    const wanted = offset + query.limit;
    const kinds = query.kinds;
    if (query.archived === true) {
      const put = await this.#collect("session_archived", query, wanted);
      return put.slice(offset, wanted);
    }
    const found = kinds === undefined || kinds.some((k) => k !== "transient")
      ? await this.#collect("session_by_time", query, wanted)
      : [];
    if (kinds?.includes("transient")) {
      found.push(...await this.#collect("session_transient", query, wanted));
      found.sort((a, b) => b.updatedAt - a.updatedAt);
    }
    return found.slice(offset, wanted);
  }

  /** The rows that store a session; `previous` is what was stored before. */
  rows(next: Session, previous?: Session): Row[] {
    const session = Session.parse(next);
    const index = indexKey(session);
    const isShort = JSON.stringify(session).length <= COPY_CHARS_MAX;
    const rows: Row[] = [
      { key: makeKey("session", session.key), value: session },
    ];
    if (previous !== undefined && previous.key !== session.key) {
      rows.push({ key: makeKey("session", previous.key), value: undefined });
    }
    if (
      previous !== undefined && keyText(indexKey(previous)) !== keyText(index)
    ) rows.push({ key: indexKey(previous), value: undefined });
    rows.push({ key: index, value: isShort ? session : null });
    return rows;
  }

  /** The rows that put a session away under another key and begin anew at its own. */
  swapRows(
    change: { previous: Session; archived: Session; fresh: Session },
  ): Row[] {
    const { previous, archived, fresh } = change;
    const own = keyText(makeKey("session", fresh.key));
    return [
      ...this.rows(archived, previous).filter(({ key }) =>
        keyText(key) !== own
      ),
      ...this.rows(fresh),
    ];
  }

  /**
   * Deletes a session with its messages, runs and approvals. The session's own
   * row goes last: an interrupted purge leaves one that can be purged again.
   */
  async purge(session: Session): Promise<void> {
    await this.#delete(this.#keysOf(session));
  }

  /**
   * Purges transient sessions last used before a time; those whose run did not
   * end stay. @returns how many went
   */
  async purgeTransient(before: number): Promise<number> {
    return await this.purgeUnused("session_transient", before);
  }

  /**
   * Purges the sessions of one index last used before a time; those whose run
   * did not end stay. @returns how many went
   */
  async purgeUnused(index: IndexName, before: number): Promise<number> {
    const prefix = makeKey(index);
    const end = makeKey(index, before);
    let count = 0;
    for await (const { key } of this.#values.list({ prefix, end }, Copy)) {
      const name = String(key[3]);
      try {
        const session = await this.find(name);
        const isDue = session !== undefined && indexOf(session) === index &&
          session.updatedAt < before;
        if (!isDue) await this.#journal.commit([{ key, value: undefined }]);
        else if (!await this.hasOpenRun(session.id)) {
          await this.purge(session);
          count++;
        }
      } catch (error) {
        this.#values.skip(makeKey("session", name), error);
      }
    }
    return count;
  }

  /** Every session of a principal, wherever it is listed. */
  async *ownedBy(
    principal: string,
  ): AsyncGenerator<Session, void, undefined> {
    const seen = new Set<string>();
    for (const index of INDEXES) {
      const stretch = { prefix: makeKey(index) };
      for await (const { key, value } of this.#values.list(stretch, Copy)) {
        const name = String(key[3]);
        if (seen.has(name)) continue;
        const session = value ?? await this.find(name);
        if (session?.owner !== principal) continue;
        seen.add(name);
        yield session;
      }
    }
  }

  async #collect(
    index: IndexName,
    query: SessionQuery,
    wanted: number,
  ): Promise<Session[]> {
    const listed = index === "session_by_time"
      ? await this.#index()
      : undefined;
    const since = query.activeSince;
    const stretch = {
      prefix: makeKey(index),
      ...(since === undefined ? {} : { start: makeKey(index, since) }),
      reverse: true,
    };
    const found: Session[] = [];
    for await (const { key, value } of this.#values.list(stretch, Copy)) {
      const name = String(key[3]);
      // An index row that a lost race left behind is not the session's own.
      if (listed !== undefined && listed.get(name) !== key[2]) continue;
      const session = value ?? await this.find(name);
      if (session !== undefined && matches(session, query)) found.push(session);
      if (found.length >= wanted) break;
    }
    return found;
  }

  async #index(): Promise<Map<string, number>> {
    this.#listed ??= this.#readIndex();
    try {
      return await this.#listed;
    } catch (error) {
      this.#listed = undefined; // the next caller tries again
      throw error;
    }
  }

  async #readIndex(): Promise<Map<string, number>> {
    const known = new Map<string, number>();
    this.#known = known;
    const prefix = makeKey("session_by_time");
    for await (const key of this.#values.keys(prefix)) {
      const [, , at, name] = key;
      // Commits that came while this was reading are newer than what is read.
      const before = known.get(String(name)) ?? -Infinity;
      if (Number(at) > before) known.set(String(name), Number(at));
    }
    return known;
  }

  #follow(rows: readonly Committed[]): void {
    if (this.#known === undefined) return;
    for (const { key, deleted } of rows) {
      if (key[0] !== "session_by_time") continue;
      const name = String(key[3]);
      if (!deleted) this.#known.set(name, Number(key[2]));
      else if (this.#known.get(name) === key[2]) this.#known.delete(name);
    }
  }

  /** Every key of a session, its own row's last. */
  async *#keysOf(session: Session): AsyncGenerator<Deno.KvKey> {
    yield* new Blobs(this.#values).keysOf(session.key);
    yield* this.#values.keys(makeKey("message", session.id));
    yield* this.#values.keys(makeKey("session_summary", session.id));
    const responses = makeKey("response_by_session", session.id);
    for await (const key of this.#values.keys(responses)) {
      yield makeKey("response", String(key[3]));
      yield key;
    }
    const runs = makeKey("run_by_session", session.id);
    for await (const key of this.#values.keys(runs)) {
      const run = String(key[3]);
      const asked = makeKey("approval_by_run", run);
      for await (const index of this.#values.keys(asked)) {
        yield* approvalKeys(String(index[3]));
        yield index;
      }
      yield makeKey("run", run);
      yield makeKey("runs_open", run);
      yield key;
    }
    // A lost race may have left further index rows of a listed session.
    if (session.kind !== "transient") {
      for await (const key of this.#values.keys(makeKey("session_by_time"))) {
        if (key[3] === session.key) yield key;
      }
    }
    yield indexKey(session);
    yield makeKey("session", session.key);
  }

  /** Whether a run of a session did not end. */
  async hasOpenRun(sessionId: string): Promise<boolean> {
    const runs = makeKey("run_by_session", sessionId);
    for await (const key of this.#values.keys(runs)) {
      const open = makeKey("runs_open", String(key[3]));
      if (await this.#values.find(open, z.unknown()) !== undefined) return true;
    }
    return false;
  }

  async #delete(keys: AsyncIterable<Deno.KvKey>): Promise<void> {
    let rows: Row[] = [];
    for await (const key of keys) {
      rows.push({ key, value: undefined });
      if (rows.length < DELETES_A_UNIT) continue;
      await this.#journal.commit(rows);
      rows = [];
    }
    await this.#journal.commit(rows);
  }
}

function* approvalKeys(id: string): Generator<Deno.KvKey> {
  yield makeKey("approval", id);
  yield makeKey("approval_pending", id);
  yield makeKey("approval_mark", id, "answered");
  yield makeKey("approval_mark", id, "used");
}

function matches(session: Session, query: SessionQuery): boolean {
  if (query.agentId !== undefined && session.agentId !== query.agentId) {
    return false;
  }
  if (query.kinds !== undefined && !query.kinds.includes(session.kind)) {
    return false;
  }
  if (query.search === undefined) return true;
  const { key, label, title, channel } = session;
  const search = query.search.toLowerCase();
  return [key, label, title, channel].some((text) =>
    text?.toLowerCase().includes(search)
  );
}
