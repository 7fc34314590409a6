/**
 * OpenAI's Responses API, used without the vendor's storage: the reasoning
 * comes back encrypted and is sent along again.
 *
 * @module
 */
import type { ResponseCreateParamsStreaming } from "openai/resources/responses/responses";
import type { ImagePart, TextPart } from "../../core/message.ts";
import type {
  ModelEvent,
  ModelRequest,
  Provider,
  StopReason,
} from "../../core/model.ts";
import { type Place, toModelError, toTruncated } from "../errors.ts";
import { toTurns, type Turn } from "../history.ts";
import { bytesOf, parseFrame } from "../http.ts";
import {
  type Body,
  Concessions,
  listOpenaiModels,
  makeForward,
  openaiClient,
  sendConceding,
} from "./wire.ts";
import { COMMENT, readSse } from "../sse.ts";
import type { ProviderDeps } from "../vendor.ts";
import {
  ALIVE,
  argsObject,
  dataUrl,
  effortOf,
  isClosedSchema,
  list,
  record,
  text,
  toolCallEvent,
  usageEvent,
} from "../wire.ts";

const KIND = "openai_responses";

/** Makes the provider; the SDK loads with its first call. */
export function makeOpenaiResponsesProvider(
  deps: ProviderDeps,
  place: Place,
): Provider {
  const client = openaiClient(deps, place);
  const concessions = new Concessions();
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      signal.throwIfAborted();
      const response = await sendConceding(
        async (body) => {
          const sdk = await client();
          return await sdk.responses.create(
            body as unknown as ResponseCreateParamsStreaming,
            { signal },
          ).asResponse();
        },
        {
          model: request.model,
          body: toBody(request),
          concessions,
          place,
          signal,
        },
      );
      yield* readEvents(response, place, signal);
    },
    models: (signal) => listOpenaiModels(deps, place, signal),
    forward: makeForward(deps, place),
  };
}

/** Everything a request says, in this API's words. */
export function toBody(request: ModelRequest): Body {
  const { tools = [], responseSchema, thinkingTokens = 0 } = request;
  const body: Body = {
    model: request.model,
    input: toTurns(request.messages).flatMap(toItems),
    stream: true,
    store: false,
    include: ["reasoning.encrypted_content"],
  };
  if (request.system !== undefined && request.system !== "") {
    body["instructions"] = request.system;
  }
  if (request.outputTokensMax !== undefined) {
    body["max_output_tokens"] = request.outputTokensMax + thinkingTokens;
  }
  if (request.temperature !== undefined) {
    body["temperature"] = request.temperature;
  }
  if (request.topP !== undefined) body["top_p"] = request.topP;
  if (thinkingTokens > 0) {
    body["reasoning"] = { effort: effortOf(thinkingTokens), summary: "auto" };
  }
  if (tools.length > 0) {
    body["tools"] = tools.map((tool) => ({
      type: "function",
      name: tool.name,
      description: tool.description,
      parameters: tool.schema,
      strict: false,
    }));
    const choice = request.toolChoice;
    if (typeof choice === "object") {
      body["tool_choice"] = { type: "function", ...choice };
    } else if (choice !== undefined && choice !== "auto") {
      body["tool_choice"] = choice;
    }
  }
  if (responseSchema !== undefined) {
    const { name, schema } = responseSchema;
    const strict = isClosedSchema(schema);
    body["text"] = { format: { type: "json_schema", name, schema, strict } };
  }
  return body;
}

function toItems(turn: Turn): Body[] {
  switch (turn.role) {
    case "user":
      return [{ role: "user", content: turn.parts.map(toContent) }];
    case "tool":
      return turn.results.map((result) => ({
        type: "function_call_output",
        call_id: result.callId,
        output: result.text,
      }));
  }
  return turn.parts.flatMap((part): Body[] => {
    switch (part.kind) {
      case "text":
        return [{ role: "assistant", content: part.text }];
      case "thinking":
        return part.vendor?.kind === KIND
          ? [{ ...record(part.vendor.data) }]
          : [];
      case "tool_call":
        return [{
          type: "function_call",
          call_id: part.id,
          name: part.name,
          arguments: JSON.stringify(argsObject(part)),
        }];
    }
  });
}

