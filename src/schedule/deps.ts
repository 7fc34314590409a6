/**
 * What the schedule is handed by the roof, and the one lock of the room.
 *
 * @module
 */
import type { Turns } from "../agent/turns.ts";
import type { Authority, AuthorityRecord } from "../core/authority.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { Store } from "../store/store.ts";
import type { ScheduleConfig } from "./config.ts";

export interface ScheduleDeps {
  store: Pick<Store, "jobs" | "journal" | "audit" | "runs">;
  turns: Pick<Turns, "start" | "watch">;
  config(): ScheduleConfig;
  /** Whether there is an agent by this name. */
  hasAgent(id: string): boolean;
  /** A stored record's authority again (only `auth` makes one). */
  authorityOf(record: AuthorityRecord): Authority;
  /** What the heartbeat acts as when the configuration turns it on. */
  configAuthority(): Authority;
  /** Whether a stored record's credential still counts. */
  isLive(record: AuthorityRecord): Promise<boolean> | boolean;
  /** Calls with a credential's id when it ends. */
  onRevoked(listener: (credential: string) => void): Disposable;
  /** Calls with every model call that was paid for. */
  watchCalls(
    listener: (call: { runId: string; nano: number }) => void,
  ): Disposable;
  /** Tells the owner's clients, and a principal's own. Must not throw. */
  publish(
    event: "cron" | "heartbeat",
    payload: Record<string, unknown>,
    principal: string,
  ): void;
  clock: Clock;
  log: Log;
}

/** One at a time, in the order they came. */
export class Alone {
  #last: Promise<unknown> = Promise.resolve();
  /** How many wait or are at it. */
  count = 0;

  run<T>(work: () => Promise<T>): Promise<T> {
    this.count++;
    const next = this.#last.then(work).finally(() => this.count--);
    this.#last = next.catch(() => {}); // whoever asked hears it
    return next;
  }

  /** Resolves when all that was asked for so far is over. */
  async idle(): Promise<void> {
    await this.#last;
  }
}
