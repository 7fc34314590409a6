/**
 * The house's purse: reserves before a model is called, settles after, keeps
 * the day's sums in memory and writes them beside the calls they are of.
 *
 * A reservation is stored before the call it is for, so that one a crash leaves
 * open counts as spent. A call of a run gives its rows to the run's next commit.
 * Calls that go past the agents share a reservation that is a little larger
 * than needed, so that most of them write nothing.
 *
 * Never: a call without a reservation; a sum that is less than what was spent.
 *
 * @module
 */
import { dayEnd, dayOf, dollars, type Price } from "../core/cost.ts";
import { AppError, errorText } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import { addUsage, NO_USAGE, type Usage } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { Journal, Row } from "../store/journal.ts";
import {
  sumId,
  type UsageCall,
  type UsageOpen,
  type UsageOwner,
  type UsageRows,
  type UsageSum,
} from "../store/usage.ts";
import {
  type Amounts,
  amountText,
  type BudgetsConfig,
  type Change,
  crossed,
  isNothing,
  Ledger,
  type Limit,
  limitsFor,
  METERS,
  NOTHING,
  OWN_BUDGET,
  type Refusal,
  scopeText,
} from "./budget.ts";
import {
  amountsOf,
  type Hold,
  isLimited,
  ownerOf,
  type PaidCall,
  priced,
  type Settled,
  type Taken,
} from "./paid_call.ts";
import { type PassBook, PassBooks } from "./pass_books.ts";

export type { Hold, PaidCall } from "./paid_call.ts";

const BOUNDS = {
  /** Rows of one unit while many are written at once. */
  rowsMax: 400,
  /** Days that are kept in memory. */
  daysMax: 3,
} as const;

/** Something about a budget that its owner should hear. */
export interface BudgetNotice {
  state: "near" | "reached" | "refused";
  limit: Limit;
  spent: Amounts;
  reserved: Amounts;
  day: string;
  resetsAt: number;
}

export interface SpendingDeps {
  rows: UsageRows;
  journal: Journal;
  /** What a model costs, if anybody knows. */
  priceOf(model: string): Price | undefined;
  /** What the owner's configuration says now. */
  config(): BudgetsConfig;
  clock: Clock;
  log: Log;
  /** Must not throw. */
  onNotice?(notice: BudgetNotice): void;
}

/** One day in memory. */
interface DayBook {
  ledger: Ledger;
  sums: Map<string, UsageSum>;
  calls: number;
}

/** Keeps the purse. Made by {@linkcode openSpending}. */
export class Spending {
  readonly #deps: SpendingDeps;
  readonly #days = new Map<string, DayBook>();
  readonly #pending = new Map<string, Settled[]>();
  readonly #passes: PassBooks;
  readonly #told = new Set<string>();
  readonly #listeners = new Set<(call: UsageCall) => void>();

