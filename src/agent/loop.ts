/**
 * The steps of a turn: ask the model, run what it calls, until it answers.
 *
 * Never: a step that is not bounded, a model's text that is not labelled.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import { checkModel } from "../guard/admission.ts";
import type { Label } from "../core/label.ts";
import {
  NO_USAGE,
  type Part,
  type ToolCallPart,
  type Usage,
} from "../core/message.ts";
import { ModelError, type ModelEvent, type StopReason } from "../core/model.ts";
import type { EndReason, TurnEventBody } from "../core/turn.ts";
import { decideReply, type Decision } from "../guard/decide.ts";
import { normalUrl } from "../guard/destinations.ts";
import { ReplyFilter } from "../guard/screen/reply.ts";
import { askReply, runCalls } from "./calls.ts";
import { pendingCalls } from "./context/context.ts";
import { holdsReply } from "./hooking.ts";
import { factsOf } from "./judging.ts";
import { inputTokensOf, meteredStream } from "./metered.ts";
import { assembleTurn, makeRoom } from "./context/overflow.ts";
import type { Running, Turn } from "./turn.ts";

/** How the loop came out, when it did not throw. */
export interface LoopEnd {
  reason: EndReason;
  reply: string;
  message?: string;
  hint?: string;
  /** `provider:model` that answered. */
  model?: string;
}

/** The same call with the same result this often is a loop. */
const REPEATS_MAX = 3;

/** An answer while it streams in. */
export class Answer {
  readonly parts: Part[] = [];
  usage: Usage = NO_USAGE;
  stop: StopReason | undefined;
  readonly #label: Label;

  constructor(label: Label) {
    this.#label = label;
  }

  get text(): string {
    let text = "";
    for (const part of this.parts) {
      if (part.kind === "text") text += part.text;
    }
    return text;
  }

  get calls(): ToolCallPart[] {
    return this.parts.filter((part) => part.kind === "tool_call");
  }

