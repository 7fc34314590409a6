/**
 * Asks that wait for an answer. An approval is stored before it is shown, names
 * what it approves by a hash, is used once and expires.
 *
 * Never: an answer from memory alone; an answer for other arguments than shown;
 * an answer that was not offered.
 *
 * @module
 */
import { canonicalJson } from "../core/canonical.ts";
import { AppError } from "../core/errors.ts";
import { makeId, sha256Hex } from "../core/ids.ts";
import type { Label } from "../core/label.ts";
import type { Clock } from "../core/time.ts";
import type { Answer, ApprovalRow, ApprovalRows } from "../store/approvals.ts";
import type { Audit } from "../store/audit.ts";
import type { Journal, Row } from "../store/journal.ts";
import {
  POLICY_LINES_MAX,
  type PolicyLineRow,
  type PolicyLines,
} from "../store/policy_lines.ts";
import type { Remembered } from "./remembered.ts";

export type { Answer } from "../store/approvals.ts";

/** What an approval is about. */
export interface Question {
  runId: string;
  sessionKey: string;
  callId: string;
  tool: string;
  args: unknown;
  label: Label;
  /** A hash of the policy it was asked under. */
  policy: string;
  question: string;
  card: readonly string[];
  /** What a remembered answer would be for; without it, none is offered. */
  scope?: ApprovalRow["scope"];
  limitMs: number;
}

/** How an ask came out; `superseded`: something else was said instead. */
export type Settled = "allowed" | "denied" | "expired" | "superseded";

/** An answer that was given in time may be used this long after. */
const ANSWER_HOLDS_MS = 60_000;

const ONCE: readonly Answer[] = ["allow-once", "deny"];
const REMEMBERABLE: readonly Answer[] = [
  "allow-once",
  "allow-session",
  "allow-always",
  "deny",
];

/** The hash that binds an answer to tool, arguments, labels and policy. */
async function approvalHash(
  question: Pick<Question, "tool" | "args" | "label" | "policy">,
): Promise<string> {
  const { tool, args, label, policy } = question;
  return await sha256Hex(canonicalJson({ tool, args, label, policy }));
}

/** What approvals work on. */
export interface ApprovalDeps {
  rows: ApprovalRows;
  lines: PolicyLines;
  audit: Audit;
  journal: Journal;
  clock: Clock;
}

/** The pending asks of this process, over their stored rows. */
export class Approvals {
  readonly #deps: ApprovalDeps;
  readonly #waiting = new Map<string, (settled: Settled) => void>();
  #lines: Promise<PolicyLineRow[]> | undefined;

  constructor(deps: ApprovalDeps) {
    this.#deps = deps;
  }

