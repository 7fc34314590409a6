/**
 * What mattered, in order: each row holds the hash of the one before it, so a
 * row that was changed, taken out or put in shows.
 *
 * A row gets its place when its atomic goes out, not when it is made. A commit
 * that fails has therefore taken no place, and the next row follows the last
 * one that is really stored: the chain has neither gaps nor forks.
 *
 * Never: content in a row; ids, counts and hashes only.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";
import type { Row, Sequencer } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

const Fields = z.record(
  z.string().max(64),
  z.union([
    z.string().max(512),
    z.number(),
    z.boolean(),
    z.null(),
    z.array(z.string().max(256)).max(64),
  ]),
);

/** What a caller says. */
export const AuditEntry = z.strictObject({
  /** Dotted: `token.create`, `tool.deny`. */
  event: z.string().regex(/^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,4}$/),
  fields: Fields.default({}),
});
export type AuditEntry = z.input<typeof AuditEntry>;

/** A row as it is stored. */
export const AuditRow = z.strictObject({
  seq: z.int().positive(),
  /** The hash of the row before; zeros for the first. */
  prev: z.string().length(64),
  at: z.int(),
  event: z.string(),
  fields: Fields,
  hash: z.string().length(64),
});
export type AuditRow = z.infer<typeof AuditRow>;

/** Whether the chain holds; `brokenAt` is the first place that does not. */
export interface AuditVerdict {
  ok: boolean;
  rows: number;
  brokenAt?: number;
  /** The last good row's hash, to compare with one noted elsewhere. */
  head: string;
}

/** An audit row is small: this, with what the chain adds, stays below 4 KB. */
const ROW_CHARS_MAX = 3500;

interface Head {
  seq: number;
  hash: string;
}

const START: Head = { seq: 0, hash: "0".repeat(64) };

/** JSON with sorted names, so that one value has one text. */
function canonical(value: unknown): string {
  return JSON.stringify(
    value,
    (_name, inner) =>
      inner !== null && typeof inner === "object" && !Array.isArray(inner)
        ? Object.fromEntries(
          Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1),
        )
        : inner,
  );
}

function hashOf(row: Omit<AuditRow, "hash">): string {
  const { seq, prev, at, event, fields } = row;
  return sha256HexSync(canonical({ seq, prev, at, event, fields }));
}

/** The audit log of one store. */
export class Audit implements Sequencer {
  readonly #values: Values;
  readonly #clock: Clock;
  readonly #instance: string;
  #head: Head = START;
  #next: Head = START;

  constructor(
    values: Values,
    options: { clock: Clock; instance: string },
  ) {
    this.#values = values;
    this.#clock = options.clock;
    this.#instance = options.instance;
  }

  /** A row for the same `commit` as the effect it tells of. */
  row(entry: AuditEntry): Row {
    const value = { at: this.#clock.now(), ...AuditEntry.parse(entry) };
    if (JSON.stringify(value).length > ROW_CHARS_MAX) {
      throw new AppError(
        "too_large",
        `Cannot audit "${entry.event}": its fields are longer than ${ROW_CHARS_MAX} characters`,
        { hint: "An audit row holds ids and hashes, not content" },
      );
    }
    return { key: makeKey("audit", this.#instance), value, late: this };
  }

  /** The last stored row's place and hash. */
  head(): Readonly<Head> {
    return this.#head;
  }

  /** Newest first, from the row before `before` on. */
  async list(
    options: { limit: number; before?: number },
  ): Promise<AuditRow[]> {
    const rows: AuditRow[] = [];
    const { limit, before } = options;
    const stretch = {
      prefix: makeKey("audit", this.#instance),
      ...(before === undefined
        ? {}
        : { end: makeKey("audit", this.#instance, before) }),
      limit,
      reverse: true,
    };
    for await (const { value } of this.#values.list(stretch, AuditRow)) {
      rows.push(value);
    }
    return rows;
  }

  /** Walks the whole chain. */
  async verify(): Promise<AuditVerdict> {
    const until = this.#head;
    let head = START;
    const prefix = makeKey("audit", this.#instance);
    for await (const found of this.#values.scan({ prefix })) {
      const row = AuditRow.safeParse(
        found.ok ? found.value : undefined,
      ).data;
      const seq = head.seq + 1;
      if (
        row === undefined || found.key[3] !== seq || row.seq !== seq ||
        row.prev !== head.hash || row.hash !== hashOf(row)
      ) {
        return { ok: false, rows: head.seq, brokenAt: seq, head: head.hash };
      }
      head = { seq, hash: row.hash };
    }
    // Rows cut off at the end leave a whole chain; this process knows better.
    return head.seq < until.seq
      ? { ok: false, rows: head.seq, brokenAt: head.seq + 1, head: head.hash }
      : { ok: true, rows: head.seq, head: head.hash };
  }

  place(row: Row): { key: Deno.KvKey; value: AuditRow } {
    const { at, event, fields } = row.value as Omit<
      AuditRow,
      "seq" | "prev" | "hash"
    >;
    const seq = this.#next.seq + 1;
    const body = { seq, prev: this.#next.hash, at, event, fields };
    const value = { ...body, hash: hashOf(body) };
    this.#next = { seq, hash: value.hash };
    return { key: makeKey("audit", this.#instance, seq), value };
  }

  keep(): void {
    this.#head = this.#next;
  }

  drop(): void {
    this.#next = this.#head;
  }

  /** Reads the last stored row. Called when the store opens. */
  async reload(): Promise<void> {
    let head = START;
    const prefix = makeKey("audit", this.#instance);
    const stretch = { prefix, limit: 1, reverse: true };
    for await (const found of this.#values.scan(stretch)) {
      const row = AuditRow.safeParse(
        found.ok ? found.value : undefined,
      ).data;
      if (row === undefined) {
        throw new AppError(
          "internal",
          "Cannot continue the audit log: its last row cannot be read",
          { hint: "Run `carapace audit verify`" },
        );
      }
      head = { seq: row.seq, hash: row.hash };
    }
    this.#head = head;
    this.#next = head;
  }
}
