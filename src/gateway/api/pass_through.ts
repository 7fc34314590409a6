/**
 * Model calls that do not go through the agent: a caller's own request to
 * `provider:model`, sent on as it is where the vendor speaks the dialect, else
 * converted.
 *
 * Never: a vendor's refusal of *our* key reaches the caller as a refusal of its
 * own token, or with the vendor's text in it.
 *
 * @module
 */
import { readBytes } from "../../core/bounded.ts";
import type { Authority } from "../../core/authority.ts";
import { AppError, errorText, ignore } from "../../core/errors.ts";
import { label } from "../../core/label.ts";
import { NO_USAGE, type Usage } from "../../core/message.ts";
import {
  ModelError,
  type ModelEvent,
  type ModelRequest,
  type StopReason,
} from "../../core/model.ts";
import { asModelRequest } from "./asked.ts";
import type { Call } from "../call.ts";
import type { ByteFilter } from "../../guard/screen/leaks.ts";
import type { GatewayLimits } from "../limits.ts";
import { errorFrame } from "../http_errors.ts";
import {
  type FinishReason,
  type Piece,
  SSE_HEADERS,
} from "./chat_completions/answer.ts";
import { type ChatRequest, fromChat } from "./chat_completions/schema.ts";

/**
 * A body's text with the value of its top-level `model` replaced, nothing else
 * touched.
 *
 * @param text JSON that was parsed without error to an object
 * @param from The model's name as the parser saw it
 * @throws {AppError} `bad_input` when two fields claim to be the model
 */
export function replaceModel(text: string, from: string, to: string): string {
  let at = text.indexOf("{") + 1;
  while (at < text.length) {
    // Ends: every round moves past one field of valid JSON.
    const keyStart = text.indexOf('"', at);
    if (keyStart === -1) break;
    const keyEnd = stringEnd(text, keyStart);
    const valueStart = skipSpace(text, text.indexOf(":", keyEnd) + 1);
    const valueEnd = skipValue(text, valueStart);
    const key = text.slice(keyStart, keyEnd);
    if (
      key === '"model"' || (key.includes("\\") && JSON.parse(key) === "model")
    ) {
      if (JSON.parse(text.slice(valueStart, valueEnd)) !== from) break;
      return text.slice(0, valueStart) + JSON.stringify(to) +
        text.slice(valueEnd);
    }
    at = valueEnd;
  }
  throw new AppError(
    "bad_input",
    'Cannot read the request: "model" is given more than once',
    { details: { param: "model", code: "invalid_value" } },
  );
}

function skipSpace(text: string, at: number): number {
  while (text.charCodeAt(at) <= 0x20) at++;
  return at;
}

/** The index after a string that begins at `at`. */
function stringEnd(text: string, at: number): number {
  for (let n = at + 1; n < text.length; n++) {
    const code = text.charCodeAt(n);
    if (code === 0x5c) n++;
    else if (code === 0x22) return n + 1;
  }
  return text.length;
}

/** The index after the value that begins at `at`. */
function skipValue(text: string, at: number): number {
  let depth = 0;
  for (let n = at; n < text.length; n++) {
    switch (text.charCodeAt(n)) {
      case 0x22:
        n = stringEnd(text, n) - 1;
        if (depth === 0) return n + 1;
        break;
      case 0x7b:
      case 0x5b:
        depth++;
        break;
      case 0x7d:
      case 0x5d:
        if (depth === 0) return n;
        if (--depth === 0) return n + 1;
        break;
      case 0x2c:
        if (depth === 0) return n;
    }
  }
  return text.length;
}

/** What a body may hold whose key names its models: nothing that names others. */
const FIELDS: ReadonlySet<string> = new Set(
  `audio chat_template_kwargs dimensions encoding_format frequency_penalty
  function_call functions grammar input logit_bias logprobs
  max_completion_tokens max_tokens messages metadata min_p modalities model n
  parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning
  reasoning_effort repeat_penalty repetition_penalty response_format
  safety_identifier seed stop store stream stream_options temperature thinking
  tool_choice tools top_k top_logprobs top_p user verbosity`.split(/\s+/),
);

/**
 * Refuses, for a key that names its models, what may mean another model to the
 * vendor: some take lists of models to fall back to.
 *
 * @throws {AppError} `forbidden`, naming the field
 */
export function checkFields(
  body: Readonly<Record<string, unknown>>,
  authority: Pick<Authority, "toRecord">,
): void {
  if (authority.toRecord().models === "any") return;
  const other = Object.keys(body).find((name) => !FIELDS.has(name));
  if (other === undefined) return;
  const name = other.slice(0, 64);
  throw new AppError(
    "forbidden",
    `Cannot send "${name}" on: this credential names its models, and a vendor may read another one there`,
    { details: { param: name, code: "field_not_allowed" } },
  );
}

