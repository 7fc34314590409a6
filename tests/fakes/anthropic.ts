/**
 * A fake of Anthropic's Messages API: the event names, ids, usage and error
 * bodies of the real one, on a real socket.
 */
import {
  argsText,
  type Fake,
  type FakeOptions,
  pieces,
  type Say,
  serveFake,
  type VendorWire,
} from "./vendor.ts";

const ERRORS: Readonly<Record<number, [type: string, message: string]>> = {
  400: ["invalid_request_error", "messages: at least one message is required"],
  401: ["authentication_error", "invalid x-api-key"],
  402: ["billing_error", "There is an issue with your billing"],
  403: ["permission_error", "Your API key does not have permission"],
  404: ["not_found_error", "model: claude-nonesuch"],
  413: ["request_too_large", "Request exceeds the maximum size"],
  429: [
    "rate_limit_error",
    "This request would exceed your organization's rate limit of 50 requests per minute",
  ],
  500: ["api_error", "Internal server error"],
  529: ["overloaded_error", "Overloaded"],
};

function frame(type: string, data: Record<string, unknown>): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
}

/** The frames of an answer, as the vendor streams them. */
export function anthropicFrames(say: Say, model = "claude-test"): string[] {
  const { input, output, cached, cacheWrite } = { ...DEFAULT, ...say.usage };
  const frames = [
    frame("message_start", {
      message: {
        id: "msg_01FakeFakeFakeFakeFake",
        type: "message",
        role: "assistant",
        model,
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: {
          input_tokens: input,
          cache_creation_input_tokens: cacheWrite,
          cache_read_input_tokens: cached,
          output_tokens: 1,
          service_tier: "standard",
        },
      },
    }),
    frame("ping", {}),
  ];
  let index = 0;
  const block = (
    start: Record<string, unknown>,
    deltas: Record<string, unknown>[],
  ) => {
    frames.push(frame("content_block_start", { index, content_block: start }));
    for (const delta of deltas) {
      frames.push(frame("content_block_delta", { index, delta }));
    }
    frames.push(frame("content_block_stop", { index }));
    index++;
  };
  if (say.thinking !== undefined) {
    block({ type: "thinking", thinking: "", signature: "" }, [
      { type: "thinking_delta", thinking: say.thinking },
      { type: "signature_delta", signature: signatureOf(say.thinking) },
    ]);
  }
  if (say.redacted !== undefined) {
    block({ type: "redacted_thinking", data: say.redacted }, []);
  }
  if (say.text !== undefined) {
    block(
      { type: "text", text: "" },
      pieces(say.text).map((text) => ({ type: "text_delta", text })),
    );
  }
  for (const [n, call] of (say.calls ?? []).entries()) {
    const json = argsText(call);
    const half = Math.ceil(json.length / 2);
    block({
      type: "tool_use",
      id: call.id ?? `toolu_01Fake${n}`,
      name: call.name,
      input: {},
    }, [
      { type: "input_json_delta", partial_json: "" },
      { type: "input_json_delta", partial_json: json.slice(0, half) },
      { type: "input_json_delta", partial_json: json.slice(half) },
    ]);
  }
  const stop = say.stop === "length"
    ? "max_tokens"
    : say.stop === "refused"
    ? "refusal"
    : say.calls?.length
    ? "tool_use"
    : "end_turn";
  frames.push(
    frame("message_delta", {
      delta: { stop_reason: stop, stop_sequence: null },
      usage: { output_tokens: output },
    }),
    frame("message_stop", {}),
  );
  return frames;
}

const DEFAULT = { input: 12, output: 7, cached: 0, cacheWrite: 0 };

/** The signature the fake gives a thought; the same thought, the same one. */
export function signatureOf(thinking: string): string {
  return btoa(`signed ${thinking.length}`);
}

const wire: VendorWire = {
  basePath: "",
  contentType: "text/event-stream; charset=utf-8",
  headers: { "request-id": "req_011FakeFakeFake" },
  keyOf: (request) =>
    request.headers.get("authorization")?.replace(/^Bearer /, "") ??
      request.headers.get("x-api-key") ?? undefined,
  frames: (say, request) => anthropicFrames(say, request.body?.model),
  errorFrame: () =>
    frame("error", {
      error: { type: "overloaded_error", message: "Overloaded" },
    }),
  errorBody: (status) => {
    const [type, message] = ERRORS[status] ?? ["api_error", "Internal error"];
    return {
      type: "error",
      error: { type, message },
      request_id: "req_011FakeFakeFake",
    };
  },
  route: (request, options) => {
    if (request.path === "/v1/messages") return Promise.resolve(undefined);
    if (request.path !== "/v1/models") {
      return Promise.resolve(
        Response.json({
          type: "error",
          error: { type: "not_found_error", message: "Not found" },
        }, { status: 404 }),
      );
    }
    const data = (options.models ?? ["claude-test"]).map((id) => ({
      type: "model",
      id,
      display_name: `Claude ${id}`,
      created_at: "2026-01-01T00:00:00Z",
    }));
    return Promise.resolve(Response.json({ data, has_more: false }));
  },
};

/** Starts the fake; `url` is what goes into `ANTHROPIC_BASE_URL`. */
export function fakeAnthropic(options: FakeOptions = {}): Promise<Fake> {
  return serveFake(wire, options);
}
