/**
 * Messages on their way out: each a row of its destination, in order, with an
 * index of what is due and a mark for its key, so that a key is taken once.
 *
 * What is pending is also kept in memory: this process is the only writer, and
 * every change comes back from the journal before anybody acts on it.
 *
 * Never: a message is pending without a row in the index; two with one key.
 *
 * @module
 */
import { z } from "zod";
import { Destination } from "../core/channel.ts";
import { idSchema, makeId } from "../core/ids.ts";
import { TextPart } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { Committed, KvJournal, Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

/**
 * `queued` and `failed` wait for their time, `sending` and `streaming` are with
 * the network, `dead` and `unknown` wait for the owner, `sent` is over.
 */
export const OutboxState = z.enum([
  "queued",
  "streaming",
  "sending",
  "sent",
  "failed",
  "dead",
  "unknown",
]);
export type OutboxState = z.infer<typeof OutboxState>;

/** One message on its way out. */
export const OutboxRow = z.strictObject({
  id: idSchema("out"),
  idempotencyKey: z.string().min(1).max(512),
  destination: Destination,
  seq: z.int().positive(),
  /** What is said, with its labels; what was decided was decided before. */
  parts: z.array(TextPart).min(1).max(64),
  /** Whose it is: a principal. */
  by: z.string().max(256),
  runId: idSchema("run").optional(),
  attempts: z.int().nonnegative(),
  due: z.int(),
  state: OutboxState,
  lastError: z.string().max(500).optional(),
  /** How it is cut, from the first try on, and how many pieces are through. */
  cut: z.strictObject({
    charsMax: z.int(),
    markdown: z.string().max(16),
    of: z.int().positive(),
    sent: z.int().nonnegative(),
    /** What the network promised of keys when the try began. */
    idempotent: z.boolean(),
  }).optional(),
  /** The network's id of the last piece. */
  messageId: z.string().max(512).optional(),
  createdAt: z.int(),
  updatedAt: z.int(),
});
export type OutboxRow = z.infer<typeof OutboxRow>;

/** What became of a key. */
export const OutboxDone = z.strictObject({
  id: idSchema("out"),
  destination: Destination,
  seq: z.int().positive(),
  /** `queued` until it is over. */
  state: OutboxState,
  messageId: z.string().max(512).optional(),
  at: z.int(),
});
export type OutboxDone = z.infer<typeof OutboxDone>;

/** Something to be queued. */
export interface Outgoing {
  idempotencyKey: string;
  destination: Destination;
  parts: OutboxRow["parts"];
  by: string;
  runId?: string;
}

const Due = z.strictObject({ seq: z.int().positive() });

/** How long a key is remembered. */
const KEPT_MS = 30 * 86_400_000;
const KEY_CHARS_MAX = 300;
/** More units than the journal lets wait. */
const CHOSEN_MAX = 20_000;

const PENDING: ReadonlySet<OutboxState> = new Set([
  "queued",
  "failed",
  "sending",
  "streaming",
]);

/** Whether a message is not at its end. */
export function isPending(state: OutboxState): boolean {
  return PENDING.has(state);
}

/** A destination as a part of keys: no two share one. */
export function destinationKey(to: Destination): string {
  const { channel, account, chat, thread } = to;
  const text = [channel, account, chat, ...thread === undefined ? [] : [thread]]
    .map((part) => encodeURIComponent(part.toWellFormed())).join("/");
  // Nothing encoded holds a "#".
  return text.length <= KEY_CHARS_MAX && [account, chat, thread ?? ""].every(
      (part) => part.isWellFormed(),
    )
    ? text
    : `#${sha256HexSync(JSON.stringify([channel, account, chat, thread]))}`;
}

function doneKey(idempotencyKey: string): Deno.KvKey {
  return idempotencyKey.length <= KEY_CHARS_MAX
    ? makeKey("outbox_done", idempotencyKey)
    : makeKey("outbox_done", "#", sha256HexSync(idempotencyKey));
}

/** A destination's pending messages by their place, with when each is due. */
export interface Lane {
  key: string;
  channel: string;
  due: Map<number, number>;
}

/** The collections `outbox`, `outbox_due` and `outbox_done`. */
export class Outbox {
  readonly #values: Values;
  readonly #clock: Clock;
  readonly #lanes = new Map<string, Lane>();
  readonly #listeners = new Set<(lane: Lane) => void>();
  #pending = 0;
  /** Places are moments where they can be: none is given twice. */
  #lastSeq = 0;
  /** Moments that were given out, until they are stored. */
  readonly #chosen = new Map<string, number>();

  constructor(
    values: Values,
    { journal, clock }: { journal: KvJournal; clock: Clock },
  ) {
    this.#values = values;
    this.#clock = clock;
    journal.onCommitted((rows) => this.#committed(rows));
  }

  /** Reads what is pending, and the last places, once, at the start. */
  async open(): Promise<void> {
    const prefix = makeKey("outbox_due");
    for await (const { key, value } of this.#values.list({ prefix }, Due)) {
      this.#add(String(key[3]), { due: Number(key[2]), seq: value.seq });
    }
    for await (const key of this.#values.keys(makeKey("outbox"))) {
      this.#lastSeq = Math.max(this.#lastSeq, Number(key[3]));
    }
  }

  /** Called when something is pending that was not before. Must not throw. */
  onQueued(listener: (lane: Lane) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  #committed(rows: readonly Committed[]): void {
    for (const { key, deleted } of rows) {
      if (key[0] !== "outbox_due") continue;
      const [due, lane] = [Number(key[2]), String(key[3])];
      if (deleted) this.#drop(lane, due);
      else {
        // The place follows from the moment: they were chosen together.
        const seq = this.#chosen.get(`${due} ${lane}`);
        this.#chosen.delete(`${due} ${lane}`);
        if (seq === undefined) continue;
        const added = this.#add(lane, { due, seq });
        for (const listener of this.#listeners) listener(added);
      }
    }
  }

  #add(key: string, { due, seq }: { due: number; seq: number }): Lane {
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      const channel = channelOfKey(key);
      this.#lanes.set(key, lane = { key, channel, due: new Map() });
    }
    if (!lane.due.has(seq)) this.#pending++;
    lane.due.set(seq, due);
    return lane;
  }

  #drop(key: string, due: number): void {
    const lane = this.#lanes.get(key);
    for (const [seq, at] of lane?.due ?? []) {
      if (at !== due) continue;
      lane?.due.delete(seq);
      this.#pending--;
    }
    if (lane?.due.size === 0) this.#lanes.delete(key);
  }

  /** A moment that no other message of the destination has. */
  #dueFor(
    lane: string,
    { wanted, seq }: { wanted: number; seq: number },
  ): number {
    const taken = new Set(this.#lanes.get(lane)?.due.values() ?? []);
    let due = wanted;
    while (taken.has(due) || this.#chosen.has(`${due} ${lane}`)) due++;
    this.#chosen.set(`${due} ${lane}`, seq);
    if (this.#chosen.size > CHOSEN_MAX) {
      // The oldest were never stored: their units failed.
      const oldest = this.#chosen.keys().next().value;
      if (oldest !== undefined) this.#chosen.delete(oldest);
    }
    return due;
  }

  // --- rows ---------------------------------------------------------------

  /** The rows that queue a message; a unit with a second one of its key is a `conflict`. */
  queue(out: Outgoing): { row: OutboxRow; rows: Row[] } {
    const now = this.#clock.now();
    const lane = destinationKey(out.destination);
    const seq = this.#lastSeq = Math.max(this.#lastSeq + 1, now);
    const due = this.#dueFor(lane, { wanted: now, seq });
    const row = OutboxRow.parse({
      id: makeId("out", now),
      ...out,
      seq,
      attempts: 0,
      due,
      state: "queued",
      createdAt: now,
      updatedAt: now,
    });
    const { id, destination } = row;
    const done = OutboxDone.parse({
      id,
      destination,
      seq,
      state: "queued",
      at: now,
    });
    return {
      row,
      rows: [
        { key: makeKey("outbox", lane, seq), value: row },
        { key: makeKey("outbox_due", due, lane), value: { seq } },
        {
          key: doneKey(row.idempotencyKey),
          value: done,
          absent: true,
          expireInMs: KEPT_MS,
        },
      ],
    };
  }

  /** A message's next state, and the rows that store it. */
  change(
    before: OutboxRow,
    change: Partial<Omit<OutboxRow, "id" | "seq" | "destination">>,
  ): { row: OutboxRow; rows: Row[] } {
    const now = this.#clock.now();
    const lane = destinationKey(before.destination);
    const { seq } = before;
    const next = OutboxRow.parse({ ...before, ...change, updatedAt: now });
    const isOpen = isPending(next.state);
    const wasOpen = isPending(before.state);
    const rows: Row[] = [];
    if (isOpen && (!wasOpen || next.due !== before.due)) {
      next.due = this.#dueFor(lane, { wanted: next.due, seq });
      rows.push({ key: makeKey("outbox_due", next.due, lane), value: { seq } });
    }
    if (wasOpen && (!isOpen || next.due !== before.due)) {
      // First in the unit: a message that moves is never away for a moment.
      const key = makeKey("outbox_due", before.due, lane);
      rows.unshift({ key, value: undefined });
    }
    const isOver = next.state === "sent";
    rows.push({
      key: makeKey("outbox", lane, seq),
      value: isOver ? undefined : next,
    });
    if (isOpen !== wasOpen) rows.push(this.#doneRow(next));
    return { row: next, rows };
  }

  #doneRow(row: OutboxRow): Row {
    const { id, destination, seq, state, messageId, updatedAt } = row;
    const value = OutboxDone.parse({
      id,
      destination,
      seq,
      state,
      at: updatedAt,
      ...messageId === undefined ? {} : { messageId },
    });
    return { key: doneKey(row.idempotencyKey), value, expireInMs: KEPT_MS };
  }

  /** The rows that forget a message; its key stays taken. */
  drop(row: OutboxRow): Row[] {
    const lane = destinationKey(row.destination);
    return [
      { key: makeKey("outbox", lane, row.seq), value: undefined },
      ...isPending(row.state)
        ? [{ key: makeKey("outbox_due", row.due, lane), value: undefined }]
        : [],
    ];
  }

  // --- reading ------------------------------------------------------------

  /** What became of a key. */
  async done(idempotencyKey: string): Promise<OutboxDone | undefined> {
    return await this.#values.find(doneKey(idempotencyKey), OutboxDone);
  }

  /** The message at a place. */
  async find(lane: string, seq: number): Promise<OutboxRow | undefined> {
    return await this.#values.find(makeKey("outbox", lane, seq), OutboxRow);
  }

  /** Every message that is not sent, by destination and order. */
  async *all(): AsyncGenerator<OutboxRow, void, undefined> {
    const prefix = makeKey("outbox");
    for await (const { value } of this.#values.list({ prefix }, OutboxRow)) {
      yield value;
    }
  }

  /** The message of an id that is not sent. */
  async byId(id: string): Promise<OutboxRow | undefined> {
    for await (const row of this.all()) if (row.id === id) return row;
    return undefined;
  }

  /** Destinations with something pending. */
  lanes(): IterableIterator<Lane> {
    return this.#lanes.values();
  }

  lane(key: string): Lane | undefined {
    return this.#lanes.get(key);
  }

  /** Messages that are pending, everywhere. */
  get pending(): number {
    return this.#pending;
  }

  /** The index entry of a message that is not there: a leftover. */
  leftover(lane: Lane, seq: number): Row {
    const due = lane.due.get(seq) ?? 0;
    return { key: makeKey("outbox_due", due, lane.key), value: undefined };
  }
}

function channelOfKey(key: string): string {
  return key.startsWith("#") ? "" : decodeURIComponent(key.split("/")[0] ?? "");
}
