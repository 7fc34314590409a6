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
import { pendingCalls } from "./context/context.ts";
import { type LoopEnd, replyDecision } from "./loop.ts";
import type { Running } from "./turn.ts";
import type { NamedCall, TurnRequest, Turns } from "./turns.ts";

/** Its id among a run's calls: there is only this one. */
const CALL_ID = "call_1";
/** Says with a run's end that the call did not come out well. */
const FAILED = "The call failed";

/**
 * How a named call came out: it ran and answered, it ran and failed, it was not
 * allowed, or there is no such tool or its arguments do not fit.
 */
export type InvokedOutcome = "done" | "failed" | "denied" | "unfit";

/** A named call's end. */
export interface Invoked {
  runId: string;
  outcome: InvokedOutcome;
  /** What was decided last, in words. */
  reason: string;
  /** What the tool said, or why it did not run. */
  text: string;
}

/** What a caller must say of itself; `inbound` carries its label and its name. */
export type InvokeRequest =
  & Pick<
    TurnRequest,
    "inbound" | "authority" | "agentId" | "attended" | "isKeyed"
  >
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
  if (decision.verdict !== "allow") {
    return {
      reason: "denied",
      reply: "",
      message: `The result was held back: ${decision.reason}`,
    };
  }
  return {
    reason: "done",
    reply: results.map(({ text }) => text).join("\n"),
    ...(results.some(({ isError }) => isError) ? { message: FAILED } : {}),
  };
}

/** What happened in a run, read from its events. */
class Reading {
  #verdict: "allow" | "deny" = "deny";
  #reason = "";
  #reply = "";
  #isError: boolean | undefined;

  take(event: TurnEvent): void {
    if (event.kind === "decision") {
      this.#verdict = event.verdict === "allow" ? "allow" : "deny";
      this.#reason = event.reason;
    } else if (event.kind === "tool_result") this.#isError = event.isError;
    else if (event.kind === "reply") this.#reply = event.text;
  }

  end(end: Extract<TurnEvent, { kind: "end" }>): Omit<Invoked, "runId"> {
    if (end.reason === "denied") {
      const reason = end.message ?? "it was denied";
      return { outcome: "denied", reason, text: reason };
    }
    if (end.reason !== "done") {
      throw new AppError(
        end.reason === "time" ? "timeout" : "unavailable",
        end.message ?? `The call ended: ${end.reason}`,
        end.hint === undefined ? {} : { hint: end.hint },
      );
    }
    const text = this.#reply;
    // Its events are gone: the same call was answered before.
    const isError = this.#isError ?? end.message === FAILED;
    const hasRun = this.#isError === undefined || this.#verdict === "allow";
    const outcome = hasRun
      ? isError ? "failed" : "done"
      : /^(?:The arguments|There is no tool) /.test(this.#reason)
      ? "unfit"
      : "denied";
    return { outcome, reason: this.#reason, text };
  }
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
  const reading = new Reading();
  for await (const event of run.events) {
    reading.take(event);
    if (event.kind !== "end") continue;
    request.signal.throwIfAborted();
    return { runId: run.runId, ...reading.end(event) };
  }
  throw new AppError("internal", "The call's events broke off");
}
