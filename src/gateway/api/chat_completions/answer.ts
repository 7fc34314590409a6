/**
 * An answer in OpenAI's chat dialect, as one JSON or as server-sent events,
 * from a stream of pieces. Agent runs and provider calls both become pieces.
 *
 * @module
 */
import type { Usage, VendorData } from "../../../core/message.ts";
import { AppError, ignore } from "../../../core/errors.ts";
import type { Call } from "../../call.ts";
import { errorFrame, json } from "../../http_errors.ts";
import type { GatewayLimits } from "../../limits.ts";

export type FinishReason = "stop" | "tool_calls" | "length" | "content_filter";

/** A piece of an answer. A stream that does not throw ends with one `end`. */
export type Piece =
  | { kind: "text"; text: string }
  /** With `vendor`, what its vendor needs back; the text may then be empty. */
  | { kind: "thinking"; text: string; vendor?: VendorData }
  /** The whole text, when it is known: replaces what came before it. */
  | { kind: "reply"; text: string }
  /** `args` is JSON text. */
  | { kind: "tool_call"; id: string; name: string; args: string }
  | { kind: "end"; finish: FinishReason; usage: Usage };

/** What every part of one answer says of itself. */
export interface AnswerHead {
  id: string;
  /** Seconds. */
  created: number;
  /** The name the caller used. */
  model: string;
}

interface ToolCallJson {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

interface UsageJson {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** An answer as a whole. A test holds these two against the dialect's own. */
export interface ChatJson {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: {
      role: "assistant";
      content: string | null;
      refusal: null;
      /** Not of the dialect's own; the field's clients read it. */
      reasoning_content?: string;
      tool_calls?: ToolCallJson[];
    };
    logprobs: null;
    finish_reason: FinishReason;
  }[];
  usage: UsageJson;
}

type DeltaJson =
  | { role: "assistant"; content: string }
  | { content: string }
  /** Not of the dialect's own; the field's clients read it. */
  | { reasoning_content: string; content?: never }
  | { tool_calls: (ToolCallJson & { index: number })[] }
  | Record<PropertyKey, never>;

/** A piece of an answer. */
export interface ChunkJson {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: DeltaJson;
    finish_reason: FinishReason | null;
  }[];
  usage?: UsageJson | null;
}

function toUsageJson(usage: Usage): UsageJson {
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  };
}

function toToolCallJson(
  piece: { id: string; name: string; args: string },
): ToolCallJson {
  return {
    id: piece.id,
    type: "function",
    function: { name: piece.name, arguments: piece.args },
  };
}

/** Collects an answer. */
export async function answerJson(
  pieces: AsyncIterable<Piece>,
  head: AnswerHead,
): Promise<Response> {
  let content = "";
  let thinking = "";
  const toolCalls: ToolCallJson[] = [];
  for await (const piece of pieces) {
    switch (piece.kind) {
      case "text":
        content += piece.text;
        break;
      case "thinking":
        thinking += piece.text;
        break;
      case "reply":
        content = piece.text;
        break;
      case "tool_call":
        toolCalls.push(toToolCallJson(piece));
        break;
      case "end":
        return json(
          {
            id: head.id,
            object: "chat.completion",
            created: head.created,
            model: head.model,
            choices: [{
              index: 0,
              message: {
                role: "assistant",
                content: content === "" && toolCalls.length > 0
                  ? null
                  : content,
                refusal: null,
                ...(thinking === "" ? {} : { reasoning_content: thinking }),
                ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls }),
              },
              logprobs: null,
              finish_reason: piece.finish,
            }],
            usage: toUsageJson(piece.usage),
          } satisfies ChatJson,
        );
      default:
        piece satisfies never;
    }
  }
  throw new AppError("upstream", "Cannot answer: the model's answer broke off");
}

/**
 * What a whole reply adds to what was already said: that cannot be taken back.
 */
export function restOfReply(said: string, reply: string): string {
  if (reply.startsWith(said)) return reply.slice(said.length);
  return said.endsWith(reply) ? "" : `\n\n${reply}`;
}

/** Writes chunks. */
class ChunkWriter implements AnswerWriter {
  readonly #head: AnswerHead;
  readonly #includeUsage: boolean;
  #said = "";
  #toolCalls = 0;
  isEnded = false;

  constructor(head: AnswerHead, includeUsage: boolean) {
    this.#head = head;
    this.#includeUsage = includeUsage;
  }

