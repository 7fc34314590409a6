/**
 * Anthropic's Messages API.
 *
 * Never: the SDK's own retries, its environment or its credential files; a
 * thinking block goes back changed.
 *
 * @module
 */
import type AnthropicSdk from "@anthropic-ai/sdk";
import type { MessageCreateParamsStreaming } from "@anthropic-ai/sdk/resources/messages";
import type {
  ImagePart,
  TextPart,
  ThinkingPart,
  ToolCallPart,
} from "../core/message.ts";
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
  list,
  record,
  text,
  tokens,
  toolCallEvent,
  usageEvent,
} from "./wire.ts";

const KIND = "anthropic";
const VERSION = "2026-10-21";
/** The last version of the API that takes a temperature. */
const VERSION_SAMPLING = "2023-06-01";
const OUTPUT_TOKENS_DEFAULT = 8192;
/** The smallest budget a model takes. */
export const THINKING_TOKENS_MIN = 1024;

const SDK_TIMEOUT_MS = 3_600_000;

type Block = Record<string, unknown>;
type Wire = { role: "user" | "assistant"; content: Block[] };

/** The vendor's row. */
export const anthropicRow: VendorRow = {
  kind: KIND,
  title: "Anthropic",
  keyEnv: "ANTHROPIC_API_KEY",
  baseUrlEnv: "ANTHROPIC_BASE_URL",
  baseUrl: "https://api.anthropic.com",
  needsKey: true,
  model: "claude-sonnet-5-5",
  supports: {
    thinking: "adaptive or a budget; signed and redacted blocks go back",
    cache:
      "tools, system, last user turn and end marked; hits and writes counted",
    schema: "yes",
    forward: false,
  },
  make: (deps) => makeAnthropicProvider(deps),
};

/** What a model's version says about what it accepts. */
export interface ClaudeTraits {
  /** Thinks by effort; a token budget is refused. */
  adaptive: boolean;
  /** Accepts temperature or top_p. */
  sampling: boolean;
}

/** Reads the version out of a model's name; an unversioned one is new. */
export function claudeTraits(model: string): ClaudeTraits {
  if (!model.includes("claude")) return { adaptive: false, sampling: true };
  const match = /claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)/.exec(
    model,
  );
  if (match === null) return { adaptive: true, sampling: false };
  const version = Number(match[1]) + Number(match[2] ?? 0) / 100;
  return { adaptive: version >= 4.06, sampling: version <= 4.06 };
}

/** Makes the provider; the SDK loads with its first call. */
export function makeAnthropicProvider(deps: ProviderDeps): Provider {
  const place = placeOf(deps, anthropicRow);
  const base = new URL(deps.baseUrl);
  base.pathname = base.pathname.replace(/\/(v1\/?)?$/, "");
  let client: Promise<AnthropicSdk> | undefined;
  const open = async () => {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    return new Anthropic({
      // Always given: without one the SDK looks for credentials by itself.
      apiKey: deps.apiKey?.reveal() ?? NO_KEY,
      webhookKey: null,
      baseURL: base.href.replace(/\/$/, ""),
      fetch: streamFetch(deps, place),
      defaultHeaders: { "anthropic-version": VERSION, ...extraHeaders() },
      maxRetries: 0,
      timeout: SDK_TIMEOUT_MS,
      logLevel: "off",
    });
  };
  // The vendor reads a bearer token; gateways that copy it may know only the
  // older header.
  const extraHeaders = (): Record<string, string> =>
    base.host === new URL(anthropicRow.baseUrl ?? "").host
      ? {}
      : { "x-api-key": deps.apiKey?.reveal() ?? NO_KEY };
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      signal.throwIfAborted();
      assertKey(deps, anthropicRow);
      let response: Response;
      try {
        const sdk = await (client ??= open());
        const body = toBody(request);
        const headers = "temperature" in body || "top_p" in body
          ? { "anthropic-version": VERSION_SAMPLING }
          : {};
        response = await sdk.messages.create(body, { signal, headers })
          .asResponse();
      } catch (error) {
        throw fromSdk(place, error, signal);
      }
      yield* readEvents(response, place, signal);
    },
    models: (signal) =>
      listModels(deps, place, { base, headers: extraHeaders(), signal }),
  };
}

