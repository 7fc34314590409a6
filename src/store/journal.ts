/**
 * The one writer. Callers hand it units of rows and await; what arrives while a
 * commit is on its way goes out together in the next one (every commit is
 * synced, so a hundred small ones cost a hundred times one large one).
 *
 * Never: half a unit is stored; a unit's own failed check harms another unit.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { checkKey, collectionOf, keyText, makeKey, showKey } from "./keys.ts";
import {
  type Codec,
  encodePieces,
  type Pieces,
  VALUE_BYTES_MAX,
} from "./values.ts";

/** One change. */
export type Row = {
  key: Deno.KvKey;
  /** JSON; `undefined` deletes the row. */
  value: unknown | undefined;
  /** The unit is refused with `conflict` when the key exists. */
  absent?: true;
  /** The engine may drop the row after this long. */
  expireInMs?: number;
  /** Set by collections whose keys are only known when the row goes out. */
  late?: Sequencer;
};

/** Gives rows their place in a sequence at the moment they are committed. */
export interface Sequencer {
  /** The row's key and value, following the one placed before. */
  place(row: Row): { key: Deno.KvKey; value: unknown };
  /** What was placed is stored. */
  keep(): void;
  /** What was placed is not stored: its places are free again. */
  drop(): void;
  /** Nobody knows whether it is stored: read it. */
  reload(): Promise<void>;
}

/** Takes units of rows; each is stored whole or not at all. */
export interface Journal {
  /**
   * Resolves when the rows are synced.
   *
   * @throws {AppError} `conflict` when a row's check failed, `too_large`,
   * `unavailable` when the engine failed, the queue is full or the store closed
   */
  commit(rows: readonly Row[]): Promise<void>;
}

/** Bounds of the journal. */
export const JOURNAL = {
  /** Rows of one unit, and of one atomic. */
  rowsMax: 500,
  /** Bytes of one atomic; the engine's limit is 819,200. */
  atomicBytesMax: 716_800,
  /** Checks of one atomic: the engine's limit. */
  checksMax: 100,
  /** Units that wait. */
  queuedMax: 10_000,
  queuedBytesMax: 134_217_728,
} as const;

/** Bytes the engine adds to a mutation, estimated high. */
const ROW_BYTES = 64;
const PIECES_A_WRITE = 10;

interface Change {
  key: Deno.KvKey;
  text: string;
  /** Absent: delete. */
  bytes: Uint8Array | undefined;
  row: Row;
}

interface Unit {
  rows: readonly Row[];
  /** Encoded at once, so that callers may go on changing their objects. */
  changes: readonly (Change | Row)[];
  texts: readonly string[];
  checked: readonly string[];
  checks: number;
  bytes: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** A piece set as `chunk_set` keeps it; `key: null` waits to be swept. */
export type PieceSet = { key: string | null; count: number };

interface Plan {
  atomic: Deno.AtomicOperation;
  /** What each changed key's pieces will be. */
  pieces: Map<string, Pieces | undefined>;
  /** Sets nobody will refer to once this is stored. */
  loose: Pieces[];
  /** Sets that are stored already, ahead of the rows that refer to them. */
  ahead: Pieces[];
  late: Set<Sequencer>;
}

/** A committed change, as listeners hear of it. */
export interface Committed {
  key: Deno.KvKey;
  deleted: boolean;
}

function isPlaced(change: Change | Row): change is Change {
  return "text" in change;
}

/** The journal over Deno KV. Made by `openStore`. */
export class KvJournal implements Journal {
  readonly #kv: Deno.Kv;
  readonly #codec: Codec;
  readonly #log: Log;
  readonly #queue: Unit[] = [];
  readonly #listeners = new Set<(rows: readonly Committed[]) => void>();
  /** The pieces each key's value is in now. One process writes, so this is all. */
  #pieces = new Map<string, Pieces>();
  #queuedBytes = 0;
  #sending: Promise<void> | undefined;
  #isClosed = false;

  constructor(kv: Deno.Kv, options: { codec: Codec; log: Log }) {
    this.#kv = kv;
    this.#codec = options.codec;
    this.#log = options.log;
  }

  /** Reads which values are in pieces and sweeps pieces a crash left behind. */
  async open(): Promise<void> {
    const pieces = new Map<string, Pieces>();
    const loose: Pieces[] = [];
    const prefix = makeKey("chunk_set");
    for await (const { key, value } of this.#kv.list<Uint8Array>({ prefix })) {
      const set = this.#codec.decode(key, value) as PieceSet;
      const found = { id: String(key[2]), count: set.count, bytes: 0 };
      if (set.key === null) loose.push(found);
      else pieces.set(set.key, found);
    }
    this.#pieces = pieces;
    await this.#sweep(loose);
  }

  /** Calls for every commit, before its callers hear of it. Must not throw. */
  onCommitted(listener: (rows: readonly Committed[]) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Refuses what comes, waits for what came. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#sending;
  }

