/**
 * An answer of the Messages API, as one JSON or as its stream of events, from
 * the same pieces every dialect is made of.
 *
 * @module
 */
import { AppError } from "../../../core/errors.ts";
import { NO_USAGE, type Usage } from "../../../core/message.ts";
import { errorFrame, json } from "../../http_errors.ts";
import {
  type AnswerWriter,
  type FinishReason,
  type Piece,
  restOfReply,
} from "../chat_completions/answer.ts";
import type {
  Block,
  DeltaUsageJson,
  MessageJson,
  MessagesEvent,
  StopReason,
} from "./wire.ts";
import { encodeVendor } from "../vendor_data.ts";

/** What every part of one answer says of itself. */
export interface MessageHead {
  id: string;
  /** The name the caller used. */
  model: string;
}

const STOP = {
  stop: "end_turn",
  tool_calls: "tool_use",
  length: "max_tokens",
  content_filter: "refusal",
} as const satisfies Record<FinishReason, StopReason>;

/** This API counts cached tokens beside the input; we count them in. */
function toUsageJson(usage: Usage): DeltaUsageJson {
  const { inputTokens, outputTokens, cachedTokens, cacheWriteTokens } = usage;
  const fresh = inputTokens - cachedTokens - cacheWriteTokens;
  return {
    input_tokens: Math.max(0, fresh),
    output_tokens: outputTokens,
    cache_read_input_tokens: cachedTokens,
    cache_creation_input_tokens: cacheWriteTokens,
    output_tokens_details: null,
    server_tool_use: null,
  };
}

function textBlock(text: string): Block {
  return { type: "text", text, citations: null };
}

function toMessage(
  { id, model }: MessageHead,
  rest: { content: Block[]; stop: StopReason | null; usage: Usage },
): MessageJson {
  return {
    id,
    type: "message",
    role: "assistant",
    model,
    content: rest.content,
    container: null,
    diagnostics: null,
    stop_details: null,
    stop_reason: rest.stop,
    stop_sequence: null,
    usage: {
      ...toUsageJson(rest.usage),
      cache_creation: null,
      inference_geo: null,
      service_tier: null,
      speed: null,
    },
  };
}

function parseArgs(args: string): unknown {
  try {
    return JSON.parse(args);
  } catch {
    return { malformed: args }; // a model's mistake is the caller's to see
  }
}

function toToolUse(
  piece: Extract<Piece, { kind: "tool_call" }>,
): Extract<Block, { type: "tool_use" }> {
  const { id, name, args } = piece;
  const caller = { type: "direct" as const };
  return { type: "tool_use", id, name, input: parseArgs(args), caller };
}

/** Collects an answer. */
export async function answerMessage(
  pieces: AsyncIterable<Piece>,
  head: MessageHead,
): Promise<Response> {
  const content: Block[] = [];
  const add = (piece: Extract<Piece, { kind: "text" | "thinking" }>) => {
    const last = content.at(-1);
    if (piece.kind === "text") {
      if (last?.type === "text") last.text += piece.text;
      else content.push(textBlock(piece.text));
      return;
    }
    const signature = piece.vendor === undefined
      ? ""
      : encodeVendor(piece.vendor);
    if (last?.type === "thinking" && last.signature === "") {
      last.thinking += piece.text;
      last.signature = signature;
    } else if (piece.text === "" && signature !== "") {
      content.push({ type: "redacted_thinking", data: signature });
    } else {
      content.push({ type: "thinking", thinking: piece.text, signature });
    }
  };
  for await (const piece of pieces) {
    switch (piece.kind) {
      case "text":
      case "thinking":
        add(piece);
        break;
      case "reply": {
        // Replaces what was said on the way to it.
        const rest = content.filter(({ type }) => type !== "text");
        content.splice(0, content.length, ...rest);
        if (piece.text !== "") content.push(textBlock(piece.text));
        break;
      }
      case "tool_call":
        content.push(toToolUse(piece));
        break;
      case "end": {
        const stop = STOP[piece.finish];
        return json(toMessage(head, { content, stop, usage: piece.usage }));
      }
      default:
        piece satisfies never;
    }
  }
  throw new AppError("upstream", "Cannot answer: the model's answer broke off");
}

function frame(event: MessagesEvent | { type: "ping" }): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** Writes the events of a message, one block open at a time. */
export class MessageWriter implements AnswerWriter {
  readonly #head: MessageHead;
  #index = 0;
  #open: "text" | "thinking" | undefined;
  #said = "";
  isEnded = false;

  constructor(head: MessageHead) {
    this.#head = head;
  }

  first(): string {
    const message = toMessage(this.#head, {
      content: [],
      stop: null,
      usage: NO_USAGE,
    });
    return frame({ type: "message_start", message }) + frame({ type: "ping" });
  }

  #close(): string {
    if (this.#open === undefined) return "";
    this.#open = undefined;
    return frame({ type: "content_block_stop", index: this.#index++ });
  }

  #delta(
    delta: Extract<MessagesEvent, { type: "content_block_delta" }>["delta"],
  ): string {
    return frame({ type: "content_block_delta", index: this.#index, delta });
  }

  #start(block: Block): string {
    return frame({
      type: "content_block_start",
      index: this.#index,
      content_block: block,
    });
  }

  #turnTo(kind: "text" | "thinking"): string {
    if (this.#open === kind) return "";
    const closed = this.#close();
    this.#open = kind;
    const block: Block = kind === "text"
      ? textBlock("")
      : { type: "thinking", thinking: "", signature: "" };
    return closed + this.#start(block);
  }

  #text(text: string): string {
    if (text === "") return "";
    this.#said += text;
    return this.#turnTo("text") + this.#delta({ type: "text_delta", text });
  }

  #thinking({ text, vendor }: Extract<Piece, { kind: "thinking" }>): string {
    if (text === "" && vendor === undefined) return "";
    if (text === "" && vendor !== undefined && this.#open !== "thinking") {
      const data = encodeVendor(vendor);
      const closed = this.#close();
      const start = this.#start({ type: "redacted_thinking", data });
      return closed + start +
        frame({ type: "content_block_stop", index: this.#index++ });
    }
    let frames = this.#turnTo("thinking");
    if (text !== "") {
      frames += this.#delta({ type: "thinking_delta", thinking: text });
    }
    if (vendor === undefined) return frames;
    const signature = encodeVendor(vendor);
    return frames + this.#delta({ type: "signature_delta", signature }) +
      this.#close();
  }

  write(piece: Piece): string {
    switch (piece.kind) {
      case "text":
        return this.#text(piece.text);
      case "thinking":
        return this.#thinking(piece);
      case "reply":
        return this.#text(restOfReply(this.#said, piece.text));
      case "tool_call": {
        const closed = this.#close();
        const input = JSON.stringify(parseArgs(piece.args));
        return closed + this.#start({ ...toToolUse(piece), input: {} }) +
          this.#delta({ type: "input_json_delta", partial_json: input }) +
          frame({ type: "content_block_stop", index: this.#index++ });
      }
      case "end":
        this.isEnded = true;
        return this.#close() +
          frame({
            type: "message_delta",
            delta: {
              container: null,
              stop_details: null,
              stop_reason: STOP[piece.finish],
              stop_sequence: null,
            },
            usage: toUsageJson(piece.usage),
          }) +
          frame({ type: "message_stop" });
      default:
        return piece satisfies never;
    }
  }

  fail(error: unknown): string {
    return errorFrame(error, "messages");
  }
}
