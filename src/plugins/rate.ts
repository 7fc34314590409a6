/**
 * How often in a minute, and in a day.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";

/** Counts events of the last stretch of time; more than the limit is refused. */
export class Window {
  readonly #at: number[] = [];
  readonly #max: number;
  readonly #ms: number;
  readonly #clock: Clock;
  readonly #what: string;

  constructor(
    what: string,
    options: { max: number; ms: number; clock: Clock },
  ) {
    this.#what = what;
    this.#max = options.max;
    this.#ms = options.ms;
    this.#clock = options.clock;
  }

  /** How many there were. */
  get count(): number {
    const from = this.#clock.now() - this.#ms;
    while (this.#at.length > 0 && (this.#at[0] ?? 0) <= from) this.#at.shift();
    return this.#at.length;
  }

  /** Takes one. @throws `rate_limited` */
  take(): void {
    if (this.count >= this.#max) {
      const stretch = this.#ms >= 86_400_000 ? "day" : "minute";
      throw new AppError(
        "rate_limited",
        `Cannot do more: ${this.#max} ${this.#what} a ${stretch} are allowed`,
      );
    }
    this.#at.push(this.#clock.now());
  }
}