  async commit(rows: readonly Row[]): Promise<void> {
    if (this.#isClosed) {
      throw new AppError("unavailable", "Cannot store: the store is closed");
    }
    if (rows.length === 0) return;
    const unit = this.#makeUnit(rows);
    if (
      this.#queue.length >= JOURNAL.queuedMax ||
      this.#queuedBytes + unit.bytes > JOURNAL.queuedBytesMax
    ) {
      throw new AppError(
        "unavailable",
        "Cannot store: too many writes are waiting for the disk",
        { retryAfterMs: 1000 },
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#queue.push({ ...unit, resolve, reject });
    this.#queuedBytes += unit.bytes;
    this.#sending ??= this.#drain();
    await promise;
  }

  #makeUnit(rows: readonly Row[]): Omit<Unit, "resolve" | "reject"> {
    const checked = rows.filter((row) => row.absent).map((r) => keyText(r.key));
    const checks = checked.length + rows.filter((row) => row.late).length;
    if (rows.length > JOURNAL.rowsMax || checks > JOURNAL.checksMax) {
      throw new AppError(
        "too_large",
        `Cannot store ${rows.length} rows with ${checks} checks as one unit: the limits are ${JOURNAL.rowsMax} and ${JOURNAL.checksMax}`,
      );
    }
    let bytes = 0;
    const changes = rows.map((row) => {
      if (row.late !== undefined) {
        bytes += 4096;
        return { ...row, value: structuredClone(row.value) };
      }
      const change = this.#encode(row, row.key, row.value);
      bytes += ROW_BYTES + checkKey(row.key) + (change.bytes?.length ?? 0);
      return change;
    });
    const texts = changes.flatMap((c) => isPlaced(c) ? [c.text] : []);
    return { rows, changes, texts, checked, checks, bytes };
  }

  #encode(row: Row, key: Deno.KvKey, value: unknown): Change {
    collectionOf(key);
    return {
      key,
      text: keyText(key),
      bytes: value === undefined ? undefined : this.#codec.encode(key, value),
      row,
    };
  }

  async #drain(): Promise<void> {
    // Callers of the same instant go out together.
    await Promise.resolve();
    // Ends when callers stop coming; each turn takes at least one unit.
    while (this.#queue.length > 0) await this.#send(this.#take());
    this.#sending = undefined;
  }

  /** As many waiting units, in order, as one atomic may hold. */
  #take(): Unit[] {
    const units: Unit[] = [];
    const touched = new Set<string>();
    let rows = 0;
    let bytes = 0;
    let checks = 0;
    while (this.#queue.length > units.length) {
      const unit = this.#queue[units.length];
      if (unit === undefined) break;
      rows += unit.rows.length;
      bytes += unit.bytes;
      checks += unit.checks;
      const isOver = rows > JOURNAL.rowsMax || checks > JOURNAL.checksMax ||
        bytes > JOURNAL.atomicBytesMax;
      // A check sees the store as it was before the atomic, so a unit that
      // checks what an earlier unit of this atomic writes must wait.
      const isBlind = unit.checked.some((text) => touched.has(text));
      if (units.length > 0 && (isOver || isBlind)) break;
      for (const text of unit.texts) touched.add(text);
      units.push(unit);
    }
    this.#queue.splice(0, units.length);
    for (const unit of units) this.#queuedBytes -= unit.bytes;
    return units;
  }

