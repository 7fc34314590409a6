/**
 * The contracts of the methods that act on a session as a whole, and what they
 * answer.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";
import { SessionKey } from "../ids.ts";

const Key = z.string().min(1).max(300);

/** A session as lists show it. */
export const SessionSummary = z.object({
  key: SessionKey,
  kind: z.string(),
  label: z.string().optional(),
  channel: z.string().optional(),
  updatedAt: z.int(),
  sessionId: z.string(),
  agentId: z.string(),
  model: z.string().optional(),
  inputTokens: z.int().optional(),
  outputTokens: z.int().optional(),
  /** What the last model call was shown, and what it may be shown. */
  totalTokens: z.int().optional(),
  contextTokens: z.int().optional(),
  thinkingTokens: z.int().optional(),
  queueMode: z.string().optional(),
  archivedAt: z.int().optional(),
  lastMessage: z.string().optional(),
});
export type SessionSummary = z.infer<typeof SessionSummary>;

/** What an act on a session answers. */
const SessionChanged = z.object({
  ok: z.literal(true),
  key: SessionKey,
  entry: SessionSummary,
});

/** What a session's next model call would be shown, section by section. */
export const ContextAccount = z.object({
  model: z.string(),
  windowTokens: z.int(),
  /** Where the window's size is known from. */
  windowBecause: z.string(),
  /** Kept free for the answer. */
  answerTokens: z.int(),
  usedTokens: z.int(),
  /** Whether the numbers are corrected by the vendor's count of the last call. */
  counted: z.enum(["vendor", "estimate"]),
  /** What the history may take at most. */
  historyTokensMax: z.int(),
  /** The vendor's own count of the last call. */
  lastTokens: z.int().optional(),
  sections: z.array(z.object({
    name: z.string(),
    tokens: z.int(),
    items: z.int(),
    titles: z.array(z.string()).optional(),
  })),
  messages: z.object({
    stored: z.int(),
    summarised: z.int(),
    shown: z.int(),
    trimmed: z.int(),
  }),
});
export type ContextAccount = z.infer<typeof ContextAccount>;

