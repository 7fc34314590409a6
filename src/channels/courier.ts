/**
 * Carries what is in the outbox to its networks: each destination in order,
 * tried again with growing pauses, never twice where a network cannot tell.
 *
 * A row is `sending` before the network hears of it. One that is found so at the
 * next look was cut off: a network that drops a second message of the same key
 * gets it again, any other leaves it `unknown`, for the owner to see.
 *
 * Never: a later message of a destination passes an earlier one that is still
 * to be sent; a message that may have arrived is sent again unasked.
 *
 * @module
 */
import {
  type Channel,
  type Delivered,
  type Out,
  SendError,
  showDestination,
} from "../core/channel.ts";
import { AppError, errorText } from "../core/errors.ts";
import { joinAll, type Label } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import { type Clock, limitSignal, unlessAborted } from "../core/time.ts";
import type { Audit } from "../store/audit.ts";
import type { Journal, Row } from "../store/journal.ts";
import {
  destinationKey,
  isPending,
  type Lane,
  type Outbox,
  type OutboxRow,
  type Outgoing,
} from "../store/outbox.ts";
import type { Channels } from "./channels.ts";
import { chunks } from "./chunks.ts";
import { toPlainText } from "./plain_text.ts";

/** Bounds of the outbox. */
export const OUTBOX = {
  /** Messages that wait for one destination, and for all. */
  laneMax: 200,
  pendingMax: 10_000,
  /** Dead and unknown ones that are kept; the oldest goes when there are more. */
  keptMax: 1_000,
  /** Tries of one message; then it is dead. */
  attemptsMax: 15,
  /** The first pause; each next one is twice as long. */
  firstMs: 1_000,
  /** The longest pause. */
  backoffMsMax: 600_000,
  /** A network that asks for a longer pause gets this one. */
  retryAfterMsMax: 86_400_000,
  /** A message that could not be sent for so long is dead. */
  ageMsMax: 7 * 86_400_000,
  /** One piece of one message. */
  sendMs: 60_000,
  /** Destinations that are sent to at once. */
  sendingMax: 16,
  /** How often a missing channel is looked for. */
  awayMs: 60_000,
  /** After a failure of the store. */
  storeMs: 5_000,
} as const;

/** The pause after so many failed tries: half of it certain, half by chance. */
export function backoffMs(attempts: number, random: number): number {
  const full = Math.min(
    OUTBOX.firstMs * 2 ** Math.min(Math.max(attempts - 1, 0), 30),
    OUTBOX.backoffMsMax,
  );
  return Math.round(full / 2 + random * full / 2);
}

/** What the courier is made of. */
export interface CourierDeps {
  outbox: Outbox;
  journal: Journal;
  audit: Pick<Audit, "row">;
  channels: Channels;
  clock: Clock;
  log: Log;
  /** From 0 to 1. */
  random(): number;
  /** Called for every change that is stored. Must not throw. */
  onChange?(row: OutboxRow): void;
}

/** How a message came out of one try. */
type Change = Parameters<Outbox["change"]>[1];

/** Where a row is. */
interface Place {
  lane: string;
  seq: number;
}

function placeKey({ lane, seq }: Place): string {
  return `${seq} ${lane}`;
}

/** A row that is marked as being sent, and how. */
interface Begun {
  row: OutboxRow;
  channel: Channel;
  pieces: readonly string[];
  cut: NonNullable<OutboxRow["cut"]>;
  label: Label;
}

/** A destination that is being served. */
interface Serving {
  wake: AbortController;
}

/** Carries the outbox. Made by the roof; `start` begins. */
export class Courier implements AsyncDisposable {
  readonly #deps: CourierDeps;
  readonly #serving = new Map<string, Serving>();
  readonly #running = new Set<Promise<void>>();
  /** Nothing more is begun; then what was begun is cut off. */
  readonly #draining = new AbortController();
  readonly #ending = new AbortController();
  readonly #stack = new DisposableStack();
  readonly #waiting: (() => void)[] = [];
  readonly #counts = new Map<string, number>();
  /** Rows whose next state is being chosen: one looks and stores at a time. */
  readonly #changing = new Map<string, Promise<void>>();
  #sending = 0;
  #kept: number | undefined;
  #isStarted = false;

