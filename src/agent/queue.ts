/**
 * What happens to a message while its session is busy: turns that wait and may
 * be taken along by another turn (`steer`, `collect`), and the turn that holds
 * the session now.
 *
 * Never: one sender's message joins, replaces or is collected into another
 * sender's turn, or a turn of other authority.
 *
 * @module
 */
import { canonicalJson } from "../core/canonical.ts";
import { AppError } from "../core/errors.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import type { Turn } from "./turn.ts";

export type QueueMode = Session["queueMode"];

/** Why a waiting turn stopped waiting: another one took it along. */
export class Joined extends AppError {
  readonly runId: string;

  constructor(runId: string) {
    super("cancelled", `Joined ${runId}`);
    this.runId = runId;
  }
}

/**
 * Whose a turn is, for the queue modes: the same authority, the same sender, in
 * the same chat. `undefined` when that is not known (a run that went on after a
 * restart).
 */
export function senderOf(run: Run): string | undefined {
  if (run.input === undefined) return undefined;
  const { channel, account } = run.inbound;
  return canonicalJson([run.authority, run.input.sender, channel, account]);
}

/** Whether a turn is its text alone, so that another turn can take that along. */
export function isPlain(run: Run): boolean {
  return run.model === undefined && run.thinkingTokens === undefined &&
    Object.keys(run.options ?? {}).length === 0 && !run.transient;
}

/** One stored turn that waits. */
export interface Waiter {
  run: Run;
  mode: QueueMode;
  /** Tells it that it is part of another run now; that is stored already. */
  join(runId: string): void;
}

/** Turns that wait, by session, in the order they came. */
export class Waiting {
  readonly #bySession = new Map<string, Set<Waiter>>();

  add(waiter: Waiter): Disposable {
    const key = waiter.run.sessionKey;
    const waiters = this.#bySession.get(key) ?? new Set();
    this.#bySession.set(key, waiters.add(waiter));
    return {
      [Symbol.dispose]: () => {
        waiters.delete(waiter);
        if (waiters.size === 0) this.#bySession.delete(key);
      },
    };
  }

  /** Those of a mode that this sender's turn may take along. */
  find(
    sessionKey: string,
    sender: string | undefined,
    mode: QueueMode,
  ): Waiter[] {
    if (sender === undefined) return [];
    return [...this.#bySession.get(sessionKey) ?? []].filter((waiter) =>
      waiter.mode === mode && senderOf(waiter.run) === sender
    );
  }
}

/** The turn that holds a session's lane. */
export class Holder {
  #turn: Turn | undefined;
  #isOver = false;
  readonly #ready = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();

  /** The turn was made and stored: others may change its session. */
  begin(turn: Turn): void {
    this.#turn = turn;
    this.#ready.resolve();
  }

  /** Its last save is next: what comes now waits for the lane. */
  close(): void {
    this.#isOver = true;
    this.#ready.resolve();
  }

  end(): void {
    this.close();
    this.#over.resolve();
  }

  /** The turn while it runs; else waits until the lane is free. */
  async turn(): Promise<Turn | undefined> {
    await this.#ready.promise;
    if (!this.#isOver) return this.#turn;
    await this.#over.promise;
    return undefined;
  }
}

/** Who holds each session now. */
export class Holders {
  readonly #held = new Map<string, Holder>();

  hold(sessionKey: string): Holder & Disposable {
    const holder = new Holder();
    this.#held.set(sessionKey, holder);
    return Object.assign(holder, {
      [Symbol.dispose]: () => {
        if (this.#held.get(sessionKey) === holder) {
          this.#held.delete(sessionKey);
        }
        holder.end();
      },
    });
  }

  find(sessionKey: string): Holder | undefined {
    return this.#held.get(sessionKey);
  }
}