/** The token counts a vendor wrote near the end of its answer. */
export function findUsage(tail: string): Usage | undefined {
  const key = '"usage":';
  // Bounded by the tail's length: every round looks further left.
  for (
    let at = tail.lastIndexOf(key);
    at !== -1;
    at = at === 0 ? -1 : tail.lastIndexOf(key, at - 1)
  ) {
    const start = skipSpace(tail, at + key.length);
    if (tail.charCodeAt(start) !== 0x7b) continue;
    try {
      return toUsage(JSON.parse(tail.slice(start, skipValue(tail, start))));
    } catch (error) {
      ignore("the end of a streamed answer was not a whole usage")(
        error instanceof SyntaxError ? new TypeError(error.message) : error,
      );
      return undefined;
    }
  }
  return undefined;
}

function toUsage(value: Record<string, unknown>): Usage | undefined {
  const count = (one: unknown) =>
    typeof one === "number" && Number.isSafeInteger(one) && one >= 0 ? one : 0;
  const details = value["prompt_tokens_details"] as
    | Record<string, unknown>
    | null
    | undefined;
  const usage = {
    inputTokens: count(value["prompt_tokens"]),
    outputTokens: count(value["completion_tokens"]),
    cachedTokens: count(details?.["cached_tokens"]),
    cacheWriteTokens: 0,
  };
  return usage.inputTokens + usage.outputTokens > 0 ? usage : undefined;
}

/** What forwarding needs beside the body. */
export interface ForwardOptions {
  call: Call;
  limits: GatewayLimits;
  /** @default "/chat/completions" */
  path?: string;
  forward(
    path: string,
    body: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<Response>;
  /** Looks for this program's own secrets; nothing when it has none. */
  secrets?(): ByteFilter | undefined;
  onUsage(usage: Usage): void;
  /** It is over, with so many bytes of an answer; 0 for a refusal. */
  onEnd(answerBytes: number): void;
}

const encoder = new TextEncoder();

/**
 * Sends a body on and its answer back, bytes untouched but for this program's
 * own secrets: a vendor knows its key, and the caller is not to.
 */
export async function forwardChat(
  body: string,
  options: ForwardOptions,
): Promise<Response> {
  const { call, limits } = options;
  const { signal } = call;
  const answer = await options.forward(
    options.path ?? "/chat/completions",
    encoder.encode(body),
    signal,
  );
  if (!answer.ok) {
    options.onEnd(0);
    return await toVendorError(answer, options);
  }
  const type = answer.headers.get("content-type") ?? "application/json";
  if (type.startsWith("text/event-stream") && answer.body !== null) {
    return streamOn(answer.body, options);
  }
  const said = await readBytes(answer.body, limits.answerBytesMax);
  const bytes = options.secrets?.()?.all(said) ?? said;
  const tail = bytes.subarray(Math.max(0, bytes.length - limits.tailBytesMax));
  const usage = findUsage(new TextDecoder().decode(tail));
  if (usage !== undefined) options.onUsage(usage);
  options.onEnd(bytes.length);
  return new Response(bytes, {
    status: answer.status,
    headers: { "content-type": plainType(type) },
  });
}

/** Keeps the last bytes that went by. */
class Tail {
  readonly #bytesMax: number;
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    for (let first = this.#chunks[0]; first !== undefined;) {
      if (this.#bytes - first.byteLength < this.#bytesMax) return;
      this.#bytes -= first.byteLength;
      this.#chunks.shift();
      first = this.#chunks[0];
    }
  }

