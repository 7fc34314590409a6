/**
 * The contracts of the WebSocket methods: scope, parameters, payload. The
 * gateway attaches a handler to each; clients call by them.
 *
 * @module
 */
import { z } from "zod";
import { KeyBudget } from "./authority.ts";
import { DEVICE_METHODS } from "./methods/device.ts";
import { SessionKey } from "./ids.ts";
import { CATALOG_METHODS } from "./methods/catalog.ts";
import { CHANNEL_METHODS } from "./methods/channel.ts";
import { CONFIG_METHODS } from "./methods/config.ts";
import { contracts, type MethodContract } from "./methods/contract.ts";
import { GUARD_METHODS } from "./methods/guard.ts";
import { NODE_METHODS } from "./methods/node.ts";
import { OPS_METHODS } from "./methods/ops.ts";
import { PLUGIN_METHODS } from "./methods/plugin.ts";
import { SCHEDULE_METHODS } from "./methods/schedule.ts";
import { Usage } from "./message.ts";
import { SESSION_METHODS, SessionSummary } from "./methods/session.ts";
import { TOOL_METHODS } from "./methods/tool.ts";
import { RunId } from "./turn.ts";

export type { MethodContract } from "./methods/contract.ts";
export {
  ContextAccount,
  type SessionMethod,
  SessionSummary,
} from "./methods/session.ts";

const IdempotencyKey = z.string().min(1).max(256);
const Key = z.string().min(1).max(300);
const TimeoutMs = z.int().min(0).max(600_000);
const Nothing = z.strictObject({});

/** An image sent with a message; base64, with or without a data-URL prefix. */
export const Attachment = z.strictObject({
  type: z.string().max(64).optional(),
  mimeType: z.string().max(128).optional(),
  fileName: z.string().max(256).optional(),
  content: z.string(),
});

export const HealthPayload = z.object({
  ts: z.int(),
  status: z.enum(["ok", "degraded", "safe_mode"]),
  channels: z.record(z.string(), z.unknown()),
  sessions: z.object({ count: z.int() }),
  ws: z.object({ connections: z.int() }),
});

export const StatusPayload = z.object({
  ts: z.int(),
  version: z.string(),
  uptimeMs: z.int(),
  runtime: z.object({
    name: z.string(),
    version: z.string(),
    pid: z.int(),
    rssBytes: z.int(),
  }),
  channels: z.record(z.string(), z.unknown()),
  sessions: z.object({ count: z.int(), recent: z.array(SessionSummary) }),
  /** Set when the gateway runs without its agents, with the reason. */
  safeMode: z.string().optional(),
  /** The default agent's model and why it was chosen. */
  model: z.object({ id: z.string(), because: z.string() }),
  runs: z.object({ running: z.int(), queued: z.int() }),
  /** What the sandbox grants and which forbidden acts were refused. */
  posture: z.object({
    tried: z.int(),
    refused: z.int(),
    sandboxOff: z.boolean(),
    grants: z.record(z.string(), z.array(z.string())),
  }),
});
export type StatusPayload = z.infer<typeof StatusPayload>;

/** What a number of model calls used. */
export const UsageTotals = z.object({
  calls: z.int(),
  inputTokens: z.int(),
  outputTokens: z.int(),
  /** Of the input: what the vendor had kept, and was told to keep. */
  cachedTokens: z.int(),
  cacheWriteTokens: z.int(),
  /** What the calls with a known price cost. */
  usd: z.number(),
  /** Whether that is all of them. */
  priced: z.boolean(),
  unpricedTokens: z.int(),
});
export type UsageTotals = z.infer<typeof UsageTotals>;

/** How one limit stands today. */
export const BudgetStanding = z.object({
  scope: z.enum(["day", "agent", "key", "job", "sender"]),
  name: z.string().optional(),
  meter: z.enum(["usd", "tokens", "unpriced_tokens"]),
  limit: z.number(),
  spent: z.number(),
  /** Held back for calls under way. */
  reserved: z.number(),
  share: z.number(),
  /** The configuration line, or how the key was made. */
  because: z.string(),
  resetsAt: z.int(),
});
export type BudgetStanding = z.infer<typeof BudgetStanding>;

