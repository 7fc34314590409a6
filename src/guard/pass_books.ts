/**
 * The reservations of calls that go past the agents. The calls of one key with
 * one model share one, a little larger than needed, so that most calls write
 * nothing; what they came to is written by the minute.
 *
 * Never: what is stored as reserved is less than what is not written yet.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import { addUsage, NO_USAGE, type Usage } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { Journal, Row } from "../store/journal.ts";
import {
  sumId,
  type UsageCall,
  type UsageOwner,
  type UsageRows,
} from "../store/usage.ts";
import {
  add,
  type Amounts,
  isNothing,
  type Ledger,
  METERS,
  NOTHING,
} from "./budget.ts";
import {
  amountsOf,
  isLimited,
  minus,
  type Settled,
  type Taken,
} from "./paid_call.ts";

const BOUNDS = {
  /** Settled calls are written at least so often. */
  writeMs: 60_000,
  /** What of a limit's rest a reservation may hold beyond its need. */
  spareShare: 0.02,
  /** Reservations at a time; the one longest unused goes first. */
  booksMax: 1_000,
} as const;

/** The shared reservation of one key's calls with one model. */
export interface PassBook {
  readonly id: string;
  readonly owner: UsageOwner;
  readonly day: string;
  since: number;
  /** What is stored as reserved. */
  capacity: Amounts;
  held: Amounts;
  /** Not written yet. */
  used: Amounts;
  usage: Usage;
  calls: number;
  by: UsageCall["by"];
  writing: Promise<void>;
}

export interface PassBooksDeps {
  rows: UsageRows;
  journal: Journal;
  clock: Clock;
  log: Log;
  /** The rows of settled calls, with the sums they change. */
  rowsOf(list: readonly Settled[]): Row[];
  ledgerOf(day: string): Ledger;
}

/** All of them. */
export class PassBooks {
  readonly #deps: PassBooksDeps;
  readonly #books = new Map<string, PassBook>();

  constructor(deps: PassBooksDeps) {
    this.#deps = deps;
  }

  #open(owner: UsageOwner, day: string): PassBook {
    const name = sumId(owner);
    let book = this.#books.get(name);
    const isOther = book?.day !== day ||
      `${book.owner.payers}` !== `${owner.payers}`;
    if (book !== undefined && isOther) {
      this.#end(book);
      book = undefined;
    }
    const now = this.#deps.clock.now();
    book ??= {
      id: makeId("pass", now),
      owner,
      day,
      since: now,
      capacity: NOTHING,
      held: NOTHING,
      used: NOTHING,
      usage: NO_USAGE,
      calls: 0,
      by: "vendor",
      writing: Promise.resolve(),
    };
    this.#books.delete(name);
    this.#books.set(name, book);
    this.#trim();
    return book;
  }

  #end(book: PassBook): void {
    this.#write(book);
    this.#books.delete(sumId(book.owner));
  }

  #trim(): void {
    for (const book of this.#books.values()) {
      if (this.#books.size <= BOUNDS.booksMax) return;
      if (isNothing(book.held)) this.#end(book);
    }
  }

  /**
   * Makes room for a call; resolves when what is stored covers it.
   *
   * @throws {AppError} `unavailable` when it cannot be stored
   */
  async enter(owner: UsageOwner, taken: Taken): Promise<PassBook> {
    const book = this.#open(owner, taken.day);
    book.held = add(book.held, taken.ask);
    if (!isLimited(taken)) return book;
    if (!isCovered(book)) this.#write(book, taken);
    try {
      await book.writing;
    } catch (error) {
      book.held = minus(book.held, taken.ask);
      throw error;
    }
    return book;
  }

  /** A call is over. */
  leave(book: PassBook, ask: Amounts, call: UsageCall | undefined): void {
    book.held = minus(book.held, ask);
    if (call !== undefined) {
      book.used = add(book.used, amountsOf(call));
      book.usage = addUsage(book.usage, call.usage);
      book.calls++;
      if (call.by === "estimate") book.by = "estimate";
    }
    const isOrphan = this.#books.get(sumId(book.owner)) !== book;
    const isDue = this.#deps.clock.now() - book.since >= BOUNDS.writeMs;
    const isOver = book.capacity !== NOTHING && !isCovered(book);
    if (isOrphan || isDue || isOver) this.#write(book);
  }

  /** Writes what a book holds, and its reservation anew. */
  #write(book: PassBook, taken?: Taken): void {
    const { rows, journal, clock, log, rowsOf } = this.#deps;
    const { id, owner, day, calls } = book;
    const at = clock.now();
    const common = { ...owner, day, at, runId: id, step: 0 };
    const changes = calls === 0 ? [] : rowsOf([{
      call: {
        ...common,
        id: makeId("call", at),
        usage: book.usage,
        nano: book.used.usd,
        unpriced: book.used.unpriced,
        calls,
        by: book.by,
      },
    }]);
    book.used = NOTHING;
    book.usage = NO_USAGE;
    book.calls = 0;
    book.by = "vendor";
    book.since = at;
    if (taken !== undefined || !isNothing(book.held)) {
      book.capacity = add(book.held, this.#spare(taken));
      const { usd: nano, tokens, unpriced } = book.capacity;
      const usage = { ...NO_USAGE, inputTokens: tokens };
      changes.push(rows.openRow({ ...common, id, usage, nano, unpriced }));
    } else if (book.capacity !== NOTHING) {
      book.capacity = NOTHING;
      changes.push(rows.closeRow(id));
    }
    if (changes.length === 0) return;
    const before = book.writing.catch(() => {});
    const both = Promise.all([before, journal.commit(changes)]).then(() => {});
    book.writing = both;
    both.catch((error) => {
      // Who waited for this write hears it; the next call writes again.
      book.capacity = NOTHING;
      if (book.writing === both) book.writing = Promise.resolve();
      log("error", "usage.not_written", { error: errorText(error) });
    });
  }

  /** A little of what is left, so that the next calls need no write. */
  #spare(taken: Taken | undefined): Amounts {
    if (taken === undefined) return NOTHING;
    const { ask, limits, day } = taken;
    const ledger = this.#deps.ledgerOf(day);
    let times = Infinity;
    for (const { meter, scope, name, max } of limits) {
      if (ask[meter] === 0) continue;
      const { spent, reserved } = ledger.standing(scope, name);
      const rest = Math.max(0, max - spent[meter] - reserved[meter]);
      times = Math.min(times, rest * BOUNDS.spareShare / ask[meter]);
    }
    return {
      usd: Math.floor(ask.usd * times),
      tokens: Math.floor(ask.tokens * times),
      unpriced: Math.floor(ask.unpriced * times),
    };
  }

  /** Writes all that waits. */
  async flush(): Promise<void> {
    for (const book of this.#books.values()) {
      this.#write(book);
      await book.writing;
    }
  }
}

/** Whether what is stored as reserved covers all that is not written. */
function isCovered({ capacity, held, used }: PassBook): boolean {
  return METERS.every((meter) => held[meter] + used[meter] <= capacity[meter]);
}
