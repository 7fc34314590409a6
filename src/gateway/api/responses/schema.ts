/**
 * A request of the Responses API, parsed, and as what was asked.
 *
 * Unknown fields are left out, as that API's servers do. What would change the
 * answer and is not done here is refused.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../../../core/errors.ts";
import type { Message, Part } from "../../../core/message.ts";
import { type ToolChoice, toThinkingTokens } from "../../../core/model.ts";
import type { Asked, CallerLabels } from "../asked.ts";
import { toImage } from "../image.ts";
import { decodeVendor } from "../vendor_data.ts";

/** Clients send `null` where they mean nothing. */
function maybe<T>(
  schema: z.ZodType<T>,
): z.ZodType<T | undefined, T | null | undefined> {
  return schema.nullish().transform((value) => value ?? undefined) as z.ZodType<
    T | undefined,
    T | null | undefined
  >;
}

const InputText = z.object({ type: z.literal("input_text"), text: z.string() });
const InputImage = z.object({
  type: z.literal("input_image"),
  image_url: z.string({ error: "only images by value are taken" }),
});
const OutputText = z.object({
  type: z.literal("output_text"),
  text: z.string(),
});
const Refusal = z.object({ type: z.literal("refusal"), refusal: z.string() });
const Content = z.discriminatedUnion("type", [
  InputText,
  InputImage,
  OutputText,
  Refusal,
]);
type Content = z.infer<typeof Content>;

const MessageItem = z.object({
  type: z.literal("message").optional(),
  role: z.enum(["user", "assistant", "system", "developer"]),
  content: z.union([z.string(), z.array(Content)]),
});
const CallItem = z.object({
  type: z.literal("function_call"),
  call_id: z.string().min(1).max(256),
  name: z.string().min(1).max(256),
  arguments: z.string(),
});
const OutputItem = z.object({
  type: z.literal("function_call_output"),
  call_id: z.string().min(1).max(256),
  output: z.union([z.string(), z.array(Content)]),
});
const ReasoningItem = z.object({
  type: z.literal("reasoning"),
  summary: z.array(z.object({ text: z.string() })).default([]),
  encrypted_content: z.string().nullish(),
});
const InputItem = z.union([MessageItem, CallItem, OutputItem, ReasoningItem], {
  error: "only messages, function calls, their outputs and reasoning are taken",
});
type InputItem = z.infer<typeof InputItem>;

const FunctionTool = z.object({
  type: z.literal("function", {
    error: "only functions of the caller's own are offered",
  }),
  name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/),
  description: z.string().max(16_384).nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});

const Format = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object") }),
  z.object({
    type: z.literal("json_schema"),
    name: z.string().max(64),
    schema: z.record(z.string(), z.unknown()).default({}),
  }),
]);

/** `POST /v1/responses`. */
export const ResponsesRequest = z.object({
  model: z.string().min(1).max(256),
  input: maybe(z.union([z.string(), z.array(InputItem).max(10_000)])),
  instructions: maybe(z.string()),
  previous_response_id: maybe(z.string().max(128)),
  stream: maybe(z.boolean()),
  store: maybe(z.boolean()),
  tools: maybe(z.array(FunctionTool).max(128)),
  tool_choice: maybe(z.union([
    z.enum(["auto", "none", "required"]),
    z.object({ type: z.literal("function"), name: z.string().max(256) }),
  ])),
  max_output_tokens: maybe(z.int().positive()),
  temperature: maybe(z.number().min(0).max(2)),
  top_p: maybe(z.number().min(0).max(1)),
  reasoning: maybe(z.object({
    effort: maybe(
      z.enum(["none", "minimal", "low", "medium", "high", "xhigh"]),
    ),
  })),
  text: maybe(z.object({ format: maybe(Format) })),
  metadata: maybe(z.record(z.string().max(64), z.string().max(512))),
  include: maybe(z.array(z.string().max(128)).max(32)),
  user: maybe(z.string().max(512)),
  background: maybe(z.literal(false, { error: "nothing runs in background" })),
  conversation: maybe(z.undefined({ error: "use previous_response_id" })),
  prompt: maybe(z.undefined({ error: "prompts are not kept here" })),
});
export type ResponsesRequest = z.infer<typeof ResponsesRequest>;