  async #send(units: readonly Unit[], attempt = 1): Promise<void> {
    let isSecondTry = false;
    try {
      const plan = await this.#plan(units);
      const { ok } = await plan.atomic.commit();
      if (ok) {
        this.#keep(units, plan);
        await this.#sweep(plan.loose);
        return;
      }
      await this.#sweep(plan.ahead);
      for (const late of plan.late) await late.reload();
      // The failed check may be a sequence's own, which was just read again.
      isSecondTry = plan.late.size > 0 && attempt === 1;
    } catch (error) {
      await this.#recover(units, error);
      return;
    }
    if (units.length > 1) {
      for (const unit of units) await this.#send([unit]);
      return;
    }
    if (isSecondTry) return await this.#send(units, 2);
    for (const unit of units) {
      unit.reject(
        new AppError(
          "conflict",
          `Cannot store ${unit.rows.length} rows: one of ${
            unit.checked.join(", ").slice(0, 300)
          } exists`,
        ),
      );
    }
  }

  /** Settles what is stored: memory first, then listeners, then callers. */
  #keep(units: readonly Unit[], plan: Plan): void {
    for (const late of plan.late) late.keep();
    for (const [text, pieces] of plan.pieces) {
      if (pieces === undefined) this.#pieces.delete(text);
      else this.#pieces.set(text, pieces);
    }
    for (const { rows, resolve } of units) {
      const committed = rows.map((row) => ({
        key: row.key,
        deleted: row.late === undefined && row.value === undefined,
      }));
      for (const listener of this.#listeners) listener(committed);
      resolve();
    }
  }

  /** The engine failed: callers hear it, memory is read again. */
  async #recover(units: readonly Unit[], error: unknown): Promise<void> {
    this.#log("error", "store.commit.failed", {
      units: units.length,
      reason: errorText(error),
    });
    const failure = error instanceof AppError ? error : new AppError(
      "unavailable",
      `Cannot store: ${errorText(error)}`,
      { cause: error, retryAfterMs: 1000 },
    );
    const late = new Set(
      units.flatMap(({ rows }) => rows.flatMap((row) => row.late ?? [])),
    );
    try {
      for (const sequencer of late) await sequencer.reload();
      await this.open();
    } catch (second) {
      for (const sequencer of late) sequencer.drop();
      this.#log("error", "store.recover.failed", { reason: errorText(second) });
    }
    for (const unit of units) unit.reject(failure);
  }

  /** The atomic of some units. Large units put their pieces in first. */
  async #plan(units: readonly Unit[]): Promise<Plan> {
    const bytes = units.reduce((sum, unit) => sum + unit.bytes, 0);
    const isSpilling = bytes > JOURNAL.atomicBytesMax;
    const plan: Plan = {
      atomic: this.#kv.atomic(),
      pieces: new Map(),
      loose: [],
      ahead: [],
      late: new Set(),
    };
    for (const unit of units) {
      for (const change of unit.changes) {
        const placed = isPlaced(change) ? change : this.#place(change, plan);
        await this.#addChange(plan, placed, isSpilling);
      }
    }
    return plan;
  }

  #place(row: Row, plan: Plan): Change {
    const late = row.late;
    if (late === undefined) return this.#encode(row, row.key, row.value);
    if (!plan.late.has(late)) late.drop();
    plan.late.add(late);
    const { key, value } = late.place(row);
    checkKey(key);
    return this.#encode({ ...row, key, absent: true }, key, value);
  }

  async #addChange(
    plan: Plan,
    change: Change,
    isSpilling: boolean,
  ): Promise<void> {
    const { key, text, bytes, row } = change;
    const { atomic } = plan;
    if (row.absent) atomic.check({ key, versionstamp: null });
    const before = plan.pieces.has(text)
      ? plan.pieces.get(text)
      : this.#pieces.get(text);
    if (before !== undefined) {
      plan.loose.push(before);
      this.#setPieces(atomic, before, null);
    }
    const expire = row.expireInMs === undefined
      ? {}
      : { expireIn: row.expireInMs };
    let after: Pieces | undefined;
    if (bytes === undefined) atomic.delete(key);
    else if (bytes.length > (isSpilling ? 256 : VALUE_BYTES_MAX)) {
      after = await this.#addPieces(atomic, bytes, isSpilling);
      if (isSpilling) plan.ahead.push(after);
      atomic.set(key, encodePieces(after), expire);
      this.#setPieces(atomic, after, text);
    } else atomic.set(key, bytes, expire);
    if (before !== undefined || after !== undefined) {
      plan.pieces.set(text, after);
    }
  }

  #setPieces(
    atomic: Deno.AtomicOperation,
    pieces: Pieces,
    text: string | null,
  ): void {
    const key = makeKey("chunk_set", pieces.id);
    const set: PieceSet = { key: text, count: pieces.count };
    atomic.set(key, this.#codec.encode(key, set));
  }

  /** Adds a value's pieces to the atomic, or stores them ahead as a loose set. */
  async #addPieces(
    atomic: Deno.AtomicOperation,
    bytes: Uint8Array,
    isAhead: boolean,
  ): Promise<Pieces> {
    const pieces: Pieces = {
      id: crypto.getRandomValues(new Uint8Array(12)).toHex(),
      count: Math.ceil(bytes.length / VALUE_BYTES_MAX),
      bytes: bytes.length,
    };
    let target = atomic;
    for (let n = 0; n < pieces.count; n++) {
      if (isAhead && n % PIECES_A_WRITE === 0) {
        if (n > 0) await target.commit();
        target = this.#kv.atomic();
        if (n === 0) this.#setPieces(target, pieces, null);
      }
      target.set(
        makeKey("chunk", pieces.id, n),
        bytes.subarray(n * VALUE_BYTES_MAX, (n + 1) * VALUE_BYTES_MAX),
      );
    }
    if (isAhead) await target.commit();
    return pieces;
  }

  /** Deletes sets of pieces that no row refers to. What stays is swept at open. */
  async #sweep(loose: readonly Pieces[]): Promise<void> {
    for (const { id, count } of loose) {
      try {
        for (let first = 0; first < count; first += JOURNAL.rowsMax) {
          const atomic = this.#kv.atomic();
          const end = Math.min(first + JOURNAL.rowsMax, count);
          for (let n = first; n < end; n++) {
            atomic.delete(makeKey("chunk", id, n));
          }
          if (end === count) atomic.delete(makeKey("chunk_set", id));
          await atomic.commit();
        }
      } catch (error) {
        this.#log("warn", "store.sweep.failed", {
          key: showKey(makeKey("chunk_set", id)),
          reason: errorText(error),
        });
      }
    }
  }
}
