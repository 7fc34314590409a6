/**
 * What is done to a session as a whole: made, changed, begun anew, copied,
 * compacted, put away, deleted. Each act holds the session's lane, so that none
 * happens in the middle of a turn.
 *
 * Never: an act that loses messages, but for `delete` and `purge`; a copy with a
 * higher label than what it was copied from.
 *
 * @module
 */
import type { Authority } from "../../core/authority.ts";
import { checkModelChoice } from "../../guard/admission.ts";
import { AppError } from "../../core/errors.ts";
import { agentOf, makeId, SessionKey } from "../../core/ids.ts";
import { join, joinAll, PUBLIC_OWNER } from "../../core/label.ts";
import { NO_USAGE, type StoredMessage } from "../../core/message.ts";
import type { ContextAccount } from "../../core/methods.ts";
import { limitSignal } from "../../core/time.ts";
import { endorse } from "../../guard/endorse.ts";
import type { Row } from "../../store/journal.ts";
import type { Session, SessionKind } from "../../store/sessions.ts";
import { assemble } from "../context/context.ts";
import type { AgentDeps } from "../deps.ts";
import { tellHooks } from "../hooking.ts";
import type { Lanes, Slots } from "../lanes.ts";
import type { Pasts } from "../context/pasts.ts";
import type { Holders } from "../queue.ts";
import {
  type CompactedNow,
  compactNow,
  contextInput,
} from "../context/session_context.ts";

const LIMITS = {
  /** An act waits so long for turns that run. */
  laneMs: 30_000,
  /** Rows of one stored unit while messages are copied. */
  copyRows: 300,
  /** Messages that are looked through for the texts of strangers. */
  strangersMax: 200,
  /** Parts of a new session's key; a longer one is made shorter. */
  keyParts: 10,
  /** Characters of it; the same. */
  keyChars: 300,
} as const;

/** Who acts, and what is theirs. */
export interface Actor {
  authority: Authority;
  channel: string;
  /** Whether a session is the actor's to read and change. */
  owns(sessionKey: string): boolean;
}

/** What can be changed of a session; `null` takes it back. */
export interface SessionPatch {
  label?: string | null | undefined;
  model?: string | null | undefined;
  thinkingTokens?: number | null | undefined;
  queueMode?: Session["queueMode"] | undefined;
}

/** Texts of strangers in a session, and the one that was taken over. */
export interface Strangers {
  session: Session;
  parts: { part: string; from: string; text: string }[];
  trusted?: string;
}

/** What the acts work with. */
export interface SessionRooms {
  lanes: Lanes;
  slots: Slots;
  holders: Holders;
  pasts: Pasts;
  /** Stops a session's turns. */
  stop(sessionKey: string): void;
}

/** What kind of session a key is for. */
export function kindOf(key: string, isTransient = false): SessionKind {
  if (isTransient) return "transient";
  const [, , second, , fourth] = key.split(":");
  if (second === "main") return "main";
  if (second === "openai" || second === "client") return "api";
  if (second === "cron" || second === "hook" || second === "subagent") {
    return second;
  }
  if (second === "heartbeat") return "cron";
  if (fourth === "group" || fourth === "channel") return "group";
  return "direct";
}

/** A key beside another one, for what was put away or copied. */
export function siblingKey(key: string, word: string, id: string): string {
  const parts = key.split(":");
  const beside = `${key}:${word}:${id}`;
  if (parts.length + 2 <= LIMITS.keyParts && beside.length <= LIMITS.keyChars) {
    return beside;
  }
  // Whose it is stays in front; where it was is in its row.
  const own = parts[2] === "client" ? 4 : 2;
  return `${parts.slice(0, own).join(":")}:${word}:${id}`;
}

function patched(session: Session, patch: SessionPatch): Session {
  const next: Session = { ...session };
  for (const name of ["label", "model", "thinkingTokens"] as const) {
    const value = patch[name];
    if (value === null) delete next[name];
    else if (value !== undefined) Object.assign(next, { [name]: value });
  }
  if (patch.queueMode !== undefined) next.queueMode = patch.queueMode;
  return next;
}