/** Parses a body's value. @throws `bad_input` naming the first wrong field */
export function parseResponses(value: unknown): ResponsesRequest {
  const parsed = ResponsesRequest.safeParse(value);
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

function toText(content: string | readonly Content[]): string {
  return typeof content === "string" ? content : content.map((part) => {
    switch (part.type) {
      case "input_text":
      case "output_text":
        return part.text;
      case "refusal":
        return part.refusal;
      case "input_image":
        return "";
    }
  }).join("\n");
}

/** A conversation in the making. */
class Conversation {
  readonly system: string[] = [];
  readonly messages: Message[] = [];
  readonly #names = new Map<string, string>();
  readonly #labels: CallerLabels;

  constructor(labels: CallerLabels) {
    this.#labels = labels;
  }

  #add(role: Message["role"], parts: Part[]): void {
    if (parts.length === 0) return;
    const last = this.messages.at(-1);
    if (last?.role !== role) this.messages.push({ role, parts });
    else {
      const isText = role === "user" && parts[0]?.kind === "text";
      const gap: Part[] = isText
        ? [{ kind: "text", text: "\n\n", label: this.#labels.user }]
        : [];
      const merged = { role, parts: [...last.parts, ...gap, ...parts] };
      this.messages.splice(-1, 1, merged);
    }
  }

  #user(content: string | readonly Content[]): void {
    const { user, other } = this.#labels;
    const parts = typeof content === "string"
      ? [{ type: "input_text" as const, text: content }]
      : content;
    this.#add(
      "user",
      parts.map((part): Part =>
        part.type === "input_image"
          ? toImage(part.image_url, other)
          : { kind: "text", text: toText([part]), label: user }
      ),
    );
  }

  take(item: InputItem): void {
    const label = this.#labels.other;
    switch (item.type) {
      case "function_call": {
        const { call_id: id, name, arguments: text } = item;
        this.#names.set(id, name);
        this.#add("assistant", [toCall({ id, name, text }, label)]);
        break;
      }
      case "function_call_output": {
        const { call_id: callId, output } = item;
        this.#add("tool", [{
          kind: "tool_result",
          callId,
          name: this.#names.get(callId) ?? "unknown",
          text: toText(output),
          isError: false,
          label,
        }]);
        break;
      }
      case "reasoning": {
        const vendor = decodeVendor(item.encrypted_content ?? undefined);
        if (vendor === undefined) return;
        const text = item.summary.map((part) => part.text).join("\n");
        this.#add("assistant", [{ kind: "thinking", text, vendor, label }]);
        break;
      }
      default:
        if (item.role === "user") this.#user(item.content);
        else if (item.role === "assistant") {
          const text = toText(item.content);
          this.#add(
            "assistant",
            text === "" ? [] : [{ kind: "text", text, label }],
          );
        } else this.system.push(toText(item.content));
    }
  }
}

function toCall(
  call: { id: string; name: string; text: string },
  label: CallerLabels["other"],
): Part {
  const { id, name, text } = call;
  const base = { kind: "tool_call" as const, id, name, label };
  try {
    return { ...base, args: JSON.parse(text === "" ? "{}" : text) };
  } catch (error) {
    return { ...base, args: text, malformed: (error as SyntaxError).message };
  }
}

function toToolChoice(
  choice: ResponsesRequest["tool_choice"],
): ToolChoice | undefined {
  return typeof choice === "object" ? { name: choice.name } : choice;
}

/** A request as what was asked. */
export function fromResponses(
  request: ResponsesRequest,
  labels: CallerLabels,
): Asked {
  const conversation = new Conversation(labels);
  const { input = [], instructions, reasoning, text } = request;
  if (instructions !== undefined) conversation.system.push(instructions);
  const items = typeof input === "string"
    ? [{ role: "user" as const, content: input }]
    : input;
  for (const item of items) conversation.take(item);
  const tools = request.tool_choice === "none" ? [] : request.tools ?? [];
  const format = text?.format;
  return {
    model: request.model,
    system: conversation.system.join("\n\n"),
    messages: conversation.messages,
    tools: tools.map((tool) => ({
      name: tool.name,
      description: tool.description ?? "",
      schema: tool.parameters ?? { type: "object", properties: {} },
    })),
    toolChoice: toToolChoice(request.tool_choice),
    outputTokensMax: request.max_output_tokens,
    temperature: request.temperature,
    topP: request.top_p,
    thinkingTokens: reasoning?.effort === undefined
      ? undefined
      : toThinkingTokens(reasoning.effort),
    responseSchema: format?.type === "json_schema"
      ? { name: format.name, schema: format.schema }
      : undefined,
    user: request.user,
  };
}