async function listModels(
  deps: ProviderDeps,
  place: Place,
  options: { base: URL; headers: Record<string, string>; signal: AbortSignal },
): Promise<ModelInfo[]> {
  assertKey(deps, anthropicRow);
  const url = under(options.base, "/v1/models");
  url.searchParams.set("limit", "1000");
  const body = await getJson(deps, place, {
    url,
    headers: {
      "authorization": `Bearer ${deps.apiKey?.reveal() ?? NO_KEY}`,
      "anthropic-version": VERSION,
      ...options.headers,
    },
    signal: options.signal,
  });
  return list(record(body)["data"]).map(record).flatMap((model) => {
    const id = text(model["id"]);
    const label = text(model["display_name"]);
    return id === "" ? [] : [{ id, ...(label === "" ? {} : { label }) }];
  });
}

/** Everything a request says, in the vendor's words. */
export function toBody(request: ModelRequest): MessageCreateParamsStreaming {
  const traits = claudeTraits(request.model);
  const messages = toWire(request);
  const { thinking, reserve, config } = toThinking(request, traits);
  const outputTokens = request.outputTokensMax ?? OUTPUT_TOKENS_DEFAULT;
  const body: Block = {
    model: request.model,
    max_tokens: outputTokens + reserve,
    messages,
    stream: true,
    ...toTools(request),
    ...thinking,
    ...toSampling(request, traits, reserve > 0),
  };
  if (request.system !== undefined && request.system.trim() !== "") {
    body["system"] = [marked({ type: "text", text: request.system })];
  }
  if (request.stop !== undefined && request.stop.length > 0) {
    body["stop_sequences"] = request.stop;
  }
  const format = request.responseSchema === undefined ? {} : {
    format: { type: "json_schema", schema: request.responseSchema.schema },
  };
  if (Object.keys({ ...config, ...format }).length > 0) {
    body["output_config"] = { ...config, ...format };
  }
  return body as unknown as MessageCreateParamsStreaming;
}

/** Marks the end of a prefix worth keeping. */
function marked(block: Block): Block {
  return { ...block, cache_control: { type: "ephemeral" } };
}

function toTools(request: ModelRequest): Block {
  const { tools = [], toolChoice } = request;
  if (tools.length === 0) return {};
  const wire: Block[] = tools.map((tool) => ({
    name: tool.name,
    description: tool.description,
    input_schema: tool.schema,
  }));
  const last = wire.pop();
  if (last !== undefined) wire.push(marked(last));
  const choice = toolChoice === undefined || toolChoice === "auto"
    ? undefined
    : toolChoice === "none"
    ? { type: "none" }
    : toolChoice === "required"
    ? { type: "any" }
    : { type: "tool", name: toolChoice.name };
  return {
    tools: wire,
    ...(choice === undefined ? {} : { tool_choice: choice }),
  };
}

/** How the thinking is asked for, and the tokens it adds to the answer's. */
function toThinking(
  request: ModelRequest,
  traits: ClaudeTraits,
): { thinking: Block; reserve: number; config: Block } {
  const wanted = request.thinkingTokens ?? 0;
  const isForced = request.toolChoice === "required" ||
    typeof request.toolChoice === "object";
  if (wanted <= 0 || isForced) return { thinking: {}, reserve: 0, config: {} };
  if (traits.adaptive) {
    return {
      thinking: { thinking: { type: "adaptive", display: "summarized" } },
      reserve: wanted,
      config: { effort: effortOf(wanted) },
    };
  }
  if (!canResumeThinking(request, KIND)) {
    return { thinking: {}, reserve: 0, config: {} };
  }
  const budget = Math.max(wanted, THINKING_TOKENS_MIN);
  return {
    thinking: { thinking: { type: "enabled", budget_tokens: budget } },
    reserve: budget,
    config: {},
  };
}

