/**
 * One tool call that somebody makes by name: a turn without a model. It is
 * admitted, stored, decided, asked about, run, labelled and ended as any other
 * turn is, by the same code.
 *
 * Never: a second way to run a tool; a result whose readers may not know it.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Label } from "../core/label.ts";
import type { ToolCallPart } from "../core/message.ts";
import type { TurnEvent, TurnEventBody } from "../core/turn.ts";
import { runCalls } from "./calls.ts";
import { pendingCalls } from "./context.ts";
import { type LoopEnd, replyDecision } from "./loop.ts";
import type { Running } from "./turn.ts";
import type { NamedCall, TurnRequest, Turns } from "./turns.ts";

/** Its id among a run's calls: there is only this one. */
const CALL_ID = "call_1";

/** How a named call came out. */
export interface Invoked {
  runId: string;
  /** What was decided last, and why. */
  verdict: "allow" | "deny";
  reason: string;
  /** What the tool said, or why it did not run. */
  text: string;
  isError: boolean;
}

/** What a caller must say of itself; `inbound` carries its label and its name. */
export type InvokeRequest =
  & Pick<TurnRequest, "inbound" | "authority" | "agentId" | "attended">
  & { call: NamedCall; signal: AbortSignal };

/** A call as it stands in the history, with its caller's label. */
export function toCallPart(call: NamedCall, label: Label): ToolCallPart {
  const args = (call.args ?? {}) as ToolCallPart["args"];
  return { kind: "tool_call", id: CALL_ID, name: call.name, args, label };
}

/** The turn's only step. */
export async function* runInvoked(
  running: Running,
): AsyncGenerator<TurnEventBody, LoopEnd> {
  const { turn } = running;
  const results = yield* runCalls(running, pendingCalls(turn.history));
  turn.append("tool", results);
  const decision = replyDecision(turn);
  return decision.verdict === "allow"
    ? { reason: "done", reply: results.map(({ text }) => text).join("\n") }
    : {
      reason: "denied",
      reply: "",
      message: `The result was held back: ${decision.reason}`,
    };
}

/**
 * Runs a tool for a caller, in a session of its own.
 *
 * @throws {AppError} what admission throws, and when the run did not end well;
 * a refusal and a tool's own failure are values
 */
export async function invokeTool(
  turns: Pick<Turns, "start">,
  request: InvokeRequest,
): Promise<Invoked> {
  const run = await turns.start(request);
  let verdict: Invoked["verdict"] = "deny";
  let reason = "";
  let result: Extract<TurnEvent, { kind: "tool_result" }> | undefined;
  for await (const event of run.events) {
    if (event.kind === "decision") {
      verdict = event.verdict === "allow" ? "allow" : "deny";
      reason = event.reason;
    } else if (event.kind === "tool_result") result = event;
    else if (event.kind === "end") {
      request.signal.throwIfAborted();
      if (event.reason === "denied") {
        const text = event.message ?? "";
        return {
          runId: run.runId,
          verdict: "deny",
          reason: text,
          text,
          isError: true,
        };
      }
      if (event.reason !== "done" || result === undefined) {
        throw new AppError(
          event.reason === "time" ? "timeout" : "unavailable",
          event.message ?? `The call ended: ${event.reason}`,
          event.hint === undefined ? {} : { hint: event.hint },
        );
      }
      const { text, isError } = result;
      return { runId: run.runId, verdict, reason, text, isError };
    }
  }
  throw new AppError("internal", "The call's events broke off");
}