/** One connection, as `system-presence` and the `presence` event show it. */
export const PresenceEntry = z.object({
  /** What the client calls itself. */
  host: z.string(),
  ip: z.string().optional(),
  mode: z.string(),
  /** Since its last request. */
  lastInputSeconds: z.int().optional(),
  /** When it connected. */
  ts: z.int(),
  connId: z.string(),
  clientId: z.string(),
  version: z.string(),
  platform: z.string(),
  role: z.string(),
  /** The login of the tailnet it came in by. */
  login: z.string().optional(),
});
export type PresenceEntry = z.infer<typeof PresenceEntry>;

export const METHODS = {
  ...contracts({
    health: {
      scope: "read",
      about: "Whether the gateway works, in brief",
      input: () => z.strictObject({ probe: z.boolean().optional() }),
      output: () => HealthPayload,
    },
    status: {
      scope: "read",
      about: "What runs, for how long, and under which sandbox",
      input: () => Nothing,
      output: () => StatusPayload,
    },
    "system-presence": {
      scope: "read",
      about: "Who is connected: the owner sees all, others themselves",
      input: () => Nothing,
      output: () => z.array(PresenceEntry),
    },
    "chat.send": {
      scope: "chat",
      about: "Start a turn; its events follow as `chat` and `agent`",
      input: () =>
        z.strictObject({
          sessionKey: Key,
          message: z.string().max(262_144),
          idempotencyKey: IdempotencyKey,
          thinking: z.string().max(32).optional(),
          deliver: z.boolean().optional(),
          attachments: z.array(Attachment).max(16).optional(),
          timeoutMs: TimeoutMs.optional(),
        }),
      output: () =>
        z.object({
          runId: RunId,
          status: z.enum(["started", "queued", "duplicate"]),
        }),
    },
    "chat.history": {
      scope: "read",
      about: "The messages of a session, oldest first",
      input: () =>
        z.strictObject({
          sessionKey: Key,
          limit: z.int().min(1).max(1000).optional(),
        }),
      output: () =>
        z.object({
          sessionKey: SessionKey,
          sessionId: z.string(),
          messages: z.array(z.object({
            role: z.string(),
            content: z.unknown(),
            timestamp: z.int(),
            seq: z.int(),
            runId: RunId.optional(),
          })),
          thinkingLevel: z.string().optional(),
        }),
    },
    "chat.abort": {
      scope: "chat",
      about: "Stop a session's runs, or one of them",
      input: () => z.strictObject({ sessionKey: Key, runId: RunId.optional() }),
      output: () =>
        z.object({
          ok: z.literal(true),
          aborted: z.boolean(),
          runIds: z.array(RunId),
        }),
    },
    "sessions.list": {
      scope: "read",
      about: "Sessions, last used first",
      input: () =>
        z.strictObject({
          limit: z.int().min(1).max(1000).optional(),
          offset: z.int().nonnegative().optional(),
          agentId: z.string().max(64).optional(),
          activeMinutes: z.int().positive().optional(),
          search: z.string().max(256).optional(),
          includeLastMessage: z.boolean().optional(),
        }),
      output: () =>
        z.object({
          ts: z.int(),
          count: z.int(),
          sessions: z.array(SessionSummary),
        }),
    },
  }),
  ...SESSION_METHODS,
  ...contracts({
    agent: {
      scope: "chat",
      about: "Start a turn and return at once; wait for it with agent.wait",
      input: () =>
        z.strictObject({
          message: z.string().max(262_144),
          sessionKey: Key.optional(),
          agentId: z.string().max(64).optional(),
          idempotencyKey: IdempotencyKey,
          model: z.string().max(256).optional(),
          thinking: z.string().max(32).optional(),
          deliver: z.boolean().optional(),
          to: z.string().max(256).optional(),
          channel: z.string().max(64).optional(),
          extraSystemPrompt: z.string().max(65_536).optional(),
          timeoutMs: TimeoutMs.optional(),
        }),
      output: () => z.object({ runId: RunId, status: z.literal("accepted") }),
    },
    "agent.wait": {
      scope: "chat",
      about: "Wait for a run's end",
      input: () =>
        z.strictObject({ runId: RunId, timeoutMs: TimeoutMs.optional() }),
      output: () =>
        z.object({
          runId: RunId,
          status: z.enum(["ok", "error", "timeout"]),
          startedAt: z.int().optional(),
          endedAt: z.int().optional(),
          reply: z.string().optional(),
          usage: Usage.optional(),
          error: z.string().optional(),
        }),
    },
  }),
  ...CATALOG_METHODS,
  ...contracts({
    "usage.status": {
      scope: "read",
      about: "What today came to, and how the budgets stand",
      input: () => Nothing,
      output: () =>
        z.object({
          ts: z.int(),
          day: z.string(),
          today: UsageTotals,
          budgets: z.array(BudgetStanding),
        }),
    },
    "usage.cost": {
      scope: "read",
      about: "Tokens and money of the last days, grouped",
      input: () =>
        z.strictObject({
          by: z.enum(["day", "model", "agent", "session", "key", "sender"])
            .optional(),
          days: z.int().min(1).max(800).optional(),
        }),
      output: () =>
        z.object({
          ts: z.int(),
          by: z.string(),
          from: z.string(),
          to: z.string(),
          total: UsageTotals,
          rows: z.array(z.object({ name: z.string(), ...UsageTotals.shape })),
        }),
    },
    "usage.budget": {
      scope: "read",
      about: "Every limit on spending, and how it stands today",
      input: () => Nothing,
      output: () => z.object({ ts: z.int(), budgets: z.array(BudgetStanding) }),
    },
    "token.create": {
      scope: "admin",
      about: "Make a token; its text is in the answer and nowhere else",
      input: () =>
        z.strictObject({
          name: z.string().min(1).max(64),
          scopes: z.array(z.string().max(64)).max(32),
          agents: z.array(z.string()).optional(),
          models: z.array(z.string()).optional(),
          tools: z.array(z.string()).optional(),
          integrity: z.enum(["owner", "untrusted"]).optional(),
          expiresInMs: z.int().positive().optional(),
          /** What it may spend in a day; no more than its maker. */
          budget: KeyBudget.optional(),
        }),
      output: () => z.object({ id: z.string(), token: z.string() }),
    },
    "token.list": {
      scope: "admin",
      about: "The tokens, without their texts",
      input: () => Nothing,
      output: () =>
        z.object({
          tokens: z.array(z.object({
            id: z.string(),
            name: z.string(),
            scopes: z.array(z.string()),
            /** `any`, or the names. */
            agents: z.union([z.literal("any"), z.array(z.string())]).optional(),
            models: z.union([z.literal("any"), z.array(z.string())]).optional(),
            tools: z.union([z.literal("any"), z.array(z.string())]).optional(),
            integrity: z.string().optional(),
            kind: z.string().optional(),
            /** Its own and its makers' in one: the least of each. */
            budget: KeyBudget.optional(),
            createdAt: z.int(),
            expiresAt: z.int().optional(),
            lastUsedAt: z.int().optional(),
          })),
        }),
    },
    "token.rotate": {
      scope: "admin",
      about:
        "Make a token's next text; the present one holds until the next is used",
      input: () => z.strictObject({ id: z.string().min(1).max(64) }),
      output: () => z.object({ id: z.string(), token: z.string() }),
    },
    "token.revoke": {
      scope: "admin",
      about: "End a token, its sockets and its runs",
      input: () => z.strictObject({ id: z.string().max(64) }),
      output: () => z.object({ ok: z.literal(true), id: z.string() }),
    },
  }),
  ...DEVICE_METHODS,
  ...CHANNEL_METHODS,
  ...GUARD_METHODS,
  ...PLUGIN_METHODS,
  ...TOOL_METHODS,
  ...OPS_METHODS,
  ...CONFIG_METHODS,
  ...SCHEDULE_METHODS,
  ...NODE_METHODS,
} satisfies Record<string, MethodContract>;

export type MethodName = keyof typeof METHODS;
/** A method's parameters as a client writes them. */
export type MethodInput<M extends MethodName> = z.input<
  (typeof METHODS)[M]["input"]
>;
/** A method's payload. */
export type MethodOutput<M extends MethodName> = z.output<
  (typeof METHODS)[M]["output"]
>;
