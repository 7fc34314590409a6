/**
 * Jobs, what became of each of their due times, and the heartbeat's state.
 *
 * A `tick` row is the claim of a due time: it must not exist yet, and goes into
 * the same unit as the run it starts, so a due time is run once or not at all.
 *
 * @module
 */
import { z } from "zod";
import { AuthorityRecord } from "../core/authority.ts";
import { AgentId, idSchema } from "../core/ids.ts";
import { Label } from "../core/label.ts";
import { Usage } from "../core/message.ts";
import { Schedule } from "../core/schedule.ts";
import {
  HeartbeatView,
  JobDelivery,
  JobGrant,
  JobPayload,
  MissedPolicy,
} from "../core/methods/schedule.ts";
import { RunId } from "../core/turn.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** How long what became of a due time is kept. */
const TICK_KEPT_MS = 7 * 86_400_000;

export const TickOutcome = z.enum([
  "running",
  "ok",
  "error",
  "skipped",
  "missed",
]);
export type TickOutcome = z.infer<typeof TickOutcome>;

/** A run of a job that is not known to be over, or whose answer is on its way. */
const OpenTick = z.strictObject({
  runId: RunId,
  dueAt: z.int(),
  at: z.int(),
});
export type OpenTick = z.infer<typeof OpenTick>;

/** One job. */
export const Job = z.strictObject({
  id: idSchema("job"),
  name: z.string().max(80),
  enabled: z.boolean(),
  disabledBecause: z.string().max(500).optional(),
  /** What its runs may do: its maker's when it was made, or less. */
  authority: AuthorityRecord,
  /** Whose words its text is; it never gains integrity. */
  label: Label,
  agentId: AgentId,
  schedule: Schedule,
  sessionTarget: z.enum(["main", "isolated"]),
  wakeMode: z.enum(["now", "next-heartbeat"]),
  payload: JobPayload,
  delivery: JobDelivery,
  missed: MissedPolicy,
  jitterMs: z.int().min(0),
  deleteAfterRun: z.boolean(),
  grants: z.array(JobGrant).max(16),
  createdAt: z.int(),
  updatedAt: z.int(),
  /** The due time that is next, without jitter; absent when there is none. */
  nextAt: z.int().optional(),
  running: OpenTick.optional(),
  /** Its answer is being delivered. */
  delivering: OpenTick.optional(),
  lastRunAt: z.int().optional(),
  lastOutcome: TickOutcome.optional(),
  lastError: z.string().max(500).optional(),
  lastDurationMs: z.int().optional(),
  failures: z.int().nonnegative(),
});
export type Job = z.infer<typeof Job>;

/** A due time and what became of it. */
export const Tick = z.strictObject({
  jobId: idSchema("job"),
  dueAt: z.int(),
  at: z.int(),
  lateMs: z.int(),
  outcome: TickOutcome,
  manual: z.boolean().default(false),
  runId: RunId.optional(),
  sessionKey: z.string().max(300).optional(),
  endedAt: z.int().optional(),
  reason: z.string().max(500).optional(),
  /** The beginning of the answer. */
  reply: z.string().max(400).optional(),
  usage: Usage.optional(),
  /** Nano-dollars. */
  nano: z.int().nonnegative().optional(),
  missed: z.int().positive().optional(),
  delivered: z.string().max(500).optional(),
});
export type Tick = z.infer<typeof Tick>;

/** A word left for the next heartbeat. */
export const WakeWord = z.strictObject({
  id: idSchema("wake"),
  text: z.string().max(16_000),
  label: Label,
  by: z.string().max(256),
  /** Of who left it: the beat that reads it may do no more. */
  authority: AuthorityRecord.optional(),
  at: z.int(),
});
export type WakeWord = z.infer<typeof WakeWord>;

/** The heartbeat: how it was set, and what became of the last beats. */
export const HeartState = z.strictObject({
  /** How the owner set it at run time; the configuration counts without this. */
  enabled: z.boolean().optional(),
  /** As whom it acts when it was set at run time. */
  authority: AuthorityRecord.optional(),
  stoppedBecause: z.string().max(500).optional(),
  nextAt: z.int().optional(),
  running: OpenTick.optional(),
  delivering: OpenTick.optional(),
  /** Empty beats in a row. */
  empty: z.int().nonnegative(),
  /** Beats of one day of its zone. */
  day: z.string().max(16),
  beats: z.int().nonnegative(),
  last: HeartbeatView.optional(),
});
export type HeartState = z.infer<typeof HeartState>;

/** The `job`, `tick`, `wake_word` and `heartbeat` collections. */
export class Jobs {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async list(): Promise<Job[]> {
    const jobs: Job[] = [];
    const prefix = makeKey("job");
    for await (const { value } of this.#values.list({ prefix }, Job)) {
      jobs.push(value);
    }
    return jobs;
  }

  row(job: Job): Row {
    const value = Job.parse(job);
    return { key: makeKey("job", value.id), value };
  }

  deletion(id: string): Row {
    return { key: makeKey("job", id), value: undefined };
  }

  async findTick(jobId: string, dueAt: number): Promise<Tick | undefined> {
    return await this.#values.find(makeKey("tick", jobId, dueAt), Tick);
  }

  /** Claims a due time; a unit with a second claim of it is a `conflict`. */
  claim(tick: Tick): Row {
    return { ...this.tickRow(tick), absent: true };
  }

  /** Says what became of a due time that was claimed. */
  tickRow(tick: Tick): Row {
    const value = Tick.parse(tick);
    return {
      key: makeKey("tick", value.jobId, value.dueAt),
      value,
      expireInMs: TICK_KEPT_MS,
    };
  }

  /** What became of a job's due times, newest first. */
  async ticks(
    jobId: string,
    options: { limit: number; before?: number },
  ): Promise<Tick[]> {
    const { limit, before } = options;
    const ticks: Tick[] = [];
    const stretch = {
      prefix: makeKey("tick", jobId),
      ...(before === undefined ? {} : { end: makeKey("tick", jobId, before) }),
      limit,
      reverse: true,
    };
    for await (const { value } of this.#values.list(stretch, Tick)) {
      ticks.push(value);
    }
    return ticks;
  }

  async heart(): Promise<HeartState | undefined> {
    return await this.#values.find(makeKey("heartbeat", "main"), HeartState);
  }

  heartRow(state: HeartState): Row {
    return {
      key: makeKey("heartbeat", "main"),
      value: HeartState.parse(state),
    };
  }

  async wakeWords(): Promise<WakeWord[]> {
    const words: WakeWord[] = [];
    const prefix = makeKey("wake_word");
    for await (const { value } of this.#values.list({ prefix }, WakeWord)) {
      words.push(value);
    }
    return words;
  }

  wakeRow(word: WakeWord): Row {
    const value = WakeWord.parse(word);
    return { key: makeKey("wake_word", value.id), value };
  }

  wakeDeletion(id: string): Row {
    return { key: makeKey("wake_word", id), value: undefined };
  }
}
