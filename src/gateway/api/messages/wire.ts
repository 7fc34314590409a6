/**
 * What the Messages API's clients are sent, as types: the message, and the
 * events that tell how it grows. A test holds them against that API's own.
 *
 * @module
 */

/** A part of a message. */
export type Block =
  | { type: "text"; text: string; citations: null }
  | { type: "thinking"; thinking: string; signature: string }
  | { type: "redacted_thinking"; data: string }
  | {
    type: "tool_use";
    id: string;
    name: string;
    input: unknown;
    caller: { type: "direct" };
  };

export type StopReason = "end_turn" | "tool_use" | "max_tokens" | "refusal";

/** Tokens; what was cached is beside the input, not in it. */
export interface DeltaUsageJson {
  input_tokens: number;
  output_tokens: number;
  cache_read_input_tokens: number;
  cache_creation_input_tokens: number;
  output_tokens_details: null;
  server_tool_use: null;
}

export interface UsageJson extends DeltaUsageJson {
  cache_creation: null;
  inference_geo: null;
  service_tier: null;
  speed: null;
}

/** The message. */
export interface MessageJson {
  id: string;
  type: "message";
  role: "assistant";
  model: string;
  content: Block[];
  container: null;
  diagnostics: null;
  stop_details: null;
  stop_reason: StopReason | null;
  stop_sequence: null;
  usage: UsageJson;
}

/** An event; `ping` and `error` are not of the API's own union. */
export type MessagesEvent =
  | { type: "message_start"; message: MessageJson }
  | { type: "content_block_start"; index: number; content_block: Block }
  | {
    type: "content_block_delta";
    index: number;
    delta:
      | { type: "text_delta"; text: string }
      | { type: "thinking_delta"; thinking: string }
      | { type: "signature_delta"; signature: string }
      | { type: "input_json_delta"; partial_json: string };
  }
  | { type: "content_block_stop"; index: number }
  | {
    type: "message_delta";
    delta: {
      container: null;
      stop_details: null;
      stop_reason: StopReason;
      stop_sequence: null;
    };
    usage: DeltaUsageJson;
  }
  | { type: "message_stop" };
