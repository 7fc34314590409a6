/**
 * What each event of the wire carries. The documents are made from it, and the
 * tests hold what is sent against it.
 *
 * @module
 */
import { z } from "zod";
import { OutboxSummary } from "../../src/core/methods/channel.ts";
import { DeviceRole, PairRequest } from "../../src/core/methods/device.ts";
import {
  BudgetStanding,
  HealthPayload,
  PresenceEntry,
  StatusPayload,
} from "../../src/core/methods.ts";
import { NodeInvokeRequest } from "../../src/core/methods/node.ts";
import {
  AgentEvent,
  ChatEvent,
  type EventName,
} from "../../src/core/protocol.ts";
import { HeartbeatView } from "../../src/core/methods/schedule.ts";

const Resolved = z.object({
  requestId: z.string(),
  deviceId: z.string(),
  role: DeviceRole,
  decision: z.enum(["approved", "rejected"]),
  ts: z.int(),
});

/** One schema for every event. */
export const EVENT_PAYLOADS = {
  "connect.challenge": z.object({ nonce: z.string(), ts: z.int() }),
  tick: z.object({ ts: z.int() }),
  shutdown: z.object({ reason: z.string(), restartExpectedMs: z.int() }),
  presence: z.object({ presence: z.array(PresenceEntry) }),
  health: HealthPayload,
  heartbeat: HeartbeatView,
  chat: ChatEvent,
  agent: AgentEvent,
  cron: z.looseObject({
    jobId: z.string(),
    action: z.string(),
    nextRunAtMs: z.int().optional(),
  }),
  "device.pair.requested": PairRequest,
  "device.pair.resolved": Resolved,
  "node.pair.requested": PairRequest,
  "node.pair.resolved": Resolved,
  "node.invoke.request": NodeInvokeRequest,
  "exec.approval.requested": z.object({
    id: z.string(),
    kind: z.string(),
    runId: z.string(),
    sessionKey: z.string(),
    request: z.record(z.string(), z.unknown()),
    createdAtMs: z.int(),
    expiresAtMs: z.int(),
  }),
  "exec.approval.resolved": z.object({
    id: z.string(),
    kind: z.string(),
    runId: z.string(),
    callId: z.string(),
    verdict: z.string(),
  }),
  "sessions.changed": z.object({
    sessionKey: z.string(),
    key: z.string().optional(),
    agentId: z.string().optional(),
    reason: z.string(),
    ts: z.int(),
  }),
  "config.changed": z.object({ hash: z.string(), restart: z.boolean() }),
  "plugins.changed": z.object({
    id: z.string(),
    state: z.string(),
    why: z.string().optional(),
  }),
  outbox: OutboxSummary,
  posture: StatusPayload.shape.posture,
  "usage.budget": BudgetStanding.extend({ state: z.string(), day: z.string() }),
} as const satisfies Record<EventName, z.ZodType>;