/** The acts on sessions. */
export class SessionDesk {
  readonly #deps: AgentDeps;
  readonly #rooms: SessionRooms;

  constructor(deps: AgentDeps, rooms: SessionRooms) {
    this.#deps = deps;
    this.#rooms = rooms;
  }

  /** @throws {AppError} `not_found`, also when it is another's */
  async get(key: string, actor: Actor): Promise<Session> {
    const session = actor.owns(key)
      ? await this.#deps.store.sessions.find(key)
      : undefined;
    if (session === undefined) {
      throw new AppError("not_found", `There is no session "${key}"`);
    }
    return session;
  }

  /** A session to be changed: in a group that takes more than being in it. */
  async #change(key: string, actor: Actor): Promise<Session> {
    const session = await this.get(key, actor);
    if (session.kind === "group" && !actor.authority.scopes.has("write")) {
      throw new AppError(
        "forbidden",
        'Changing a group\'s conversation needs the scope "write"',
      );
    }
    return session;
  }

  /** Runs an act with the session's lane. @throws `conflict` when it is busy */
  async #alone<T>(
    key: string,
    act: (session: Session) => Promise<T>,
  ): Promise<T> {
    const { lanes, holders } = this.#rooms;
    using limit = limitSignal(new AbortController().signal, LIMITS.laneMs);
    let lane: Disposable;
    try {
      lane = await lanes.enter(key, limit.signal, () => {});
    } catch (error) {
      throw new AppError("conflict", `Session "${key}" is busy`, {
        cause: error,
        hint: "Wait for its turn to end, or send /stop",
      });
    }
    using _lane = lane;
    using _holder = holders.hold(key);
    const session = await this.#deps.store.sessions.find(key);
    if (session === undefined) {
      throw new AppError("not_found", `There is no session "${key}"`);
    }
    return await act(session);
  }

  /** An empty session under a key. */
  draft(key: string, of: Pick<Session, "owner" | "channel" | "kind">): Session {
    const now = this.#deps.clock.now();
    return {
      key: SessionKey.parse(key),
      id: makeId("ses", now),
      agentId: agentOf(key),
      kind: of.kind,
      ...(of.channel === undefined ? {} : { channel: of.channel }),
      createdAt: now,
      updatedAt: now,
      seq: 0,
      queueMode: "queue",
      usage: NO_USAGE,
      joined: PUBLIC_OWNER,
      owner: of.owner,
    };
  }

  #checkAgent(key: string, { authority }: Actor): void {
    const agentId = agentOf(key);
    if (this.#deps.settings().agents[agentId] === undefined) {
      throw new AppError("not_found", `There is no agent "${agentId}"`);
    }
    if (!authority.allowsAgent(agentId)) {
      throw new AppError(
        "forbidden",
        `This credential may not talk to agent "${agentId}"`,
      );
    }
  }

  #checkModel(model: string | null | undefined, { authority }: Actor): void {
    if (typeof model !== "string") return;
    checkModelChoice(authority, model);
    this.#deps.models.resolve(model);
  }

  /** @throws {AppError} `conflict` when the key is taken */
  async create(
    key: string,
    options: { actor: Actor; patch?: SessionPatch },
  ): Promise<Session> {
    const { actor, patch = {} } = options;
    const { sessions, journal } = this.#deps.store;
    this.#checkAgent(key, actor);
    this.#checkModel(patch.model, actor);
    using _lane = await this.#rooms.lanes.enter(
      key,
      AbortSignal.timeout(LIMITS.laneMs),
      () => {},
    );
    if (await sessions.find(key) !== undefined) throw taken(key);
    const { principal: owner } = actor.authority;
    const { channel } = actor;
    const session = patched(
      this.draft(key, { owner, channel, kind: kindOf(key) }),
      patch,
    );
    await journal.commit(sessions.rows(session));
    return session;
  }

  /** Changes settings, also while a turn runs. */
  async patch(
    key: string,
    options: { actor: Actor; patch: SessionPatch },
  ): Promise<Session> {
    const { actor, patch } = options;
    await this.#change(key, actor);
    this.#checkModel(patch.model, actor);
    const { holders } = this.#rooms;
    for (let attempt = 0; attempt < 100; attempt++) {
      const holder = holders.find(key);
      if (holder === undefined) break;
      const turn = await holder.turn();
      if (turn === undefined) continue;
      await turn.patch((session) => patched(session, patch));
      return turn.session;
    }
    return await this.#alone(key, async (session) => {
      const { sessions, journal } = this.#deps.store;
      const next = patched(session, patch);
      await journal.commit(sessions.rows(next, session));
      return next;
    });
  }

  /** The session as it is put away, under a key of its own. */
  #away(session: Session): Session {
    tellHooks(this.#deps, "session_end", session);
    const at = this.#deps.clock.now();
    return {
      ...session,
      key: siblingKey(session.key, "old", session.id),
      updatedAt: at,
      archived: { at, key: session.key },
    };
  }

  /** Puts what was said away and begins anew; turns that run are stopped. */
  async reset(
    key: string,
    options: { actor: Actor; reason: "new" | "reset" },
  ): Promise<{ session: Session; archivedKey?: string }> {
    await this.#change(key, options.actor);
    this.#rooms.stop(key);
    return await this.#alone(key, (session) => this.renew(session, options));
  }

  /** @internal The lane is the caller's. */
  async renew(
    session: Session,
    { reason }: { reason: "new" | "reset" },
  ): Promise<{ session: Session; archivedKey?: string }> {
    const { sessions, journal } = this.#deps.store;
    if (session.archived !== undefined) throw isAway(session);
    const { model, thinkingTokens, queueMode, label: name } = session;
    const fresh: Session = {
      ...this.draft(session.key, session),
      ...(reason === "reset" ? {} : {
        ...(model === undefined ? {} : { model }),
        ...(thinkingTokens === undefined ? {} : { thinkingTokens }),
        ...(name === undefined ? {} : { label: name }),
        queueMode,
      }),
    };
    if (session.seq === 0) {
      const same = { ...fresh, id: session.id, createdAt: session.createdAt };
      await journal.commit(sessions.rows(same, session));
      return { session: same };
    }
    const archived = this.#away(session);
    await journal.commit(
      sessions.swapRows({ previous: session, archived, fresh }),
    );
    return { session: fresh, archivedKey: archived.key };
  }

  /** Copies messages up to a `seq` under another id; the label of all of them. */
  async #copy(
    from: Session,
    to: Session,
    throughSeq: number,
  ): Promise<{ session: Session; rows: Row[] }> {
    const { messages, summaries, journal } = this.#deps.store;
    let rows: Row[] = [];
    let joined = PUBLIC_OWNER;
    for await (const message of messages.all(from.id)) {
      if (message.seq > throughSeq) break;
      joined = join(joined, joinAll(message.parts.map((part) => part.label)));
      rows.push(...messages.rows(to.id, message));
      if (rows.length < LIMITS.copyRows) continue;
      await journal.commit(rows);
      rows = [];
    }
    const summary = from.compactedSeq === undefined
      ? undefined
      : await summaries.latest(
        from.id,
        Math.min(from.compactedSeq, throughSeq),
      );
    if (summary !== undefined) {
      joined = join(joined, summary.label);
      rows.push(summaries.row({ ...summary, sessionId: to.id }));
    }
    const session: Session = {
      ...to,
      seq: throughSeq,
      joined,
      forkOf: { key: from.key, seq: throughSeq },
      ...(summary === undefined ? {} : { compactedSeq: summary.throughSeq }),
    };
    return { session, rows };
  }

  /** Copies a session, or its beginning, to a new key. */
  async fork(
    key: string,
    options: { actor: Actor; toKey?: string; atSeq?: number; label?: string },
  ): Promise<Session> {
    const { actor, atSeq } = options;
    const { sessions, journal } = this.#deps.store;
    const from = await this.get(key, actor);
    const toKey = options.toKey ??
      siblingKey(key, "fork", makeId("ses", this.#deps.clock.now()));
    this.#checkAgent(toKey, actor);
    if (await sessions.find(toKey) !== undefined) throw taken(toKey);
    // A session's readers may differ by kind; a copy keeps the stricter one.
    const kind = from.kind === "group" ? "group" : kindOf(toKey);
    const to = this.draft(toKey, { ...from, kind });
    const { session, rows } = await this.#copy(
      from,
      patched({ ...to, queueMode: from.queueMode }, {
        model: from.model,
        thinkingTokens: from.thinkingTokens,
        label: options.label,
      }),
      Math.min(atSeq ?? from.seq, from.seq),
    );
    await journal.commit([...rows, ...sessions.rows(session)]);
    return session;
  }

  /** Goes on from before the first text of strangers. */
  async clean(
    key: string,
    options: { actor: Actor },
  ): Promise<{ session: Session; archivedKey?: string; dropped: number }> {
    await this.#change(key, options.actor);
    this.#rooms.stop(key);
    return await this.#alone(key, async (session) => {
      const { sessions, messages, journal } = this.#deps.store;
      if (session.archived !== undefined) throw isAway(session);
      let until: number | undefined;
      for await (const { seq, parts } of messages.all(session.id)) {
        if (parts.every((part) => part.label.integrity !== "untrusted")) {
          continue;
        }
        until = seq - 1;
        break;
      }
      if (until === undefined) return { session, dropped: 0 };
      const { model, thinkingTokens, queueMode, label: name } = session;
      const to = patched(this.draft(key, session), {
        model,
        thinkingTokens,
        queueMode,
        label: name,
      });
      const { session: fresh, rows } = await this.#copy(
        session,
        to,
        await this.#wholeTurns(session, until),
      );
      const archived = this.#away(session);
      await journal.commit([
        ...rows,
        ...sessions.swapRows({ previous: session, archived, fresh }),
      ]);
      return {
        session: fresh,
        archivedKey: archived.key,
        dropped: session.seq - fresh.seq,
      };
    });
  }

  /** The newest texts of strangers in a session, by their places. */
  async strangers(key: string, options: { actor: Actor }): Promise<Strangers> {
    const session = await this.get(key, options.actor);
    const { messages } = this.#deps.store;
    const parts: Strangers["parts"] = [];
    const tail = await messages.tail(session.id, {
      limit: LIMITS.strangersMax,
    });
    for (const { seq, role, parts: own } of tail) {
      if (role === "assistant") continue;
      for (const [n, part] of own.entries()) {
        if (
          part.label.integrity !== "untrusted" ||
          (part.kind !== "text" && part.kind !== "tool_result")
        ) continue;
        const [origin] = part.label.origins.toReversed();
        parts.push({
          part: `${seq}.${n}`,
          from: origin === undefined
            ? "unknown"
            : `${origin.kind} ${origin.ref}`,
          text: part.text.replaceAll(/\s+/g, " ").slice(0, 120),
        });
      }
    }
    return { session, parts };
  }

  /**
   * Copies one part as the owner's own word to the end of its session.
   *
   * @throws {AppError} `forbidden` for anybody but the owner, `not_found`
   */
  async trust(
    key: string,
    options: { actor: Actor; part: string },
  ): Promise<Strangers> {
    const { actor, part: place } = options;
    await this.#change(key, actor);
    return await this.#alone(key, async (session) => {
      const { store, clock, guard } = this.#deps;
      const [seq = 0, index = 0] = place.split(".").map(Number);
      const [message] = await store.messages.tail(session.id, {
        limit: 1,
        beforeSeq: seq + 1,
      });
      const found = message?.seq === seq ? message.parts[index] : undefined;
      if (found === undefined) {
        throw new AppError("not_found", `There is no part "${place}" here`, {
          hint: "/trust lists them",
        });
      }
      const at = clock.now();
      const { authority } = actor;
      const own = endorse(found, { authority, at });
      const next: Session = {
        ...session,
        seq: session.seq + 1,
        updatedAt: at,
        joined: join(session.joined, own.label),
      };
      const copy = { role: "user" as const, parts: [own], seq: next.seq, at };
      await store.journal.commit([
        ...store.sessions.rows(next, session),
        ...store.messages.rows(session.id, copy),
        guard.audit.row({
          event: "label.endorse",
          fields: {
            sessionId: session.id,
            part: place,
            by: authority.principal,
          },
        }),
      ]);
      return { session: next, parts: [], trusted: place };
    });
  }

  /** A cut never leaves a question or a call without its answer. */
  async #wholeTurns(session: Session, until: number): Promise<number> {
    const before = await this.#deps.store.messages.tail(session.id, {
      limit: 200,
      beforeSeq: until + 1,
    });
    const isWhole = ({ role, parts }: StoredMessage) =>
      role === "assistant" && parts.every((part) => part.kind !== "tool_call");
    return before.findLast(isWhole)?.seq ?? 0;
  }

  async archive(key: string, options: { actor: Actor }): Promise<Session> {
    const found = await this.#change(key, options.actor);
    if (found.archived !== undefined) return found;
    this.#rooms.stop(key);
    return await this.#alone(key, async (session) => {
      const { sessions, journal } = this.#deps.store;
      const archived = this.#away(session);
      await journal.commit(sessions.rows(archived, session));
      return archived;
    });
  }

  /** @throws {AppError} `conflict` when its old key is taken */
  async restore(
    key: string,
    options: { actor: Actor; toKey?: string },
  ): Promise<Session> {
    const found = await this.#change(key, options.actor);
    const { archived } = found;
    if (archived === undefined) {
      throw new AppError("conflict", `Session "${key}" was not put away`);
    }
    const toKey = options.toKey ?? archived.key;
    this.#checkAgent(toKey, options.actor);
    return await this.#alone(key, async (session) => {
      const { sessions, journal } = this.#deps.store;
      if (await sessions.find(toKey) !== undefined) {
        throw new AppError(
          "conflict",
          `There is a session "${toKey}" already`,
          {
            hint: "Put that one away first, or name another key to restore to",
          },
        );
      }
      const { archived: _, ...rest } = session;
      const back: Session = {
        ...rest,
        key: toKey,
        agentId: agentOf(toKey),
        updatedAt: this.#deps.clock.now(),
      };
      await journal.commit(sessions.rows(back, session));
      return back;
    });
  }

  /** Deletes a session with everything in it; turns that run are stopped. */
  async delete(key: string, options: { actor: Actor }): Promise<void> {
    await this.#change(key, options.actor);
    this.#rooms.stop(key);
    await this.#alone(key, (session) => this.#purge(session));
  }

  async #purge(session: Session): Promise<void> {
    // One that was put away has ended before.
    if (session.archived === undefined) {
      tellHooks(this.#deps, "session_end", session);
    }
    await this.#deps.store.sessions.purge(session);
    this.#rooms.pasts.forget(session.id);
  }

  /** Deletes every session of a principal. How many. */
  async purge(
    principal: string,
    onGone: (key: string) => void = () => {},
  ): Promise<number> {
    let count = 0;
    for await (const { key } of this.#deps.store.sessions.ownedBy(principal)) {
      this.#rooms.stop(key);
      await this.#alone(key, (session) => this.#purge(session));
      onGone(key);
      count++;
    }
    return count;
  }

  // --- context ------------------------------------------------------------

  /** What the next model call would be shown. */
  async context(
    key: string,
    options: { actor: Actor },
  ): Promise<ContextAccount> {
    const session = await this.get(key, options.actor);
    const past = await this.#rooms.pasts.read(session);
    this.#rooms.pasts.hold(session, past);
    const of = { past, ...options };
    return assemble(await contextInput(session, of, this.#deps)).account;
  }

  /** Writes notes of all but the newest part now, whatever it takes. */
  async compact(
    key: string,
    options: { actor: Actor; wish?: string },
  ): Promise<CompactedNow> {
    await this.#change(key, options.actor);
    return await this.#alone(
      key,
      (session) =>
        compactNow(session, options, { ...this.#rooms, deps: this.#deps }),
    );
  }
}

function taken(key: string): AppError {
  return new AppError("conflict", `There is a session "${key}" already`, {
    hint: "Choose another key, or begin that one anew",
  });
}

/** @internal For messages that come to a session that was put away. */
export function isAway(session: Session): AppError {
  return new AppError(
    "conflict",
    `Session "${session.key}" was put away`,
    { hint: `Take it back first: carapace session restore ${session.key}` },
  );
}