  text(): string {
    const decoder = new TextDecoder();
    let text = "";
    for (const chunk of this.#chunks) {
      text += decoder.decode(chunk, { stream: true });
    }
    return text;
  }
}

/** A vendor's type, without what it may say beside the charset. */
function plainType(type: string): string {
  return /^[\w.+-]+\/[\w.+-]+(; ?charset=[\w-]+)?$/i.test(type)
    ? type
    : "application/json";
}

function streamOn(
  from: ReadableStream<Uint8Array<ArrayBuffer>>,
  options: ForwardOptions,
): Response {
  const { call } = options;
  const reader = from.getReader();
  const tail = new Tail(options.limits.tailBytesMax);
  const secrets = options.secrets?.();
  let sent = 0;
  let isOver = false;
  const end = () => {
    if (isOver) return;
    isOver = true;
    const usage = findUsage(tail.text());
    if (usage !== undefined) options.onUsage(usage);
    // Whoever stops reading early is not answered for nothing.
    options.onEnd(Math.max(sent, 1));
    call.end();
  };
  const fail = (
    controller: ReadableStreamDefaultController<Uint8Array>,
    error: unknown,
  ) => {
    if (isOver) return;
    const frame = errorFrame(toStreamError(error), "openai");
    controller.enqueue(encoder.encode(frame));
    end();
    controller.close();
  };
  const body = new ReadableStream<Uint8Array>({
    start: (controller) =>
      call.openStream((reason) => {
        fail(controller, reason);
        reader.cancel().catch(ignore("the vendor's stream was over"));
      }),
    // No async function: this runs once for every token of a stream.
    pull: (controller) => {
      call.wanted();
      const next = (): Promise<void> =>
        reader.read().then(({ done, value }) => {
          if (isOver) return;
          if (!done) {
            tail.add(value);
            sent += value.byteLength;
            const clean = secrets?.push(value) ?? value;
            // All of it may be the beginning of a secret.
            if (clean.byteLength === 0) return next();
            controller.enqueue(clean);
            call.sent();
            return;
          }
          const rest = secrets?.end();
          if (rest !== undefined && rest.length > 0) controller.enqueue(rest);
          end();
          controller.close();
        }, (error) => fail(controller, error));
      return next();
    },
    cancel: async () => {
      call.abort(new AppError("cancelled", "The client left"));
      end();
      await reader.cancel().catch(ignore("the vendor's stream was over"));
    },
  }, { highWaterMark: 0 });
  return new Response(body, { headers: SSE_HEADERS });
}

function toStreamError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  return new AppError(
    "upstream",
    `The model's answer broke off: ${errorText(error)}`,
    { cause: error },
  );
}

/** Statuses that say something of the request; the others speak of us. */
const PASSED = new Set([400, 404, 409, 413, 415, 422, 429, 503, 504]);

async function toVendorError(
  answer: Response,
  { limits, secrets }: Pick<ForwardOptions, "limits" | "secrets">,
): Promise<Response> {
  const said = await readBytes(answer.body, limits.errorBytesMax);
  const bytes = secrets?.()?.all(said) ?? said;
  const { status } = answer;
  if (!PASSED.has(status)) {
    const isKey = status === 401 || status === 403;
    throw new ModelError(
      isKey ? "auth" : status === 402 ? "quota" : "server",
      `Cannot get an answer: the provider said ${status}`,
      isKey ? { hint: "Check the provider's key", status } : { status },
    );
  }
  const headers: Record<string, string> = {
    "content-type": "application/json",
  };
  const retryAfter = answer.headers.get("retry-after");
  if (retryAfter !== null && /^[\w,: .]{1,64}$/.test(retryAfter)) {
    headers["retry-after"] = retryAfter;
  }
  try {
    const value = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof value?.error?.message === "string") {
      return new Response(bytes, { status, headers });
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const message = `The provider said ${status}`;
  return new Response(
    JSON.stringify({
      error: { message, type: "upstream_error", param: null, code: null },
    }),
    { status, headers },
  );
}

/** A chat request as a provider of another dialect is asked. */
export function toModelRequest(
  request: ChatRequest,
  now: number,
): Omit<ModelRequest, "model"> {
  // Nothing here is stored or decided on: the caller talks to the model itself.
  const words = label("untrusted", [], {
    kind: "client",
    ref: "",
    at: now,
  });
  return asModelRequest(fromChat(request, { user: words, other: words }));
}

const FINISH = {
  stop: "stop",
  tool_calls: "tool_calls",
  length: "length",
  refused: "content_filter",
} as const satisfies Record<StopReason, FinishReason>;

/** A provider's events as pieces of an answer. */
export async function* toPieces(
  events: AsyncIterable<ModelEvent>,
  onUsage: (usage: Usage) => void,
): AsyncGenerator<Piece, void, undefined> {
  let usage = NO_USAGE;
  try {
    for await (const event of events) {
      switch (event.kind) {
        case "text":
          yield { kind: "text", text: event.text };
          break;
        case "thinking":
          if (event.text !== "" || event.vendor !== undefined) yield event;
          break;
        case "tool_call":
          yield {
            kind: "tool_call",
            id: event.id,
            name: event.name,
            args:
              typeof event.args === "string" && event.malformed !== undefined
                ? event.args
                : JSON.stringify(event.args),
          };
          break;
        case "usage":
          usage = event.usage;
          break;
        case "end":
          yield { kind: "end", finish: FINISH[event.reason], usage };
          return;
        default:
          event satisfies never;
      }
    }
  } finally {
    if (usage !== NO_USAGE) onUsage(usage);
  }
}
