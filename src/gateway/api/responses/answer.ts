/**
 * An answer of the Responses API: an object that grows with every piece, and
 * the events that say how.
 *
 * @module
 */
import type { Label } from "../../../core/label.ts";
import type { Part, Usage } from "../../../core/message.ts";
import { toAppError, toOpenAiError } from "../../http_errors.ts";
import {
  type FinishReason,
  type Piece,
  restOfReply,
} from "../chat_completions/answer.ts";
import { encodeVendor } from "../vendor_data.ts";
import type { ResponsesRequest } from "./schema.ts";
import type {
  CallItem,
  ContentPlace,
  EchoJson,
  FailureJson,
  MessageItem,
  OutputItem,
  OutputText,
  ReasoningItem,
  ResponseJson,
  ResponsesEvent,
  SummaryPlace,
  SummaryText,
  UsageJson,
} from "./wire.ts";

/** What an answer says of itself from its first event on. */
export interface ResponseHead {
  id: string;
  /** Seconds. */
  created: number;
  request: ResponsesRequest;
  isStored: boolean;
}

function toUsageJson(usage: Usage): UsageJson {
  const { inputTokens, outputTokens, cachedTokens, cacheWriteTokens } = usage;
  return {
    input_tokens: inputTokens,
    input_tokens_details: {
      cached_tokens: cachedTokens,
      cache_write_tokens: cacheWriteTokens,
    },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + outputTokens,
  };
}

const INCOMPLETE = {
  stop: undefined,
  tool_calls: undefined,
  length: "max_output_tokens",
  content_filter: "content_filter",
} as const satisfies Record<FinishReason, string | undefined>;

/** What failed, in this API's own words for it. */
function toFailure(error: unknown): FailureJson {
  const known = toAppError(error);
  const { message } = toOpenAiError(known).error;
  const code = known.code === "rate_limited"
    ? "rate_limit_exceeded"
    : known.code === "bad_input"
    ? "invalid_prompt"
    : "server_error";
  return { code, message };
}

/** The fields a request gave, as the answer repeats them. */
function echo({ created, id, request, isStored }: ResponseHead): EchoJson {
  const { tool_choice, tools = [], reasoning } = request;
  return {
    id,
    object: "response",
    created_at: created,
    access_programs: null,
    background: false,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    model: request.model,
    parallel_tool_calls: true,
    previous_response_id: request.previous_response_id ?? null,
    reasoning: { effort: reasoning?.effort ?? null, summary: null },
    store: isStored,
    temperature: request.temperature ?? null,
    text: { format: request.text?.format ?? { type: "text" } },
    tool_choice: tool_choice ?? "auto",
    tools: tools.map((tool) => ({
      ...tool,
      description: tool.description ?? null,
      parameters: tool.parameters ?? null,
      strict: tool.strict ?? false,
    })),
    top_p: request.top_p ?? null,
    truncation: "disabled",
    ...request.user === undefined ? {} : { user: request.user },
  };
}

/** An answer while it grows. Every step gives the frames that tell of it. */
export class GrowingResponse {
  readonly #head: ResponseHead;
  readonly #echo: EchoJson;
  readonly #label: Label;
  readonly #output: OutputItem[] = [];
  readonly #tag: string;
  /** The same as our messages hold it. */
  readonly parts: Part[] = [];
  #seq = 0;
  #said = "";
  #open: { type: "message" | "reasoning"; text: string } | undefined;
  #status: ResponseJson["status"] = "in_progress";
  #usage: Usage | undefined;
  #details: ResponseJson["incomplete_details"] = null;
  #error: FailureJson | null = null;

  /** @param label Of what the model says, where it is kept for a later call */
  constructor(head: ResponseHead, label: Label) {
    this.#head = head;
    this.#echo = echo(head);
    this.#label = label;
    this.#tag = head.id.replace(/^resp_/, "");
  }

