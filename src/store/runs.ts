/**
 * Runs: what a turn's execution has reached, and which are not at their end.
 *
 * @module
 */
import { z } from "zod";
import { AuthorityRecord } from "../core/authority.ts";
import { Destination } from "../core/channel.ts";
import { AgentId, idSchema, SessionKey } from "../core/ids.ts";
import { Part, Usage } from "../core/message.ts";
import { Effect } from "../core/tool.ts";
import { EndReason, RunId, RunState } from "../core/turn.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** A tool call that was begun and is not known to be over. */
export const CallInFlight = z.strictObject({
  callId: z.string().max(256),
  name: z.string().max(256),
  effect: Effect,
});
export type CallInFlight = z.infer<typeof CallInFlight>;

/** One run as the journal knows it. */
export const Run = z.strictObject({
  id: RunId,
  sessionKey: SessionKey,
  sessionId: idSchema("ses"),
  agentId: AgentId,
  state: RunState,
  authority: AuthorityRecord,
  /** The event that started it. */
  inbound: z.strictObject({
    channel: z.string().max(64),
    account: z.string().max(128),
    id: z.string().max(512),
  }),
  channel: z.string().max(64),
  /** Where its answer goes, as the network names it. */
  replyTo: z.string().max(512).optional(),
  /** Where its answer is carried by the outbox; else its caller listens. */
  deliver: Destination.optional(),
  /** What the turn is about, until it is a message of the session. */
  input: z.strictObject({
    parts: z.array(Part),
    sender: z.string().max(256),
  }).optional(),
  options: z.strictObject({
    outputTokensMax: z.int().positive().optional(),
    temperature: z.number().optional(),
    limitMs: z.int().positive().optional(),
    /** Its caller runs tools of its own, so only that caller can go on. */
    clientTools: z.boolean().optional(),
    /** One tool call by name, without a model; only its caller can repeat it. */
    invoked: z.boolean().optional(),
    /** A chat command: its input is its text, and doing it again is harmless. */
    command: z.boolean().optional(),
  }).optional(),
  /** How often a restart took it up again. */
  resumes: z.int().nonnegative(),
  step: z.int().nonnegative(),
  model: z.string().max(256).optional(),
  thinkingTokens: z.int().nonnegative().optional(),
  attended: z.boolean(),
  transient: z.boolean(),
  createdAt: z.int(),
  updatedAt: z.int(),
  startedAt: z.int().optional(),
  endedAt: z.int().optional(),
  inFlight: z.array(CallInFlight).max(256),
  approvalId: idSchema("apr").optional(),
  reply: z.string().optional(),
  usage: Usage,
  end: z.strictObject({
    reason: EndReason,
    message: z.string().optional(),
    hint: z.string().optional(),
    errorClass: z.string().optional(),
  }).optional(),
});
export type Run = z.infer<typeof Run>;

const ENDED: ReadonlySet<RunState> = new Set(["done", "failed", "cancelled"]);

const Open = z.strictObject({ at: z.int() });

/** The `run` collection and the index of open ones. */
export class Runs {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(id: string): Promise<Run | undefined> {
    return await this.#values.find(makeKey("run", id), Run);
  }

  /** The rows that store a run; `previous` is what was stored before. */
  rows(next: Run, previous?: Run): Row[] {
    const run = Run.parse(next);
    const rows: Row[] = [{ key: makeKey("run", run.id), value: run }];
    const isOpen = !ENDED.has(run.state);
    const wasOpen = previous !== undefined && !ENDED.has(previous.state);
    if (previous === undefined || isOpen !== wasOpen) {
      rows.push({
        key: makeKey("runs_open", run.id),
        value: isOpen ? { at: run.createdAt } : undefined,
      });
    }
    if (previous === undefined) {
      rows.push({
        key: makeKey("run_by_session", run.sessionId, run.id),
        value: { at: run.createdAt },
      });
    }
    return rows;
  }

  /** Runs that did not end, oldest first. */
  async open(): Promise<Run[]> {
    const runs: Run[] = [];
    const prefix = makeKey("runs_open");
    for await (const { key } of this.#values.list({ prefix }, Open)) {
      const id = String(key[2]);
      try {
        const run = await this.find(id);
        if (run !== undefined && !ENDED.has(run.state)) runs.push(run);
      } catch (error) {
        this.#values.skip(makeKey("run", id), error);
      }
    }
    return runs;
  }
}
