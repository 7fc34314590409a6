/**
 * What the Responses API's clients are sent, as types: the answer, and every
 * event that tells how it grows. A test holds them against that API's own.
 *
 * @module
 */
import type { ResponsesRequest } from "./schema.ts";

/** Words of the model. */
export interface OutputText {
  type: "output_text";
  annotations: [];
  logprobs: [];
  text: string;
}

export interface MessageItem {
  id: string;
  type: "message";
  status: "in_progress" | "completed";
  role: "assistant";
  content: OutputText[];
}

export interface SummaryText {
  type: "summary_text";
  text: string;
}

export interface ReasoningItem {
  id: string;
  type: "reasoning";
  summary: SummaryText[];
  encrypted_content?: string;
}

export interface CallItem {
  id: string;
  type: "function_call";
  status: "in_progress" | "completed";
  arguments: string;
  call_id: string;
  name: string;
}

export type OutputItem = MessageItem | ReasoningItem | CallItem;

export interface UsageJson {
  input_tokens: number;
  input_tokens_details: { cached_tokens: number; cache_write_tokens: number };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: number };
  total_tokens: number;
}

type Effort = NonNullable<
  NonNullable<ResponsesRequest["reasoning"]>["effort"]
>;
type Format = NonNullable<NonNullable<ResponsesRequest["text"]>["format"]>;

/** What of a request its answer repeats. */
export interface EchoJson {
  id: string;
  object: "response";
  created_at: number;
  access_programs: null;
  background: false;
  instructions: string | null;
  max_output_tokens: number | null;
  metadata: Record<string, string>;
  model: string;
  parallel_tool_calls: true;
  previous_response_id: string | null;
  reasoning: {
    effort: Effort | null;
    summary: null;
  };
  store: boolean;
  temperature: number | null;
  text: { format: Format };
  tool_choice: NonNullable<ResponsesRequest["tool_choice"]>;
  tools: {
    type: "function";
    name: string;
    description: string | null;
    parameters: Record<string, unknown> | null;
    strict: boolean;
  }[];
  top_p: number | null;
  truncation: "disabled";
  user?: string;
}

/** Why an answer failed, in the words this API has for it. */
export interface FailureJson {
  code: "server_error" | "rate_limit_exceeded" | "invalid_prompt";
  message: string;
}

/** The answer. */
export interface ResponseJson extends EchoJson {
  status: "in_progress" | "completed" | "incomplete" | "failed";
  output: OutputItem[];
  usage?: UsageJson;
  incomplete_details:
    | { reason: "max_output_tokens" | "content_filter" }
    | null;
  error: FailureJson | null;
}

/** Where in the answer something is. */
export interface ContentPlace {
  item_id: string;
  output_index: number;
  content_index: number;
}
export interface SummaryPlace {
  item_id: string;
  output_index: number;
  summary_index: number;
}
export interface ItemPlace {
  item_id: string;
  output_index: number;
}

/** The same of several kinds of event, each for itself. */
type Each<Name extends string, Rest> = Name extends string
  ? { type: Name } & Rest
  : never;
type Begun = "added" | "done";
type Told = "created" | "in_progress" | "completed" | "incomplete" | "failed";

/** An event without its number. */
export type ResponsesEvent =
  | Each<`response.${Told}`, { response: ResponseJson }>
  | Each<
    `response.output_item.${Begun}`,
    { output_index: number; item: OutputItem }
  >
  | Each<`response.content_part.${Begun}`, ContentPlace & { part: OutputText }>
  | Each<
    "response.output_text.delta",
    ContentPlace & { delta: string; logprobs: [] }
  >
  | Each<
    "response.output_text.done",
    ContentPlace & { text: string; logprobs: [] }
  >
  | Each<
    `response.reasoning_summary_part.${Begun}`,
    SummaryPlace & { part: SummaryText }
  >
  | Each<
    "response.reasoning_summary_text.delta",
    SummaryPlace & { delta: string }
  >
  | Each<
    "response.reasoning_summary_text.done",
    SummaryPlace & { text: string }
  >
  | Each<
    "response.function_call_arguments.delta",
    ItemPlace & { delta: string }
  >
  | Each<
    "response.function_call_arguments.done",
    ItemPlace & { arguments: string }
  >;

/** An event as it is sent. */
export type NumberedEvent = ResponsesEvent & { sequence_number: number };