  #chunk(delta: DeltaJson, finish: FinishReason | null = null): string {
    const choices = [{ index: 0, delta, finish_reason: finish }];
    return this.#frame(choices, null);
  }

  #frame(choices: ChunkJson["choices"], usage: UsageJson | null): string {
    const chunk: ChunkJson = {
      id: this.#head.id,
      object: "chat.completion.chunk",
      created: this.#head.created,
      model: this.#head.model,
      choices,
      ...(this.#includeUsage ? { usage } : {}),
    };
    return `data: ${JSON.stringify(chunk)}\n\n`;
  }

  first(): string {
    return this.#chunk({ role: "assistant", content: "" });
  }

  fail(error: unknown): string {
    return errorFrame(error, "openai");
  }

  write(piece: Piece): string {
    switch (piece.kind) {
      case "text":
        this.#said += piece.text;
        return this.#chunk({ content: piece.text });
      case "thinking":
        return piece.text === ""
          ? ""
          : this.#chunk({ reasoning_content: piece.text });
      case "reply": {
        const rest = restOfReply(this.#said, piece.text);
        this.#said += rest;
        return rest === "" ? "" : this.#chunk({ content: rest });
      }
      case "tool_call":
        return this.#chunk({
          tool_calls: [{ index: this.#toolCalls++, ...toToolCallJson(piece) }],
        });
      case "end":
        this.isEnded = true;
        return this.#chunk({}, piece.finish) +
          (this.#includeUsage
            ? this.#frame([], toUsageJson(piece.usage))
            : "") +
          "data: [DONE]\n\n";
      default:
        return piece satisfies never;
    }
  }
}

/** Headers of every event stream. */
export const SSE_HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store, no-transform",
} as const;

/** Writes an answer's frames in one dialect; knows what was said so far. */
export interface AnswerWriter<Item = Piece> {
  /** Whether the last frame was written. */
  readonly isEnded: boolean;
  first(): string;
  /** The frames of a piece; nothing when it says nothing new. */
  write(item: Item): string;
  /** The last frames of an answer that failed after it began. */
  fail(error: unknown): string;
}

/** Streams an answer in OpenAI's chat dialect. */
export async function answerSse(
  pieces: AsyncIterable<Piece>,
  head: AnswerHead,
  options: { call: Call; includeUsage: boolean; limits: GatewayLimits },
): Promise<Response> {
  const writer = new ChunkWriter(head, options.includeUsage);
  return await streamAnswer(pieces, writer, options);
}

/**
 * Streams an answer. A failure before the first piece is thrown, so that it
 * gets its own status; a later one is the writer's to say.
 */
export async function streamAnswer<Item>(
  pieces: AsyncIterable<Item>,
  writer: AnswerWriter<Item>,
  options: { call: Call; limits: GatewayLimits },
): Promise<Response> {
  const { call, limits } = options;
  const iterator = pieces[Symbol.asyncIterator]();
  let next = iterator.next();
  await next;
  const encoder = new TextEncoder();
  let timer: ReturnType<typeof setInterval> | undefined;
  let isOver = false;
  const finish = () => {
    isOver = true;
    clearInterval(timer);
    call.end();
  };
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      const first = writer.first();
      if (first !== "") controller.enqueue(encoder.encode(first));
      call.openStream((reason) => {
        if (isOver) return;
        controller.enqueue(encoder.encode(writer.fail(reason)));
        finish();
        controller.close();
      });
      timer = setInterval(() => {
        if ((controller.desiredSize ?? 0) > 0) {
          controller.enqueue(encoder.encode(": keep-alive\n\n"));
        }
      }, limits.keepAliveMs);
    },
    pull: async (controller) => {
      call.wanted();
      let text = "";
      try {
        while (text === "" && !writer.isEnded) {
          // Bounded by the pieces: every stream of them ends.
          const { done, value } = await next;
          if (done) {
            throw new AppError("upstream", "The model's answer broke off");
          }
          text = writer.write(value);
          if (!writer.isEnded) {
            next = iterator.next();
            next.catch(ignore("read by the next pull"));
          }
        }
        if (isOver) return;
        controller.enqueue(encoder.encode(text));
        call.sent();
        if (!writer.isEnded) return;
      } catch (error) {
        if (isOver) return;
        controller.enqueue(encoder.encode(writer.fail(error)));
      }
      finish();
      controller.close();
      await iterator.return?.();
    },
    cancel: () => {
      call.abort(new AppError("cancelled", "The client left"));
      finish();
      // Not awaited: the pieces end by the signal, whenever they see it.
      next.catch(ignore("the stream's reader left"));
      iterator.return?.().catch(ignore("the stream's reader left"));
    },
  });
  return new Response(body, { headers: SSE_HEADERS });
}