  constructor(deps: SpendingDeps) {
    this.#deps = deps;
    const { rows, journal, clock, log } = deps;
    this.#passes = new PassBooks({
      rows,
      journal,
      clock,
      log,
      rowsOf: (list) => this.#rows(list),
      ledgerOf: (day) => this.#day(day).ledger,
    });
  }

  /** Calls for every settled call until disposed. Must not throw. */
  watch(listener: (call: UsageCall) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** The accounts of now. */
  get ledger(): Ledger {
    return this.#day(dayOf(this.#deps.clock.now())).ledger;
  }

  #day(day: string): DayBook {
    let book = this.#days.get(day);
    if (book === undefined) {
      book = { ledger: new Ledger(), sums: new Map(), calls: 0 };
      this.#days.set(day, book);
      const names = [...this.#days.keys()].sort();
      for (const old of names.slice(0, -BOUNDS.daysMax)) {
        if (this.#days.get(old)?.ledger.isIdle) this.#days.delete(old);
      }
      for (const told of this.#told) {
        if (!told.startsWith(day)) this.#told.delete(told);
      }
    }
    return book;
  }

  // --- opening ------------------------------------------------------------

  /** Reads the days that matter and counts what a crash left open as spent. */
  async load(): Promise<void> {
    const { rows, clock, log } = this.#deps;
    const open = await rows.open();
    const days = new Set([dayOf(clock.now()), ...open.map(({ day }) => day)]);
    for (const day of days) await this.#loadDay(day);
    if (open.length === 0) return;
    await this.#write(open.map((one) => ({
      call: { ...one, calls: 1, by: "lost" as const },
      openId: one.id,
    })));
    let usd = 0;
    for (const one of open) {
      this.#day(one.day).ledger.load(one, amountsOf(one));
      usd += one.nano;
    }
    log("warn", "usage.lost", {
      calls: open.length,
      counted: dollars(usd),
      why: "a crash left them open; they count as spent",
    });
  }

  async #loadDay(day: string): Promise<void> {
    const { rows, log } = this.#deps;
    const book = this.#day(day);
    let sums = await rows.sums(day, day);
    const calls = sums.reduce((all, sum) => all + sum.calls, 0);
    const total = await rows.total(day);
    if (calls !== total) {
      log("warn", "usage.rebuilt", { day, calls: total, found: calls });
      sums = await this.#rebuild(day);
    }
    for (const sum of sums) {
      book.sums.set(sumId(sum), sum);
      book.calls += sum.calls;
      book.ledger.load(sum, amountsOf(sum));
    }
  }

  /** A day's sums from its calls; what cannot be read there is lost. */
  async #rebuild(day: string): Promise<UsageSum[]> {
    const { rows, journal } = this.#deps;
    const sums = new Map<string, UsageSum>();
    for await (const call of rows.calls(day)) addTo(sums, call);
    const list = [...sums.values()];
    const total = list.reduce((all, sum) => all + sum.calls, 0);
    const changes = list.map((sum) => rows.sumRow(sum));
    for (let n = 0; n < changes.length; n += BOUNDS.rowsMax) {
      await journal.commit(changes.slice(n, n + BOUNDS.rowsMax));
    }
    await journal.commit([rows.totalRow(day, total)]);
    return list;
  }

  // --- reserving ----------------------------------------------------------

  /**
   * Whether a new turn may begin at all: some of each budget it would use is
   * left.
   *
   * @throws {AppError} `budget`
   */
  check(
    spender: Omit<UsageOwner, "session"> & Pick<PaidCall, "purses">,
  ): void {
    const price = this.#deps.priceOf(spender.model);
    const one = priced({ ...NO_USAGE, inputTokens: 1, outputTokens: 1 }, price);
    const limits = limitsFor(spender, this.#deps.config());
    const { ledger } = this;
    const full = limits.find(({ scope, name, meter, max }) =>
      one[meter] > 0 && ledger.standing(scope, name).spent[meter] >= max
    );
    if (full === undefined) return;
    const standing = ledger.standing(full.scope, full.name);
    throw this.#refuse({ limit: full, standing, ask: NOTHING });
  }

  /**
   * Reserves what a call of a run may cost. Its rows go with the run's next
   * commit: see {@linkcode rowsFor}.
   *
   * @throws {AppError} `budget` when it does not fit, `unavailable` when the
   * reservation cannot be stored
   */
  async reserve(call: PaidCall): Promise<Hold> {
    const taken = this.#take(call);
    const { id, day, ask, usage } = taken;
    const isStored = isLimited(taken);
    if (isStored) {
      const open: UsageOpen = {
        ...ownerOf(call),
        id,
        day,
        at: this.#deps.clock.now(),
        runId: call.runId,
        step: call.step,
        usage,
        nano: ask.usd,
        unpriced: ask.unpriced,
      };
      try {
        await this.#deps.journal.commit([this.#deps.rows.openRow(open)]);
      } catch (error) {
        this.#day(day).ledger.settle(id, NOTHING);
        throw error;
      }
    }
    return this.#hold(call, taken, (settled) => {
      const openId = isStored ? { openId: id } : {};
      const waiting = this.#pending.get(call.runId) ?? [];
      this.#pending.set(call.runId, waiting);
      waiting.push({ ...settled, ...openId });
      // What is stored as reserved is less than what it came to: no waiting.
      if (settled.call !== undefined && isOver(settled.call, ask)) {
        this.#writeSoon(call.runId);
      }
    });
  }

  /**
   * Reserves for a call that belongs to no run; its rows are written by the
   * minute.
   *
   * @throws as {@linkcode reserve}
   */
  async reservePass(
    call:
      & Omit<PaidCall, "runId" | "step" | "agent" | "session">
      & { agent?: string; session?: string },
  ): Promise<Hold> {
    const { agent = "-", session = "-" } = call;
    const owner = ownerOf({ ...call, agent, session });
    const paid = { ...call, ...owner, runId: "pass", step: 0 };
    const taken = this.#take(paid);
    const { id, day, ask } = taken;
    let book: PassBook;
    try {
      book = await this.#passes.enter(owner, taken);
    } catch (error) {
      this.#day(day).ledger.settle(id, NOTHING);
      throw error;
    }
    const leave = ({ call }: Settled) => this.#passes.leave(book, ask, call);
    return this.#hold(paid, taken, leave);
  }

  /** Checks a call against its limits and holds it back, in one breath. */
  #take(call: Omit<PaidCall, "step">): Taken {
    const { clock, priceOf, config } = this.#deps;
    const now = clock.now();
    const day = dayOf(now);
    const price = priceOf(call.model);
    const { inputTokens, outputTokensMax: outputTokens } = call;
    const isWriting = price !== undefined && price.cacheWrite > price.input;
    const usage: Usage = {
      inputTokens,
      outputTokens,
      cachedTokens: 0,
      cacheWriteTokens: isWriting ? inputTokens : 0,
    };
    const ask = priced(usage, price);
    const limits = limitsFor(call, config());
    const { ledger } = this.#day(day);
    const refusal = ledger.refusal(limits, ask);
    if (refusal !== undefined) throw this.#refuse(refusal, call.model);
    const id = makeId("call", now);
    ledger.hold(id, call, ask);
    return { id, day, ask, usage, price, limits };
  }

  #hold(
    call: PaidCall,
    taken: Taken,
    keep: (settled: Settled) => void,
  ): Hold {
    const { id, day, price } = taken;
    let isDone = false;
    const end = (usage: Usage, by: "vendor" | "estimate") => {
      if (isDone) return;
      isDone = true;
      const amounts = priced(usage, price);
      const changes = this.#day(day).ledger.settle(id, amounts);
      if (isNothing(amounts)) return keep({});
      const settled: UsageCall = {
        ...ownerOf(call),
        id,
        day,
        at: this.#deps.clock.now(),
        runId: call.runId,
        step: call.step,
        usage,
        nano: amounts.usd,
        unpriced: amounts.unpriced,
        calls: 1,
        by,
      };
      keep({ call: settled });
      for (const listener of this.#listeners) listener(settled);
      this.#tell(call, changes);
    };
    return { settle: end, release: () => end(NO_USAGE, "vendor") };
  }

  // --- writing ------------------------------------------------------------

  /** What a run's next commit has to write. Call it once, in that commit. */
  rowsFor(runId: string): Row[] {
    const settled = this.#pending.get(runId);
    if (settled === undefined) return [];
    this.#pending.delete(runId);
    return this.#rows(settled);
  }

  /** The rows of settled calls; sums and total as they are with them. */
  #rows(list: readonly Settled[]): Row[] {
    const { rows } = this.#deps;
    const changed = new Map<string, UsageSum>();
    const days = new Set<string>();
    const changes: Row[] = [];
    for (const { call, openId } of list) {
      if (openId !== undefined) changes.push(rows.closeRow(openId));
      if (call === undefined) continue;
      const book = this.#day(call.day);
      const sum = addTo(book.sums, call);
      book.calls += call.calls;
      days.add(call.day);
      changed.set(`${call.day} ${sumId(call)}`, sum);
      changes.push(rows.callRow(call));
    }
    for (const sum of changed.values()) changes.push(rows.sumRow(sum));
    for (const day of days) {
      changes.push(rows.totalRow(day, this.#day(day).calls));
    }
    return changes;
  }

  #writeSoon(runId: string): void {
    this.#deps.journal.commit(this.rowsFor(runId)).catch((error) =>
      this.#deps.log("error", "usage.not_written", { error: errorText(error) })
    );
  }

  async #write(list: readonly Settled[]): Promise<void> {
    // Each is at most four rows.
    const step = Math.floor(BOUNDS.rowsMax / 4);
    for (let n = 0; n < list.length; n += step) {
      await this.#deps.journal.commit(this.#rows(list.slice(n, n + step)));
    }
  }

  /** Writes all that waits. */
  async flush(): Promise<void> {
    const waiting = [...this.#pending.values()].flat();
    this.#pending.clear();
    await this.#write(waiting);
    await this.#passes.flush();
  }

  // --- telling ------------------------------------------------------------

  #refuse(refusal: Refusal, model?: string): AppError {
    const { limit, standing, ask } = refusal;
    const { meter, max, because, scope, name } = limit;
    const now = this.#deps.clock.now();
    const day = dayOf(now);
    const told = `${day} ${scope}:${name} ${meter} ${max}`;
    if (!this.#told.has(told)) {
      this.#told.add(told);
      this.#notice("refused", limit);
    }
    const left = Math.max(
      0,
      max - standing.spent[meter] - standing.reserved[meter],
    );
    const isSpent = ask[meter] === 0 || left === 0;
    const what = model === undefined ? "begin a turn" : `call "${model}"`;
    const why = isSpent
      ? `is spent`
      : `has ${amountText(meter, left)} left and one call may take ${
        amountText(meter, ask[meter])
      }`;
    const resetsAt = dayEnd(now);
    return new AppError(
      "budget",
      `Cannot ${what}: ${scopeText(limit)} of ${amountText(meter, max)} ${why}`,
      {
        hint: `${
          because === OWN_BUDGET
            ? "Use a key with a larger one"
            : `Raise ${because}`
        }, or wait until ${
          new Date(resetsAt).toISOString().slice(0, 16).replace("T", " ")
        } UTC; "carapace usage" shows what it went to`,
        retryAfterMs: resetsAt - now,
        details: { code: "BUDGET", scope, meter, because },
      },
    );
  }

  #tell(spender: PaidCall, changes: readonly Change[]): void {
    if (changes.length === 0) return;
    for (const limit of limitsFor(spender, this.#deps.config())) {
      const { scope, name, meter } = limit;
      const change = changes.find((one) =>
        one.scope === scope && one.name === name
      );
      if (change === undefined) continue;
      const state = crossed(limit, change.before[meter], change.after[meter]);
      if (state !== undefined) this.#notice(state, limit);
    }
  }

  #notice(state: BudgetNotice["state"], limit: Limit): void {
    const { clock, log, onNotice } = this.#deps;
    const now = clock.now();
    const { scope, name, meter, max, because } = limit;
    const { spent, reserved } = this.ledger.standing(scope, name);
    log("warn", "usage.budget", {
      state,
      scope,
      ...(name === "" ? {} : { name }),
      spent: amountText(meter, spent[meter]),
      limit: amountText(meter, max),
      because,
    });
    const resetsAt = dayEnd(now);
    onNotice?.({ state, limit, spent, reserved, day: dayOf(now), resetsAt });
  }
}

