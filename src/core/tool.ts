/**
 * What a tool states about itself. One schema serves three times: what the model
 * is shown, what its arguments are checked by, what the function receives.
 *
 * Never: a tool decides whether it may run; `guard` does, from what is here.
 *
 * @module
 */
import { z } from "zod";
import type { Authority, Scope } from "./authority.ts";
import type { Label } from "./label.ts";
import type { ToolSpec } from "./model.ts";

/** What a call does to the world, from least to most. */
export const Effect = z.enum([
  "none",
  "read_private",
  "fetch",
  "outbound",
  "message",
  "write",
  "exec",
  "schedule",
  "configure",
  "spend",
]);
export type Effect = z.infer<typeof Effect>;

/** How a result is labelled, on top of the join of its arguments. */
export interface ResultLabel {
  integrity: "inherit" | "untrusted" | "owner";
  secrecy: "inherit" | "private";
}

/** An argument that names a place: a dotted path into the arguments. */
export interface Destination {
  path: string;
  kind: "url" | "address" | "path";
  /** The argument is a question put to this URL: the place is both together. */
  at?: string;
}

/** What a running tool is given. */
export interface ToolContext {
  runId: string;
  sessionKey: string;
  agentId: string;
  authority: Authority;
  /** The label of the call's arguments. */
  label: Label;
  signal: AbortSignal;
  now(): number;
  /** The binding of the {@linkcode CallPlan} that was approved, if one was. */
  plan?: string | undefined;
  /** The tools this turn may use, those not shown to the model yet too. */
  tools?(): readonly Tool[];
}

/** What a tool gives back. A label here can only lower the computed one. */
export interface ToolOutput {
  text: string;
  isError?: boolean;
  label?: Label;
}

/** What exactly one call would do, beyond its arguments. */
export interface CallPlan {
  /** An approval is for exactly this. */
  binding: string;
  /** The same for a person, every byte of it; a line an element. */
  card: readonly string[];
}

/** A tool. `run` gets arguments that its schema accepted. */
export interface Tool<Input = unknown> {
  name: string;
  about: string;
  input: z.ZodType<Input>;
  /** What a model is shown instead of what `input` says: a guest's own schema. */
  schema?: Readonly<Record<string, unknown>>;
  scope: Scope;
  effect: Effect;
  /** What it was granted implies; the higher of the two counts. */
  implied?: Effect;
  /**
   * Whose things it acts on. A paired sender may use what is `own` (their own
   * session and memory); anything else that reads or acts is the owner's.
   */
  reach?: "own" | "owner";
  result: ResultLabel;
  destinations: readonly Destination[];
  /** The default limit of a call is the agent's; a tool may state a lower one. */
  limitMs?: number;
  /**
   * What its name stands for besides: a command's template, an accepted
   * definition. An approval is for exactly this.
   */
  binding?: string;
  /**
   * What a call would do as things stand now. It is asked for before the owner
   * is, again when the answer came, and `run` is given what was approved.
   *
   * @throws {AppError} when the call could not be made at all
   */
  plan?(input: Input, signal: AbortSignal): Promise<CallPlan>;
  /**
   * It waits for another run, which needs a place: the call's own is given back
   * meanwhile, and only `limitMs` limits it.
   */
  waits?: true;
  run(
    input: Input,
    context: ToolContext,
  ): Promise<ToolOutput | string> | ToolOutput | string;
}

/** Keeps a tool's input type while it is written; forgets it in a list. */
export function tool<Input>(spec: Tool<Input>): Tool {
  return spec as Tool;
}

/** What a model is shown of a tool. */
export function toToolSpec(spec: Tool): ToolSpec {
  const { $schema: _, ...schema } = spec.schema ??
    z.toJSONSchema(spec.input, { io: "input" });
  return { name: spec.name, description: spec.about, schema };
}
