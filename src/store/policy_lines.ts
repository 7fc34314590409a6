/**
 * What the owner answered for a session or for always, one row each, until it
 * is revoked.
 *
 * @module
 */
import { z } from "zod";
import { AgentId, idSchema, SessionKey } from "../core/ids.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** One remembered answer; a call outside any of its fields asks again. */
export const PolicyLineRow = z.strictObject({
  id: idSchema("pol"),
  /** Set when it holds for this conversation only. */
  sessionId: idSchema("ses").optional(),
  sessionKey: SessionKey,
  agent: AgentId,
  principal: z.string().min(1).max(256),
  tool: z.string().min(1).max(256),
  places: z.array(z.string().max(4096)).min(1).max(64),
  secrecy: z.array(z.string().max(128)).max(64),
  sources: z.array(z.string().max(600)).max(64),
  approvalId: idSchema("apr"),
  createdAt: z.int(),
  createdBy: z.string().max(256),
});
export type PolicyLineRow = z.infer<typeof PolicyLineRow>;

/** Remembered answers at most; the list is read for every decision. */
export const POLICY_LINES_MAX = 1_000;

/** The `policy_line` collection. */
export class PolicyLines {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(id: string): Promise<PolicyLineRow | undefined> {
    return await this.#values.find(makeKey("policy_line", id), PolicyLineRow);
  }

  /** Oldest first. */
  async list(): Promise<PolicyLineRow[]> {
    const rows: PolicyLineRow[] = [];
    const stretch = {
      prefix: makeKey("policy_line"),
      limit: POLICY_LINES_MAX,
    };
    for await (const { value } of this.#values.list(stretch, PolicyLineRow)) {
      rows.push(value);
    }
    return rows;
  }

  rows(line: PolicyLineRow): Row[] {
    const value = PolicyLineRow.parse(line);
    return [{ key: makeKey("policy_line", value.id), value }];
  }

  /** The row that forgets one. */
  deletion(id: string): Row[] {
    return [{ key: makeKey("policy_line", id), value: undefined }];
  }
}
