/**
 * Asks that wait for an answer. An approval is stored before it is shown, names
 * what it approves by a hash, is used once and expires.
 *
 * Never: an answer from memory alone; an answer for other arguments than shown.
 *
 * @module
 */
import { canonicalJson } from "../core/canonical.ts";
import { AppError } from "../core/errors.ts";
import { makeId, sha256Hex } from "../core/ids.ts";
import type { Label } from "../core/label.ts";
import type { Clock } from "../core/time.ts";
import type { ApprovalRow, ApprovalRows } from "../store/approvals.ts";
import type { Journal, Row } from "../store/journal.ts";

/** What can be answered. `session` and `always` are remembered. */
export type Answer =
  | "allow-once"
  | "allow-session"
  | "allow-always"
  | "deny";

/** What an approval is about. */
export interface Question {
  runId: string;
  sessionKey: string;
  callId: string;
  tool: string;
  args: unknown;
  label: Label;
  question: string;
  limitMs: number;
}

/** How an ask came out; `superseded`: something else was said instead. */
export type Settled = "allowed" | "denied" | "expired" | "superseded";

/** The hash that binds an answer to tool, arguments and labels. */
export async function approvalHash(
  question: Pick<Question, "tool" | "args" | "label">,
): Promise<string> {
  const { tool, args, label } = question;
  return await sha256Hex(canonicalJson({ tool, args, label }));
}

/** The pending asks of this process, over their stored rows. */
export class Approvals {
  readonly #rows: ApprovalRows;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, (settled: Settled) => void>();

  constructor(
    deps: { rows: ApprovalRows; journal: Journal; clock: Clock },
  ) {
    this.#rows = deps.rows;
    this.#journal = deps.journal;
    this.#clock = deps.clock;
  }

  /** A pending approval and its rows, for the asking run's own commit. */
  async make(question: Question): Promise<{ row: ApprovalRow; rows: Row[] }> {
    const now = this.#clock.now();
    const { limitMs, ...rest } = question;
    const row = {
      ...rest,
      id: makeId("apr", now),
      hash: await approvalHash(question),
      createdAt: now,
      expiresAt: now + limitMs,
      state: "pending",
    } as ApprovalRow;
    return { row, rows: this.#rows.rows(row) };
  }

  /**
   * The stored approval when it is about exactly this call, else a new one. A
   * stored one needs no rows.
   */
  async findOrMake(
    id: string | undefined,
    question: Question,
  ): Promise<{ row: ApprovalRow; rows: Row[] }> {
    const row = id === undefined ? undefined : await this.#rows.find(id);
    const isSame = row !== undefined && row.runId === question.runId &&
      row.callId === question.callId &&
      row.hash === await approvalHash(question);
    return isSame ? { row, rows: [] } : await this.make(question);
  }

  /** Waits for the answer, its expiry, or the signal. */
  async wait(row: ApprovalRow, signal: AbortSignal): Promise<Settled> {
    const now = (await this.#rows.find(row.id))?.state ?? row.state;
    if (now !== "pending") return now === "allowed" ? "allowed" : "denied";
    const answered = Promise.withResolvers<Settled>();
    this.#waiting.set(row.id, answered.resolve);
    const done = new AbortController();
    const both = AbortSignal.any([signal, done.signal]);
    try {
      const expiry = this.#clock.sleep(
        Math.max(0, row.expiresAt - this.#clock.now()),
        both,
      ).then((): Settled => "expired");
      const settled = await Promise.race([answered.promise, expiry]);
      expiry.catch(() => {});
      if (settled === "expired") await this.#store(row, "expired", undefined);
      return settled;
    } finally {
      this.#waiting.delete(row.id);
      done.abort();
    }
  }

  /**
   * Takes an answer. The stored row decides, so a late, second or foreign
   * answer changes nothing.
   *
   * @throws {AppError} `not_found` or `conflict`, saying what became of it
   */
  async answer(
    id: string,
    answer: Answer,
    options: { by: string; sessionKey?: string },
  ): Promise<ApprovalRow> {
    const row = await this.#rows.find(id);
    const isForeign = options.sessionKey !== undefined &&
      row?.sessionKey !== options.sessionKey;
    if (row === undefined || isForeign) {
      throw new AppError("not_found", `There is no approval "${id}"`);
    }
    if (row.state !== "pending" || row.expiresAt <= this.#clock.now()) {
      const state = row.state === "pending" ? "expired" : row.state;
      throw new AppError("conflict", `Approval "${id}" is already ${state}`);
    }
    const settled = answer === "deny" ? "denied" : "allowed";
    const next = await this.#store(row, settled, options.by);
    this.#waiting.get(id)?.(settled);
    return next;
  }

  /**
   * A new message instead of an answer counts as no. Whether the ask was still
   * open.
   */
  async supersede(id: string, by: string): Promise<boolean> {
    const row = await this.#rows.find(id);
    if (row?.state !== "pending") return false;
    try {
      await this.#store(row, "denied", by);
    } catch (error) {
      if (error instanceof AppError && error.code === "conflict") return false;
      throw error;
    }
    this.#waiting.get(id)?.("superseded");
    return true;
  }

  /** The pending asks of a session, oldest first. */
  async pending(sessionKey?: string): Promise<ApprovalRow[]> {
    const now = this.#clock.now();
    const all = await this.#rows.pending();
    return all.filter((row) =>
      row.expiresAt > now &&
      (sessionKey === undefined || row.sessionKey === sessionKey)
    );
  }

  async #store(
    row: ApprovalRow,
    state: ApprovalRow["state"],
    by: string | undefined,
  ): Promise<ApprovalRow> {
    const next: ApprovalRow = {
      ...row,
      state,
      answeredAt: this.#clock.now(),
      ...(by === undefined ? {} : { answeredBy: by }),
    };
    await this.#journal.commit(this.#rows.rows(next, row));
    return next;
  }
}
