/**
 * What a conversation is made of: parts with labels, messages, and the inbound
 * event every entrance hands in.
 *
 * Never: a stored part without a label.
 *
 * @module
 */
import { z } from "zod";
import { idSchema } from "./ids.ts";
import { Label } from "./label.ts";

/** A vendor's own data that must go back to it unchanged (signatures, items). */
export const VendorData = z.strictObject({
  /** The provider's kind that wrote it; others ignore it. */
  kind: z.string().max(64),
  data: z.json(),
});
export type VendorData = z.infer<typeof VendorData>;

export const TextPart = z.strictObject({
  kind: z.literal("text"),
  text: z.string(),
  label: Label,
});
export type TextPart = z.infer<typeof TextPart>;

export const ThinkingPart = z.strictObject({
  kind: z.literal("thinking"),
  text: z.string(),
  vendor: VendorData.optional(),
  label: Label,
});
export type ThinkingPart = z.infer<typeof ThinkingPart>;

/** An image by value. `data` is base64 without a prefix. */
export const ImagePart = z.strictObject({
  kind: z.literal("image"),
  mime: z.enum(["image/png", "image/jpeg", "image/gif", "image/webp"]),
  data: z.base64(),
  label: Label,
});
export type ImagePart = z.infer<typeof ImagePart>;

/** A model's wish to use a tool. `args` is whatever JSON it wrote. */
export const ToolCallPart = z.strictObject({
  kind: z.literal("tool_call"),
  id: z.string().max(256),
  name: z.string().max(256),
  args: z.json(),
  /** Set when the arguments were not JSON; `args` is then the raw text. */
  malformed: z.string().optional(),
  vendor: VendorData.optional(),
  label: Label,
});
export type ToolCallPart = z.infer<typeof ToolCallPart>;

export const ToolResultPart = z.strictObject({
  kind: z.literal("tool_result"),
  callId: z.string().max(256),
  name: z.string().max(256),
  text: z.string(),
  isError: z.boolean(),
  label: Label,
  /** Whose private data the tool itself read; the label's secrecy has more. */
  adds: z.array(z.string().max(128)).max(64).readonly().optional(),
});
export type ToolResultPart = z.infer<typeof ToolResultPart>;

/** One labelled piece of a message. */
export const Part = z.discriminatedUnion("kind", [
  TextPart,
  ThinkingPart,
  ImagePart,
  ToolCallPart,
  ToolResultPart,
]);
export type Part = z.infer<typeof Part>;

/** What a provider is shown: a role and its parts, in order. */
export const Message = z.strictObject({
  role: z.enum(["user", "assistant", "tool"]),
  parts: z.array(Part).readonly(),
});
export type Message = z.infer<typeof Message>;

/** Tokens of one model call. Cached ones are part of `inputTokens`. */
export const Usage = z.strictObject({
  inputTokens: z.int().nonnegative(),
  outputTokens: z.int().nonnegative(),
  cachedTokens: z.int().nonnegative().default(0),
  cacheWriteTokens: z.int().nonnegative().default(0),
});
export type Usage = z.infer<typeof Usage>;

export const NO_USAGE: Usage = Object.freeze({
  inputTokens: 0,
  outputTokens: 0,
  cachedTokens: 0,
  cacheWriteTokens: 0,
});

/** The sum of two usages. */
export function addUsage(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
  };
}

/** A message as it is stored: `seq` counts from 1 within a session. */
export const StoredMessage = z.strictObject({
  ...Message.shape,
  seq: z.int().positive(),
  at: z.int(),
  runId: idSchema("run").optional(),
  /** For user messages: who said it. */
  sender: z.string().max(256).optional(),
  /** For assistant messages: `provider:model` that answered, and its tokens. */
  model: z.string().max(256).optional(),
  usage: Usage.optional(),
});
export type StoredMessage = z.infer<typeof StoredMessage>;

/** Where a message came in and where its answer goes. */
export const Inbound = z.strictObject({
  /** The entrance's own id of the event; with channel and account, the dedupe key. */
  id: z.string().min(1).max(512),
  /** `ws`, `http`, `cli`, a network's name, or `plugin:<id>`. */
  channel: z.string().regex(
    /^([a-z][a-z0-9_-]{0,31}|plugin:[a-z][a-z0-9-]{1,39})$/,
  ),
  account: z.string().min(1).max(128),
  sender: z.strictObject({
    id: z.string().min(1).max(256),
    name: z.string().max(256).optional(),
  }),
  chat: z.strictObject({
    kind: z.enum(["direct", "group", "channel"]),
    id: z.string().min(1).max(256),
    thread: z.string().max(256).optional(),
  }),
  kind: z.enum(["message", "edit", "reaction", "button", "command"]),
  /** In a group: the assistant itself was meant. */
  mentioned: z.boolean().optional(),
  text: z.string().max(1_048_576),
  /** Images by value; other attachments are fetched after admission. */
  images: z.array(ImagePart).max(16),
  label: Label,
  /** The id of the message this one answers. */
  replyTo: z.string().max(512).optional(),
  receivedAt: z.int(),
});
export type Inbound = z.infer<typeof Inbound>;

/** The visible text of a message. */
export function textOf(message: { parts: readonly Part[] }): string {
  let text = "";
  for (const part of message.parts) if (part.kind === "text") text += part.text;
  return text;
}
