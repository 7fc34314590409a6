/**
 * A conversation in the shape all vendors agree on: every tool call is followed
 * by exactly one result, results by nothing but the next turn.
 *
 * Never: a conversation is refused because a result was lost; the gap is filled
 * with words that say so.
 *
 * @module
 */
import type {
  ImagePart,
  Message,
  TextPart,
  ThinkingPart,
  ToolCallPart,
  ToolResultPart,
} from "../core/message.ts";

/** One side's turn, with nothing in it that the side cannot say. */
export type Turn =
  | { role: "user"; parts: (TextPart | ImagePart)[] }
  | {
    role: "assistant";
    parts: (TextPart | ThinkingPart | ToolCallPart)[];
    /** Whether it belongs to the exchange still going on: no user spoke since. */
    current: boolean;
  }
  | { role: "tool"; results: ToolResultPart[] };

function lostResult(call: ToolCallPart): ToolResultPart {
  return {
    kind: "tool_result",
    callId: call.id,
    name: call.name,
    text: "No result was recorded for this call",
    isError: true,
    label: call.label,
  };
}

/** Puts results after their calls, fills gaps, drops what answers nothing. */
export function toTurns(messages: readonly Message[]): Turn[] {
  const turns: Turn[] = [];
  let open = new Map<string, ToolCallPart>();
  let results: ToolResultPart[] = [];
  let late: (TextPart | ImagePart)[] = [];
  const closeCalls = () => {
    for (const call of open.values()) results.push(lostResult(call));
    if (results.length > 0) turns.push({ role: "tool", results });
    late.forEach(addUser);
    open = new Map();
    results = [];
    late = [];
  };
  const addUser = (part: TextPart | ImagePart) => {
    const last = turns.at(-1);
    if (last?.role === "user") last.parts.push(part);
    else turns.push({ role: "user", parts: [part] });
  };
  for (const message of messages) {
    if (message.role === "assistant") {
      closeCalls();
      addAssistant(turns, message);
      for (const part of message.parts) {
        if (part.kind === "tool_call") open.set(part.id, part);
      }
      continue;
    }
    const rest: (TextPart | ImagePart)[] = [];
    for (const part of message.parts) {
      if (part.kind === "tool_result" && open.delete(part.callId)) {
        results.push(part);
      } else if (part.kind === "image") rest.push(part);
      else if (part.kind === "text" && part.text !== "") rest.push(part);
    }
    if (message.role === "tool") late.push(...rest);
    else if (rest.length > 0) {
      closeCalls();
      rest.forEach(addUser);
    }
  }
  closeCalls();
  markCurrent(turns);
  return turns;
}

function addAssistant(turns: Turn[], message: Message): void {
  const last = turns.at(-1);
  const parts = last?.role === "assistant" ? last.parts : [];
  for (const part of message.parts) {
    const isKept = part.kind === "text"
      ? part.text !== ""
      : part.kind === "thinking" || part.kind === "tool_call";
    if (isKept) parts.push(part as TextPart | ThinkingPart | ToolCallPart);
  }
  if (last?.role !== "assistant" && parts.length > 0) {
    turns.push({ role: "assistant", parts, current: false });
  }
}

function markCurrent(turns: readonly Turn[]): void {
  for (const turn of turns.toReversed()) {
    if (turn.role === "user") return;
    if (turn.role === "assistant") turn.current = true;
  }
}
