/**
 * So many at once, so many that wait, and no more than some of one name.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** How many. */
export interface GateLimits {
  atOnceMax: number;
  waitingMax: number;
  waitingPerNameMax: number;
}

interface Waiter {
  name: string;
  start(): void;
}

/** Lets work in, first come first served. */
export class Gate {
  readonly #limits: GateLimits;
  readonly #waiting = new Set<Waiter>();
  #running = 0;

  constructor(limits: GateLimits) {
    this.#limits = limits;
  }

  /**
   * Runs work when there is room.
   *
   * @throws {AppError} `rate_limited` when there is no place to wait; the
   * signal's reason when it aborts first
   */
  async run<T>(
    name: string,
    signal: AbortSignal,
    work: () => Promise<T>,
  ): Promise<T> {
    if (this.#running >= this.#limits.atOnceMax) {
      await this.#wait(name, signal);
    } else this.#running++;
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  /** Its place is handed over by whoever leaves. */
  async #wait(name: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { waitingMax, waitingPerNameMax } = this.#limits;
    const own = [...this.#waiting].filter((one) => one.name === name).length;
    if (this.#waiting.size >= waitingMax || own >= waitingPerNameMax) {
      throw new AppError("rate_limited", "Too many ask at once");
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { name, start: resolve };
    const stop = () => {
      if (this.#waiting.delete(waiter)) reject(signal.reason);
    };
    this.#waiting.add(waiter);
    signal.addEventListener("abort", stop, { once: true });
    await promise.finally(() => signal.removeEventListener("abort", stop));
  }

  #leave(): void {
    for (const next of this.#waiting) {
      this.#waiting.delete(next);
      next.start();
      return;
    }
    this.#running--;
  }
}
