/** The machine's clock, set ahead as a test says; sleeps last what they last. */
import { type Clock, systemClock } from "../../src/core/time.ts";

export class ClockAhead implements Clock {
  #aheadMs = 0;

  now(): number {
    return systemClock.now() + this.#aheadMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }

  /** From here on it is so much later. */
  skip(ms: number): void {
    this.#aheadMs += ms;
  }
}
