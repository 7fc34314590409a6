/**
 * A run's events as the wire says them: `chat` and `agent`, with cumulative
 * text. Pure but for what it remembers of each live run.
 *
 * Never: a run without a last `chat` event, or with two.
 *
 * @module
 */
import type { RunView } from "../../agent/turns.ts";
import type { Usage } from "../../core/message.ts";
import type { AgentEvent, ChatEvent, EventName } from "../../core/protocol.ts";
import type { TurnEvent } from "../../core/turn.ts";

/** New text of a run; two of them merge into one. */
export interface TextDelta {
  kind: "text";
  runId: string;
  sessionKey: string;
  seq: number;
  at: number;
  delta: string;
  /** All of it so far. */
  text: string;
  /** Whether `delta` begins anew (a later step's first words). */
  replace: boolean;
}

/** An event ready to be sent. */
export interface WireEvent {
  kind: "wire";
  event: EventName;
  runId: string;
  payload: Readonly<Record<string, unknown>>;
}

export type RunItem = TextDelta | WireEvent;

/** Both as one: the later text, the words of both. */
export function mergeDeltas(a: TextDelta, b: TextDelta): TextDelta {
  return b.replace ? b : { ...b, delta: a.delta + b.delta, replace: a.replace };
}

function message(text: string, at: number): ChatEvent["message"] {
  return {
    role: "assistant",
    content: [{ type: "text", text }],
    timestamp: at,
  };
}

/** The two frames' payloads of a delta. */
export function toDeltaEvents(item: TextDelta): WireEvent[] {
  const { runId, sessionKey, seq, at, delta, text, replace } = item;
  const agent = {
    runId,
    seq,
    stream: "assistant",
    ts: at,
    sessionKey,
    data: { delta, text },
  } satisfies AgentEvent;
  const chat = {
    runId,
    sessionKey,
    seq,
    state: "delta",
    message: message(text, at),
    deltaText: delta,
    ...(replace ? { replace } : {}),
  } satisfies ChatEvent;
  return [
    { kind: "wire", event: "agent", runId, payload: agent },
    { kind: "wire", event: "chat", runId, payload: chat },
  ];
}

type EndEvent = Extract<TurnEvent, { kind: "end" }>;

/** What is remembered of one run. */
class Feed {
  readonly #run: Pick<RunView, "runId" | "sessionKey">;
  #text = "";
  /** A new step began, so the next words begin anew. */
  #isStale = false;
  #isOver = false;
  #usage: Usage | undefined;
  readonly #asks = new Map<string, string>();
  /** What is read is not all: it may have said more before. */
  readonly #isTorn: boolean;

  /** @param before What it said before the first event that is read, if known */
  constructor(
    run: Pick<RunView, "runId" | "sessionKey">,
    before: { text?: string; isTorn?: boolean; isOver?: boolean } = {},
  ) {
    this.#run = run;
    this.#isOver = before.isOver ?? false;
    this.#text = before.text ?? "";
    this.#isTorn = before.isTorn ?? false;
    // Words with nothing before them are the first of their step.
    this.#isStale = this.#isTorn && this.#text === "";
  }

  /** What it said so far. */
  get text(): string {
    return this.#text;
  }

