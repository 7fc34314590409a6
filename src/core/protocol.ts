/**
 * The WebSocket wire: frames, handshake, errors, events. Names and shapes are
 * those that existing clients of the field speak (protocols 3 and 4).
 *
 * Never: a client's field here is an input to authorization.
 *
 * @module
 */
import { z } from "zod";
import type { Scope } from "./authority.ts";
import type { AppError, ErrorCode } from "./errors.ts";
import { RunId } from "./turn.ts";

/** The versions we speak; a client's range must overlap. */
export const PROTOCOL = { min: 3, max: 4 } as const;

/** Limits of the wire; stated to the client in `hello-ok`. */
export const WIRE_LIMITS = {
  /** A WebSocket frame after the handshake; a larger one closes its socket with 1009. */
  frameBytesMax: 524_288,
  /** A frame before it; the same. */
  handshakeFrameBytesMax: 65_536,
  /** Unread bytes from which events are held back and merged for a slow reader. */
  bufferedBytesMax: 1_572_864,
  /** Levels of JSON, counted before it is parsed; deeper is refused. */
  depthMax: 32,
  /** Values in JSON, counted before it is parsed; more are refused with 413. */
  nodesMax: 10_000,
  /** How long a socket may take to say who it is; then 1008. */
  handshakeMs: 10_000,
  /** Between two ticks, by which clients see that a connection lives. */
  tickMs: 30_000,
} as const;

/** Why a socket was closed. */
export const CLOSE = {
  done: 1000,
  protocol: 1002,
  policy: 1008,
  tooBig: 1009,
  restart: 1012,
  tryLater: 1013,
} as const;

export const WireErrorCode = z.enum([
  "INVALID_REQUEST",
  "NOT_PAIRED",
  "NOT_LINKED",
  "AGENT_TIMEOUT",
  "UNAVAILABLE",
  "FORBIDDEN",
  "UNAUTHORIZED",
  "RATE_LIMITED",
  "NOT_FOUND",
  "CONFLICT",
  "PROTOCOL_MISMATCH",
]);
export type WireErrorCode = z.infer<typeof WireErrorCode>;

export const WireError = z.strictObject({
  code: WireErrorCode,
  message: z.string(),
  retryable: z.boolean().optional(),
  retryAfterMs: z.int().optional(),
  details: z.record(z.string(), z.unknown()).optional(),
});
export type WireError = z.infer<typeof WireError>;

/** A client's frame. */
export const RequestFrame = z.strictObject({
  type: z.literal("req"),
  id: z.string().min(1).max(128),
  method: z.string().min(1).max(128),
  params: z.unknown().optional(),
  traceparent: z.string().max(128).optional(),
});
export type RequestFrame = z.infer<typeof RequestFrame>;

export const ResponseFrame = z.union([
  z.strictObject({
    type: z.literal("res"),
    id: z.string(),
    ok: z.literal(true),
    payload: z.unknown(),
  }),
  z.strictObject({
    type: z.literal("res"),
    id: z.string(),
    ok: z.literal(false),
    error: WireError,
  }),
]);
export type ResponseFrame = z.infer<typeof ResponseFrame>;

/** How often presence and health changed, to tell an old snapshot by. */
export const StateVersion = z.strictObject({
  presence: z.int(),
  health: z.int(),
});
export type StateVersion = z.infer<typeof StateVersion>;

export const EventFrame = z.strictObject({
  type: z.literal("event"),
  event: z.string(),
  payload: z.unknown(),
  /** Counts per connection from 1, without gaps. */
  seq: z.int().optional(),
  stateVersion: StateVersion.optional(),
});
export type EventFrame = z.infer<typeof EventFrame>;

const ShortText = z.string().max(256);

/** The first request of every connection. */
export const ConnectParams = z.strictObject({
  minProtocol: z.int(),
  maxProtocol: z.int(),
  client: z.strictObject({
    id: ShortText,
    displayName: ShortText.optional(),
    version: ShortText,
    platform: ShortText,
    mode: ShortText,
    deviceFamily: ShortText.optional(),
    modelIdentifier: ShortText.optional(),
    instanceId: ShortText.optional(),
  }),
  role: z.enum(["operator", "node"]).optional(),
  scopes: z.array(z.string().max(64)).max(64).optional(),
  caps: z.array(ShortText).max(128).optional(),
  commands: z.array(ShortText).max(512).optional(),
  permissions: z.record(z.string(), z.boolean()).optional(),
  pathEnv: z.string().max(8192).optional(),
  device: z.strictObject({
    id: ShortText,
    publicKey: ShortText,
    signature: ShortText,
    signedAt: z.int(),
    nonce: ShortText.optional(),
  }).optional(),
  auth: z.strictObject({
    token: z.string().max(512).optional(),
    password: z.string().max(1024).optional(),
    deviceToken: z.string().max(512).optional(),
    bootstrapToken: z.string().max(512).optional(),
  }).optional(),
  locale: ShortText.optional(),
  userAgent: z.string().max(512).optional(),
  /** Ours: events of a run after this one are sent again. */
  resume: z.strictObject({
    sessionKey: z.string().max(300),
    runId: RunId,
    seq: z.int().nonnegative(),
  }).optional(),
});
export type ConnectParams = z.infer<typeof ConnectParams>;

