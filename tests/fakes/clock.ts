/** A clock that moves only when it is told to. */
import type { Clock } from "../../src/core/time.ts";

/** Sleepers wake, in order, as `tick` passes their time. */
export class FakeClock implements Clock {
  #now: number;
  readonly #sleepers: { at: number; wake: () => void }[] = [];
  /** How long each sleep was asked for. */
  readonly slept: number[] = [];

  constructor(now = 1_767_225_600_000) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  /** How many wait. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.slept.push(ms);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper = { at: this.#now + ms, wake: resolve };
    this.#sleepers.push(sleeper);
    signal?.addEventListener("abort", () => {
      this.#drop(sleeper);
      reject(signal.reason);
    }, { once: true });
    return promise;
  }

  /** Moves time on and lets what was due run. */
  async tick(ms: number): Promise<void> {
    this.#now += ms;
    for (const sleeper of [...this.#sleepers]) {
      if (sleeper.at > this.#now) continue;
      this.#drop(sleeper);
      sleeper.wake();
    }
    for (let n = 0; n < 20; n++) await Promise.resolve();
  }

  #drop(sleeper: { at: number; wake: () => void }): void {
    const at = this.#sleepers.indexOf(sleeper);
    if (at >= 0) this.#sleepers.splice(at, 1);
  }
}