  #agent(
    event: TurnEvent,
    stream: AgentEvent["stream"],
    data: Record<string, unknown>,
  ): WireEvent {
    const { runId, sessionKey } = this.#run;
    const payload = {
      runId,
      seq: event.seq,
      stream,
      ts: event.at,
      sessionKey,
      data,
    } satisfies AgentEvent;
    return { kind: "wire", event: "agent", runId, payload };
  }

  #chat(
    event: TurnEvent,
    state: ChatEvent["state"],
    more: Partial<ChatEvent>,
  ): WireEvent {
    this.#isOver = true;
    const { runId, sessionKey } = this.#run;
    const payload = { runId, sessionKey, seq: event.seq, state, ...more };
    return { kind: "wire", event: "chat", runId, payload };
  }

  #resolved(event: TurnEvent, callId: string, verdict: string): WireEvent[] {
    const id = this.#asks.get(callId);
    if (id === undefined) return [];
    this.#asks.delete(callId);
    return [{
      kind: "wire",
      event: "exec.approval.resolved",
      runId: event.runId,
      payload: { id, kind: "tool", runId: event.runId, callId, verdict },
    }];
  }

  /** @param event The next of this run */
  read(event: TurnEvent): RunItem[] {
    switch (event.kind) {
      case "accepted": {
        const { sessionId, agentId } = event;
        // Taken up after a restart: what was said before is said anew.
        this.#isStale = event.seq > 1;
        return [this.#agent(event, "lifecycle", {
          phase: "start",
          startedAt: event.at,
          sessionId,
          agentId,
        })];
      }
      case "queued": {
        const { position, behind } = event;
        return [
          this.#agent(event, "lifecycle", {
            phase: "queued",
            position,
            behind,
          }),
        ];
      }
      case "step": {
        this.#isStale = this.#isTorn || this.#text !== "";
        const { step, model } = event;
        return [
          this.#agent(event, "lifecycle", { phase: "step", step, model }),
        ];
      }
      case "compacted": {
        const { messages, tokensBefore, tokensAfter, by, dropped } = event;
        return [this.#agent(event, "lifecycle", {
          phase: "compacted",
          messages,
          tokensBefore,
          tokensAfter,
          by,
          ...(dropped === undefined ? {} : { dropped }),
        })];
      }
      case "text":
        return [this.#delta(event)];
      case "thinking":
        return [this.#agent(event, "thinking", { delta: event.text })];
      case "usage":
        this.#usage = event.usage;
        return [
          this.#agent(event, "lifecycle", {
            phase: "usage",
            usage: event.usage,
          }),
        ];
      case "reply": {
        const { model, insteadOf } = event;
        const final = this.#final(event, event.text);
        return insteadOf === undefined ? [final] : [
          this.#agent(event, "lifecycle", {
            phase: "fallback",
            model,
            insteadOf,
          }),
          final,
        ];
      }
      case "end":
        return this.#end(event);
      default:
        return this.#tool(event);
    }
  }

  #delta(event: Extract<TurnEvent, { kind: "text" }>): TextDelta {
    const replace = this.#isStale;
    this.#text = replace ? event.text : this.#text + event.text;
    this.#isStale = false;
    return {
      kind: "text",
      runId: event.runId,
      sessionKey: this.#run.sessionKey,
      seq: event.seq,
      at: event.at,
      delta: event.text,
      text: this.#text,
      replace,
    };
  }

  #tool(
    event: Extract<
      TurnEvent,
      { kind: "tool_call" | "tool_result" | "decision" | "ask" }
    >,
  ): WireEvent[] {
    const { callId, name } = event;
    switch (event.kind) {
      case "tool_call":
        return [this.#agent(event, "tool", {
          phase: "start",
          toolCallId: callId,
          name,
          args: event.args,
        })];
      case "tool_result":
        return [
          ...this.#resolved(event, callId, event.isError ? "deny" : "allow"),
          this.#agent(event, "tool", {
            phase: "result",
            toolCallId: callId,
            name,
            isError: event.isError,
            result: event.text,
          }),
        ];
      case "decision": {
        const { verdict, reason } = event;
        const resolved = verdict === "ask"
          ? []
          : this.#resolved(event, callId, verdict);
        const data = { toolCallId: callId, name, verdict, reason };
        return [...resolved, this.#agent(event, "decision", data)];
      }
      case "ask": {
        const { approvalId, args, question, expiresAt, runId } = event;
        const { answers, card } = event;
        this.#asks.set(callId, approvalId);
        const data = {
          toolCallId: callId,
          name,
          args,
          question,
          answers,
          card,
          expiresAt,
        };
        return [
          this.#agent(event, "approval", {
            phase: "requested",
            approvalId,
            ...data,
          }),
          {
            kind: "wire",
            event: "exec.approval.requested",
            runId,
            payload: {
              id: approvalId,
              kind: "tool",
              runId,
              sessionKey: this.#run.sessionKey,
              request: data,
              createdAtMs: event.at,
              expiresAtMs: expiresAt,
            },
          },
        ];
      }
    }
  }

  #final(event: TurnEvent, text: string): WireEvent {
    const isUnknown = this.#isTorn && text === "";
    return this.#chat(event, "final", {
      ...(isUnknown ? {} : { message: message(text, event.at) }),
      stopReason: "stop",
      ...(this.#usage === undefined ? {} : { usage: this.#usage }),
    });
  }

  #end(event: EndEvent): WireEvent[] {
    const isDone = event.reason === "done";
    const lifecycle = this.#agent(event, "lifecycle", {
      phase: isDone || event.reason === "cancelled" ? "end" : "error",
      reason: event.reason,
      endedAt: event.at,
      usage: event.usage,
      ...(event.message === undefined ? {} : { error: event.message }),
      ...(event.hint === undefined ? {} : { hint: event.hint }),
    });
    const resolved = [...this.#asks.keys()].flatMap((callId) =>
      this.#resolved(event, callId, "deny")
    );
    if (this.#isOver) return [...resolved, lifecycle];
    this.#usage = event.usage;
    if (isDone) return [...resolved, lifecycle, this.#final(event, this.#text)];
    const said = this.#text === ""
      ? {}
      : { message: message(this.#text, event.at) };
    const last = event.reason === "cancelled"
      ? this.#chat(event, "aborted", { ...said, stopReason: "cancelled" })
      : this.#chat(event, "error", {
        ...said,
        stopReason: event.reason,
        errorMessage: event.message ?? `The run ended: ${event.reason}`,
      });
    return [...resolved, lifecycle, last];
  }
}

