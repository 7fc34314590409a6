/**
 * A chat request of OpenAI's API, parsed, and as messages of ours.
 *
 * Unknown fields are left out, as that API's servers do: its clients send many.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../../../core/errors.ts";
import type { Label } from "../../../core/label.ts";
import type { Message, Part } from "../../../core/message.ts";
import {
  type ToolChoice,
  type ToolSpec,
  toThinkingTokens,
} from "../../../core/model.ts";
import type { Asked, CallerLabels } from "../asked.ts";
import { toImage } from "../image.ts";

const TextContent = z.object({ type: z.literal("text"), text: z.string() });
const ImageContent = z.object({
  type: z.literal("image_url"),
  image_url: z.object({ url: z.string() }),
});
const Texts = z.union([z.string(), z.array(TextContent)]);

const ChatMessage = z.discriminatedUnion("role", [
  z.object({ role: z.literal("system"), content: Texts }),
  z.object({ role: z.literal("developer"), content: Texts }),
  z.object({
    role: z.literal("user"),
    content: z.union([
      z.string(),
      z.array(z.discriminatedUnion("type", [TextContent, ImageContent])),
    ]),
  }),
  z.object({
    role: z.literal("assistant"),
    content: Texts.nullish(),
    tool_calls: z.array(z.object({
      id: z.string().max(256),
      type: z.literal("function"),
      function: z.object({ name: z.string().max(256), arguments: z.string() }),
    })).max(128).nullish(),
  }),
  z.object({
    role: z.literal("tool"),
    tool_call_id: z.string().max(256),
    content: Texts,
  }),
]);

const FunctionTool = z.object({
  type: z.literal("function"),
  function: z.object({
    name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/),
    description: z.string().max(16_384).default(""),
    parameters: z.record(z.string(), z.unknown()).default({
      type: "object",
      properties: {},
    }),
  }),
});

/** Clients send `null` where they mean nothing. */
function maybe<T>(
  schema: z.ZodType<T>,
): z.ZodType<T | undefined, T | null | undefined> {
  return schema.nullish().transform((value) => value ?? undefined) as z.ZodType<
    T | undefined,
    T | null | undefined
  >;
}

/** `POST /v1/chat/completions`. */
export const ChatRequest = z.object({
  model: z.string().min(1).max(256),
  messages: z.array(ChatMessage).min(1).max(10_000),
  stream: maybe(z.boolean()),
  stream_options: maybe(z.object({ include_usage: maybe(z.boolean()) })),
  tools: maybe(z.array(FunctionTool).max(128)),
  tool_choice: maybe(z.union([
    z.enum(["auto", "none", "required"]),
    z.object({
      type: z.literal("function"),
      function: z.object({ name: z.string().max(256) }),
    }),
  ])),
  max_tokens: maybe(z.int().positive()),
  max_completion_tokens: maybe(z.int().positive()),
  temperature: maybe(z.number().min(0).max(2)),
  top_p: maybe(z.number().min(0).max(1)),
  stop: maybe(z.union([z.string(), z.array(z.string()).max(16)])),
  n: maybe(z.literal(1, { error: "only one choice is made" })),
  user: maybe(z.string().max(512)),
  reasoning_effort: maybe(z.enum([
    "none",
    "minimal",
    "low",
    "medium",
    "high",
    "xhigh",
  ])),
  response_format: maybe(z.union([
    z.object({ type: z.literal("text") }),
    z.object({ type: z.literal("json_object") }),
    z.object({
      type: z.literal("json_schema"),
      json_schema: z.object({
        name: z.string().max(64),
        schema: z.record(z.string(), z.unknown()).default({}),
      }),
    }),
  ])),
});
export type ChatRequest = z.infer<typeof ChatRequest>;

/** Parses a body's value. @throws `bad_input` naming the first wrong field */
export function parseChatRequest(value: unknown): ChatRequest {
  const parsed = ChatRequest.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const param = issue?.path.join(".") ?? "";
  throw new AppError(
    "bad_input",
    `Cannot read the request: ${param === "" ? "" : `"${param}": `}${
      issue?.message ?? "it has another shape"
    }`,
    { details: { param, code: "invalid_value" } },
  );
}

function textsOf(content: z.infer<typeof Texts>): string {
  return typeof content === "string"
    ? content
    : content.map((part) => part.text).join("\n");
}

function toToolCall(
  call: { id: string; function: { name: string; arguments: string } },
  label: Label,
): Part {
  const { name, arguments: text } = call.function;
  const base = { kind: "tool_call" as const, id: call.id, name, label };
  try {
    return { ...base, args: JSON.parse(text === "" ? "{}" : text) };
  } catch (error) {
    return { ...base, args: text, malformed: (error as SyntaxError).message };
  }
}

/** A request's messages apart: what steers, and the conversation. */
interface Conversation {
  system: string;
  messages: Message[];
}

/** @param labels Of the caller's own words, and of all it merely brings along */
function toConversation(
  request: ChatRequest,
  labels: { user: Label; other: Label },
): Conversation {
  const system: string[] = [];
  const messages: Message[] = [];
  const names = new Map<string, string>();
  const { user, other } = labels;
  for (const message of request.messages) {
    switch (message.role) {
      case "system":
      case "developer":
        system.push(textsOf(message.content));
        break;
      case "user": {
        const content = typeof message.content === "string"
          ? [{ type: "text" as const, text: message.content }]
          : message.content;
        messages.push({
          role: "user",
          parts: content.map((part): Part =>
            part.type === "text"
              ? { kind: "text", text: part.text, label: user }
              : toImage(part.image_url.url, other)
          ),
        });
        break;
      }
      case "assistant": {
        const text = textsOf(message.content ?? "");
        const parts: Part[] = text === ""
          ? []
          : [{ kind: "text", text, label: other }];
        for (const call of message.tool_calls ?? []) {
          names.set(call.id, call.function.name);
          parts.push(toToolCall(call, other));
        }
        messages.push({ role: "assistant", parts });
        break;
      }
      case "tool": {
        const callId = message.tool_call_id;
        messages.push({
          role: "tool",
          parts: [{
            kind: "tool_result",
            callId,
            name: names.get(callId) ?? "unknown",
            text: textsOf(message.content),
            isError: false,
            label: other,
          }],
        });
      }
    }
  }
  return { system: system.join("\n\n"), messages };
}

/** The caller's tools, as a model is shown them. */
function toToolSpecs(request: ChatRequest): ToolSpec[] {
  if (request.tool_choice === "none") return [];
  return (request.tools ?? []).map((tool) => ({
    name: tool.function.name,
    description: tool.function.description,
    schema: tool.function.parameters,
  }));
}

function toToolChoice(request: ChatRequest): ToolChoice | undefined {
  const choice = request.tool_choice;
  return typeof choice === "object" ? { name: choice.function.name } : choice;
}

/** As any of the APIs asks. */
export function fromChat(request: ChatRequest, labels: CallerLabels): Asked {
  const { stop, response_format: format, reasoning_effort: effort } = request;
  return {
    model: request.model,
    ...toConversation(request, labels),
    tools: toToolSpecs(request),
    toolChoice: toToolChoice(request),
    outputTokensMax: request.max_completion_tokens ?? request.max_tokens,
    temperature: request.temperature,
    topP: request.top_p,
    stop: typeof stop === "string" ? [stop] : stop,
    thinkingTokens: effort === undefined ? undefined : toThinkingTokens(effort),
    responseSchema: format?.type === "json_schema"
      ? format.json_schema
      : undefined,
    user: request.user,
  };
}
