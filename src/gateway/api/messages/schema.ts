/**
 * A request of the Messages API, parsed, and as what was asked.
 *
 * Unknown fields are left out, as that API's clients send many. What would
 * change the answer and is not done here is refused.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../../../core/errors.ts";
import type { ImagePart, Message, Part } from "../../../core/message.ts";
import {
  type ToolChoice,
  type ToolSpec,
  toThinkingTokens,
} from "../../../core/model.ts";
import type { Asked, CallerLabels } from "../asked.ts";
import { decodeVendor } from "../vendor_data.ts";

const Text = z.object({ type: z.literal("text"), text: z.string() });
const Image = z.object({
  type: z.literal("image"),
  source: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("base64"),
      media_type: z.enum([
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
      ]),
      data: z.base64(),
    }),
    z.object({ type: z.literal("url"), url: z.string() }),
    z.object({ type: z.literal("file"), file_id: z.string() }),
  ]),
});
const Thinking = z.object({
  type: z.literal("thinking"),
  thinking: z.string(),
  signature: z.string().optional(),
});
const Redacted = z.object({
  type: z.literal("redacted_thinking"),
  data: z.string(),
});
const ToolUse = z.object({
  type: z.literal("tool_use"),
  id: z.string().min(1).max(256),
  name: z.string().min(1).max(256),
  input: z.unknown(),
});
const ToolResult = z.object({
  type: z.literal("tool_result"),
  tool_use_id: z.string().min(1).max(256),
  content: z.union([
    z.string(),
    z.array(z.discriminatedUnion("type", [Text, Image])),
  ]).optional(),
  is_error: z.boolean().optional(),
});
const Texts = z.union([z.string(), z.array(Text)]);

const InputMessage = z.discriminatedUnion("role", [
  z.object({
    role: z.literal("user"),
    content: z.union([
      z.string(),
      z.array(z.discriminatedUnion("type", [Text, Image, ToolResult])),
    ]),
  }),
  z.object({
    role: z.literal("assistant"),
    content: z.union([
      z.string(),
      z.array(
        z.discriminatedUnion("type", [Text, Thinking, Redacted, ToolUse]),
      ),
    ]),
  }),
  z.object({ role: z.literal("system"), content: Texts }),
]);

const CustomTool = z.object({
  type: z.literal("custom", {
    error: "only tools of the caller's own are offered",
  }).nullish(),
  name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/),
  description: z.string().max(16_384).default(""),
  input_schema: z.record(z.string(), z.unknown()),
});

/** What both routes of this dialect read. */
const counted = {
  model: z.string().min(1).max(256),
  messages: z.array(InputMessage).min(1).max(10_000),
  system: Texts.optional(),
  tools: z.array(CustomTool).max(128).optional(),
};

/** `POST /v1/messages/count_tokens`. */
export const CountRequest = z.object(counted);
export type CountRequest = z.infer<typeof CountRequest>;

/** `POST /v1/messages`. */
export const MessagesRequest = z.object({
  ...counted,
  max_tokens: z.int().positive(),
  stream: z.boolean().optional(),
  tool_choice: z.discriminatedUnion("type", [
    z.object({ type: z.literal("auto") }),
    z.object({ type: z.literal("any") }),
    z.object({ type: z.literal("none") }),
    z.object({ type: z.literal("tool"), name: z.string().max(256) }),
  ]).optional(),
  temperature: z.number().min(0).max(1).optional(),
  top_p: z.number().min(0).max(1).optional(),
  stop_sequences: z.array(z.string()).max(16).optional(),
  thinking: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("enabled"),
      budget_tokens: z.int().min(1024).max(1_000_000),
    }),
    z.object({ type: z.literal("adaptive") }),
    z.object({ type: z.literal("between_tools") }),
    z.object({ type: z.literal("disabled") }),
  ]).optional(),
  output_config: z.object({
    effort: z.enum(["low", "medium", "high", "xhigh", "max"]).nullish(),
    format: z.object({
      type: z.literal("json_schema"),
      schema: z.record(z.string(), z.unknown()),
    }).nullish(),
  }).optional(),
});
export type MessagesRequest = z.infer<typeof MessagesRequest>;

/** Parses a body. @throws `bad_input` naming the first wrong field */
export function parseMessages<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const param = issue?.path.join(".") ?? "";
  throw new AppError(
    "bad_input",
    `${param === "" ? "" : `${param}: `}${
      issue?.message ?? "it has another shape"
    }`,
    { details: { param } },
  );
}

function textsOf(content: z.infer<typeof Texts>): string {
  return typeof content === "string"
    ? content
    : content.map(({ text }) => text).join("\n");
}

function toImagePart(
  { source }: z.infer<typeof Image>,
  labels: CallerLabels,
): ImagePart {
  if (source.type === "base64") {
    const { media_type: mime, data } = source;
    return { kind: "image", mime, data, label: labels.other };
  }
  throw new AppError(
    "bad_input",
    "Cannot take the image: only base64 data is taken",
    { hint: "Send the image itself; addresses and files are not fetched" },
  );
}

