/**
 * How late timers come: what everything else of this process waits for too.
 *
 * @module
 */

const EVERY_MS = 500;
/** Half a minute of samples. */
const RECENT_MAX = 60;

/** Upper bounds of the histogram's buckets, in seconds. */
export const LAG_BOUNDS = [
  0.001,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
] as const;

/** A running histogram: one timer twice a second. Disposing stops it. */
export class LoopLag implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #counts = new Array<number>(LAG_BOUNDS.length).fill(0);
  readonly #recent: number[] = [];
  #at = 0;
  #count = 0;
  #sumMs = 0;

  constructor() {
    let last = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.note(Math.max(0, now - last - EVERY_MS));
      last = now;
    }, EVERY_MS);
    Deno.unrefTimer(this.#timer);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** One sample, in milliseconds. */
  note(lagMs: number): void {
    this.#count++;
    this.#sumMs += lagMs;
    const at = LAG_BOUNDS.findIndex((bound) => lagMs <= bound * 1000);
    if (at !== -1) this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#recent[this.#at] = lagMs;
    this.#at = (this.#at + 1) % RECENT_MAX;
  }

  /** What nine of ten recent samples stayed under. 0 when there are none. */
  recentMs(): number {
    const sorted = this.#recent.toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length * 0.9)] ?? 0;
  }

  /** Since the start: samples by bucket (not added up), their number and sum. */
  histogram(): { counts: readonly number[]; count: number; sumS: number } {
    return {
      counts: this.#counts,
      count: this.#count,
      sumS: this.#sumMs / 1000,
    };
  }
}
