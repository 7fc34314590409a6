/**
 * A turn that another gateway takes: its words pass the same filters, labels and
 * decision as a model's of ours.
 *
 * Never: more of the conversation is sent than what was just said; a tool of
 * ours is offered; an answer is shown before the label it comes with was joined.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Message, Usage } from "../core/message.ts";
import type { EndReason, TurnEventBody } from "../core/turn.ts";
import type { RemoteEvent } from "../remote/remotes.ts";
import { holdsReply } from "./hooking.ts";
import {
  Answer,
  endWith,
  type LoopEnd,
  replyDecision,
  replyFilter,
} from "./loop.ts";
import { reserveRemote } from "./metered.ts";
import type { Running, Turn } from "./turn.ts";

const LIMITS = {
  /** Characters of one turn elsewhere that are listened to, with its thoughts. */
  heardCharsMax: 4_194_304,
  /** What an event counts at the least, so that empty ones end too. */
  eventChars: 64,
} as const;

/** What was said since the last answer. */
function spoken(history: readonly Message[]): string {
  const last = history.findLastIndex(({ role }) => role !== "user");
  return history.slice(last + 1).flatMap(({ parts }) => parts)
    .flatMap((part) => part.kind === "text" ? [part.text] : [])
    .join("\n\n");
}

/** Its text while it comes in, as far as it may be shown. */
class Words {
  /** The present step's, as they came and as they passed the filter. */
  raw = "";
  passed = "";
  readonly #turn: Turn;
  #filter: ReturnType<typeof replyFilter>;

  constructor(turn: Turn) {
    this.#turn = turn;
    this.#filter = replyFilter(turn);
  }

  push(text: string): string {
    this.raw += text;
    return this.#pass(this.#filter.push(text));
  }

  end(): string {
    return this.#pass(this.#filter.end());
  }

  /** A later step begins with words of its own. */
  renew(): void {
    this.raw = this.passed = "";
    this.#filter = replyFilter(this.#turn);
  }

  #pass(text: string): string {
    this.passed += text;
    return text;
  }
}

/** What is kept of an answer, and how it ended. */
interface Heard {
  end: {
    reason: EndReason;
    reply: string;
    message?: string;
    hint?: string;
    usage?: Usage;
  };
}

/** The remote this turn's agent is on, when this caller may use it. */
function checkRemote(turn: Turn): {
  name: string;
  model: string;
  remotes: NonNullable<Turn["deps"]["remotes"]>;
} {
  const { remote: name = "" } = turn.agent;
  const { remotes } = turn.deps;
  const model = `remote:${name}`;
  if (remotes === undefined) {
    throw new AppError("unavailable", `Cannot reach "${name}" from here`);
  }
  if (turn.authority.allowsModel(model)) return { name, model, remotes };
  throw new AppError(
    "forbidden",
    `Cannot use "${model}": this credential may not`,
    { hint: "Its token names the models it may use" },
  );
}

function charsOf(event: RemoteEvent): number {
  if (event.kind === "end") return event.reply.length;
  return event.kind === "step" ? 0 : event.text.length;
}

/** Listens to the turn; what is shown is yielded. */
async function* listen(
  running: Running,
  { words, name, text }: { words: Words; name: string; text: string },
): AsyncGenerator<TurnEventBody, Heard["end"]> {
  const { turn, deadline } = running;
  const { model, remotes } = checkRemote(turn);
  const isShown = replyDecision(turn).verdict === "allow" &&
    !holdsReply(turn.deps);
  const thoughts = turn.deps.guard.secrets().filter();
  const show = function* (text: string): Generator<TurnEventBody> {
    if (text !== "" && isShown) yield { kind: "text", text };
  };
  let steps = 0;
  let heard = 0;
  const events = remotes.turn(name, {
    runId: turn.run.id,
    sessionKey: turn.session.key,
    sessionId: turn.session.id,
    agentId: turn.agent.remoteAgent,
    text,
  }, deadline.signal);
  for await (const event of events) {
    heard += LIMITS.eventChars + charsOf(event);
    if (heard > LIMITS.heardCharsMax) {
      throw new AppError(
        "too_large",
        `The answer of "${name}" is longer than ${LIMITS.heardCharsMax} characters`,
      );
    }
    switch (event.kind) {
      case "text":
        yield* show(words.push(event.text));
        break;
      case "thinking": {
        const text = thoughts.push(event.text);
        if (text !== "" && isShown) yield { kind: "thinking", text };
        break;
      }
      case "step":
        if (++steps === 1) break;
        yield* show(words.end());
        words.renew();
        turn.run = { ...turn.run, step: turn.run.step + 1 };
        yield { kind: "step", step: turn.run.step, model };
        break;
      case "end":
        // What was lost on the way is in the whole answer.
        if (event.reply !== words.raw && event.reply.startsWith(words.raw)) {
          yield* show(words.push(event.reply.slice(words.raw.length)));
        }
        yield* show(words.end());
        return event;
    }
  }
  throw new AppError("upstream", `The turn on "${name}" has no end`);
}

/** The answer as it may be stored: what was shown, or the whole of it filtered. */
function replyOf(turn: Turn, words: Words, reply: string): string {
  if (reply === words.raw) return words.passed;
  const filter = replyFilter(turn);
  return filter.push(reply) + filter.end();
}

function append(
  turn: Turn,
  text: string,
  extra: { model: string; usage?: Usage },
): Answer {
  const answer = new Answer(turn.joined);
  if (text !== "") {
    answer.take({ kind: "text", text });
    turn.append("assistant", answer.parts, extra);
  }
  return answer;
}

/** Hands the turn to the agent's remote, to its end. */
export async function* runRemote(
  running: Running,
): AsyncGenerator<TurnEventBody, LoopEnd> {
  const { turn } = running;
  const { name, model, remotes } = checkRemote(turn);
  turn.taint(remotes.labelOf(name));
  const text = spoken(turn.history);
  turn.run = { ...turn.run, step: turn.run.step + 1 };
  yield { kind: "step", step: turn.run.step, model };
  const words = new Words(turn);
  const hold = await reserveRemote(turn, { model, text });
  let end: Heard["end"] | undefined;
  try {
    end = yield* listen(running, { words, name, text });
  } catch (error) {
    append(turn, words.passed, { model });
    throw error;
  } finally {
    hold.settle(end?.usage, words.raw);
    if (end?.usage !== undefined) turn.spend(end.usage);
  }
  if (end.usage !== undefined) yield { kind: "usage", usage: turn.run.usage };
  const { usage } = end;
  const extra = { model, ...(usage === undefined ? {} : { usage }) };
  if (end.reason === "done") {
    const answer = append(turn, replyOf(turn, words, end.reply), extra);
    return { ...yield* endWith(running, answer), model };
  }
  append(turn, words.passed, extra);
  return {
    reason: end.reason,
    reply: "",
    model,
    message: `On "${name}": ${end.message ?? "the turn was stopped there"}`,
    ...(end.hint === undefined ? {} : { hint: end.hint }),
  };
}
