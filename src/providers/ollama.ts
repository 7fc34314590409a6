/**
 * Ollama's own API (`/api/chat`, one JSON object a line), without an SDK.
 *
 * @module
 */
import { ModelError } from "../core/model.ts";
import type {
  ModelEvent,
  ModelInfo,
  ModelRequest,
  Provider,
  StopReason,
} from "../core/model.ts";
import { type Place, toModelError, toTruncated } from "./errors.ts";
import { toTurns, type Turn } from "./history.ts";
import {
  bytesOf,
  getJson,
  parseFrame,
  placeOf,
  streamFetch,
  under,
} from "./http.ts";
import { makeForward } from "./openai/wire.ts";
import { readLines } from "./sse.ts";
import type { ProviderDeps, VendorRow } from "./vendor.ts";
import {
  ALIVE,
  argsObject,
  effortOf,
  jsonText,
  list,
  makeCallId,
  record,
  text,
  toolCallEvent,
  usageEvent,
} from "./wire.ts";

const KIND = "ollama";
const PORT = 11434;

type Body = Record<string, unknown>;

/** The server's row. */
export const ollamaRow: VendorRow = {
  kind: KIND,
  title: "Ollama",
  keyEnv: "OLLAMA_API_KEY",
  baseUrlEnv: "OLLAMA_HOST",
  parseBaseUrl: parseOllamaHost,
  baseUrl: `http://127.0.0.1:${PORT}`,
  needsKey: false,
  supports: {
    thinking: "yes or no, where the model has it; goes back",
    cache: "by the server itself; not reported",
    schema: "yes",
    forward: true,
  },
  make: makeOllamaProvider,
};

/**
 * `OLLAMA_HOST` as Ollama reads it: a host, `host:port`, `:port` or a URL.
 * A scheme brings its own port; the address a server listens on everywhere
 * is reached at loopback.
 */
export function parseOllamaHost(value: string): URL {
  const clean = value.trim().replaceAll(/^["']|["']$/g, "").trim();
  const hasScheme = /^https?:\/\//i.test(clean);
  const rest = clean.replace(/^:(?!:)/, "127.0.0.1:");
  const isBareV6 = /^[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:]*$/i.test(rest);
  const url = new URL(
    hasScheme
      ? clean
      : `http://${isBareV6 ? `[${rest}]` : rest || "127.0.0.1"}`,
  );
  // A URL drops a port that is its scheme's own: ":80" was written, keep it.
  if (!hasScheme && url.port === "" && !/:80\/?$/.test(rest)) {
    url.port = String(PORT);
  }
  if (url.hostname === "0.0.0.0") url.hostname = "127.0.0.1";
  if (url.hostname === "[::]") url.hostname = "[::1]";
  return url;
}

/** Makes the provider. */
export function makeOllamaProvider(deps: ProviderDeps): Provider {
  const place = placeOf(deps, ollamaRow);
  const base = new URL(deps.baseUrl);
  base.pathname = base.pathname.replace(/\/(v1|api)?\/?$/, "");
  const post = streamFetch(deps, place);
  const refusals = new Set<string>();
  const headers = (): Record<string, string> => ({
    "content-type": "application/json",
    ...(deps.apiKey === undefined
      ? {}
      : { authorization: `Bearer ${deps.apiKey.reveal()}` }),
  });
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      signal.throwIfAborted();
      let response: Response | undefined;
      // Ends: a refusal is answered by leaving that feature out, once each.
      while (response === undefined) {
        const body = toBody(request, {
          think: !refusals.has(`thinking ${request.model}`),
          tools: !refusals.has(`tools ${request.model}`),
        });
        try {
          response = await post(under(base, "/api/chat"), {
            method: "POST",
            headers: headers(),
            body: JSON.stringify(body),
            signal,
          });
        } catch (error) {
          const feature = refusedFeature(error);
          const key = `${feature} ${request.model}`;
          if (feature === undefined || refusals.has(key)) throw error;
          if (refusals.size > 256) refusals.clear();
          refusals.add(key);
          deps.log("warn", "provider.unsupported", {
            provider: deps.id,
            model: request.model,
            feature,
          });
        }
      }
      yield* readEvents(response, place, signal);
    },
    models: (signal) =>
      listModels(deps, place, { base, headers: headers(), signal }),
    forward: makeForward(deps, place, under(base, "/v1")),
  };
}

/** Some models have no tools or do not think; the server says which. */
function refusedFeature(error: unknown): "tools" | "thinking" | undefined {
  if (!(error instanceof ModelError)) return undefined;
  const match = /does not support (tools|thinking)/.exec(error.message);
  return match?.[1] as "tools" | "thinking" | undefined;
}

async function listModels(
  deps: ProviderDeps,
  place: Place,
  request: { base: URL; headers: HeadersInit; signal: AbortSignal },
): Promise<ModelInfo[]> {
  const { base, headers, signal } = request;
  const url = under(base, "/api/tags");
  const body = await getJson(deps, place, { url, headers, signal });
  return list(record(body)["models"]).map((model) =>
    text(record(model)["model"]) || text(record(model)["name"])
  ).filter((id) => id !== "").map((id) => ({ id }));
}