export const SESSION_METHODS = contracts({
  "sessions.preview": {
    scope: "read",
    about: "The last words of some sessions",
    input: () =>
      z.strictObject({
        keys: z.array(Key).min(1).max(64),
        limit: z.int().min(1).max(50).optional(),
        maxChars: z.int().min(20).max(2000).optional(),
      }),
    output: () =>
      z.object({
        previews: z.array(z.object({
          key: z.string(),
          status: z.enum(["ok", "empty", "missing"]),
          items: z.array(z.object({ role: z.string(), text: z.string() })),
        })),
      }),
  },
  "sessions.context": {
    scope: "read",
    about: "What the next model call would be shown, section by section",
    input: () => z.strictObject({ key: Key }),
    output: () => ContextAccount.extend({ key: SessionKey }),
  },
  "sessions.create": {
    scope: "chat",
    about: "Begin an empty session",
    input: () =>
      z.strictObject({
        key: Key,
        label: z.string().min(1).max(256).optional(),
        model: z.string().max(256).optional(),
      }),
    output: () => SessionChanged,
  },
  "sessions.patch": {
    scope: "chat",
    about: "Change a session's label, model, thinking or queue mode",
    input: () =>
      z.strictObject({
        key: Key,
        label: z.string().min(1).max(256).nullable().optional(),
        model: z.string().min(1).max(256).nullable().optional(),
        thinkingLevel: z.string().max(32).nullable().optional(),
        queueMode: z.enum(["queue", "steer", "replace", "collect"]).optional(),
      }),
    output: () => SessionChanged,
  },
  "sessions.reset": {
    scope: "chat",
    about: "Begin anew under the same key; what was said is put away",
    input: () =>
      z.strictObject({
        key: Key,
        /** `new` keeps model, thinking and queue mode; `reset` drops them too. */
        reason: z.enum(["new", "reset"]).optional(),
      }),
    output: () => SessionChanged.extend({ archivedKey: SessionKey.optional() }),
  },
  "sessions.clean": {
    scope: "chat",
    about: "Go on from before the first text of strangers",
    input: () => z.strictObject({ key: Key }),
    output: () =>
      SessionChanged.extend({
        archivedKey: SessionKey.optional(),
        /** How many messages are left out. */
        dropped: z.int(),
      }),
  },
  "sessions.trust": {
    scope: "approvals",
    about: "The texts of strangers, or one of them copied as the owner's word",
    input: () =>
      z.strictObject({
        key: Key,
        /** `MESSAGE.PART`, as listed; without it they are listed. */
        part: z.string().regex(/^\d{1,9}\.\d{1,4}$/).optional(),
      }),
    output: () =>
      SessionChanged.extend({
        parts: z.array(z.object({
          part: z.string(),
          from: z.string(),
          text: z.string(),
        })),
        trusted: z.string().optional(),
      }),
  },
  "sessions.fork": {
    scope: "chat",
    about: "Copy a session, or its beginning, to a new key",
    input: () =>
      z.strictObject({
        key: Key,
        toKey: Key.optional(),
        atSeq: z.int().positive().optional(),
        label: z.string().min(1).max(256).optional(),
      }),
    output: () => SessionChanged,
  },
  "sessions.compact": {
    scope: "chat",
    about: "Replace a session's oldest part with notes, for the model only",
    input: () =>
      z.strictObject({
        key: Key,
        instructions: z.string().max(2000).optional(),
      }),
    output: () =>
      z.object({
        ok: z.literal(true),
        key: SessionKey,
        compacted: z.boolean(),
        messages: z.int(),
        tokensBefore: z.int(),
        tokensAfter: z.int(),
        by: z.enum(["model", "extract"]).optional(),
        dropped: z.string().optional(),
      }),
  },
  "sessions.archive": {
    scope: "chat",
    about: "Put a session away; its key is free again",
    input: () => z.strictObject({ key: Key }),
    output: () => SessionChanged,
  },
  "sessions.restore": {
    scope: "chat",
    about: "Take a session that was put away back",
    input: () => z.strictObject({ key: Key, toKey: Key.optional() }),
    output: () => SessionChanged,
  },
  "sessions.archives": {
    scope: "read",
    about: "Sessions that were put away, last used first",
    input: () =>
      z.strictObject({
        limit: z.int().min(1).max(1000).optional(),
        offset: z.int().nonnegative().optional(),
        agentId: z.string().max(64).optional(),
        search: z.string().max(256).optional(),
      }),
    output: () =>
      z.object({
        ts: z.int(),
        count: z.int(),
        sessions: z.array(SessionSummary),
      }),
  },
  "sessions.delete": {
    scope: "write",
    about: "Delete a session with everything in it",
    input: () => z.strictObject({ key: Key }),
    output: () =>
      z.object({
        ok: z.literal(true),
        key: SessionKey,
        deleted: z.boolean(),
        /** Nothing is kept of it; clients of the field want the list. */
        archived: z.array(z.string()),
      }),
  },
  "sessions.export": {
    scope: "read",
    about: "A session as a document, piece by piece: ask again from `next`",
    input: () =>
      z.strictObject({
        key: Key,
        format: z.enum(["json", "markdown"]).optional(),
        cursor: z.int().nonnegative().optional(),
      }),
    output: () =>
      z.object({
        key: SessionKey,
        format: z.enum(["json", "markdown"]),
        chunk: z.string(),
        next: z.int().optional(),
      }),
  },
  "sessions.search": {
    scope: "read",
    about: "Messages that hold some words, best first",
    input: () =>
      z.strictObject({
        query: z.string().min(1).max(256),
        limit: z.int().min(1).max(100).optional(),
        agentId: z.string().max(64).optional(),
      }),
    output: () =>
      z.object({
        results: z.array(z.object({
          key: SessionKey,
          seq: z.int(),
          role: z.string(),
          at: z.int(),
          snippet: z.string(),
          score: z.number(),
        })),
        /** Messages that were searched, and whether those are all. */
        searched: z.int(),
        complete: z.boolean(),
      }),
  },
  "sessions.purge": {
    scope: "admin",
    owner: true,
    about: "Delete every session of a principal",
    input: () => z.strictObject({ principal: z.string().min(1).max(256) }),
    output: () => z.object({ ok: z.literal(true), sessions: z.int() }),
  },
});

/** The methods that act on one or several sessions; lists are apart. */
export type SessionMethod = Exclude<
  keyof typeof SESSION_METHODS,
  "sessions.archives"
>;
