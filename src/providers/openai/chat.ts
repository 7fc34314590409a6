/**
 * OpenAI's chat completions, and every server that speaks them: OpenRouter,
 * Groq, vLLM, llama.cpp, LM Studio and the rest.
 *
 * @module
 */
import type { ChatCompletionCreateParamsStreaming } from "openai/resources/chat/completions";
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
  OPENAI,
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
  makeCallId,
  record,
  text,
  toolCallEvent,
  usageEvent,
} from "../wire.ts";

const KIND = "openai_chat";
const CALLS_MAX = 128;

/** Makes the provider; the SDK loads with its first call. */
export function makeOpenaiChatProvider(
  deps: ProviderDeps,
  place: Place,
): Provider {
  const client = openaiClient(deps, place);
  const concessions = new Concessions();
  const isOpenai = deps.baseUrl.host === new URL(OPENAI.baseUrl).host;
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      signal.throwIfAborted();
      const response = await sendConceding(
        async (body) => {
          const sdk = await client();
          return await sdk.chat.completions.create(
            body as unknown as ChatCompletionCreateParamsStreaming,
            { signal },
          ).asResponse();
        },
        {
          model: request.model,
          body: toBody(request, isOpenai),
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

/** Everything a request says, in this dialect. */
export function toBody(request: ModelRequest, isOpenai: boolean): Body {
  const { tools = [], stop = [], responseSchema, thinkingTokens = 0 } = request;
  const body: Body = {
    model: request.model,
    messages: toMessages(request),
    stream: true,
    stream_options: { include_usage: true },
  };
  if (request.outputTokensMax !== undefined) {
    // Copies of the API know the old name; OpenAI's newer models only the new.
    const name = isOpenai ? "max_completion_tokens" : "max_tokens";
    body[name] = request.outputTokensMax + thinkingTokens;
  }
  if (request.temperature !== undefined) {
    body["temperature"] = request.temperature;
  }
  if (request.topP !== undefined) body["top_p"] = request.topP;
  if (stop.length > 0) body["stop"] = stop;
  if (thinkingTokens > 0) body["reasoning_effort"] = effortOf(thinkingTokens);
  if (tools.length > 0) {
    body["tools"] = tools.map((tool) => ({
      type: "function",
      function: {
        name: tool.name,
        description: tool.description,
        parameters: tool.schema,
      },
    }));
    const choice = request.toolChoice;
    if (typeof choice === "object") {
      body["tool_choice"] = { type: "function", function: choice };
    } else if (choice !== undefined && choice !== "auto") {
      body["tool_choice"] = choice;
    }
  }
  if (responseSchema !== undefined) {
    const { name, schema } = responseSchema;
    body["response_format"] = {
      type: "json_schema",
      json_schema: { name, schema, strict: isClosedSchema(schema) },
    };
  }
  return body;
}

function toMessages(request: ModelRequest): Body[] {
  const messages: Body[] = [];
  if (request.system !== undefined && request.system !== "") {
    messages.push({ role: "system", content: request.system });
  }
  for (const turn of toTurns(request.messages)) {
    if (turn.role === "user") {
      messages.push({ role: "user", content: toContent(turn.parts) });
    } else if (turn.role === "assistant") {
      const message = toAssistant(turn);
      if (message !== undefined) messages.push(message);
    } else {
      for (const { callId, text: content } of turn.results) {
        messages.push({ role: "tool", tool_call_id: callId, content });
      }
    }
  }
  return messages;
}

function toContent(parts: readonly (TextPart | ImagePart)[]): unknown {
  if (parts.length === 1 && parts[0]?.kind === "text") return parts[0].text;
  return parts.map((part) =>
    part.kind === "text"
      ? { type: "text", text: part.text }
      : { type: "image_url", image_url: { url: dataUrl(part) } }
  );
}

function toAssistant(
  turn: Turn & { role: "assistant" },
): Body | undefined {
  let words = "";
  let thoughts: Body = {};
  const calls: Body[] = [];
  for (const part of turn.parts) {
    if (part.kind === "text") words += part.text;
    else if (part.kind === "tool_call") {
      calls.push({
        id: part.id,
        type: "function",
        function: {
          name: part.name,
          arguments: JSON.stringify(argsObject(part)),
        },
      });
    } else if (turn.current && part.vendor?.kind === KIND) {
      // Within one tool exchange the servers that think want it back; later,
      // some refuse it.
      thoughts = { ...thoughts, ...record(part.vendor.data) };
    }
  }
  if (words === "" && calls.length === 0) return undefined;
  return {
    role: "assistant",
    content: words === "" ? null : words,
    ...thoughts,
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

const STOP: Readonly<Record<string, StopReason>> = {
  stop: "stop",
  eos: "stop",
  length: "length",
  max_tokens: "length",
  tool_calls: "tool_calls",
  function_call: "tool_calls",
  content_filter: "refused",
};

/** What a stream has said so far that is not yet an event. */
class Draft {
  readonly calls = new Map<
    string,
    { id: string; name: string; json: string }
  >();
  #lastKey = "";
  thoughts = "";
  thoughtsField = "";
  details: unknown[] = [];
  reason: StopReason | undefined;
  refused = false;

  /** A piece of a tool call; servers differ in how they say which. */
  addCall(raw: unknown): void {
    const piece = record(raw);
    const fn = record(piece["function"]);
    const id = text(piece["id"]);
    const index = piece["index"];
    const key = typeof index === "number"
      ? `#${index}`
      : id !== ""
      ? id
      : this.#lastKey || "#0";
    this.#lastKey = key;
    const call = this.calls.get(key);
    if (call === undefined) {
      if (this.calls.size >= CALLS_MAX) return;
      this.calls.set(key, {
        id: id || makeCallId(),
        name: text(fn["name"]),
        json: toJson(fn["arguments"]),
      });
    } else {
      call.name ||= text(fn["name"]);
      call.json += toJson(fn["arguments"]);
    }
  }

  /** The thinking is over: what must go back with it. */
  closeThoughts(): ModelEvent | undefined {
    const data: Record<string, string | unknown[]> = {};
    if (this.thoughts !== "") data[this.thoughtsField] = this.thoughts;
    if (this.details.length > 0) data["reasoning_details"] = this.details;
    this.thoughts = "";
    this.details = [];
    if (Object.keys(data).length === 0) return undefined;
    return {
      kind: "thinking",
      text: "",
      vendor: { kind: KIND, data: JSON.parse(JSON.stringify(data)) },
    };
  }
}

/** Arguments come as text; a few servers send the object itself. */
function toJson(args: unknown): string {
  return typeof args === "object" && args !== null
    ? JSON.stringify(args)
    : text(args);
}

/** The stream as events. */
export async function* readEvents(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  const draft = new Draft();
  let isDone = false;
  let hasSpoken = false;
  for await (const frame of readSse(bytesOf(response, place, signal))) {
    if (frame === COMMENT) {
      yield ALIVE;
      continue;
    }
    if (frame.data === "[DONE]") {
      isDone = true;
      break;
    }
    const data = parseFrame(place, frame.data);
    if (data["error"] !== undefined && data["error"] !== null) {
      throw toModelError(place, { body: data }, NaN);
    }
    for (const event of readChunk(data, draft)) {
      hasSpoken ||= event.kind === "text";
      yield event;
    }
  }
  if (draft.reason === undefined) {
    if (!isDone || !hasSpoken && draft.calls.size === 0) {
      throw toTruncated(place);
    }
    draft.reason = "stop";
  }
  yield* finish(draft);
}

function* readChunk(
  data: Readonly<Record<string, unknown>>,
  draft: Draft,
): Generator<ModelEvent, void, undefined> {
  const choice = record(list(data["choices"])[0]);
  const delta = record(choice["delta"]);
  const field = "reasoning_content" in delta
    ? "reasoning_content"
    : "reasoning";
  const thought = text(delta[field]);
  draft.details.push(...list(delta["reasoning_details"]));
  const words = text(delta["content"]);
  const refusal = text(delta["refusal"]);
  const pieces = list(delta["tool_calls"]);
  if (thought !== "") {
    draft.thoughts += thought;
    draft.thoughtsField = field;
    yield { kind: "thinking", text: thought };
  } else if (words !== "" || pieces.length > 0) {
    const event = draft.closeThoughts();
    if (event !== undefined) yield event;
  }
  if (words !== "") yield { kind: "text", text: words };
  if (refusal !== "") {
    draft.refused = true;
    yield { kind: "text", text: refusal };
  }
  for (const piece of pieces) draft.addCall(piece);
  const stop = text(choice["finish_reason"]);
  if (stop !== "") draft.reason = STOP[stop] ?? "stop";
  const usage = record(data["usage"] ?? choice["usage"]);
  if ("prompt_tokens" in usage || "completion_tokens" in usage) {
    yield usageEvent({
      input: usage["prompt_tokens"],
      output: usage["completion_tokens"],
      cached: record(usage["prompt_tokens_details"])["cached_tokens"] ??
        usage["prompt_cache_hit_tokens"],
    });
  } else if (words === "" && thought === "") yield ALIVE;
}

function* finish(draft: Draft): Generator<ModelEvent, void, undefined> {
  const thoughts = draft.closeThoughts();
  if (thoughts !== undefined) yield thoughts;
  for (const call of draft.calls.values()) yield toolCallEvent(call);
  const reason = draft.refused
    ? "refused"
    : draft.calls.size > 0 && draft.reason === "stop"
    ? "tool_calls"
    : draft.reason ?? "stop";
  yield { kind: "end", reason };
}