function toContent(part: TextPart | ImagePart): Body {
  return part.kind === "text"
    ? { type: "input_text", text: part.text }
    : { type: "input_image", detail: "auto", image_url: dataUrl(part) };
}

/** The stream as events. */
export async function* readEvents(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  const state = { hasCalls: false, refused: false };
  for await (const frame of readSse(bytesOf(response, place, signal))) {
    if (frame === COMMENT) {
      yield ALIVE;
      continue;
    }
    if (frame.data === "[DONE]") break;
    const data = parseFrame(place, frame.data);
    switch (data["type"]) {
      case "response.completed":
      case "response.incomplete": {
        const whole = record(data["response"]);
        yield toUsage(whole["usage"]);
        return yield { kind: "end", reason: toReason(whole, state) };
      }
      case "response.failed":
        throw toModelError(place, { body: record(data["response"]) }, NaN);
      case "error":
        throw toModelError(place, {
          body: data["error"] === undefined ? { error: data } : data,
        }, NaN);
      default:
        yield readEvent(data, state) ?? ALIVE;
    }
  }
  throw toTruncated(place);
}

function readEvent(
  data: Readonly<Record<string, unknown>>,
  state: { hasCalls: boolean; refused: boolean },
): ModelEvent | undefined {
  const delta = text(data["delta"]);
  switch (data["type"]) {
    case "response.refusal.delta":
      state.refused = true;
      /* falls through */
    case "response.output_text.delta":
      return delta === "" ? undefined : { kind: "text", text: delta };
    case "response.reasoning_summary_text.delta":
    case "response.reasoning_text.delta":
      return delta === "" ? undefined : { kind: "thinking", text: delta };
    case "response.reasoning_summary_part.added":
      return Number(data["summary_index"]) > 0
        ? { kind: "thinking", text: "\n\n" }
        : undefined;
    case "response.output_item.done":
      return closeItem(record(data["item"]), state);
  }
  return undefined;
}

function closeItem(
  item: Readonly<Record<string, unknown>>,
  state: { hasCalls: boolean },
): ModelEvent | undefined {
  switch (item["type"]) {
    case "function_call":
      state.hasCalls = true;
      return toolCallEvent({
        id: text(item["call_id"]) || text(item["id"]),
        name: text(item["name"]),
        json: text(item["arguments"]),
      });
    case "reasoning": {
      // Without its encrypted content an item means nothing to the vendor:
      // it keeps none of this.
      if (text(item["encrypted_content"]) === "") return undefined;
      const { status: _, ...data } = item;
      return {
        kind: "thinking",
        text: "",
        vendor: { kind: KIND, data: JSON.parse(JSON.stringify(data)) },
      };
    }
  }
  return undefined;
}

function toUsage(raw: unknown): ModelEvent {
  const usage = record(raw);
  return usageEvent({
    input: usage["input_tokens"],
    output: usage["output_tokens"],
    cached: record(usage["input_tokens_details"])["cached_tokens"],
    write: record(usage["input_tokens_details"])["cache_write_tokens"],
  });
}

function toReason(
  whole: Readonly<Record<string, unknown>>,
  state: { hasCalls: boolean; refused: boolean },
): StopReason {
  const why = text(record(whole["incomplete_details"])["reason"]);
  if (state.refused || why === "content_filter") return "refused";
  if (why !== "" || whole["status"] === "incomplete") return "length";
  const hasCalls = state.hasCalls ||
    list(whole["output"]).some((item) =>
      record(item)["type"] === "function_call"
    );
  return hasCalls ? "tool_calls" : "stop";
}