  take(event: ModelEvent): void {
    const last = this.parts.at(-1);
    switch (event.kind) {
      case "text":
        if (last?.kind === "text") last.text += event.text;
        else this.parts.push({ ...event, label: this.#label });
        break;
      case "thinking":
        if (last?.kind === "thinking" && last.vendor === undefined) {
          last.text += event.text;
          if (event.vendor !== undefined) last.vendor = event.vendor;
        } else this.parts.push({ ...event, label: this.#label });
        break;
      case "tool_call":
        this.parts.push(
          {
            ...event,
            args: event.args ?? {},
            label: this.#label,
          } as ToolCallPart,
        );
        break;
      case "usage":
        this.usage = event.usage;
        break;
      case "end":
        this.stop = event.reason;
    }
  }

  /** What the user saw of an answer that was cut off; calls did not happen. */
  partial(): Part[] {
    return this.parts.filter((part) => part.kind === "text");
  }
}

/**
 * One model call. What streamed before a failure is kept as a message, so that
 * the transcript holds what was seen.
 */
async function* callModel(
  running: Running,
  chain: Chain,
): AsyncGenerator<TurnEventBody, Answer> {
  const { turn, deadline } = running;
  const { model, hasFallback } = chain;
  const answer = new Answer(turn.joined);
  const isShown = replyDecision(turn).verdict === "allow" &&
    !holdsReply(turn.deps);
  const words = replyFilter(turn);
  const thoughts = turn.deps.guard.secrets().filter();
  const { request, account, estimate } = assembleTurn(turn, model);
  try {
    const inputTokens = inputTokensOf(account);
    const call = {
      model,
      request: hasFallback ? { ...request, hasFallback } : request,
      inputTokens,
    };
    const events = meteredStream(turn, call, deadline.signal);
    for await (const event of events) {
      if (event.kind === "text") {
        const text = words.push(event.text);
        if (text === "") continue;
        answer.take({ ...event, text });
        if (isShown) yield { kind: "text", text };
        continue;
      }
      if (event.kind === "thinking") {
        answer.take(event);
        const text = thoughts.push(event.text);
        if (text !== "") yield { kind: "thinking", text };
        continue;
      }
      // What is still held stands before this.
      const rest = words.end();
      if (rest !== "") {
        answer.take({ kind: "text", text: rest });
        if (isShown) yield { kind: "text", text: rest };
      }
      answer.take(event);
      if (event.kind === "tool_call") {
        const { id: callId, name } = event;
        const args = (event.args ?? {}) as ToolCallPart["args"];
        yield { kind: "tool_call", callId, name, args };
      }
    }
    const rest = words.end();
    if (rest !== "") {
      answer.take({ kind: "text", text: rest });
      if (isShown) yield { kind: "text", text: rest };
    }
  } catch (error) {
    chain.hasSpoken = answer.parts.length > 0;
    turn.spend(answer.usage);
    const parts = answer.partial();
    if (parts.length > 0) {
      turn.append("assistant", parts, { model, usage: answer.usage });
    }
    throw error;
  }
  turn.spend(answer.usage);
  turn.deps.guard.meter.add("redacted", words.redacted);
  turn.deps.guard.meter.add("defused", words.defused);
  const { inputTokens: tokens } = answer.usage;
  const { windowTokens } = account;
  if (tokens > 0) {
    const context = { tokens, estimate, windowTokens, model };
    turn.session = { ...turn.session, context };
  }
  yield { kind: "usage", usage: turn.run.usage };
  return answer;
}

/** Failures of one model that another may not share. */
const FALLS_BACK: ReadonlySet<string> = new Set([
  "rate",
  "overloaded",
  "network",
  "timeout",
  "server",
  "quota",
]);

/** The models of a turn, in the order they are tried. */
class Chain {
  readonly #names: string[];
  readonly #deps: Turn["deps"];
  readonly #authority: Turn["authority"];
  model: string;
  /** Whether anything of the last answer was seen, a thought too. */
  hasSpoken = false;

  constructor(turn: Turn, model: string) {
    this.model = model;
    this.#deps = turn.deps;
    this.#authority = turn.authority;
    this.#names = turn.agent.fallbacks.filter((name) =>
      name !== model && turn.authority.allowsModel(name)
    );
  }

  get hasFallback(): boolean {
    return this.#names.length > 0;
  }

  /** Goes on to the next model, if this failure is one to flee from. */
  async next(error: unknown, signal: AbortSignal): Promise<boolean> {
    if (!(error instanceof ModelError) || !FALLS_BACK.has(error.class)) {
      return false;
    }
    const from = this.model;
    while (true) {
      // Ends with the names.
      const name = this.#names.shift();
      if (name === undefined) return false;
      try {
        const settled = await this.#deps.models.settle(name, signal);
        checkModel(this.#authority, settled);
        this.model = settled;
      } catch (cause) {
        signal.throwIfAborted();
        this.#deps.log("warn", "model.fallback_failed", {
          model: name,
          error: errorText(cause),
        });
        continue;
      }
      this.#deps.log("warn", "model.fallback", {
        from,
        to: this.model,
        class: error.class,
      });
      return true;
    }
  }
}

/**
 * One step's answer: makes room first, and once more when the vendor says there
 * was not enough; goes on to another model when this one cannot be reached.
 * None of it after a word was said.
 */
async function* answerStep(
  running: Running,
  chain: Chain,
): AsyncGenerator<TurnEventBody, Answer> {
  const { turn, deadline: { signal } } = running;
  let hasOverflowed = false;
  yield* makeRoom(running, chain.model, "when_needed");
  while (true) {
    // Ends by an answer or a failure: one overflow, and as many models as there are.
    yield { kind: "step", step: turn.run.step, model: chain.model };
    try {
      return yield* callModel(running, chain);
    } catch (error) {
      if (signal.aborted || chain.hasSpoken) throw error;
      const isFull = error instanceof ModelError &&
        error.class === "context_overflow";
      if (isFull && !hasOverflowed) {
        hasOverflowed = true;
        if (yield* makeRoom(running, chain.model, "overflow")) continue;
      }
      if (!await chain.next(error, signal)) throw error;
      yield* makeRoom(running, chain.model, "when_needed");
    }
  }
}

/** Whether this session's readers may see what the model says now. */
export function replyDecision(turn: Turn): Decision {
  return decideReply({
    joined: turn.joined,
    audience: turn.session.kind === "group"
      ? "world"
      : [turn.session.owner, "owner"],
    attended: turn.run.attended,
  });
}

