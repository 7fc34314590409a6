/**
 * What a frame of the wire has to be before it is looked at.
 *
 * @module
 */
import type { z } from "zod";
import { AppError } from "../../core/errors.ts";
import type { RequestFrame } from "../../core/protocol.ts";

/** The frame of a request; strict, and cheaper than a schema. */
const FRAME_KEYS = new Set(["type", "id", "method", "params", "traceparent"]);
const REPLACEMENT_BYTES = 3;

/** Whether a text is longer than so many bytes of UTF-8. */
export function isBytesOver(text: string, bytesMax: number): boolean {
  if (text.length > bytesMax) return true;
  return text.length * REPLACEMENT_BYTES > bytesMax &&
    new TextEncoder().encode(text).byteLength > bytesMax;
}

/** The id an answer can be given under. */
export function idOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { id } = value as { id?: unknown };
  return typeof id === "string" && id !== "" && id.length <= 128
    ? id
    : undefined;
}

/** @throws {AppError} `bad_input` naming what is wrong */
export function checkFrame(value: object): RequestFrame {
  for (const key in value) {
    if (!FRAME_KEYS.has(key)) {
      throw new AppError(
        "bad_input",
        `Cannot read the frame: unknown "${key}"`,
      );
    }
  }
  const { type, id, method, traceparent } = value as Partial<RequestFrame>;
  if (type !== "req" || id === undefined) {
    throw new AppError("bad_input", 'Cannot read the frame: not a "req"');
  }
  if (typeof method !== "string" || method === "" || method.length > 128) {
    throw new AppError("bad_input", "Cannot read the frame: no method");
  }
  if (
    traceparent !== undefined &&
    (typeof traceparent !== "string" || traceparent.length > 128)
  ) {
    throw new AppError("bad_input", "Cannot read the frame: bad traceparent");
  }
  return value as RequestFrame;
}

/** A request that has its turn in a session. */
export interface Ordered {
  /** The session, as the client names it. */
  key: string;
  agentId?: string | undefined;
  /** A stop waits for what was sent before it, and for no change. */
  as: "send" | "change" | "stop";
}

const ORDERED: Readonly<Record<string, Ordered["as"]>> = {
  "chat.send": "send",
  agent: "send",
  "chat.abort": "stop",
  "sessions.patch": "change",
  "sessions.reset": "change",
};

/** The session whose order a request must keep, if there is one. */
export function orderOf(method: string, params: unknown): Ordered | undefined {
  const as = ORDERED[method];
  if (as === undefined) return undefined;
  const { sessionKey, key = sessionKey, agentId } = params as {
    sessionKey?: string;
    key?: string;
    agentId?: string;
  };
  return key === undefined ? undefined : { key, agentId, as };
}

/** @throws {AppError} `bad_input` naming the first wrong field */
export function parseParams<T>(
  method: string,
  schema: z.ZodType<T>,
  value: unknown,
): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const path = issue?.path.map(String).join(".") ?? "";
  throw new AppError(
    "bad_input",
    `Cannot call "${method}": ${path === "" ? "" : `"${path}": `}${
      issue?.message ?? "bad parameters"
    }`,
    path === "" ? {} : { details: { field: path } },
  );
}
