/**
 * The contracts of the WebSocket methods for the configuration. Reading is an
 * administrator's, writing the owner's; no tool calls either.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";

const Nothing = z.strictObject({});
const Hash = z.string().min(1).max(128);
const Raw = z.string().max(1_048_576);
const RevisionId = z.string().regex(/^rev_[0-9a-z]{10,40}$/);

/** One thing that is wrong, and where. */
export const ConfigIssue = z.object({
  /** Dotted; empty for the whole. */
  path: z.string(),
  message: z.string(),
  hint: z.string().optional(),
  file: z.string(),
  line: z.int().optional(),
  column: z.int().optional(),
});
export type ConfigIssue = z.infer<typeof ConfigIssue>;

/** A field that a write changed, as it is written; secrets are not shown. */
const ConfigChange = z.object({
  path: z.string(),
  before: z.unknown().optional(),
  after: z.unknown().optional(),
});

/** What every write takes beside its text. */
const WRITE = {
  /** The `hash` of `config.get`; the write is refused when it is another now. */
  baseHash: Hash,
  /** Taken for the sake of other clients: the gateway follows its file itself. */
  sessionKey: z.string().max(300).optional(),
  restartDelayMs: z.int().nonnegative().optional(),
  /** Kept with the revision. */
  note: z.string().max(256).optional(),
};

const Written = z.object({
  ok: z.literal(true),
  path: z.string(),
  hash: z.string(),
  revision: z.string(),
  changes: z.array(ConfigChange),
});

/** An accepted configuration. */
export const ConfigRevision = z.object({
  id: z.string(),
  at: z.int(),
  /** The principal, or `file` when somebody edited it. */
  by: z.string(),
  via: z.enum(["start", "file", "set", "patch", "apply", "undo"]),
  hash: z.string(),
  note: z.string().optional(),
  /** Whether the file holds just this now. */
  current: z.boolean(),
});
export type ConfigRevision = z.infer<typeof ConfigRevision>;

export const CONFIG_METHODS = contracts({
  "config.get": {
    scope: "admin",
    about: "The configuration: its file's text, and what it comes to",
    input: () => Nothing,
    output: () =>
      z.object({
        path: z.string(),
        exists: z.boolean(),
        /** Whether this gateway may write it, and if not why. */
        writable: z.boolean(),
        why: z.string().optional(),
        /** The main file's text; null when it cannot be read as JSON. */
        raw: z.string().nullable(),
        /** What is written, with references as they stand. */
        parsed: z.unknown(),
        /** What it comes to, defaults included; null when it is not valid. */
        config: z.unknown(),
        valid: z.boolean(),
        hash: z.string(),
        issues: z.array(ConfigIssue),
      }),
  },
  "config.set": {
    scope: "admin",
    owner: true,
    about: "Replace the configuration file's text",
    input: () => z.strictObject({ raw: Raw, ...WRITE }),
    output: () => Written,
  },
  "config.apply": {
    scope: "admin",
    owner: true,
    about: "The same; the gateway takes it over by itself in both cases",
    input: () => z.strictObject({ raw: Raw, ...WRITE }),
    output: () => Written,
  },
  "config.patch": {
    scope: "admin",
    owner: true,
    about:
      "Change single lines: `raw` is a JSON merge patch, null removes; comments stay",
    input: () => z.strictObject({ raw: Raw, ...WRITE }),
    output: () => Written,
  },
  "config.schema": {
    scope: "admin",
    about: "The configuration's JSON Schema",
    input: () => Nothing,
    output: () =>
      z.object({
        schema: z.record(z.string(), z.unknown()),
        uiHints: z.record(z.string(), z.unknown()),
        version: z.string(),
        generatedAt: z.string(),
      }),
  },
  "config.validate": {
    scope: "admin",
    about: "Whether a text, or the present file, is a configuration",
    input: () => z.strictObject({ raw: Raw.optional() }),
    output: () => z.object({ ok: z.boolean(), issues: z.array(ConfigIssue) }),
  },
  "config.revisions": {
    scope: "admin",
    about: "The last accepted configurations, newest first; one with its text",
    input: () =>
      z.strictObject({
        limit: z.int().min(1).max(50).optional(),
        id: RevisionId.optional(),
      }),
    output: () =>
      z.object({
        revisions: z.array(ConfigRevision),
        raw: z.string().nullable().optional(),
      }),
  },
  "config.undo": {
    scope: "admin",
    owner: true,
    about: "Write an earlier revision again: the one named, or the one before",
    input: () => z.strictObject({ baseHash: Hash, to: RevisionId.optional() }),
    output: () => Written,
  },
});