/**
 * With a budget, a tool exchange under way must have begun with thinking: one
 * begun by another model, or without, goes on without.
 */
export function canResumeThinking(
  request: ModelRequest,
  kind: string,
): boolean {
  return toTurns(request.messages).every((turn) =>
    turn.role !== "assistant" || !turn.current ||
    turn.parts[0]?.kind === "thinking" && turn.parts[0].vendor?.kind === kind
  );
}

function toSampling(
  request: ModelRequest,
  traits: ClaudeTraits,
  isThinking: boolean,
): Block {
  if (!traits.sampling || isThinking) return {};
  if (request.temperature !== undefined) {
    return { temperature: Math.min(Math.max(request.temperature, 0), 1) };
  }
  return request.topP === undefined ? {} : { top_p: request.topP };
}

/** The messages, with the last user turn and the end marked for the cache. */
function toWire(request: ModelRequest): Wire[] {
  const wire: Wire[] = [];
  let lastUser: Wire | undefined;
  for (const turn of toTurns(request.messages)) {
    const content = toBlocks(turn);
    if (content.length === 0) continue;
    const role = turn.role === "assistant" ? "assistant" : "user";
    const before = wire.at(-1);
    if (before?.role === role) before.content.push(...content);
    else wire.push({ role, content });
    if (turn.role === "user") lastUser = wire.at(-1);
  }
  for (const message of new Set([lastUser, wire.at(-1)])) {
    const last = message?.content.pop();
    if (message === undefined || last === undefined) continue;
    const isMarkable = !text(last["type"]).endsWith("thinking");
    message.content.push(isMarkable ? marked(last) : last);
  }
  return wire;
}

function toBlocks(turn: Turn): Block[] {
  if (turn.role === "tool") {
    return turn.results.map((result) => ({
      type: "tool_result",
      tool_use_id: toId(result.callId),
      content: result.text,
      ...(result.isError ? { is_error: true } : {}),
    }));
  }
  return turn.parts.flatMap(toBlock);
}

function toBlock(
  part: TextPart | ImagePart | ThinkingPart | ToolCallPart,
): Block[] {
  switch (part.kind) {
    case "text":
      return part.text.trim() === "" ? [] : [{ type: "text", text: part.text }];
    case "image":
      return [{
        type: "image",
        source: { type: "base64", media_type: part.mime, data: part.data },
      }];
    case "thinking":
      // Only what this vendor signed can go back; others' thoughts stay out.
      return part.vendor?.kind === KIND
        ? [{ ...record(part.vendor.data) }]
        : [];
    case "tool_call":
      return [{
        type: "tool_use",
        id: toId(part.id),
        name: part.name,
        input: argsObject(part),
      }];
  }
}

/** Ids of other vendors' calls, in the letters this one accepts. */
export function toId(id: string): string {
  return id.replaceAll(/[^A-Za-z0-9_-]/g, "_");
}

const STOP: Readonly<Record<string, StopReason>> = {
  end_turn: "stop",
  stop_sequence: "stop",
  pause_turn: "stop",
  tool_use: "tool_calls",
  max_tokens: "length",
  model_context_window_exceeded: "length",
  refusal: "refused",
};

interface OpenBlock {
  type: string;
  id: string;
  name: string;
  input: unknown;
  data: string;
  /** Thinking or a call's JSON so far. */
  written: string;
  signature: string;
}

