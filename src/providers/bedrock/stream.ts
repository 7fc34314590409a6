/**
 * Converse's binary stream as events.
 *
 * @module
 */
import { ModelError } from "../../core/model.ts";
import type { ModelEvent, StopReason } from "../../core/model.ts";
import { KIND } from "./body.ts";
import {
  type Place,
  toModelError,
  toNonsense,
  toTruncated,
} from "../errors.ts";
import { type EventFrame, readEventStream } from "./eventstream.ts";
import { bytesOf, parseFrame } from "../http.ts";
import {
  ALIVE,
  makeCallId,
  record,
  text,
  tokens,
  toolCallEvent,
  usageEvent,
} from "../wire.ts";

const STOP: Readonly<Record<string, StopReason>> = {
  end_turn: "stop",
  stop_sequence: "stop",
  tool_use: "tool_calls",
  max_tokens: "length",
  model_context_window_exceeded: "length",
  content_filtered: "refused",
  guardrail_intervened: "refused",
};

type Fields = Readonly<Record<string, unknown>>;

interface OpenBlock {
  call: { id: string; name: string } | undefined;
  /** A call's JSON or a thought so far. */
  written: string;
  signature: string;
  redacted: string;
}

interface State {
  blocks: Map<unknown, OpenBlock>;
  hasCalls: boolean;
  reason: string;
}

/** The vendor's stream as events. */
export async function* readEvents(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  const state: State = { blocks: new Map(), hasCalls: false, reason: "" };
  const frames = readEventStream(
    bytesOf(response, place, signal),
    (what) => toNonsense(place, what),
  );
  for await (const frame of frames) {
    const data = toData(frame, place);
    if (frame.headers.get(":event-type") === "metadata") {
      yield toUsage(record(data["usage"]));
      if (state.reason !== "") return yield toEnd(state, place);
    }
    yield readFrame(frame.headers.get(":event-type"), data, state) ?? ALIVE;
  }
  if (state.reason === "") throw toTruncated(place);
  yield toEnd(state, place);
}

/** A frame's fields; an exception's frame is thrown. */
function toData(frame: EventFrame, place: Place): Fields {
  const { headers, payload } = frame;
  const type = headers.get(":message-type");
  if (type === "error") {
    throw toModelError(place, {
      body: {
        __type: headers.get(":error-code"),
        message: headers.get(":error-message"),
      },
    }, NaN);
  }
  const words = new TextDecoder().decode(payload);
  const data = words === "" ? {} : parseFrame(place, words);
  if (type === "exception") {
    throw toModelError(place, {
      body: { ...data, __type: headers.get(":exception-type") },
    }, NaN);
  }
  return data;
}

function readFrame(
  type: string | undefined,
  data: Fields,
  state: State,
): ModelEvent | undefined {
  const index = data["contentBlockIndex"];
  switch (type) {
    case "contentBlockStart": {
      const call = record(data["start"])["toolUse"];
      state.blocks.set(index, openBlock(call));
      return undefined;
    }
    case "contentBlockDelta": {
      const block = state.blocks.get(index) ?? openBlock(undefined);
      // A text's or a thought's block is not announced.
      state.blocks.set(index, block);
      return addDelta(block, record(data["delta"]));
    }
    case "contentBlockStop": {
      const block = state.blocks.get(index);
      state.blocks.delete(index);
      state.hasCalls ||= block?.call !== undefined;
      return block === undefined ? undefined : closeBlock(block);
    }
    case "messageStop":
      state.reason = text(data["stopReason"]) || "end_turn";
  }
  return undefined;
}

function openBlock(raw: unknown): OpenBlock {
  const call = record(raw);
  return {
    call: raw === undefined ? undefined : {
      id: text(call["toolUseId"]) || makeCallId(),
      name: text(call["name"]),
    },
    written: "",
    signature: "",
    redacted: "",
  };
}

function addDelta(block: OpenBlock, delta: Fields): ModelEvent | undefined {
  const words = text(delta["text"]);
  if (words !== "") return { kind: "text", text: words };
  block.written += text(record(delta["toolUse"])["input"]);
  const reasoning = record(delta["reasoningContent"]);
  block.signature += text(reasoning["signature"]);
  block.redacted += text(reasoning["redactedContent"]);
  const thought = text(reasoning["text"]);
  block.written += thought;
  return thought === "" ? undefined : { kind: "thinking", text: thought };
}

function closeBlock(block: OpenBlock): ModelEvent | undefined {
  const { call, written, signature, redacted } = block;
  if (call !== undefined) return toolCallEvent({ ...call, json: written });
  const data = redacted !== ""
    ? { redactedContent: redacted }
    : { reasoningText: { text: written, signature } };
  return signature === "" && redacted === ""
    ? undefined
    : { kind: "thinking", text: "", vendor: { kind: KIND, data } };
}

function toEnd(state: State, place: Place): ModelEvent {
  const { reason, hasCalls } = state;
  const known = STOP[reason] ?? (hasCalls ? "tool_calls" : undefined);
  if (known === undefined && reason.startsWith("malformed")) {
    throw new ModelError(
      "server",
      `${place.id}'s model wrote an answer that could not be read`,
      { hint: "Try again", details: { provider: place.id } },
    );
  }
  const isCall = hasCalls && (known === undefined || known === "stop");
  return { kind: "end", reason: isCall ? "tool_calls" : known ?? "stop" };
}

/** This vendor counts cached tokens beside the input; we count them in. */
function toUsage(usage: Fields): ModelEvent {
  const cached = tokens(usage["cacheReadInputTokens"]);
  const write = tokens(usage["cacheWriteInputTokens"]);
  return usageEvent({
    input: tokens(usage["inputTokens"]) + cached + write,
    output: usage["outputTokens"],
    cached,
    write,
  });
}