function addTo(sums: Map<string, UsageSum>, call: UsageCall): UsageSum {
  const id = sumId(call);
  const old = sums.get(id);
  // A device that another key paired anew: what it spent counts for both.
  const payers = [...old?.payers ?? [], ...call.payers ?? []];
  const sum: UsageSum = {
    ...ownerOf({ ...call, payers }),
    day: call.day,
    calls: (old?.calls ?? 0) + call.calls,
    usage: addUsage(old?.usage ?? NO_USAGE, call.usage),
    nano: (old?.nano ?? 0) + call.nano,
    unpriced: (old?.unpriced ?? 0) + call.unpriced,
  };
  sums.set(id, sum);
  return sum;
}

function isOver(call: UsageCall, ask: Amounts): boolean {
  const actual = amountsOf(call);
  return METERS.some((meter) => actual[meter] > ask[meter]);
}

/** Opens the purse: reads the day, and counts what a crash left open. */
export async function openSpending(
  deps: SpendingDeps,
): Promise<Spending & AsyncDisposable> {
  const spending = new Spending(deps);
  await spending.load();
  return Object.assign(spending, {
    [Symbol.asyncDispose]: async () => {
      await spending.flush().catch((error) =>
        deps.log("error", "usage.not_written", { error: errorText(error) })
      );
    },
  });
}