/** The vendor's stream as events. */
export async function* readEvents(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  const blocks = new Map<unknown, OpenBlock>();
  let usage: Readonly<Record<string, unknown>> = {};
  let reason: StopReason | undefined;
  for await (const frame of readSse(bytesOf(response, place, signal))) {
    if (frame === COMMENT) {
      yield ALIVE;
      continue;
    }
    const data = parseFrame(place, frame.data);
    switch (data["type"]) {
      case "message_start":
        usage = withCounts(usage, record(data["message"])["usage"]);
        yield toUsage(usage);
        break;
      case "content_block_start":
        blocks.set(data["index"], openBlock(record(data["content_block"])));
        yield ALIVE;
        break;
      case "content_block_delta": {
        const event = addDelta(blocks.get(data["index"]), data["delta"]);
        if (event !== undefined) yield event;
        break;
      }
      case "content_block_stop": {
        const event = closeBlock(blocks.get(data["index"]));
        blocks.delete(data["index"]);
        if (event !== undefined) yield event;
        break;
      }
      case "message_delta": {
        const stop = text(record(data["delta"])["stop_reason"]);
        if (stop !== "") reason = STOP[stop] ?? "stop";
        usage = withCounts(usage, data["usage"]);
        break;
      }
      case "message_stop":
        yield toUsage(usage);
        return yield { kind: "end", reason: reason ?? "stop" };
      case "error":
        throw toModelError(place, { body: data }, NaN);
      default: // `ping`, and what is not invented yet
        yield ALIVE;
    }
  }
  throw toTruncated(place);
}

function openBlock(block: Readonly<Record<string, unknown>>): OpenBlock {
  return {
    type: text(block["type"]),
    id: text(block["id"]),
    name: text(block["name"]),
    input: block["input"],
    data: text(block["data"]),
    written: text(block["thinking"]),
    signature: text(block["signature"]),
  };
}

function addDelta(
  block: OpenBlock | undefined,
  raw: unknown,
): ModelEvent | undefined {
  const delta = record(raw);
  switch (delta["type"]) {
    case "text_delta": {
      const words = text(delta["text"]);
      return words === "" ? undefined : { kind: "text", text: words };
    }
    case "thinking_delta": {
      const words = text(delta["thinking"]);
      if (block !== undefined) block.written += words;
      return words === "" ? ALIVE : { kind: "thinking", text: words };
    }
    case "signature_delta":
      if (block !== undefined) block.signature += text(delta["signature"]);
      return ALIVE;
    case "input_json_delta":
      if (block !== undefined) block.written += text(delta["partial_json"]);
      return ALIVE;
  }
  return undefined;
}

function closeBlock(block: OpenBlock | undefined): ModelEvent | undefined {
  switch (block?.type) {
    case "tool_use": {
      const { id, name, input, written } = block;
      const json = written === "" && Object.keys(record(input)).length > 0
        ? JSON.stringify(input)
        : written;
      return toolCallEvent({ id, name, json });
    }
    case "thinking": {
      const { written, signature } = block;
      const data = { type: "thinking", thinking: written, signature };
      return signature === ""
        ? undefined
        : { kind: "thinking", text: "", vendor: { kind: KIND, data } };
    }
    case "redacted_thinking": {
      const data = { type: "redacted_thinking", data: block.data };
      return { kind: "thinking", text: "", vendor: { kind: KIND, data } };
    }
  }
  return undefined;
}

/** Later counts are cumulative; an absent or null one leaves the earlier. */
function withCounts(
  before: Readonly<Record<string, unknown>>,
  now: unknown,
): Readonly<Record<string, unknown>> {
  const known = Object.entries(record(now)).filter(([, n]) =>
    typeof n === "number"
  );
  return { ...before, ...Object.fromEntries(known) };
}

/** This vendor counts cached tokens beside the input; we count them in. */
function toUsage(usage: Readonly<Record<string, unknown>>): ModelEvent {
  const cached = tokens(usage["cache_read_input_tokens"]);
  const write = tokens(usage["cache_creation_input_tokens"]);
  return usageEvent({
    input: tokens(usage["input_tokens"]) + cached + write,
    output: usage["output_tokens"],
    cached,
    write,
  });
}
