/**
 * Google's Gemini API (`streamGenerateContent`).
 *
 * Never: the SDK's own retries, its reader or its environment; a thought's
 * signature goes back changed, or on another part than it came on.
 *
 * @module
 */
import type {
  Content,
  GenerateContentConfig,
  GenerateContentParameters,
  GoogleGenAI,
} from "@google/genai/web";
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
  assertKey,
  bytesOf,
  fromSdk,
  getJson,
  NO_KEY,
  parseFrame,
  placeOf,
  streamFetch,
  under,
} from "./http.ts";
import { COMMENT, readSse } from "./sse.ts";
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
  tokens,
  toolCallEvent,
  usageEvent,
} from "./wire.ts";

const KIND = "gemini";
/** The version of the API; a base URL that ends with another one wins. */
const VERSION = "v1";
const BUDGET_MIN = 512;
const BUDGET_MAX = 24_576;
/** What the vendor documents for calls it did not make itself. */
const NO_SIGNATURE = "skip_thought_signature_validator";

type Wire = Record<string, unknown>;

/** The vendor's row. */
export const geminiRow: VendorRow = {
  kind: KIND,
  title: "Google Gemini",
  keyEnv: "GEMINI_API_KEY",
  keyEnvAlso: ["GOOGLE_API_KEY"],
  baseUrlEnv: "GOOGLE_GEMINI_BASE_URL",
  baseUrl: "https://generativelanguage.googleapis.com",
  needsKey: true,
  model: "gemini-3.8-flash",
  supports: {
    thinking:
      "a level, or a budget up to 2.5; signatures go back on their parts",
    cache: "by the vendor itself; hits counted",
    schema: "yes",
    forward: false,
  },
  make: makeGeminiProvider,
};

/** Makes the provider; the SDK loads with its first call. */
export function makeGeminiProvider(deps: ProviderDeps): Provider {
  const place = placeOf(deps, geminiRow);
  const { base, version } = splitVersion(deps.baseUrl);
  const post = streamFetch(deps, place);
  let client: Promise<GoogleGenAI> | undefined;
  const open = async () => {
    // The entry without Google's own credentials, files and sockets.
    const { GoogleGenAI } = await import("@google/genai/web");
    return new GoogleGenAI({
      apiKey: deps.apiKey?.reveal() ?? NO_KEY,
      apiVersion: version,
      httpOptions: { baseUrl: base.href.replace(/\/$/, "") },
    });
  };
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      signal.throwIfAborted();
      assertKey(deps, geminiRow);
      let response: Response | undefined;
      try {
        const sdk = await (client ??= open());
        const { config, ...body } = toBody(request);
        if (body.contents.length === 0) throw toEmpty(place);
        const send: typeof fetch = async (input, init) => {
          response = await post(input, init);
          // The SDK is used for the request only: it has nothing to read.
          return new Response("");
        };
        await sdk.models.generateContentStream({
          ...body,
          config: {
            ...config,
            abortSignal: signal,
            httpOptions: { fetch: send },
          },
        });
      } catch (error) {
        throw fromSdk(place, error, signal);
      }
      if (response === undefined) throw toTruncated(place);
      yield* readEvents(response, place, signal);
    },
    models: (signal) => listModels(deps, place, { base, version, signal }),
  };
}

function toEmpty(place: Place): ModelError {
  return new ModelError(
    "bad_request",
    `Cannot ask ${place.id}: the conversation is empty`,
    { hint: "Say something", details: { provider: place.id } },
  );
}

/** A base URL may name the version of the API, as some tools want it to. */
function splitVersion(baseUrl: URL): { base: URL; version: string } {
  const base = new URL(baseUrl);
  const match = /^(.*?)\/(v\d+[a-z0-9]*)?\/?$/.exec(base.pathname);
  base.pathname = match?.[1] ?? base.pathname;
  return { base, version: match?.[2] ?? VERSION };
}

