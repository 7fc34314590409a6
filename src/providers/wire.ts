/**
 * Small readers for what a vendor sends and small writers for what it is sent.
 * A frame arrives for every token, so it is narrowed field by field: a missing
 * or odd field reads as nothing, never as a crash.
 *
 * @module
 */
import { parseJson } from "../core/bounded.ts";
import { errorText } from "../core/errors.ts";
import type { ToolCallPart, Usage } from "../core/message.ts";
import type { ModelEvent } from "../core/model.ts";

const TOKENS_MAX = 2 ** 31;
const ARGS_LIMITS = { depthMax: 64, nodesMax: 100_000 } as const;

/** An object's fields, or none. */
export function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}

/** A list's items, or none. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A text, or the empty one. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A count of tokens: a whole number, never negative, never absent. */
export function tokens(value: unknown): number {
  return typeof value === "number" && value > 0
    ? Math.min(Math.floor(value), TOKENS_MAX)
    : 0;
}

/** Usage from a vendor's numbers, in whose count the cached tokens are input. */
export function usageEvent(
  counts: {
    input: unknown;
    output: unknown;
    cached?: unknown;
    write?: unknown;
  },
): ModelEvent {
  const usage: Usage = {
    inputTokens: tokens(counts.input),
    outputTokens: tokens(counts.output),
    cachedTokens: tokens(counts.cached),
    cacheWriteTokens: tokens(counts.write),
  };
  return { kind: "usage", usage };
}

/** A token that carries no words: the vendor is alive. The router keeps it. */
export const ALIVE: ModelEvent = Object.freeze({ kind: "thinking", text: "" });

/** Whether an event only says that the vendor is alive. */
export function isAlive(event: ModelEvent): boolean {
  return event.kind === "thinking" && event.text === "" &&
    event.vendor === undefined;
}

/** An id for a call whose vendor gave it none. */
export function makeCallId(): string {
  return `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;
}

/** A value as JSON; one nested too deep to write is no JSON. */
export function jsonText(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    if (error instanceof RangeError) return "(nested too deep)";
    throw error;
  }
}

/** A tool call whose arguments arrived as text. Malformed text is kept. */
export function toolCallEvent(
  call: { id: string; name: string; json: string },
): ModelEvent {
  const { id, name, json } = call;
  if (json.trim() === "") return { kind: "tool_call", id, name, args: {} };
  try {
    return {
      kind: "tool_call",
      id,
      name,
      args: parseJson(json, ARGS_LIMITS),
    };
  } catch (error) {
    return {
      kind: "tool_call",
      id,
      name,
      args: json,
      malformed: errorText(error),
    };
  }
}

/** A call's arguments as the object every vendor wants to read back. */
export function argsObject(call: ToolCallPart): Record<string, unknown> {
  const { args } = call;
  if (
    call.malformed === undefined && typeof args === "object" &&
    args !== null && !Array.isArray(args)
  ) return args;
  return { invalid_arguments: args };
}

/** How hard to think, for vendors that take a word instead of a number. */
export function effortOf(thinkingTokens: number): "low" | "medium" | "high" {
  if (thinkingTokens <= 4096) return "low";
  return thinkingTokens <= 16_384 ? "medium" : "high";
}

/** An image as a data URL. */
export function dataUrl(image: { mime: string; data: string }): string {
  return `data:${image.mime};base64,${image.data}`;
}

/** Whether a schema is closed all the way down, as strict output needs. */
export function isClosedSchema(schema: unknown): boolean {
  const { type, properties, required, additionalProperties, items, anyOf } =
    record(schema);
  if (type === "object") {
    const names = Object.keys(record(properties));
    return additionalProperties === false &&
      names.every((name) => list(required).includes(name)) &&
      names.every((name) => isClosedSchema(record(properties)[name]));
  }
  if (type === "array") return isClosedSchema(items);
  return list(anyOf).every(isClosedSchema);
}