/** What every word passes before it is seen or stored. */
export function replyFilter(
  turn: Turn,
  isUntrusted = turn.joined.integrity === "untrusted",
): ReplyFilter {
  const secrets = turn.deps.guard.secrets();
  if (!isUntrusted) {
    return new ReplyFilter(secrets, undefined);
  }
  const facts = factsOf(turn);
  const { trusted } = turn.settings.rules;
  return new ReplyFilter(secrets, (url) => {
    const normal = normalUrl(url);
    return facts.hasLink(url) ||
      normal !== undefined && (trusted.has(normal) || facts.names(normal));
  });
}

/** The end of a turn whose answer is whole; asks first where it has to. */
export async function* endWith(
  running: Running,
  answer: Answer,
): AsyncGenerator<TurnEventBody, LoopEnd> {
  const { turn } = running;
  let decision = replyDecision(turn);
  if (decision.verdict === "allow") return atStop(answer);
  const { text } = answer;
  if (decision.verdict === "ask" && text !== "") {
    decision = yield* askReply(running, text, decision);
  }
  return decision.verdict === "allow" ? atStop(answer) : {
    reason: "denied",
    reply: "",
    message: `The reply was held back: ${decision.reason}`,
  };
}

function atStop(answer: Answer): LoopEnd {
  const reply = answer.text;
  switch (answer.stop) {
    case "length":
      return {
        reason: "tokens",
        reply,
        message: "The answer reached its length limit and was cut",
        hint: "Ask to go on, or raise limits.outputTokensMax",
      };
    case "refused":
      return {
        reason: "denied",
        reply,
        message: "The model refused to answer",
        hint: "Ask differently, or use another model with /model",
      };
    default:
      return { reason: "done", reply };
  }
}

/** Runs steps until there is an answer or a bound is reached. */
export async function* runLoop(
  running: Running,
  model: string,
): AsyncGenerator<TurnEventBody, LoopEnd> {
  const { turn } = running;
  const { stepsMax } = turn.settings.limits;
  const seen = new Map<string, number>();
  const chain = new Chain(turn, model);
  let calls: ToolCallPart[] = pendingCalls(turn.history);
  turn.deps.guard.meter.add("tasks");
  while (true) {
    // Ends by an answer, by stepsMax, by repetition, or by the deadline.
    if (calls.length === 0) {
      if (turn.run.step >= stepsMax) {
        return {
          reason: "steps",
          reply: "",
          message: `Stopped after ${stepsMax} steps without an answer`,
          hint: "Ask for less at once, or raise limits.stepsMax",
        };
      }
      await running.takeAlong();
      turn.run = { ...turn.run, step: turn.run.step + 1 };
      const answer = yield* answerStep(running, chain);
      const { usage } = answer;
      if (answer.parts.length > 0) {
        turn.append("assistant", answer.parts, { model: chain.model, usage });
      }
      calls = answer.calls;
      const own = calls.filter((call) => !isClients(turn, call));
      if (own.length === 0) {
        const end = yield* endWith(running, answer);
        return { ...end, model: chain.model };
      }
      calls = own;
    }
    const results = yield* runCalls(running, calls);
    turn.append("tool", results);
    for (const [n, result] of results.entries()) {
      const id = JSON.stringify([calls[n]?.name, calls[n]?.args, result.text]);
      const count = (seen.get(id) ?? 0) + 1;
      seen.set(id, count);
      if (count >= REPEATS_MAX) {
        return {
          reason: "loop_detected",
          reply: "",
          message:
            `Stopped: "${result.name}" was called ${count} times with the same arguments and result`,
          hint: "Say what you expect, or try another model",
        };
      }
    }
    await turn.save({ state: "running", inFlight: [] });
    if (pendingCalls(turn.history).length > 0) {
      const last = turn.history.findLast((m) => m.role === "assistant");
      const reply = last?.parts.map((p) => p.kind === "text" ? p.text : "")
        .join("") ?? "";
      return { reason: "done", reply };
    }
    calls = [];
  }
}

function isClients(turn: Turn, call: ToolCallPart): boolean {
  return turn.deps.tools.find(call.name) === undefined &&
    turn.clientTools.some((tool) => tool.name === call.name);
}
