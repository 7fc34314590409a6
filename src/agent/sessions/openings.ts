/**
 * The session a turn begins in: found, made, or begun anew when its time has come.
 *
 * Never: two sessions made of two first messages; one begun anew while a turn is in it.
 *
 * @module
 */
import { makeId } from "../../core/ids.ts";
import { PUBLIC_OWNER } from "../../core/label.ts";
import { NO_USAGE } from "../../core/message.ts";
import type { Session } from "../../store/sessions.ts";
import type { AgentDeps } from "../deps.ts";
import { tellHooks } from "../hooking.ts";
import { resetDue } from "../route.ts";
import {
  isAway,
  kindOf,
  type SessionDesk,
  type SessionRooms,
} from "./session_desk.ts";
import type { TurnRequest } from "../turns.ts";

/** The sessions that turns begin in. */
export class Openings {
  readonly #deps: AgentDeps;
  readonly #rooms: Pick<SessionRooms, "lanes" | "holders" | "pasts">;
  readonly #sessions: SessionDesk;
  readonly #opening = new Map<string, Promise<Session>>();

  constructor(
    deps: AgentDeps,
    rooms: Pick<SessionRooms, "lanes" | "holders" | "pasts">,
    sessions: SessionDesk,
  ) {
    this.#deps = deps;
    this.#rooms = rooms;
    this.#sessions = sessions;
  }

  /** A session that is not stored yet. */
  draft(
    request: TurnRequest,
    { key, agentId }: { key: string; agentId: string },
  ): Session {
    const now = this.#deps.clock.now();
    return {
      key,
      id: makeId("ses", now),
      agentId,
      kind: kindOf(key, request.sessionKey === undefined),
      channel: request.inbound.channel,
      createdAt: now,
      updatedAt: now,
      seq: 0,
      queueMode: "queue",
      usage: NO_USAGE,
      joined: PUBLIC_OWNER,
      owner: request.authority.principal,
    };
  }

  /** Finds or makes a named session; two first messages make one. */
  async open(
    request: TurnRequest,
    { key, agentId, mayRenew }: {
      key: string;
      agentId: string;
      mayRenew: boolean;
    },
  ): Promise<Session> {
    const found = await this.#deps.store.sessions.find(key);
    if (found !== undefined) {
      if (found.archived !== undefined) throw isAway(found);
      if (request.isFresh !== true) {
        return mayRenew ? await this.#renewIfDue(found) : found;
      }
      if (!await this.#forget(found)) return found;
    }
    const before = this.#opening.get(key);
    if (before !== undefined) return await before;
    const opening = (async () => {
      const { store } = this.#deps;
      const again = await store.sessions.find(key);
      if (again !== undefined) return again;
      const session = this.draft(request, { key, agentId });
      await store.journal.commit(store.sessions.rows(session));
      tellHooks(this.#deps, "session_start", session);
      return session;
    })();
    this.#opening.set(key, opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(key);
    }
  }

  /** Purges a session that has words and in which nothing runs. Whether it did. */
  async #forget(session: Session): Promise<boolean> {
    if (session.seq === 0) return false;
    using lane = this.#rooms.lanes.tryEnter(session.key);
    if (lane === undefined) return false;
    using _holder = this.#rooms.holders.hold(session.key);
    await this.#deps.store.sessions.purge(session);
    this.#rooms.pasts.forget(session.id);
    return true;
  }

  /** Begins a session anew when its time has come and nothing runs in it. */
  async #renewIfDue(session: Session): Promise<Session> {
    const { kind, seq, updatedAt, key } = session;
    const isTalk = kind === "main" || kind === "direct" || kind === "group";
    if (!isTalk || seq === 0) return session;
    const { settings, clock, store } = this.#deps;
    const at = { updatedAt, now: clock.now() };
    const why = resetDue(settings().sessions, at);
    if (why === undefined) return session;
    using lane = this.#rooms.lanes.tryEnter(key);
    if (lane === undefined) return session;
    using _holder = this.#rooms.holders.hold(key);
    const current = await store.sessions.find(key);
    // Another message may have begun it anew while this one waited.
    if (current?.id !== session.id) return current ?? session;
    this.#deps.log("info", "session.renewed", { why, session: session.id });
    return (await this.#sessions.renew(current, { reason: "new" })).session;
  }
}
