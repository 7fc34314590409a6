/**
 * Ticks from outside, for who wants to look at the time now and then: only the
 * last one is kept, because they all say the same.
 *
 * @module
 */

/** A source of ticks: something calls `push`, one reader iterates. */
export class Ticks implements AsyncIterable<Date> {
  #last: Date | undefined;
  #waiting = Promise.withResolvers<void>();

  push(at: Date): void {
    this.#last = at;
    this.#waiting.resolve();
  }

  /** Ends with its reader. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Date, void, undefined> {
    while (true) { // ends with its reader
      await this.#waiting.promise;
      this.#waiting = Promise.withResolvers<void>();
      const at = this.#last;
      if (at !== undefined) yield at;
    }
  }
}