async function listModels(
  deps: ProviderDeps,
  place: Place,
  request: { base: URL; version: string; signal: AbortSignal },
): Promise<ModelInfo[]> {
  assertKey(deps, geminiRow);
  const url = under(request.base, `/${request.version}/models`);
  url.searchParams.set("pageSize", "1000");
  const body = await getJson(deps, place, {
    url,
    headers: { "x-goog-api-key": deps.apiKey?.reveal() ?? NO_KEY },
    signal: request.signal,
  });
  return list(record(body)["models"]).map(record).flatMap((model) => {
    const id = text(model["name"]).replace(/^models\//, "");
    const label = text(model["displayName"]);
    const methods = list(model["supportedGenerationMethods"]);
    return id === "" || !methods.includes("generateContent")
      ? []
      : [{ id, ...(label === "" ? {} : { label }) }];
  });
}

/** The generation in a model's name; an unknown name is none. */
function generationOf(model: string): number {
  return Number(/gemini-(\d+(?:\.\d+)?)/.exec(model)?.[1] ?? 0);
}

/** Everything a request says, in the SDK's words. */
export function toBody(
  request: ModelRequest,
): GenerateContentParameters & { contents: Content[] } {
  const { thinkingTokens = 0, stop = [], responseSchema } = request;
  const config: Wire = { automaticContinuation: false, ...toTools(request) };
  if (request.system !== undefined && request.system !== "") {
    config["systemInstruction"] = { parts: [{ text: request.system }] };
  }
  if (request.outputTokensMax !== undefined) {
    config["maxOutputTokens"] = request.outputTokensMax + thinkingTokens;
  }
  if (request.temperature !== undefined) {
    config["temperature"] = request.temperature;
  }
  if (request.topP !== undefined) config["topP"] = request.topP;
  if (stop.length > 0) config["stopSequences"] = [...stop];
  if (thinkingTokens > 0) {
    const isOld = generationOf(request.model) < 3;
    config["thinkingConfig"] = {
      includeThoughts: true,
      ...(isOld
        ? {
          thinkingBudget: Math.min(
            Math.max(thinkingTokens, BUDGET_MIN),
            BUDGET_MAX,
          ),
        }
        : { thinkingLevel: effortOf(thinkingTokens).toUpperCase() }),
    };
  }
  if (responseSchema !== undefined) {
    config["responseMimeType"] = "application/json";
    config["responseJsonSchema"] = responseSchema.schema;
  }
  const contents = toTurns(request.messages).map((turn) =>
    toContent(turn, request.model)
  ).filter(({ parts }) => parts.length > 0);
  return {
    model: request.model,
    contents: contents as Content[],
    config: config as GenerateContentConfig,
  };
}

function toTools({ tools = [], toolChoice }: ModelRequest): Wire {
  if (tools.length === 0) return {};
  const declarations = tools.map((tool) => ({
    name: tool.name,
    description: tool.description,
    parametersJsonSchema: tool.schema,
  }));
  const choice = toolChoice === undefined || toolChoice === "auto"
    ? undefined
    : toolChoice === "none"
    ? { mode: "NONE" }
    : toolChoice === "required"
    ? { mode: "ANY" }
    : { mode: "ANY", allowedFunctionNames: [toolChoice.name] };
  return {
    tools: [{ functionDeclarations: declarations }],
    ...(choice === undefined
      ? {}
      : { toolConfig: { functionCallingConfig: choice } }),
  };
}

function toContent(
  turn: Turn,
  model: string,
): { role: "user" | "model"; parts: Wire[] } {
  switch (turn.role) {
    case "user":
      return {
        role: "user",
        parts: turn.parts.map((part) =>
          part.kind === "text"
            ? { text: part.text }
            : { inlineData: { mimeType: part.mime, data: part.data } }
        ),
      };
    case "tool":
      return {
        role: "user",
        parts: turn.results.map(({ callId, name, text: words, isError }) => ({
          functionResponse: {
            id: callId,
            name,
            response: isError ? { error: words } : { output: words },
          },
        })),
      };
  }
  const parts = turn.parts.flatMap((part): Wire[] => {
    switch (part.kind) {
      case "text":
        return [{ text: part.text }];
      case "thinking":
        return part.vendor?.kind === KIND
          ? [{ ...record(part.vendor.data) }]
          : [];
      case "tool_call":
        return [{
          functionCall: {
            id: part.id,
            name: part.name,
            args: argsObject(part),
          },
          ...(part.vendor?.kind === KIND ? record(part.vendor.data) : {}),
        }];
    }
  });
  if (turn.current && generationOf(model) >= 3) signFirstCall(parts);
  return { role: "model", parts };
}

/**
 * In the exchange under way each step's first call must be signed; one another
 * model made has no signature, and the vendor names a word for that.
 */
function signFirstCall(parts: readonly Wire[]): void {
  const calls = parts.filter((part) => "functionCall" in part);
  const [first] = calls;
  if (first !== undefined && !calls.some((one) => "thoughtSignature" in one)) {
    first["thoughtSignature"] = NO_SIGNATURE;
  }
}

const STOP: Readonly<Record<string, StopReason>> = {
  STOP: "stop",
  MAX_TOKENS: "length",
  CONTINUATION: "length",
  SAFETY: "refused",
  RECITATION: "refused",
  LANGUAGE: "refused",
  BLOCKLIST: "refused",
  PROHIBITED_CONTENT: "refused",
  SPII: "refused",
  IMAGE_SAFETY: "refused",
  IMAGE_PROHIBITED_CONTENT: "refused",
  IMAGE_RECITATION: "refused",
};

/** Ends at which the model wrote a call that is none. */
const BAD_CALL: ReadonlySet<string> = new Set([
  "MALFORMED_FUNCTION_CALL",
  "UNEXPECTED_TOOL_CALL",
  "TOO_MANY_TOOL_CALLS",
]);

/** What a stream has said so far that is not yet an event. */
interface State {
  hasSpoken: boolean;
  hasCalls: boolean;
  /** The vendor's word for the end. */
  reason: string;
  /** What it says beside that word. */
  message: string;
}

/** The vendor's stream as events. */
export async function* readEvents(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  const state: State = {
    hasSpoken: false,
    hasCalls: false,
    reason: "",
    message: "",
  };
  for await (const frame of readSse(bytesOf(response, place, signal))) {
    if (frame === COMMENT) {
      yield ALIVE;
      continue;
    }
    const data = parseFrame(place, frame.data);
    if (data["error"] !== undefined) {
      throw toModelError(place, { body: data }, NaN);
    }
    yield* readChunk(data, state);
  }
  yield* finish(state, place);
}

function* readChunk(
  data: Readonly<Record<string, unknown>>,
  state: State,
): Generator<ModelEvent, void, undefined> {
  const candidate = record(list(data["candidates"])[0]);
  const parts = list(record(candidate["content"])["parts"]).map(record);
  for (const part of parts) {
    for (const event of readPart(part, state)) yield event;
  }
  state.reason = text(candidate["finishReason"]) || state.reason;
  state.message = text(candidate["finishMessage"]) || state.message;
  const blocked = text(record(data["promptFeedback"])["blockReason"]);
  if (blocked !== "") state.reason = "SAFETY";
  if (data["usageMetadata"] !== undefined) {
    yield toUsage(record(data["usageMetadata"]));
  } else if (parts.length === 0) yield ALIVE;
}

function* readPart(
  part: Readonly<Record<string, unknown>>,
  state: State,
): Generator<ModelEvent, void, undefined> {
  const words = text(part["text"]);
  const thoughtSignature = text(part["thoughtSignature"]);
  const signature = thoughtSignature === "" ? undefined : { thoughtSignature };
  if (part["functionCall"] !== undefined) {
    state.hasCalls = true;
    const call = record(part["functionCall"]);
    const event = toolCallEvent({
      id: text(call["id"]) || makeCallId(),
      name: text(call["name"]),
      json: jsonText(call["args"] ?? {}),
    });
    yield signature === undefined
      ? event
      : { ...event, vendor: { kind: KIND, data: signature } } as ModelEvent;
  } else if (part["thought"] === true) {
    if (words !== "") yield { kind: "thinking", text: words };
    if (signature !== undefined) {
      const data = { text: words, thought: true, ...signature };
      yield { kind: "thinking", text: "", vendor: { kind: KIND, data } };
    }
  } else {
    if (words !== "") {
      state.hasSpoken = true;
      yield { kind: "text", text: words };
    }
    if (signature !== undefined) {
      // As the vendor itself sends one that belongs to words already said.
      const data = { text: "", ...signature };
      yield { kind: "thinking", text: "", vendor: { kind: KIND, data } };
    }
  }
}

function* finish(
  state: State,
  place: Place,
): Generator<ModelEvent, void, undefined> {
  const { reason, message, hasCalls, hasSpoken } = state;
  if (reason === "") throw toTruncated(place);
  if (BAD_CALL.has(reason)) {
    yield toBadCall(message, place);
    return yield { kind: "end", reason: "tool_calls" };
  }
  const known = STOP[reason];
  if (known === undefined && !hasCalls && !hasSpoken) {
    throw new ModelError(
      "server",
      `${place.id} stopped without an answer: ${reason.slice(0, 60)}`,
      { hint: "Try again", details: { provider: place.id } },
    );
  }
  const isStop = known === undefined || known === "stop";
  yield {
    kind: "end",
    reason: isStop && hasCalls ? "tool_calls" : known ?? "stop",
  };
}

/** The call the model tried to write, as far as the vendor tells it. */
function toBadCall(message: string, place: Place): ModelEvent {
  // `default_api.look{…}`, also inside Python; else the first thing called.
  const match = /default_api[.:]([\w-]+)([\s\S]*)$/.exec(message) ??
    /call:\s*([A-Za-z_][\w.-]*)\s*([({][\s\S]*)$/i.exec(message);
  if (match === null) {
    throw new ModelError(
      "server",
      `${place.id}'s model wrote a tool call that could not be read`,
      { hint: "Try again", details: { provider: place.id } },
    );
  }
  return {
    kind: "tool_call",
    id: makeCallId(),
    name: match[1]?.slice(0, 128) ?? "",
    args: match[2]?.slice(0, 100_000) ?? "",
    malformed: "the vendor could not read the call",
  };
}

function toUsage(usage: Readonly<Record<string, unknown>>): ModelEvent {
  return usageEvent({
    input: tokens(usage["promptTokenCount"]) +
      tokens(usage["toolUsePromptTokenCount"]),
    output: tokens(usage["candidatesTokenCount"]) +
      tokens(usage["thoughtsTokenCount"]),
    cached: usage["cachedContentTokenCount"],
  });
}
