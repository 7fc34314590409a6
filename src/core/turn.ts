/**
 * What a turn tells whoever watches it: one union tagged by `kind`, used by the
 * WebSocket, SSE, channels, the terminal and tests alike.
 *
 * @module
 */
import { z } from "zod";
import { idSchema } from "./ids.ts";
import { Usage } from "./message.ts";

export const RunId = idSchema("run");

/** Why a run ended. */
export const EndReason = z.enum([
  "done",
  "cancelled",
  "error",
  "loop_detected",
  "steps",
  "tokens",
  "time",
  "budget",
  "denied",
  "interrupted",
]);
export type EndReason = z.infer<typeof EndReason>;

/** The state of a stored run. */
export const RunState = z.enum([
  "accepted",
  "running",
  "waiting_approval",
  "replying",
  "done",
  "failed",
  "cancelled",
]);
export type RunState = z.infer<typeof RunState>;

const base = {
  runId: RunId,
  /** Counts from 1 within the run, without gaps. */
  seq: z.int().positive(),
  at: z.int(),
};

/** How a decision came out, and the rule that spoke. */
export const Verdict = z.enum(["allow", "ask", "deny"]);
export type Verdict = z.infer<typeof Verdict>;

/** One event of a turn. */
export const TurnEvent = z.discriminatedUnion("kind", [
  z.strictObject({
    ...base,
    kind: z.literal("accepted"),
    sessionKey: z.string(),
    sessionId: z.string(),
    agentId: z.string(),
  }),
  z.strictObject({
    ...base,
    kind: z.literal("queued"),
    /** How many turns are before this one; 0 when it is next. */
    position: z.int().nonnegative(),
    /** `session`: behind its own session's turns; `global`: no free slot. */
    behind: z.enum(["session", "agent", "global"]),
  }),
  z.strictObject({
    ...base,
    kind: z.literal("step"),
    step: z.int().positive(),
    model: z.string(),
  }),
  z.strictObject({
    ...base,
    /** The oldest messages are shown to the model as notes from here on. */
    kind: z.literal("compacted"),
    messages: z.int(),
    tokensBefore: z.int(),
    tokensAfter: z.int(),
    by: z.enum(["model", "extract"]),
    /** What the notes do not hold. */
    dropped: z.string().optional(),
  }),
  z.strictObject({ ...base, kind: z.literal("text"), text: z.string() }),
  z.strictObject({ ...base, kind: z.literal("thinking"), text: z.string() }),
  z.strictObject({
    ...base,
    kind: z.literal("tool_call"),
    callId: z.string(),
    name: z.string(),
    args: z.json(),
  }),
  z.strictObject({
    ...base,
    kind: z.literal("decision"),
    callId: z.string(),
    name: z.string(),
    verdict: Verdict,
    reason: z.string(),
  }),
  z.strictObject({
    ...base,
    kind: z.literal("ask"),
    approvalId: z.string(),
    callId: z.string(),
    name: z.string(),
    args: z.json(),
    question: z.string(),
    /** What may be answered, as `/approve` takes it. */
    answers: z.array(z.string()),
    /** What is asked in full, with where each argument came from. */
    card: z.array(z.string()),
    expiresAt: z.int(),
  }),
  z.strictObject({
    ...base,
    kind: z.literal("tool_result"),
    callId: z.string(),
    name: z.string(),
    text: z.string(),
    isError: z.boolean(),
  }),
  z.strictObject({ ...base, kind: z.literal("usage"), usage: Usage }),
  z.strictObject({
    ...base,
    kind: z.literal("reply"),
    text: z.string(),
    /** `provider:model` that answered, or `carapace` for the program's own words. */
    model: z.string(),
    /** The model that should have answered, when a fallback did. */
    insteadOf: z.string().optional(),
  }),
  z.strictObject({
    ...base,
    kind: z.literal("end"),
    reason: EndReason,
    /** What happened and what to do, when the reason is not `done`. */
    message: z.string().optional(),
    hint: z.string().optional(),
    /** The class of a vendor's failure, when it was one. */
    errorClass: z.string().optional(),
    usage: Usage,
  }),
]);
export type TurnEvent = z.infer<typeof TurnEvent>;

/** A turn's event before its run numbers it. */
export type TurnEventBody = TurnEvent extends infer E
  ? E extends TurnEvent ? Omit<E, "runId" | "seq" | "at"> : never
  : never;
