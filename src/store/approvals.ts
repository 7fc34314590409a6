/**
 * Approvals: what was asked, exactly, and how it was answered. The store itself
 * holds that one is answered once and used once: each leaves a mark that must
 * not exist yet, in the same unit.
 *
 * @module
 */
import { z } from "zod";
import { AgentId, idSchema, SessionKey } from "../core/ids.ts";
import { Label } from "../core/label.ts";
import { RunId } from "../core/turn.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

export const ApprovalState = z.enum([
  "pending",
  "allowed",
  "denied",
  "expired",
  "used",
]);
export type ApprovalState = z.infer<typeof ApprovalState>;

/** What can be answered; `session` and `always` are remembered. */
export const Answer = z.enum([
  "allow-once",
  "allow-session",
  "allow-always",
  "deny",
]);
export type Answer = z.infer<typeof Answer>;

/** One ask and its answer. */
export const ApprovalRow = z.strictObject({
  id: idSchema("apr"),
  runId: RunId,
  sessionKey: SessionKey,
  callId: z.string().max(256),
  tool: z.string().max(256),
  args: z.json(),
  /** Binds tool, arguments, labels and policy. */
  hash: z.string().min(1).max(128),
  question: z.string(),
  /** What was shown, line by line. */
  card: z.array(z.string()).default([]),
  /** What may be answered. */
  answers: z.array(Answer).default(["allow-once", "deny"]),
  /** What a remembered answer would be for. */
  scope: z.strictObject({
    agent: AgentId,
    principal: z.string().min(1).max(256),
    sessionId: idSchema("ses"),
    places: z.array(z.string().max(4096)).max(64),
    secrecy: z.array(z.string().max(128)).max(64),
    sources: z.array(z.string().max(600)).max(64),
  }).optional(),
  label: Label,
  createdAt: z.int(),
  expiresAt: z.int(),
  state: ApprovalState,
  answer: Answer.optional(),
  answeredBy: z.string().max(256).optional(),
  answeredAt: z.int().optional(),
});
export type ApprovalRow = z.infer<typeof ApprovalRow>;

const Pending = z.strictObject({ expiresAt: z.int() });

/** The `approval` collection. */
export class ApprovalRows {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(id: string): Promise<ApprovalRow | undefined> {
    return await this.#values.find(makeKey("approval", id), ApprovalRow);
  }

  /** Those not answered yet, expired ones too, oldest first. */
  async pending(): Promise<ApprovalRow[]> {
    const rows: ApprovalRow[] = [];
    const prefix = makeKey("approval_pending");
    for await (const { key } of this.#values.list({ prefix }, Pending)) {
      const id = String(key[2]);
      try {
        const row = await this.find(id);
        if (row?.state === "pending") rows.push(row);
      } catch (error) {
        this.#values.skip(makeKey("approval", id), error);
      }
    }
    return rows;
  }

  /**
   * The rows that store an approval; `previous` is what was stored before. A
   * second answer, or a second use, makes the unit a `conflict`.
   */
  rows(next: ApprovalRow, previous?: ApprovalRow): Row[] {
    const row = ApprovalRow.parse(next);
    const rows: Row[] = [{ key: makeKey("approval", row.id), value: row }];
    if (previous === undefined) {
      rows.push({
        key: makeKey("approval_by_run", row.runId, row.id),
        value: { at: row.createdAt },
      });
    }
    if (previous?.state === row.state) return rows;
    rows.push({
      key: makeKey("approval_pending", row.id),
      value: row.state === "pending" ? { expiresAt: row.expiresAt } : undefined,
    });
    if (row.state !== "pending") {
      const mark = row.state === "used" ? "used" : "answered";
      rows.push({
        key: makeKey("approval_mark", row.id, mark),
        value: row.state,
        absent: true,
      });
    }
    return rows;
  }
}