type UserBlocks = Exclude<
  Extract<z.infer<typeof InputMessage>, { role: "user" }>["content"],
  string
>;

/** A user's blocks: results of tools first, as a message of their own. */
function toUserMessages(
  blocks: UserBlocks,
  { labels, names }: { labels: CallerLabels; names: Map<string, string> },
): Message[] {
  const results: Part[] = [];
  const words: Part[] = [];
  for (const block of blocks) {
    switch (block.type) {
      case "text":
        words.push({ kind: "text", text: block.text, label: labels.user });
        break;
      case "image":
        words.push(toImagePart(block, labels));
        break;
      case "tool_result": {
        const { tool_use_id: callId, content = "", is_error = false } = block;
        const parts = typeof content === "string"
          ? [{ type: "text" as const, text: content }]
          : content;
        results.push({
          kind: "tool_result",
          callId,
          name: names.get(callId) ?? "unknown",
          text: parts.flatMap((part) => part.type === "text" ? part.text : [])
            .join("\n"),
          isError: is_error,
          label: labels.other,
        });
        for (const part of parts) {
          if (part.type === "image") words.push(toImagePart(part, labels));
        }
      }
    }
  }
  return [
    ...results.length === 0 ? [] : [{ role: "tool" as const, parts: results }],
    ...words.length === 0 ? [] : [{ role: "user" as const, parts: words }],
  ];
}

type AssistantBlocks = Exclude<
  Extract<z.infer<typeof InputMessage>, { role: "assistant" }>["content"],
  string
>;

function toAssistantParts(
  blocks: AssistantBlocks,
  { labels, names }: { labels: CallerLabels; names: Map<string, string> },
): Part[] {
  const label = labels.other;
  return blocks.flatMap((block): Part[] => {
    switch (block.type) {
      case "text":
        return block.text === ""
          ? []
          : [{ kind: "text", text: block.text, label }];
      case "thinking":
      case "redacted_thinking": {
        const text = block.type === "thinking" ? block.thinking : "";
        const vendor = decodeVendor(
          block.type === "thinking" ? block.signature : block.data,
        );
        return vendor === undefined
          ? []
          : [{ kind: "thinking", text, vendor, label }];
      }
      case "tool_use": {
        const { id, name, input } = block;
        names.set(id, name);
        const args = (input ?? {}) as Extract<Part, { kind: "tool_call" }>[
          "args"
        ];
        return [{ kind: "tool_call", id, name, args, label }];
      }
    }
  });
}

/** The conversation of a request, and what steers it. */
export function toConversation(
  request: CountRequest,
  labels: CallerLabels,
): { system: string; messages: Message[]; tools: ToolSpec[] } {
  const system = request.system === undefined ? [] : [textsOf(request.system)];
  const with_ = { labels, names: new Map<string, string>() };
  const messages: Message[] = [];
  for (const { role, content } of request.messages) {
    if (role === "system") system.push(textsOf(content));
    else if (role === "user") {
      const blocks = typeof content === "string"
        ? [{ type: "text" as const, text: content }]
        : content;
      messages.push(...toUserMessages(blocks, with_));
    } else {
      const blocks = typeof content === "string"
        ? [{ type: "text" as const, text: content }]
        : content;
      const parts = toAssistantParts(blocks, with_);
      if (parts.length > 0) messages.push({ role: "assistant", parts });
    }
  }
  const tools = (request.tools ?? []).map((tool) => ({
    name: tool.name,
    description: tool.description,
    schema: tool.input_schema,
  }));
  return { system: system.join("\n\n"), messages, tools };
}

function toToolChoice(
  choice: MessagesRequest["tool_choice"],
): ToolChoice | undefined {
  switch (choice?.type) {
    case "any":
      return "required";
    case "tool":
      return { name: choice.name };
    default:
      return choice?.type;
  }
}

/** How much a model that thinks as it finds right is given to think with. */
function toThinking(request: MessagesRequest): number | undefined {
  const { thinking, output_config: config } = request;
  switch (thinking?.type) {
    case "enabled":
      return thinking.budget_tokens;
    case "adaptive":
    case "between_tools": {
      const effort = config?.effort ?? "medium";
      return toThinkingTokens(effort === "max" ? "xhigh" : effort);
    }
    default:
      return undefined;
  }
}

/** A request as what was asked. */
export function fromMessages(
  request: MessagesRequest,
  labels: CallerLabels,
): Asked {
  const format = request.output_config?.format;
  return {
    model: request.model,
    ...toConversation(request, labels),
    toolChoice: toToolChoice(request.tool_choice),
    outputTokensMax: request.max_tokens,
    temperature: request.temperature,
    topP: request.top_p,
    stop: request.stop_sequences,
    thinkingTokens: toThinking(request),
    responseSchema: format?.type === "json_schema"
      ? { name: "answer", schema: format.schema }
      : undefined,
  };
}
