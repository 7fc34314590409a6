/**
 * A turn's end in time: one signal for "cancelled" and "took too long", whose
 * clock can stand still while somebody is asked.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** Aborts with `timeout` after so much running time, or as told. Stands still until `resume`. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  #leftMs: number;
  #startedAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(limitMs: number) {
    this.#leftMs = limitMs;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Ends the turn now, for good. */
  cancel(why: string): void {
    this.#controller.abort(new AppError("cancelled", why));
  }

  /** Ends the turn in this process; its stored run goes on at the next start. */
  suspend(): void {
    this.#controller.abort(
      new AppError("unavailable", "The gateway is stopping", {
        hint: "The turn goes on when it is back",
      }),
    );
  }

  pause(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#leftMs -= performance.now() - this.#startedAt;
  }

  resume(): void {
    if (this.#timer !== undefined) return;
    this.#startedAt = performance.now();
    this.#timer = setTimeout(
      () =>
        this.#controller.abort(
          new DOMException("The turn took too long", "TimeoutError"),
        ),
      Math.max(0, this.#leftMs),
    );
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
