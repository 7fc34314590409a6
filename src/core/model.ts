/**
 * What the agent asks of a model and what comes back: one request shape, one
 * stream of tagged events, one taxonomy of failures, for every vendor.
 *
 * @module
 */
import { AppError, type AppErrorOptions, type ErrorCode } from "./errors.ts";
import type { Message, Usage, VendorData } from "./message.ts";

/** A tool as a model is shown it; `schema` is JSON Schema of its arguments. */
export interface ToolSpec {
  name: string;
  description: string;
  schema: Readonly<Record<string, unknown>>;
}

/** `auto`, `none`, `required`, or one tool by name. */
export type ToolChoice = "auto" | "none" | "required" | { name: string };

/** One model call. */
export interface ModelRequest {
  /** The vendor's own model name, without the provider. */
  model: string;
  system?: string;
  messages: readonly Message[];
  tools?: readonly ToolSpec[];
  toolChoice?: ToolChoice;
  /** Upper bound of the answer; the provider's default when absent. */
  outputTokensMax?: number;
  temperature?: number;
  topP?: number;
  stop?: readonly string[];
  /** Tokens the model may think with; 0 or absent: none asked for. */
  thinkingTokens?: number;
  /** Answer as JSON of this schema. */
  responseSchema?: {
    name: string;
    schema: Readonly<Record<string, unknown>>;
  };
}

/** Why a model stopped. */
export type StopReason = "stop" | "tool_calls" | "length" | "refused";

/**
 * What a provider yields. A stream that does not throw ends with exactly one
 * `end`; `tool_call` is complete and parsed; `usage` is cumulative for the call.
 * A `thinking` with `vendor` completes the thought before it; one with neither
 * text nor `vendor` is a sign of life, which the router keeps to itself.
 */
export type ModelEvent =
  | { kind: "text"; text: string }
  | { kind: "thinking"; text: string; vendor?: VendorData }
  | {
    kind: "tool_call";
    id: string;
    name: string;
    args: unknown;
    /** What is wrong with the arguments' JSON; `args` is then the raw text. */
    malformed?: string;
    vendor?: VendorData;
  }
  | { kind: "usage"; usage: Usage }
  | { kind: "end"; reason: StopReason };

/** What a provider says about a model it serves. */
export interface ModelInfo {
  id: string;
  label?: string;
}

/** One vendor. Made by its file in `providers/`; knows nothing of agents. */
export interface Provider {
  /** The name in `provider:model`. */
  readonly id: string;
  /** The wire it speaks: `anthropic`, `openai_chat`, `openai_responses`, `ollama`, … */
  readonly kind: string;
  /** Streams one call. Throws {@linkcode ModelError}; leaving the loop cancels. */
  stream(
    request: ModelRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ModelEvent, void, undefined>;
  /** The models the vendor lists for this key. */
  models(signal: AbortSignal): Promise<ModelInfo[]>;
  /**
   * Sends a body of OpenAI's chat dialect on unchanged (only providers that
   * speak it): `/chat/completions` and `/embeddings` of the vendor.
   */
  forward?(
    path: string,
    body: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<Response>;
}

/** One taxonomy of vendor failures. */
export type ModelErrorClass =
  | "auth"
  | "quota"
  | "rate"
  | "overloaded"
  | "context_overflow"
  | "refused"
  | "bad_request"
  | "not_found"
  | "network"
  | "timeout"
  | "server";

const CODE = {
  auth: "upstream",
  quota: "upstream",
  rate: "rate_limited",
  overloaded: "unavailable",
  context_overflow: "bad_input",
  refused: "upstream",
  bad_request: "bad_input",
  not_found: "not_found",
  network: "upstream",
  timeout: "timeout",
  server: "upstream",
} as const satisfies Record<ModelErrorClass, ErrorCode>;

const RETRYABLE: ReadonlySet<ModelErrorClass> = new Set([
  "rate",
  "overloaded",
  "network",
  "timeout",
  "server",
]);

/** A vendor's failure, classified. The message says what to do; no key in it. */
export class ModelError extends AppError {
  override readonly name = "ModelError";
  readonly class: ModelErrorClass;
  /** The vendor's HTTP status, if it answered. */
  readonly status: number | undefined;

  constructor(
    errorClass: ModelErrorClass,
    message: string,
    options: AppErrorOptions & { status?: number } = {},
  ) {
    super(CODE[errorClass], message, options);
    this.class = errorClass;
    this.status = options.status;
  }

  /** Whether the same call may succeed a moment later. */
  get isRetryable(): boolean {
    return RETRYABLE.has(this.class);
  }
}

/** Tokens to think with, by the names of levels that clients use. */
const THINKING: Readonly<Record<string, number>> = {
  none: 0,
  off: 0,
  minimal: 1024,
  low: 2048,
  medium: 8192,
  high: 24_576,
  xhigh: 49_152,
};

/** @throws {AppError} `bad_input` for a level nobody knows */
export function toThinkingTokens(level: string): number {
  const tokens = THINKING[level];
  if (tokens === undefined || !Object.hasOwn(THINKING, level)) {
    throw new AppError("bad_input", `Cannot think "${level}": unknown level`, {
      hint: `Use one of ${Object.keys(THINKING).join(", ")}`,
    });
  }
  return tokens;
}

/** A model's full name in two: `openai:gpt-x` or `openai/gpt-x`. */
export function splitModel(
  name: string,
): { provider: string; model: string } | undefined {
  const match = /^([a-z0-9][a-z0-9_-]*)[:/](.+)$/.exec(name);
  return match === null
    ? undefined
    : { provider: match[1] ?? "", model: match[2] ?? "" };
}

/** A model's full name as it is compared: with a colon, however it was written. */
export function fullModel(name: string): string {
  const split = splitModel(name);
  return split === undefined ? name : `${split.provider}:${split.model}`;
}