  constructor(deps: CourierDeps) {
    this.#deps = deps;
  }

  /** Begins with what is pending, and goes on with what comes. */
  start(): void {
    const { outbox, channels } = this.#deps;
    this.#isStarted = true;
    this.#stack.use(outbox.onQueued((lane) => this.#serve(lane.key)));
    this.#stack.use(channels.onAdded((id) => {
      for (const lane of [...outbox.lanes()]) {
        if (lane.channel === id || lane.channel === "") this.#wake(lane.key);
      }
    }));
    for (const lane of [...outbox.lanes()]) this.#serve(lane.key);
  }

  // --- taking -------------------------------------------------------------

  /** @throws {AppError} `unavailable` when too much waits already */
  assertRoom(to: OutboxRow["destination"]): void {
    const { outbox } = this.#deps;
    const waiting = outbox.lane(destinationKey(to))?.due.size ?? 0;
    const isFull = waiting >= OUTBOX.laneMax;
    if (!isFull && outbox.pending < OUTBOX.pendingMax) return;
    const many = isFull ? waiting : outbox.pending;
    throw new AppError(
      "unavailable",
      `Cannot queue for "${showDestination(to)}": ${many} messages wait ${
        isFull ? "for it" : "in the outbox"
      }`,
      { hint: "See: carapace outbox list", retryAfterMs: 60_000 },
    );
  }

  /**
   * Queues a message: stored when this resolves. A key that was taken before
   * gives what became of it then.
   *
   * @throws {AppError} `unavailable` when too much waits
   */
  async take(
    out: Outgoing,
    more: readonly Row[] = [],
  ): Promise<{ id: string; state: OutboxRow["state"]; isNew: boolean }> {
    const { outbox, journal } = this.#deps;
    const before = await outbox.done(out.idempotencyKey);
    if (before !== undefined) return { ...before, isNew: false };
    this.assertRoom(out.destination);
    const { row, rows } = outbox.queue(out);
    try {
      await journal.commit([...rows, ...more]);
    } catch (error) {
      const other = error instanceof AppError && error.code === "conflict"
        ? await outbox.done(out.idempotencyKey)
        : undefined;
      if (other === undefined) throw error;
      return { ...other, isNew: false };
    }
    this.#tell(row);
    return { id: row.id, state: row.state, isNew: true };
  }

  #tell(row: OutboxRow): void {
    const { state } = row;
    this.#counts.set(state, (this.#counts.get(state) ?? 0) + 1);
    this.#deps.onChange?.(row);
  }

  /** How many messages reached each state since the start. */
  counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  /** How long the message that waits longest past its time has waited. */
  oldestDueMs(): number {
    const now = this.#deps.clock.now();
    let oldest = now;
    for (const { due } of this.#deps.outbox.lanes()) {
      const head = Math.min(...due.keys());
      oldest = Math.min(oldest, due.get(head) ?? now);
    }
    return now - oldest;
  }

  // --- serving ------------------------------------------------------------

  #wake(key: string): void {
    const serving = this.#serving.get(key);
    if (serving === undefined) return this.#serve(key);
    serving.wake.abort();
  }

  #serve(key: string): void {
    if (!this.#isStarted || this.#draining.signal.aborted) return;
    if (this.#serving.has(key)) return;
    const serving = { wake: new AbortController() };
    this.#serving.set(key, serving);
    const running = this.#run(key, serving).catch((error) =>
      this.#deps.log("error", "outbox.lane_failed", { error: errorText(error) })
    ).finally(() => {
      this.#running.delete(running);
      this.#serving.delete(key);
      // Something may have come between the last look and this.
      if (this.#deps.outbox.lane(key) !== undefined) this.#serve(key);
    });
    this.#running.add(running);
  }

  async #run(key: string, serving: Serving): Promise<void> {
    const { outbox, clock, log } = this.#deps;
    const ending = this.#draining.signal;
    let woken = false;
    while (!ending.aborted) {
      // Ends when nothing is pending here, or with the courier.
      const lane = outbox.lane(key);
      if (lane === undefined) return;
      const seq = Math.min(...lane.due.keys());
      const waitMs = (lane.due.get(seq) ?? 0) - clock.now();
      if (waitMs > 0 && !woken) {
        woken = await this.#rest(waitMs, serving);
        continue;
      }
      try {
        await this.#takeSlot();
        try {
          await this.#sendHead(lane, { seq, force: woken });
        } finally {
          this.#freeSlot();
        }
      } catch (error) {
        if (ending.aborted) return;
        log("error", "outbox.not_stored", { error: errorText(error) });
        await this.#rest(OUTBOX.storeMs, serving);
      }
      woken = false;
    }
  }

  /** Waits; whether somebody said that it is worth looking now. */
  async #rest(ms: number, serving: Serving): Promise<boolean> {
    const { clock } = this.#deps;
    const { signal } = serving.wake;
    const either = AbortSignal.any([signal, this.#draining.signal]);
    try {
      await clock.sleep(ms, either);
      return false;
    } catch {
      serving.wake = new AbortController();
      return signal.aborted;
    }
  }

  async #takeSlot(): Promise<void> {
    if (this.#sending < OUTBOX.sendingMax) {
      this.#sending++;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    await promise;
    if (!this.#draining.signal.aborted) return;
    this.#freeSlot();
    throw new AppError("cancelled", "The gateway is stopping");
  }

  #freeSlot(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#sending--;
    else next();
  }

  async #commit(
    row: OutboxRow,
    change: Change,
    more: readonly Row[] = [],
  ): Promise<OutboxRow> {
    const { outbox, journal } = this.#deps;
    const { row: next, rows } = outbox.change(row, change);
    await journal.commit([...rows, ...more]);
    this.#tell(next);
    return next;
  }

  /** Looks at a row and stores what follows, with nobody in between. */
  async #alone<T>(
    at: Place,
    act: (row: OutboxRow | undefined) => Promise<T>,
  ): Promise<T> {
    const key = placeKey(at);
    const before = this.#changing.get(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changing.set(key, promise);
    try {
      await before;
      return await act(await this.#deps.outbox.find(at.lane, at.seq));
    } finally {
      resolve();
      if (this.#changing.get(key) === promise) this.#changing.delete(key);
    }
  }

  async #sendHead(
    lane: Lane,
    { seq, force }: { seq: number; force: boolean },
  ): Promise<void> {
    const begun = await this.#alone(
      { lane: lane.key, seq },
      (row) => this.#beginHead(lane, { row, seq, force }),
    );
    if (begun !== undefined) await this.#sendRow(begun);
  }

  /** What is to be sent now, marked so; nothing when there is nothing. */
  async #beginHead(
    lane: Lane,
    { row, seq, force }: {
      row: OutboxRow | undefined;
      seq: number;
      force: boolean;
    },
  ): Promise<Begun | undefined> {
    const { outbox, journal, channels, clock } = this.#deps;
    if (row === undefined || !isPending(row.state)) {
      await journal.commit([outbox.leftover(lane, seq)]);
      return;
    }
    if (row.state === "sending" || row.state === "streaming") {
      await this.#settleCut(row);
      return;
    }
    if (!force && row.due > clock.now()) return;
    const { channel: id } = row.destination;
    const channel = channels.find(id);
    if (channel === undefined) {
      const why = `There is no channel "${id}" now`;
      await this.#postpone(row, { ms: OUTBOX.awayMs, why });
      return;
    }
    return await this.#begin(row, channel);
  }

  /** A try that nobody saw the end of. */
  async #settleCut(row: OutboxRow): Promise<void> {
    const why = "The gateway stopped while it was being sent";
    if (row.cut?.idempotent === true) {
      await this.#commit(row, { state: "queued", lastError: why });
    } else await this.#giveUp(row, { state: "unknown", why });
  }

  async #begin(before: OutboxRow, channel: Channel): Promise<Begun> {
    const { destination } = before;
    const can = channel.capabilities(destination.account);
    const text = before.parts.map((part) => part.text).join("");
    const label = joinAll(before.parts.map((part) => part.label));
    const { charsMax, markdown } = before.cut ?? can;
    const written = markdown === "none"
      ? toPlainText(text)
      : markdown === "own"
      ? channel.convert?.(text) ?? toPlainText(text)
      : text;
    const pieces = chunks(written, charsMax);
    const cut = {
      charsMax,
      markdown,
      of: pieces.length,
      sent: before.cut?.sent ?? 0,
      idempotent: can.idempotent,
    };
    const row = await this.#commit(before, {
      state: "sending",
      attempts: before.attempts + 1,
      cut,
    });
    return { row, channel, pieces, cut, label };
  }

  async #sendRow(begun: Begun): Promise<void> {
    const { channel, pieces, cut, label } = begun;
    const { destination } = begun.row;
    let { row } = begun;
    let messageId: string | undefined;
    try {
      for (let n = cut.sent; n < pieces.length; n++) {
        // Each piece is said to be on its way before it is.
        if (n > cut.sent) {
          row = await this.#commit(row, { cut: { ...cut, sent: n } });
        }
        const key = pieces.length === 1 ? row.id : `${row.id}.${n + 1}`;
        const text = pieces[n] ?? "";
        ({ messageId } = await this.#sendPiece(channel, {
          key,
          destination,
          text,
          label,
        }));
      }
    } catch (error) {
      this.#deps.channels.noteOut(channel.id, error);
      await this.#failed(row, error);
      return;
    }
    this.#deps.channels.noteOut(channel.id);
    await this.#commit(row, {
      state: "sent",
      ...messageId === undefined ? {} : { messageId },
    });
  }

  /** One piece, within its time also where the channel forgets it. */
  async #sendPiece(
    channel: Channel,
    piece: Omit<Out, "signal">,
  ): Promise<Delivered> {
    using limit = limitSignal(this.#ending.signal, OUTBOX.sendMs);
    const { signal } = limit;
    return await unlessAborted(channel.send({ ...piece, signal }), signal);
  }

  async #failed(row: OutboxRow, error: unknown): Promise<void> {
    const { clock } = this.#deps;
    const why = errorText(error);
    const isCertain = error instanceof SendError && error.sent === "no";
    if (!isCertain && row.cut?.idempotent !== true) {
      await this.#giveUp(row, { state: "unknown", why });
      return;
    }
    const isFinal = error instanceof SendError && error.final;
    const isOld = clock.now() - row.createdAt > OUTBOX.ageMsMax;
    if (isFinal || isOld || row.attempts >= OUTBOX.attemptsMax) {
      await this.#giveUp(row, { state: "dead", why });
      return;
    }
    const asked = error instanceof AppError ? error.retryAfterMs ?? 0 : 0;
    await this.#postpone(row, {
      ms: Math.max(
        Math.min(asked, OUTBOX.retryAfterMsMax),
        backoffMs(row.attempts, this.#deps.random()),
      ),
      why,
    });
  }

  async #postpone(
    row: OutboxRow,
    { ms, why }: { ms: number; why: string },
  ): Promise<void> {
    const { clock } = this.#deps;
    const now = clock.now();
    if (now - row.createdAt > OUTBOX.ageMsMax) {
      await this.#giveUp(row, { state: "dead", why });
      return;
    }
    await this.#commit(row, { state: "failed", due: now + ms, lastError: why });
  }

  async #giveUp(
    row: OutboxRow,
    { state, why }: { state: "dead" | "unknown"; why: string },
  ): Promise<void> {
    const { audit, log } = this.#deps;
    const { id, attempts } = row;
    const to = showDestination(row.destination).slice(0, 256);
    const fields = { id, to, attempts };
    await this.#commit(row, { state, lastError: why }, [
      audit.row({ event: `outbox.${state}`, fields }),
    ]);
    log("warn", `outbox.${state}`, { ...fields, error: why });
    await this.#keepFew();
  }

  /** The oldest of those that wait for the owner go when there are too many. */
  async #keepFew(): Promise<void> {
    const { outbox, journal, audit } = this.#deps;
    this.#kept = (this.#kept ?? OUTBOX.keptMax) + 1;
    if (this.#kept <= OUTBOX.keptMax) return;
    const kept: { id: string; updatedAt: number; row: OutboxRow }[] = [];
    for await (const row of outbox.all()) {
      if (isPending(row.state)) continue;
      kept.push({ id: row.id, updatedAt: row.updatedAt, row });
    }
    this.#kept = kept.length;
    kept.sort((a, b) => a.updatedAt - b.updatedAt);
    for (
      const { id, row: { destination, seq } } of kept.slice(0, -OUTBOX.keptMax)
    ) {
      const at = { lane: destinationKey(destination), seq };
      // Not waited for: somebody is doing something with it.
      if (this.#changing.has(placeKey(at))) continue;
      await this.#alone(at, async (row) => {
        if (row === undefined || isPending(row.state)) return;
        const fields = { id, why: "too many" };
        await journal.commit([
          ...outbox.drop(row),
          audit.row({ event: "outbox.dropped", fields }),
        ]);
      });
      this.#kept--;
    }
  }

  // --- the owner's acts ---------------------------------------------------

  /** @throws {AppError} `not_found` */
  async get(id: string): Promise<OutboxRow> {
    const row = await this.#deps.outbox.byId(id);
    if (row !== undefined) return row;
    throw notThere(id);
  }

  /**
   * Does something to a message as it stands now, and not while it is sent.
   *
   * @throws {AppError} `not_found`, `conflict`
   */
  async #changeIdle<T>(
    id: string,
    act: (row: OutboxRow) => Promise<T>,
  ): Promise<T> {
    const { destination, seq } = await this.get(id);
    const lane = destinationKey(destination);
    return await this.#alone({ lane, seq }, async (row) => {
      if (row === undefined) throw notThere(id);
      if (row.state === "sending" || row.state === "streaming") {
        throw new AppError("conflict", `"${id}" is being sent now`);
      }
      return await act(row);
    });
  }

  /** Sends again what is dead or unknown, or at once what waits. */
  async retry(id: string, by: string): Promise<OutboxRow> {
    const { clock, audit } = this.#deps;
    const next = await this.#changeIdle(
      id,
      async ({ lastError: _, ...row }) => {
        const change = {
          state: "queued" as const,
          attempts: 0,
          due: clock.now(),
        };
        return await this.#commit(row, change, [
          audit.row({ event: "outbox.retried", fields: { id, by } }),
        ]);
      },
    );
    this.#wake(destinationKey(next.destination));
    return next;
  }

  /** Forgets a message. Its key stays taken. */
  async drop(id: string, by: string): Promise<void> {
    const { outbox, journal, audit } = this.#deps;
    await this.#changeIdle(id, async (row) => {
      await journal.commit([
        ...outbox.drop(row),
        audit.row({ event: "outbox.dropped", fields: { id, by } }),
      ]);
    });
  }

  /** Begins nothing more, and waits for what is with a network. */
  async drain(limitMs: number): Promise<void> {
    this.#draining.abort();
    this.#stack[Symbol.dispose]();
    const done = new AbortController();
    const late = this.#deps.clock.sleep(limitMs, done.signal).catch(() => {});
    await Promise.race([Promise.all(this.#running), late]);
    done.abort();
  }

  /** Ends: what is being sent is cut off, and settled as a crash would be. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#draining.abort();
    this.#ending.abort();
    this.#stack[Symbol.dispose]();
    await Promise.all(this.#running);
  }
}

function notThere(id: string): AppError {
  return new AppError("not_found", `There is no message "${id}" to be sent`, {
    hint: "See: carapace outbox list; what was sent is not kept",
  });
}
