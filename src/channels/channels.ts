/**
 * The channels there are now, and how each stands.
 *
 * @module
 */
import type { Channel } from "../core/channel.ts";
import { errorText } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";

/** How a channel stands. */
export interface ChannelState {
  channel: string;
  accounts: readonly string[];
  state: "ready" | "failing";
  /** The last thing that went wrong, until something goes right again. */
  lastError?: string;
  lastInAt?: number;
  lastOutAt?: number;
}

interface Kept {
  channel: Channel;
  failures: number;
  lastError?: string;
  lastInAt?: number;
  lastOutAt?: number;
}

/** So many sends in a row that failed make a channel failing. */
const FAILURES_MAX = 3;

/** The channels of the house. */
export class Channels {
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept>();
  readonly #listeners = new Set<(id: string) => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Adds a channel, or puts another in its place. Disposing takes it away. */
  add(channel: Channel): Disposable {
    const kept = { channel, failures: 0 };
    this.#kept.set(channel.id, kept);
    for (const listener of this.#listeners) listener(channel.id);
    return {
      [Symbol.dispose]: () => {
        if (this.#kept.get(channel.id) === kept) this.#kept.delete(channel.id);
      },
    };
  }

  /** Called when a channel has come. Must not throw. */
  onAdded(listener: (id: string) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  find(id: string): Channel | undefined {
    return this.#kept.get(id)?.channel;
  }

  /** Something came in, whoever sent it. */
  noteIn(id: string): void {
    const kept = this.#kept.get(id);
    if (kept !== undefined) kept.lastInAt = this.#clock.now();
  }

  /** A message went out, or did not. */
  noteOut(id: string, error?: unknown): void {
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    if (error === undefined) {
      kept.failures = 0;
      kept.lastOutAt = this.#clock.now();
      delete kept.lastError;
    } else {
      kept.failures++;
      kept.lastError = errorText(error);
    }
  }

  /** Every channel, by name. */
  states(): ChannelState[] {
    return [...this.#kept.values()].map((
      { channel, failures, lastError, lastInAt, lastOutAt },
    ) => ({
      channel: channel.id,
      accounts: channel.accounts(),
      state: failures >= FAILURES_MAX ? "failing" as const : "ready" as const,
      ...lastError === undefined ? {} : { lastError },
      ...lastInAt === undefined ? {} : { lastInAt },
      ...lastOutAt === undefined ? {} : { lastOutAt },
    })).sort((a, b) => a.channel < b.channel ? -1 : 1);
  }
}