  /** The answer as it is now. */
  toJson(): ResponseJson {
    return {
      ...this.#echo,
      status: this.#status,
      output: this.#output,
      ...this.#usage === undefined ? {} : { usage: toUsageJson(this.#usage) },
      incomplete_details: this.#details,
      error: this.#error,
    };
  }

  #event(event: ResponsesEvent): string {
    const { type, ...data } = event;
    const body = { type, sequence_number: this.#seq++, ...data };
    return `event: ${type}\ndata: ${JSON.stringify(body)}\n\n`;
  }

  first(): string {
    const response = this.toJson();
    return this.#event({ type: "response.created", response }) +
      this.#event({ type: "response.in_progress", response });
  }

  #id(prefix: string): string {
    return `${prefix}_${this.#tag}${this.#output.length}`;
  }

  #itemEvent(type: "added" | "done", item: OutputItem): string {
    const output_index = this.#output.length;
    return this.#event({
      type: `response.output_item.${type}`,
      output_index,
      item,
    });
  }

  // --- one item open at a time ---------------------------------------------

  #turnTo(type: "message" | "reasoning"): string {
    if (this.#open?.type === type) return "";
    const closed = this.#close();
    this.#open = { type, text: "" };
    if (type === "message") {
      const item: MessageItem = {
        ...this.#messageItem(""),
        status: "in_progress",
        content: [],
      };
      return closed + this.#itemEvent("added", item) +
        this.#event({
          type: "response.content_part.added",
          ...this.#contentPlace(),
          part: outputText(""),
        });
    }
    const id = this.#id("rs");
    const item: ReasoningItem = { id, type: "reasoning", summary: [] };
    return closed + this.#itemEvent("added", item) +
      this.#event({
        type: "response.reasoning_summary_part.added",
        ...this.#summaryPlace(),
        part: { type: "summary_text", text: "" },
      });
  }

  #contentPlace(): ContentPlace {
    const output_index = this.#output.length;
    return { item_id: this.#id("msg"), output_index, content_index: 0 };
  }

  #summaryPlace(): SummaryPlace {
    const output_index = this.#output.length;
    return { item_id: this.#id("rs"), output_index, summary_index: 0 };
  }

  #messageItem(text: string): MessageItem {
    return {
      id: this.#id("msg"),
      type: "message",
      status: "completed",
      role: "assistant",
      content: [outputText(text)],
    };
  }

  #close(vendor?: Extract<Piece, { kind: "thinking" }>["vendor"]): string {
    const open = this.#open;
    if (open === undefined) return "";
    this.#open = undefined;
    const { text } = open;
    let frames: string;
    let item: OutputItem;
    if (open.type === "message") {
      const place = this.#contentPlace();
      item = this.#messageItem(text);
      frames = this.#event({
        type: "response.output_text.done",
        ...place,
        text,
        logprobs: [],
      }) + this.#event({
        type: "response.content_part.done",
        ...place,
        part: outputText(text),
      });
      this.parts.push({ kind: "text", text, label: this.#label });
    } else {
      const place = this.#summaryPlace();
      const part: SummaryText = { type: "summary_text", text };
      item = {
        id: this.#id("rs"),
        type: "reasoning",
        summary: [part],
        ...this.#sealed(vendor),
      };
      frames = this.#event({
        type: "response.reasoning_summary_text.done",
        ...place,
        text,
      }) + this.#event({
        type: "response.reasoning_summary_part.done",
        ...place,
        part,
      });
      this.parts.push({
        kind: "thinking",
        text,
        ...(vendor === undefined ? {} : { vendor }),
        label: this.#label,
      });
    }
    frames += this.#itemEvent("done", item);
    this.#output.push(item);
    return frames;
  }

  #sealed(
    vendor: Extract<Piece, { kind: "thinking" }>["vendor"],
  ): Pick<ReasoningItem, "encrypted_content"> {
    const isAsked = this.#head.request.include?.includes(
      "reasoning.encrypted_content",
    );
    return isAsked === true && vendor !== undefined
      ? { encrypted_content: encodeVendor(vendor) }
      : {};
  }

  // --- pieces ----------------------------------------------------------------

  #text(text: string): string {
    if (text === "") return "";
    this.#said += text;
    const turned = this.#turnTo("message");
    if (this.#open !== undefined) this.#open.text += text;
    return turned + this.#event({
      type: "response.output_text.delta",
      ...this.#contentPlace(),
      delta: text,
      logprobs: [],
    });
  }

  #thinking({ text, vendor }: Extract<Piece, { kind: "thinking" }>): string {
    let frames = this.#turnTo("reasoning");
    if (text !== "") {
      if (this.#open !== undefined) this.#open.text += text;
      frames += this.#event({
        type: "response.reasoning_summary_text.delta",
        ...this.#summaryPlace(),
        delta: text,
      });
    }
    return vendor === undefined ? frames : frames + this.#close(vendor);
  }

  #call({ id, name, args }: Extract<Piece, { kind: "tool_call" }>): string {
    const closed = this.#close();
    const item: CallItem = {
      id: this.#id("fc"),
      type: "function_call",
      status: "completed",
      arguments: args,
      call_id: id,
      name,
    };
    const place = { item_id: item.id, output_index: this.#output.length };
    const type = "response.function_call_arguments" as const;
    const begun: CallItem = { ...item, status: "in_progress", arguments: "" };
    const frames = this.#itemEvent("added", begun) +
      this.#event({ type: `${type}.delta`, ...place, delta: args }) +
      this.#event({ type: `${type}.done`, ...place, arguments: args }) +
      this.#itemEvent("done", item);
    this.#output.push(item);
    this.parts.push(toCallPart({ id, name, args }, this.#label));
    return closed + frames;
  }

  /** Takes a piece; the frames that tell of it. */
  take(piece: Piece): string {
    switch (piece.kind) {
      case "text":
        return this.#text(piece.text);
      case "thinking":
        return piece.text === "" && piece.vendor === undefined
          ? ""
          : this.#thinking(piece);
      case "reply":
        return this.#text(restOfReply(this.#said, piece.text));
      case "tool_call":
        return this.#call(piece);
      case "end": {
        const closed = this.#close();
        const reason = INCOMPLETE[piece.finish];
        this.#usage = piece.usage;
        const status = reason === undefined ? "completed" : "incomplete";
        this.#status = status;
        this.#details = reason === undefined ? null : { reason };
        return closed +
          this.#event({ type: `response.${status}`, response: this.toJson() });
      }
      default:
        return piece satisfies never;
    }
  }

  /** It failed after it began. */
  fail(error: unknown): string {
    const closed = this.#close();
    this.#status = "failed";
    this.#error = toFailure(error);
    return closed +
      this.#event({ type: "response.failed", response: this.toJson() });
  }
}

function outputText(text: string): OutputText {
  return { type: "output_text", annotations: [], logprobs: [], text };
}

function toCallPart(
  call: { id: string; name: string; args: string },
  label: Label,
): Part {
  const base = { kind: "tool_call" as const, id: call.id, name: call.name };
  try {
    return { ...base, args: JSON.parse(call.args), label };
  } catch (error) {
    const malformed = (error as SyntaxError).message;
    return { ...base, args: call.args, malformed, label };
  }
}

/**
 * The pieces of an answer that is told as a whole: words said on the way to a
 * reply are not part of it.
 */
export async function* wholePieces(
  pieces: AsyncIterable<Piece>,
): AsyncGenerator<Piece, void, undefined> {
  let text = "";
  const others: Piece[] = [];
  for await (const piece of pieces) {
    if (piece.kind === "text") text += piece.text;
    else if (piece.kind === "reply") text = piece.text;
    else if (piece.kind === "end") {
      const isThought = (one: Piece) => one.kind === "thinking";
      yield* others.filter(isThought);
      if (text !== "") yield { kind: "text", text };
      yield* others.filter((one) => !isThought(one));
      yield piece;
      return;
    } else others.push(piece);
  }
}