/** The answer to `connect`. */
export const HelloOk = z.object({
  type: z.literal("hello-ok"),
  protocol: z.int(),
  server: z.object({
    version: z.string(),
    host: z.string(),
    connId: z.string(),
  }),
  features: z.object({
    methods: z.array(z.string()),
    events: z.array(z.string()),
  }),
  snapshot: z.object({
    presence: z.array(z.unknown()),
    health: z.unknown(),
    stateVersion: StateVersion,
    uptimeMs: z.int(),
    sessionDefaults: z.object({
      defaultAgentId: z.string(),
      mainKey: z.string(),
      mainSessionKey: z.string(),
    }),
  }),
  auth: z.object({
    role: z.string(),
    scopes: z.array(z.string()),
    deviceToken: z.string().optional(),
    issuedAtMs: z.int().optional(),
  }),
  policy: z.object({
    maxPayload: z.int(),
    maxBufferedBytes: z.int(),
    tickIntervalMs: z.int(),
  }),
});
export type HelloOk = z.infer<typeof HelloOk>;

/** Every event and the scope that may see it; `null` is for all connections. */
export const EVENTS = {
  "connect.challenge": null,
  tick: null,
  shutdown: null,
  presence: "read",
  health: "read",
  heartbeat: "read",
  chat: "read",
  agent: "read",
  cron: "read",
  "device.pair.requested": "pairing",
  "device.pair.resolved": "pairing",
  "node.pair.requested": "pairing",
  "node.pair.resolved": "pairing",
  "node.invoke.request": null,
  "exec.approval.requested": "approvals",
  "exec.approval.resolved": "approvals",
  "sessions.changed": "read",
  "config.changed": "admin",
  "plugins.changed": "read",
  outbox: "read",
  posture: "read",
  "usage.budget": "read",
} as const satisfies Record<string, Scope | null>;
export type EventName = keyof typeof EVENTS;

/** The `chat` event: cumulative `message` for protocol 3, `deltaText` for 4. */
export const ChatEvent = z.strictObject({
  runId: RunId,
  sessionKey: z.string(),
  seq: z.int(),
  state: z.enum(["delta", "final", "aborted", "error"]),
  message: z.object({
    role: z.literal("assistant"),
    content: z.array(z.object({ type: z.literal("text"), text: z.string() })),
    timestamp: z.int(),
  }).optional(),
  deltaText: z.string().optional(),
  replace: z.boolean().optional(),
  errorMessage: z.string().optional(),
  usage: z.unknown().optional(),
  stopReason: z.string().optional(),
});
export type ChatEvent = z.infer<typeof ChatEvent>;

/** The `agent` event: everything a run does, by stream. */
export const AgentEvent = z.strictObject({
  runId: RunId,
  seq: z.int(),
  stream: z.enum([
    "lifecycle",
    "assistant",
    "thinking",
    "tool",
    "decision",
    "approval",
  ]),
  ts: z.int(),
  sessionKey: z.string().optional(),
  data: z.record(z.string(), z.unknown()),
});
export type AgentEvent = z.infer<typeof AgentEvent>;

const WIRE_CODE = {
  bad_input: "INVALID_REQUEST",
  unauthorized: "UNAUTHORIZED",
  not_paired: "NOT_PAIRED",
  forbidden: "FORBIDDEN",
  not_found: "NOT_FOUND",
  conflict: "CONFLICT",
  too_large: "INVALID_REQUEST",
  rate_limited: "RATE_LIMITED",
  unavailable: "UNAVAILABLE",
  upstream: "UNAVAILABLE",
  timeout: "AGENT_TIMEOUT",
  cancelled: "UNAVAILABLE",
  budget: "RATE_LIMITED",
  locked: "CONFLICT",
  internal: "UNAVAILABLE",
} as const satisfies Record<ErrorCode, WireErrorCode>;

const V4_ONLY: ReadonlySet<WireErrorCode> = new Set([
  "FORBIDDEN",
  "UNAUTHORIZED",
  "RATE_LIMITED",
  "NOT_FOUND",
  "CONFLICT",
]);

/** An error as the wire says it; protocol 3 knows fewer codes. */
export function toWireError(error: AppError, protocol: number): WireError {
  const code = WIRE_CODE[error.code];
  const details = {
    ...error.details,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
  return {
    code: protocol < 4 && V4_ONLY.has(code) ? "INVALID_REQUEST" : code,
    message: error.message,
    ...(error.code === "unavailable" || error.code === "rate_limited"
      ? { retryable: true }
      : {}),
    ...(error.retryAfterMs === undefined
      ? {}
      : { retryAfterMs: Math.ceil(error.retryAfterMs) }),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}