  /** A pending approval and its rows, for the asking run's own commit. */
  async make(question: Question): Promise<{ row: ApprovalRow; rows: Row[] }> {
    const now = this.#deps.clock.now();
    const { limitMs, policy: _, card, scope, ...rest } = question;
    const row = {
      ...rest,
      card: [...card],
      answers: [...(scope === undefined ? ONCE : REMEMBERABLE)],
      ...(scope === undefined ? {} : { scope }),
      id: makeId("apr", now),
      hash: await approvalHash(question),
      createdAt: now,
      expiresAt: now + limitMs,
      state: "pending",
    } as ApprovalRow;
    return { row, rows: this.#deps.rows.rows(row) };
  }

  /**
   * The stored approval when it is about exactly this call, else a new one. A
   * stored one needs no rows.
   */
  async findOrMake(
    id: string | undefined,
    question: Question,
  ): Promise<{ row: ApprovalRow; rows: Row[] }> {
    const row = id === undefined ? undefined : await this.#deps.rows.find(id);
    const isSame = row !== undefined && row.runId === question.runId &&
      row.callId === question.callId &&
      row.hash === await approvalHash(question);
    return isSame ? { row, rows: [] } : await this.make(question);
  }

  /** Waits for the answer, its expiry, or the signal. */
  async wait(row: ApprovalRow, signal: AbortSignal): Promise<Settled> {
    const { rows, clock } = this.#deps;
    const answered = Promise.withResolvers<Settled>();
    this.#waiting.set(row.id, answered.resolve);
    const done = new AbortController();
    const both = AbortSignal.any([signal, done.signal]);
    try {
      const now = (await rows.find(row.id))?.state ?? row.state;
      if (now === "allowed" || now === "expired") return now;
      if (now !== "pending") return "denied";
      if (row.expiresAt <= clock.now()) return await this.#expire(row);
      const expiry = clock.sleep(
        Math.max(0, row.expiresAt - clock.now()),
        both,
      ).then((): Settled => "expired");
      const settled = await Promise.race([answered.promise, expiry]);
      expiry.catch(() => {});
      return settled === "expired" ? await this.#expire(row) : settled;
    } finally {
      this.#waiting.delete(row.id);
      done.abort();
    }
  }

  /** Stores the expiry; an answer that was stored first is the one that counts. */
  async #expire(row: ApprovalRow): Promise<Settled> {
    try {
      await this.#deps.journal.commit([
        ...this.#settledRows(row, { state: "expired" }),
        this.#audit(row, "expired"),
      ]);
      return "expired";
    } catch (error) {
      const { state } = await this.#deps.rows.find(row.id) ?? row;
      if (state === "allowed" || state === "denied") return state;
      throw error;
    }
  }

  /**
   * The rows that use an approval up, for the commit right before the effect. A
   * second use makes that commit a `conflict`.
   *
   * @throws {AppError} `forbidden` when it was not given for exactly this call
   */
  async use(id: string, question: Question): Promise<Row[]> {
    const { rows, clock } = this.#deps;
    const row = await rows.find(id);
    const now = clock.now();
    const isFor = row !== undefined && row.runId === question.runId &&
      row.callId === question.callId && row.tool === question.tool &&
      row.hash === await approvalHash(question);
    if (!isFor || row.state !== "allowed") {
      throw new AppError(
        "forbidden",
        `Approval "${id}" was not given for this call`,
      );
    }
    if (
      now > Math.max(row.expiresAt, (row.answeredAt ?? 0) + ANSWER_HOLDS_MS)
    ) {
      throw new AppError("forbidden", `Approval "${id}" is past its time`);
    }
    return rows.rows({ ...row, state: "used" }, row);
  }

  /**
   * Takes an answer. The stored row decides, so a late, second, foreign or
   * unoffered answer changes nothing.
   *
   * @throws {AppError} `not_found`, `conflict` or `bad_input`, saying why
   */
  async answer(
    id: string,
    answer: Answer,
    options: { by: string; sessionKey?: string; hash?: string },
  ): Promise<ApprovalRow> {
    const { rows, journal, clock } = this.#deps;
    const row = await rows.find(id);
    const isForeign = options.sessionKey !== undefined &&
      row?.sessionKey !== options.sessionKey;
    if (row === undefined || isForeign) {
      throw new AppError("not_found", `There is no approval "${id}"`);
    }
    if (row.state !== "pending" || row.expiresAt <= clock.now()) {
      const state = row.state === "pending" ? "expired" : row.state;
      throw new AppError("conflict", `Approval "${id}" is already ${state}`);
    }
    if (options.hash !== undefined && options.hash !== row.hash) {
      throw new AppError(
        "conflict",
        `Approval "${id}" is not for what was shown`,
      );
    }
    if (!row.answers.includes(answer)) {
      throw new AppError(
        "bad_input",
        `"${answer}" is no answer to approval "${id}"`,
        { hint: `The answers are ${row.answers.join(", ")}` },
      );
    }
    const state = answer === "deny" ? "denied" : "allowed";
    const next = { state, answer, answeredBy: options.by } as const;
    const line = await this.#lineOf(row, answer, options.by);
    await journal.commit([
      ...this.#settledRows(row, next),
      this.#audit(row, answer, options.by),
      ...line === undefined ? [] : this.#deps.lines.rows(line),
    ]);
    if (line !== undefined) this.#lines = undefined;
    this.#waiting.get(id)?.(state);
    return { ...row, ...next };
  }

  /**
   * A new message instead of an answer counts as no. Whether the ask was still
   * open.
   */
  async supersede(id: string, by: string): Promise<boolean> {
    const { rows, journal } = this.#deps;
    const row = await rows.find(id);
    if (row?.state !== "pending") return false;
    const next = { state: "denied", answer: "deny", answeredBy: by } as const;
    try {
      await journal.commit([
        ...this.#settledRows(row, next),
        this.#audit(row, "superseded", by),
      ]);
    } catch (error) {
      // An answer that was stored first is the one that counts.
      if (error instanceof AppError && error.code === "conflict") return false;
      throw error;
    }
    this.#waiting.get(id)?.("superseded");
    return true;
  }

  #settledRows(
    row: ApprovalRow,
    change: Pick<ApprovalRow, "state" | "answer" | "answeredBy">,
  ): Row[] {
    const answeredAt = this.#deps.clock.now();
    return this.#deps.rows.rows({ ...row, ...change, answeredAt }, row);
  }

  #audit(row: ApprovalRow, answer: string, by = "nobody"): Row {
    return this.#deps.audit.row({
      event: "approval.answer",
      fields: {
        approvalId: row.id,
        runId: row.runId,
        tool: row.tool,
        hash: row.hash,
        answer,
        by,
      },
    });
  }

  async #lineOf(
    row: ApprovalRow,
    answer: Answer,
    by: string,
  ): Promise<PolicyLineRow | undefined> {
    if (answer !== "allow-session" && answer !== "allow-always") return;
    const { scope } = row;
    if (scope === undefined) {
      throw new AppError("internal", `Approval "${row.id}" has no scope`);
    }
    if ((await this.lines()).length >= POLICY_LINES_MAX) {
      throw new AppError(
        "too_large",
        `Cannot remember more than ${POLICY_LINES_MAX} answers`,
        {
          hint: "Revoke some: carapace policy list, carapace policy revoke ID",
        },
      );
    }
    const { sessionId, ...rest } = scope;
    const now = this.#deps.clock.now();
    return {
      ...rest,
      ...(answer === "allow-session" ? { sessionId } : {}),
      id: makeId("pol", now),
      sessionKey: row.sessionKey,
      tool: row.tool,
      approvalId: row.id,
      createdAt: now,
      createdBy: by,
    };
  }

  /** The pending asks of a session, or all, oldest first. */
  async pending(sessionKey?: string): Promise<ApprovalRow[]> {
    const now = this.#deps.clock.now();
    const all = await this.#deps.rows.pending();
    return all.filter((row) =>
      row.expiresAt > now &&
      (sessionKey === undefined || row.sessionKey === sessionKey)
    );
  }

  /** What the owner answered for a session or for always. */
  lines(): Promise<readonly PolicyLineRow[]> {
    return this.#lines ??= this.#deps.lines.list().catch((error) => {
      this.#lines = undefined;
      throw error;
    });
  }

  /** The same, as decisions read it. */
  async remembered(): Promise<readonly Remembered[]> {
    return await this.lines();
  }

  /** Forgets a remembered answer. @throws {AppError} `not_found` */
  async revoke(id: string, by: string): Promise<void> {
    const { lines, journal, audit } = this.#deps;
    const line = await lines.find(id);
    if (line === undefined) {
      throw new AppError("not_found", `There is no policy line "${id}"`, {
        hint: "Run: carapace policy list",
      });
    }
    await journal.commit([
      ...lines.deletion(id),
      audit.row({ event: "policy.revoke", fields: { id, by } }),
    ]);
    this.#lines = undefined;
  }
}
