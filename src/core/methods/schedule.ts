/**
 * The contracts of the WebSocket methods for jobs, wake-ups and the heartbeat.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";
import { AgentId } from "../ids.ts";
import { Schedule, type ScheduleActor, ScheduleInput } from "../schedule.ts";

const Nothing = z.strictObject({});
const JobId = z.string().min(1).max(64);
const Text = z.string().min(1).max(16_000);
const Model = z.string().min(1).max(256);

/** What a job does: tells its session of an event, or gives the agent a task. */
export const JobPayload = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("systemEvent"), text: Text }),
  z.strictObject({
    kind: z.literal("agentTurn"),
    message: Text,
    model: Model.optional(),
    thinkingTokens: z.int().min(0).max(200_000).optional(),
    timeoutSeconds: z.int().min(1).max(86_400).optional(),
  }),
]);
export type JobPayload = z.infer<typeof JobPayload>;

/** Where its answer goes besides its own conversation. */
export const JobDelivery = z.strictObject({
  mode: z.enum(["none", "announce"]),
  /** An address that `message_send` takes: `owner`, a session's key, … */
  to: z.string().min(1).max(300).optional(),
});
export type JobDelivery = z.infer<typeof JobDelivery>;

/** What is done about due times that passed while nothing ran. */
export const MissedPolicy = z.enum(["run_once", "skip", "run_all"]);
export type MissedPolicy = z.infer<typeof MissedPolicy>;

/** One thing a job may do with nobody to ask: a tool, at these places only. */
export const JobGrant = z.strictObject({
  tool: z.string().min(1).max(128),
  places: z.array(z.string().min(1).max(512)).max(16).default([]),
});
export type JobGrant = z.infer<typeof JobGrant>;

/** What can be said of a job. */
const fields = {
  name: z.string().min(1).max(80),
  agentId: AgentId,
  schedule: ScheduleInput,
  sessionTarget: z.enum(["main", "isolated"]),
  /** For events to the main session: at once, or with the next heartbeat. */
  wakeMode: z.enum(["now", "next-heartbeat"]),
  payload: JobPayload,
  delivery: JobDelivery,
  missed: MissedPolicy,
  jitterMs: z.int().min(0).max(3_600_000),
  deleteAfterRun: z.boolean(),
  enabled: z.boolean(),
  /** Tools it may use; all of its maker's without this. */
  tools: z.array(z.string().min(1).max(128)).max(128),
  grants: z.array(JobGrant).max(16),
};

const Outcome = z.enum(["running", "ok", "error", "skipped", "missed"]);

/** A job, as it is shown. */
export const JobView = z.object({
  id: z.string(),
  name: z.string(),
  enabled: z.boolean(),
  /** Why it is off, when nobody turned it off. */
  disabledBecause: z.string().optional(),
  by: z.string(),
  /** Whose words its text is. */
  integrity: z.string(),
  agentId: z.string(),
  sessionKey: z.string(),
  sessionTarget: z.string(),
  wakeMode: z.string(),
  schedule: Schedule,
  /** The schedule in words. */
  when: z.string(),
  payload: JobPayload,
  delivery: JobDelivery,
  missed: MissedPolicy,
  jitterMs: z.int(),
  deleteAfterRun: z.boolean(),
  tools: z.union([z.literal("any"), z.array(z.string())]),
  grants: z.array(JobGrant),
  createdAtMs: z.int(),
  updatedAtMs: z.int(),
  state: z.object({
    nextRunAtMs: z.int().optional(),
    runningAtMs: z.int().optional(),
    lastRunAtMs: z.int().optional(),
    lastStatus: Outcome.optional(),
    lastError: z.string().optional(),
    lastDurationMs: z.int().optional(),
    consecutiveErrors: z.int(),
  }),
});
export type JobView = z.infer<typeof JobView>;

/** One due time of a job and what became of it. */
export const JobRunView = z.object({
  jobId: z.string(),
  dueAtMs: z.int(),
  ts: z.int(),
  /** How long after its due time it began. */
  lateMs: z.int(),
  status: Outcome,
  /** Begun by hand. */
  manual: z.boolean(),
  runId: z.string().optional(),
  sessionKey: z.string().optional(),
  durationMs: z.int().optional(),
  error: z.string().optional(),
  summary: z.string().optional(),
  inputTokens: z.int().optional(),
  outputTokens: z.int().optional(),
  /** What it cost, where the model has a price. */
  usd: z.number().optional(),
  /** Due times this row stands for, when they were missed. */
  missed: z.int().optional(),
  /** Where the answer went, or why it did not. */
  delivered: z.string().optional(),
});
export type JobRunView = z.infer<typeof JobRunView>;

/** What became of a heartbeat. */
export const HeartbeatView = z.object({
  ts: z.int(),
  status: z.enum(["sent", "ok-token", "ok-empty", "skipped", "failed"]),
  reason: z.string().optional(),
  preview: z.string().optional(),
  runId: z.string().optional(),
  durationMs: z.int().optional(),
});
export type HeartbeatView = z.infer<typeof HeartbeatView>;

/** `id` and `jobId` are the same: clients write either. */
const Named = z.strictObject({ id: JobId.optional(), jobId: JobId.optional() })
  .refine(({ id, jobId }) => id ?? jobId, { error: "say which job: id" });