/** The live runs' feeds; a run's is forgotten at its end. */
export class Feeds {
  readonly #feeds = new Map<string, Feed>();
  readonly #feedsMax: number;

  constructor(feedsMax: number) {
    this.#feedsMax = feedsMax;
  }

  get size(): number {
    return this.#feeds.size;
  }

  /** What a live run said so far. */
  textOf(runId: string): string | undefined {
    return this.#feeds.get(runId)?.text;
  }

  read(event: TurnEvent, run: RunView): RunItem[] {
    let feed = this.#feeds.get(event.runId);
    if (feed === undefined) {
      feed = new Feed(run);
      if (this.#feeds.size >= this.#feedsMax) {
        for (const oldest of this.#feeds.keys()) {
          this.#feeds.delete(oldest);
          break;
        }
      }
      this.#feeds.set(event.runId, feed);
    }
    if (event.kind === "end") this.#feeds.delete(event.runId);
    return feed.read(event);
  }
}

function isLastChat(item: RunItem): boolean {
  return item.kind === "wire" && item.event === "chat";
}

type Run = Pick<RunView, "runId" | "sessionKey">;

/** A feed that has read nothing yet of what is kept of a run, and that. */
function feedOf(
  events: readonly TurnEvent[],
  run: Run,
  { seq, text }: { seq: number; text?: string | undefined },
): { feed: Feed; kept: readonly TurnEvent[] } {
  if (events[0]?.kind === "accepted") {
    return { feed: new Feed(run), kept: events };
  }
  // Of a run that is over the last event says all; the end of its words alone
  // would be taken for the whole.
  if (text === undefined) {
    const kept = events.filter(({ kind }) => kind !== "text");
    // Who has all of before has its reply too, which was its last chat event.
    const isOver = seq >= (events[0]?.seq ?? 0) - 1 &&
      events.some((event) => event.kind === "end" && event.reason === "done") &&
      !events.some(({ kind }) => kind === "reply");
    return { feed: new Feed(run, { isTorn: true, isOver }), kept };
  }
  const tail = new Feed(run, { isTorn: true });
  for (const event of events) tail.read(event);
  const head = text.slice(0, Math.max(0, text.length - tail.text.length));
  return { feed: new Feed(run, { text: head, isTorn: true }), kept: events };
}

/**
 * A run's kept events once more, from the one after `seq` on; words that follow
 * one another as one. Where events between were not kept, the first words
 * replace what the client has.
 *
 * @param events All that are kept of it
 * @param asked `text`: what the run said so far, if it is live
 */
export function replayRun(
  events: readonly TurnEvent[],
  run: Run,
  asked: { seq: number; text?: string | undefined },
): WireEvent[] {
  const { seq, text } = asked;
  const [first] = events;
  const last = events.at(-1);
  if (first === undefined || last === undefined) return [];
  const { feed, kept } = feedOf(events, run, asked);
  const items: RunItem[] = [];
  for (const event of kept) {
    for (const item of feed.read(event)) {
      if (event.seq <= seq) continue;
      const before = items.at(-1);
      if (item.kind === "text" && before?.kind === "text") {
        items[items.length - 1] = mergeDeltas(before, item);
      } else items.push(item);
    }
  }
  if (first.seq > seq + 1) {
    const at = items.findIndex(({ kind }) => kind === "text");
    const words = items[at];
    if (words?.kind === "text") {
      items[at] = { ...words, delta: words.text, replace: true };
    } else if (text !== undefined && text !== "" && !items.some(isLastChat)) {
      const { runId, sessionKey } = run;
      items.push({
        kind: "text",
        runId,
        sessionKey,
        seq: last.seq,
        at: last.at,
        delta: text,
        text,
        replace: true,
      });
    }
  }
  return items.flatMap((item) =>
    item.kind === "text" ? toDeltaEvents(item) : [item]
  );
}