/** Everything a request says, in this API's words. */
export function toBody(
  request: ModelRequest,
  can: { think: boolean; tools: boolean } = { think: true, tools: true },
): Body {
  const { tools = [], stop = [], thinkingTokens = 0 } = request;
  const options: Body = {};
  if (request.temperature !== undefined) {
    options["temperature"] = request.temperature;
  }
  if (request.topP !== undefined) options["top_p"] = request.topP;
  if (stop.length > 0) options["stop"] = stop;
  if (request.outputTokensMax !== undefined) {
    options["num_predict"] = request.outputTokensMax + thinkingTokens;
  }
  const body: Body = {
    model: request.model,
    messages: [
      ...(request.system === undefined || request.system === ""
        ? []
        : [{ role: "system", content: request.system }]),
      ...toTurns(request.messages).flatMap(toMessages),
    ],
    stream: true,
    options,
  };
  if (thinkingTokens > 0 && can.think) {
    // One family takes a word; the others know only yes and no.
    body["think"] = request.model.includes("gpt-oss")
      ? effortOf(thinkingTokens)
      : true;
  }
  if (request.responseSchema !== undefined) {
    body["format"] = request.responseSchema.schema;
  }
  if (tools.length > 0 && can.tools && request.toolChoice !== "none") {
    body["tools"] = tools.map((tool) => ({
      type: "function",
      function: {
        name: tool.name,
        description: tool.description,
        parameters: tool.schema,
      },
    }));
  }
  return body;
}

function toMessages(turn: Turn): Body[] {
  switch (turn.role) {
    case "tool":
      return turn.results.map((result) => ({
        role: "tool",
        content: result.text,
        tool_name: result.name,
        tool_call_id: result.callId,
      }));
    case "user": {
      const images = turn.parts.flatMap((part) =>
        part.kind === "image" ? [part.data] : []
      );
      const content = turn.parts.flatMap((part) =>
        part.kind === "text" ? [part.text] : []
      ).join("\n");
      return [{
        role: "user",
        content,
        ...(images.length === 0 ? {} : { images }),
      }];
    }
  }
  const message: Body & { content: string } = {
    role: "assistant",
    content: "",
  };
  const calls: Body[] = [];
  for (const part of turn.parts) {
    if (part.kind === "text") message.content += part.text;
    else if (part.kind === "tool_call") {
      calls.push({
        id: part.id,
        type: "function",
        function: { name: part.name, arguments: argsObject(part) },
      });
    } else if (turn.current && part.vendor?.kind === KIND) {
      message["thinking"] = text(message["thinking"]) +
        text(record(part.vendor.data)["thinking"]);
    }
  }
  if (calls.length > 0) message["tool_calls"] = calls;
  return message.content === "" && calls.length === 0 ? [] : [message];
}

/** The stream as events. */
export async function* readEvents(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  let thoughts = "";
  let hasCalls = false;
  for await (const lines of readLines(bytesOf(response, place, signal))) {
    for (const line of lines) {
      if (line.trim() === "") continue;
      const data = parseFrame(place, line);
      if (data["error"] !== undefined) {
        throw toModelError(place, { body: data }, NaN);
      }
      const message = record(data["message"]);
      const thought = text(message["thinking"]);
      const words = text(message["content"]);
      const calls = list(message["tool_calls"]);
      if (thought !== "") {
        thoughts += thought;
        yield { kind: "thinking", text: thought };
      }
      const isOver = words !== "" || calls.length > 0 || data["done"] === true;
      if (isOver && thoughts !== "") {
        yield closeThoughts(thoughts);
        thoughts = "";
      }
      if (words !== "") yield { kind: "text", text: words };
      for (const call of calls) {
        hasCalls = true;
        yield toCall(record(call));
      }
      if (data["done"] === true) {
        yield usageEvent({
          input: data["prompt_eval_count"],
          output: data["eval_count"],
        });
        return yield { kind: "end", reason: toReason(data, hasCalls) };
      }
      if (thought === "" && words === "" && calls.length === 0) yield ALIVE;
    }
  }
  throw toTruncated(place);
}

function closeThoughts(thinking: string): ModelEvent {
  return {
    kind: "thinking",
    text: "",
    vendor: { kind: KIND, data: { thinking } },
  };
}

/** Older servers give calls no id. */
function toCall(call: Readonly<Record<string, unknown>>): ModelEvent {
  const fn = record(call["function"]);
  const args = fn["arguments"];
  return toolCallEvent({
    id: text(call["id"]) || makeCallId(),
    name: text(fn["name"]),
    json: typeof args === "string" ? args : jsonText(args ?? {}),
  });
}

function toReason(
  data: Readonly<Record<string, unknown>>,
  hasCalls: boolean,
): StopReason {
  if (data["done_reason"] === "length") return "length";
  return hasCalls ? "tool_calls" : "stop";
}
