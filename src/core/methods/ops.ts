/**
 * The contracts of the WebSocket methods an operator looks into the gateway
 * with: its log, and what it keeps of everything that mattered.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";

export const LogLevelName = z.enum(["debug", "info", "warn", "error"]);

/** A row of the audit log; ids, counts and hashes, never content. */
export const AuditItem = z.object({
  seq: z.int(),
  at: z.int(),
  event: z.string(),
  fields: z.record(z.string(), z.unknown()),
  prev: z.string(),
  hash: z.string(),
});
export type AuditItem = z.infer<typeof AuditItem>;

export const OPS_METHODS = contracts({
  "logs.tail": {
    scope: "read",
    owner: true,
    about: "The newest lines of the log, or what came after a cursor",
    input: () =>
      z.strictObject({
        limit: z.int().min(1).max(5_000).optional(),
        /** The `cursor` of an earlier answer. */
        cursor: z.int().nonnegative().optional(),
        /** The quietest level that is shown. */
        level: LogLevelName.optional(),
        /** Words that a line holds, in any case; not a regular expression. */
        pattern: z.string().min(1).max(256).optional(),
        /** Taken for the sake of clients that send it; the lines are what is limited. */
        maxBytes: z.int().positive().optional(),
      }),
    output: () =>
      z.object({
        /** Where the lines are kept: in memory, the newest only. */
        file: z.string(),
        /** Ask again with this for what comes after. */
        cursor: z.int(),
        /** Lines written since the start. */
        size: z.int(),
        lines: z.array(z.string()),
        /** Lines were left out: more than `limit`, or no longer kept. */
        truncated: z.boolean(),
        /** The cursor was of another start of the gateway. */
        reset: z.boolean(),
      }),
  },
  "audit.list": {
    scope: "admin",
    about: "What mattered, newest first",
    input: () =>
      z.strictObject({
        limit: z.int().min(1).max(500).optional(),
        /** The `next` of an earlier answer. */
        before: z.int().positive().optional(),
        /** Only events that begin so: `token`, `tool.deny`. */
        event: z.string().min(1).max(128).optional(),
      }),
    output: () =>
      z.object({
        rows: z.array(AuditItem),
        /** There are older ones: ask again with `before`. */
        next: z.int().optional(),
      }),
  },
  "audit.verify": {
    scope: "admin",
    about: "Whether every row still follows from the one before it",
    input: () => z.strictObject({}),
    output: () =>
      z.object({
        ok: z.boolean(),
        rows: z.int(),
        brokenAt: z.int().optional(),
        /** The last good row's hash, to compare with one noted elsewhere. */
        head: z.string(),
      }),
  },
});
