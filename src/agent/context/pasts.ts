/**
 * What was said before a turn: a session's notes and all messages since. The
 * sessions used last are held in memory, so that a turn does not read again
 * what the turn before it has just written.
 *
 * Never: a held history that is not exactly the stored one; its last `seq` and
 * its notes are compared with the session's row.
 *
 * @module
 */
import type { StoredMessage } from "../../core/message.ts";
import type { Session } from "../../store/sessions.ts";
import type { Summary } from "../../store/summaries.ts";
import type { AgentDeps } from "../deps.ts";
import { estimateTokens } from "./tokens.ts";

const LIMITS = {
  /**
   * Messages read when all of them came without notes (they were brought in);
   * what is older is said to be left out.
   */
  historyMax: 2_000,
  /** Sessions whose past is held in memory; the one unused longest goes. */
  sessionsMax: 64,
  /** Of all held sessions together, by estimate. */
  tokensMax: 2_000_000,
} as const;

/** Notes, what came after them, and how much before that was not read. */
export interface Past {
  history: StoredMessage[];
  summary: Summary | undefined;
  unread: number;
}

interface Held extends Past {
  seq: number;
  compactedSeq: number | undefined;
  tokens: number;
}

/** The pasts of sessions; those used last are held. */
export class Pasts {
  readonly #store: Pick<AgentDeps["store"], "messages" | "summaries">;
  readonly #held = new Map<string, Held>();
  #tokens = 0;

  constructor(store: Pick<AgentDeps["store"], "messages" | "summaries">) {
    this.#store = store;
  }

  /** A session's past; the arrays are the caller's own. */
  async read(session: Session): Promise<Past> {
    const { id, seq, compactedSeq } = session;
    const held = this.#held.get(id);
    if (held !== undefined) {
      this.#drop(id, held);
      if (held.seq === seq && held.compactedSeq === compactedSeq) {
        const { history, summary, unread } = held;
        return { history: [...history], summary, unread };
      }
    }
    const { messages, summaries } = this.#store;
    const summary = compactedSeq === undefined
      ? undefined
      : await summaries.latest(id, compactedSeq);
    const afterSeq = summary?.throughSeq ?? 0;
    const limit = Math.min(seq - afterSeq, LIMITS.historyMax);
    const history = limit <= 0
      ? []
      : await messages.tail(id, { limit, afterSeq });
    const unread = Math.max(0, seq - afterSeq - limit);
    return { history, summary, unread };
  }

  /** Holds what a turn left behind; call it when all of that is stored. */
  hold(session: Session, past: Past): void {
    const { id, seq, compactedSeq, kind } = session;
    if (kind === "transient") return;
    const before = this.#held.get(id);
    if (before !== undefined) this.#drop(id, before);
    const { history, summary, unread } = past;
    let tokens = 0;
    for (const message of history) tokens += estimateTokens(message);
    this.#held.set(id, {
      history: [...history],
      summary,
      unread,
      seq,
      compactedSeq,
      tokens,
    });
    this.#tokens += tokens;
    for (const [oldest, one] of this.#held) {
      const isOver = this.#held.size > LIMITS.sessionsMax ||
        this.#tokens > LIMITS.tokensMax;
      if (!isOver) break;
      this.#drop(oldest, one);
    }
  }

  /** Forgets a session that was deleted. */
  forget(sessionId: string): void {
    const held = this.#held.get(sessionId);
    if (held !== undefined) this.#drop(sessionId, held);
  }

  #drop(id: string, held: Held): void {
    this.#held.delete(id);
    this.#tokens -= held.tokens;
  }
}
