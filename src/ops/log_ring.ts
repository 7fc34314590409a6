/**
 * The newest log lines in memory, for `logs.tail`: JSON, redacted like every
 * line, bounded in number and in bytes.
 *
 * @module
 */
import type { LogLevel } from "../core/log.ts";
import type { MethodInput, MethodOutput } from "../core/methods.ts";

/** What is kept at most. */
export const RING_LIMITS = { linesMax: 5_000, charsMax: 4_194_304 } as const;

const LINES_DEFAULT = 200;
const RANK = { debug: 0, info: 1, warn: 2, error: 3 } as const;

interface Kept {
  level: LogLevel;
  line: string;
}

/** The ring. A line's number counts from the start of the process. */
export class LogRing {
  readonly #lines: Kept[] = [];
  readonly #limits: { linesMax: number; charsMax: number };
  #first = 0;
  #chars = 0;

  constructor(limits: { linesMax: number; charsMax: number } = RING_LIMITS) {
    this.#limits = limits;
  }

  add(level: LogLevel, line: string): void {
    this.#lines.push({ level, line: line.trimEnd() });
    this.#chars += line.length;
    const { linesMax, charsMax } = this.#limits;
    while (this.#lines.length > linesMax || this.#chars > charsMax) {
      const oldest = this.#lines.shift();
      if (oldest === undefined) break;
      this.#chars -= oldest.line.length + 1;
      this.#first++;
    }
  }

  /**
   * The newest lines that fit, or with a cursor those after it, oldest first.
   * A cursor from the future is one of another process: the answer begins anew.
   */
  tail(query: MethodInput<"logs.tail"> = {}): MethodOutput<"logs.tail"> {
    const { limit = LINES_DEFAULT, level = "debug", pattern = "" } = query;
    const end = this.#first + this.#lines.length;
    const isReset = query.cursor !== undefined && query.cursor > end;
    const from = isReset ? undefined : query.cursor;
    const words = pattern.toLowerCase();
    const start = Math.max(from ?? 0, this.#first);
    const found: { at: number; line: string }[] = [];
    for (const [n, kept] of this.#lines.entries()) {
      const isWanted = this.#first + n >= start &&
        RANK[kept.level] >= RANK[level] &&
        (words === "" || kept.line.toLowerCase().includes(words));
      if (isWanted) found.push({ at: this.#first + n, line: kept.line });
    }
    // After a cursor nothing may be passed over; without one the newest count.
    const shown = from === undefined
      ? found.slice(-limit)
      : found.slice(0, limit);
    const isMore = found.length > shown.length;
    const last = shown.at(-1)?.at;
    return {
      file: "memory",
      cursor: from !== undefined && isMore && last !== undefined
        ? last + 1
        : end,
      size: end,
      lines: shown.map(({ line }) => line),
      truncated: isMore || start > (from ?? start),
      reset: isReset,
    };
  }
}
