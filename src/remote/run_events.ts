/**
 * One run as a client sees it: the wire's `agent` and `chat` events put into one
 * order, without repetitions, until it ends.
 *
 * @module
 */
import { Usage } from "../core/message.ts";
import { AgentEvent, ChatEvent } from "../core/protocol.ts";
import type { Resume } from "./handshake.ts";

/** What a terminal shows of a run. */
export type RunEvent =
  | { kind: "queued"; position: number }
  | { kind: "step"; step: number; model: string }
  | { kind: "text"; text: string }
  | { kind: "thinking"; text: string }
  | { kind: "tool_call"; callId: string; name: string; args: unknown }
  | { kind: "tool_result"; name: string; text: string; isError: boolean }
  | { kind: "decision"; name: string; verdict: string; reason: string }
  | {
    kind: "ask";
    approvalId: string;
    name: string;
    args: unknown;
    question: string;
    expiresAt: number;
    /** What may be answered, as `/approve` takes it. */
    answers: readonly string[];
    /** What is asked in full; empty from a gateway that sends none. */
    card: readonly string[];
  }
  | RunEnd;

/** How a run ended; `reply` is its whole answer. */
export interface RunEnd {
  kind: "end";
  state: "final" | "aborted" | "error";
  /** Why it did not end with an answer, where the gateway says it. */
  reason?: string;
  reply: string;
  message?: string;
  hint?: string;
  usage?: Usage;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function toUsage(value: unknown): Usage | undefined {
  const parsed = Usage.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/** Once and no are always answers; more only when the gateway offers it. */
function toAnswers(value: unknown): readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string")
    ? value
    : ["allow-once", "deny"];
}

function toLines(value: unknown): readonly string[] {
  return Array.isArray(value)
    ? value.filter((one) => typeof one === "string")
    : [];
}

/** One `agent` event's data as a run event. The field's own names are read too. */
function fromAgent(event: AgentEvent): RunEvent | undefined {
  const { data } = event;
  const name = text(data["name"]);
  switch (event.stream) {
    case "assistant":
      return { kind: "text", text: text(data["delta"] ?? data["text"]) };
    case "thinking":
      return { kind: "thinking", text: text(data["delta"] ?? data["text"]) };
    case "tool": {
      const callId = text(data["callId"] ?? data["toolCallId"]);
      const isCall = data["phase"] === "start" || data["kind"] === "tool_call";
      if (isCall) {
        return { kind: "tool_call", callId, name, args: data["args"] };
      }
      const result = data["text"] ?? data["result"];
      return {
        kind: "tool_result",
        name,
        text: typeof result === "string"
          ? result
          : JSON.stringify(result) ?? "",
        isError: data["isError"] === true,
      };
    }
    case "decision":
      return {
        kind: "decision",
        name,
        verdict: text(data["verdict"]),
        reason: text(data["reason"]),
      };
    case "approval":
      return {
        kind: "ask",
        approvalId: text(data["approvalId"] ?? data["id"]),
        name,
        args: data["args"],
        question: text(data["question"]),
        expiresAt: Number(data["expiresAt"] ?? 0),
        answers: toAnswers(data["answers"]),
        card: toLines(data["card"]),
      };
    case "lifecycle": {
      const kind = data["kind"] ?? data["phase"];
      if (kind === "queued") {
        return { kind, position: Number(data["position"] ?? 0) };
      }
      if (kind === "step") {
        return {
          kind,
          step: Number(data["step"] ?? 0),
          model: text(data["model"]),
        };
      }
    }
  }
}

/**
 * Follows one run. `seq` grows within a run, so what was seen is skipped when a
 * new connection sends it again.
 */
export class RunFollower {
  readonly runId: string;
  readonly #sessionKey: string;
  #agentSeq = 0;
  /** The words of the present step, and which it is. */
  #said = "";
  #step = 0;
  #usage: Usage | undefined;
  #hint: string | undefined;
  #message: string | undefined;
  #ended = false;

  constructor(run: { runId: string; sessionKey: string }) {
    this.runId = run.runId;
    this.#sessionKey = run.sessionKey;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** What a new connection asks for; nothing once the run has ended. */
  resume(): Resume | undefined {
    if (this.#ended) return undefined;
    return {
      sessionKey: this.#sessionKey,
      runId: this.runId,
      // One is asked for again: the `chat` event of the last `seq` may be missing.
      seq: Math.max(0, this.#agentSeq - 1),
    };
  }

  /** Takes any event of the connection; says what is new of this run. */
  take(event: string, payload: unknown): RunEvent | undefined {
    if (this.#ended) return undefined;
    if (event === "agent") {
      const parsed = AgentEvent.safeParse(payload);
      if (parsed.success && parsed.data.runId === this.runId) {
        return this.#takeAgent(parsed.data);
      }
    } else if (event === "chat") {
      const parsed = ChatEvent.safeParse(payload);
      if (parsed.success && parsed.data.runId === this.runId) {
        return this.#takeChat(parsed.data);
      }
    }
    return undefined;
  }

  /** Ends the run from its stored outcome, when its events were lost. */
  end(outcome: Omit<RunEnd, "kind">): RunEnd {
    this.#ended = true;
    return { kind: "end", ...outcome };
  }

  #takeAgent(event: AgentEvent): RunEvent | undefined {
    if (event.seq <= this.#agentSeq) return undefined;
    this.#agentSeq = event.seq;
    if (event.stream === "lifecycle") {
      this.#usage = toUsage(event.data["usage"]) ?? this.#usage;
      this.#hint = text(event.data["hint"]) || this.#hint;
      this.#message = text(event.data["message"]) || this.#message;
    }
    const known = fromAgent(event);
    if (known?.kind === "step" && known.step !== this.#step) {
      this.#step = known.step;
      this.#said = "";
    }
    if (known?.kind !== "text") return known;
    // Without a delta, `text` is one.
    const isWhole = typeof event.data["delta"] === "string";
    const all = isWhole ? event.data["text"] : undefined;
    const fresh = this.#freshText(known.text, all);
    return fresh === "" ? undefined : { kind: "text", text: fresh };
  }

  /**
   * What is new of a step's words. After a restart of the gateway the step is
   * taken again, and tells from its beginning; after a gap it tells all so far.
   *
   * @param all The step's words so far, where the gateway sends them
   */
  #freshText(delta: string, all: unknown): string {
    const before = this.#said;
    if (typeof all !== "string") {
      this.#said += delta;
      return delta;
    }
    if (before.startsWith(all)) return "";
    this.#said = all;
    // Other words than before: they stand apart from what was shown.
    return all.startsWith(before) ? all.slice(before.length) : `\n\n${all}`;
  }

  /** Only its end is taken from `chat`; the text came as `agent` events. */
  #takeChat(event: ChatEvent): RunEvent | undefined {
    if (event.state === "delta") return undefined;
    const usage = toUsage(event.usage) ?? this.#usage;
    const message = event.errorMessage ?? this.#message;
    return this.end({
      state: event.state,
      reply: event.message?.content.map((part) => part.text).join("") ?? "",
      ...(usage === undefined ? {} : { usage }),
      ...(event.stopReason === undefined ? {} : { reason: event.stopReason }),
      ...(message === undefined ? {} : { message }),
      ...(this.#hint === undefined ? {} : { hint: this.#hint }),
    });
  }
}