export const SCHEDULE_METHODS = contracts({
  "cron.status": {
    scope: "read",
    about: "How many jobs there are, and when the next one is due",
    input: () => Nothing,
    output: () =>
      z.object({
        enabled: z.boolean(),
        jobs: z.int(),
        running: z.int(),
        jobsMax: z.int(),
        nextWakeAtMs: z.int().optional(),
        zone: z.string(),
        heartbeat: z.object({
          enabled: z.boolean(),
          nextAtMs: z.int().optional(),
          stoppedBecause: z.string().optional(),
        }),
      }),
  },
  "cron.list": {
    scope: "read",
    about: "The caller's jobs; the owner sees all",
    input: () => z.strictObject({ includeDisabled: z.boolean().optional() }),
    output: () => z.object({ jobs: z.array(JobView) }),
  },
  "cron.preview": {
    scope: "read",
    about: "A schedule in words, and its next times",
    input: () =>
      z.strictObject({
        schedule: ScheduleInput,
        count: z.int().min(1).max(20).optional(),
      }),
    output: () =>
      z.object({
        schedule: Schedule,
        when: z.string(),
        next: z.array(z.int()),
        text: z.array(z.string()),
      }),
  },
  "cron.add": {
    scope: "write",
    about: "Add a job; it acts with the caller's authority and no more",
    input: () =>
      z.strictObject(fields).partial().required({
        schedule: true,
        payload: true,
      }),
    output: () => JobView,
  },
  "cron.update": {
    scope: "write",
    about:
      "Change a job of one's own; it then acts with the authority of who changed it, within what it had",
    input: () =>
      z.strictObject({
        id: JobId.optional(),
        jobId: JobId.optional(),
        patch: z.strictObject(fields).partial(),
      }).refine(({ id, jobId }) => id ?? jobId, { error: "say which job: id" }),
    output: () => JobView,
  },
  "cron.remove": {
    scope: "write",
    about: "Remove a job; what runs goes on to its end",
    input: () => Named,
    output: () => z.object({ ok: z.literal(true), removed: z.boolean() }),
  },
  "cron.run": {
    scope: "write",
    about: "Run a job now, once for an idempotency key",
    input: () =>
      z.strictObject({
        id: JobId.optional(),
        jobId: JobId.optional(),
        /** `due`: only if it is. */
        mode: z.enum(["force", "due"]).optional(),
        idempotencyKey: z.string().min(1).max(128).optional(),
      }).refine(({ id, jobId }) => id ?? jobId, { error: "say which job: id" }),
    output: () =>
      z.object({
        ok: z.literal(true),
        /** Whether this call began it. */
        ran: z.boolean(),
        runId: z.string().optional(),
        reason: z.string().optional(),
      }),
  },
  "cron.runs": {
    scope: "read",
    about: "What became of a job's due times, newest first; kept for 7 days",
    input: () =>
      z.strictObject({
        id: JobId.optional(),
        jobId: JobId.optional(),
        limit: z.int().min(1).max(500).optional(),
        /** Older than this; the last answer's `nextBefore`. */
        before: z.int().optional(),
      }).refine(({ id, jobId }) => id ?? jobId, { error: "say which job: id" }),
    output: () =>
      z.object({
        entries: z.array(JobRunView),
        nextBefore: z.int().optional(),
      }),
  },
  wake: {
    scope: "write",
    about: "Start a turn now, or leave a word for the next heartbeat",
    input: () =>
      z.strictObject({
        mode: z.enum(["now", "next-heartbeat"]).default("now"),
        text: Text.optional(),
        idempotencyKey: z.string().min(1).max(128).optional(),
      }),
    output: () =>
      z.object({
        ok: z.literal(true),
        runId: z.string().optional(),
        /** Words that wait for a heartbeat. */
        queued: z.int().optional(),
        /** Whether there will be one. */
        heartbeats: z.boolean(),
      }),
  },
  "last-heartbeat": {
    scope: "read",
    about: "What became of the last heartbeat; nothing before the first",
    input: () => Nothing,
    output: () => HeartbeatView.nullable(),
  },
  "set-heartbeats": {
    scope: "write",
    about: "Turn heartbeats on or off; the owner's only",
    input: () => z.strictObject({ enabled: z.boolean() }),
    output: () =>
      z.object({
        ok: z.literal(true),
        enabled: z.boolean(),
        nextAtMs: z.int().optional(),
      }),
  },
});

export type ScheduleMethod = keyof typeof SCHEDULE_METHODS;
export type ScheduleInputOf<M extends ScheduleMethod> = z.output<
  (typeof SCHEDULE_METHODS)[M]["input"]
>;
export type ScheduleOutputOf<M extends ScheduleMethod> = z.output<
  (typeof SCHEDULE_METHODS)[M]["output"]
>;

/** The schedule as doors and tools see it: one act for each method. */
export interface ScheduleBus {
  /** @throws {AppError} `forbidden`, `bad_input`, `not_found`, `conflict`, `rate_limited` */
  run<M extends ScheduleMethod>(
    method: M,
    params: ScheduleInputOf<M>,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<M>>;
  /** What people write, in words: the schedule, then its next three times. */
  words(text: string, zone?: string): Promise<string[]>;
}
