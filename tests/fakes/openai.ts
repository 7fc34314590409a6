/**
 * A fake of OpenAI's API: chat completions (streamed and whole), responses,
 * models and embeddings, in the real wire format on a real socket.
 */
import {
  argsText,
  type Fake,
  type FakeOptions,
  type FakeRequest,
  pieces,
  type Reply,
  type Say,
  serveFake,
  type VendorWire,
} from "./vendor.ts";

const CREATED = 1_767_225_600;

const ERRORS: Readonly<
  Record<number, [type: string, code: string | null, message: string]>
> = {
  400: ["invalid_request_error", null, "Invalid value for 'messages'"],
  401: [
    "invalid_request_error",
    "invalid_api_key",
    "Incorrect API key provided: sk-fake*****key. You can find your API key at https://platform.openai.com/account/api-keys.",
  ],
  403: [
    "invalid_request_error",
    "unsupported_country_region_territory",
    "Country, region, or territory not supported",
  ],
  404: [
    "invalid_request_error",
    "model_not_found",
    "The model `nonesuch` does not exist or you do not have access to it.",
  ],
  429: [
    "requests",
    "rate_limit_exceeded",
    "Rate limit reached for requests per min (RPM): Limit 3, Used 3, Requested 1.",
  ],
  500: [
    "server_error",
    null,
    "The server had an error while processing your request. Sorry about that!",
  ],
  503: ["service_unavailable_error", "server_is_overloaded", "Overloaded"],
};

const DEFAULT = { input: 12, output: 7, cached: 0 };

function sse(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

/** The chunks of a chat completion; usage is told to who asked for it. */
export function openaiChatFrames(
  say: Say,
  model = "gpt-test",
  includeUsage = true,
): string[] {
  const { input, output, cached } = { ...DEFAULT, ...say.usage };
  const base = {
    id: "chatcmpl-FakeFakeFakeFake",
    object: "chat.completion.chunk",
    created: CREATED,
    model,
    service_tier: "default",
    system_fingerprint: "fp_fake000000",
  };
  const chunk = (delta: unknown, finish_reason: string | null = null) =>
    sse({
      ...base,
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
      ...includeUsage ? { usage: null } : {},
    });
  const frames = [chunk({ role: "assistant", content: "", refusal: null })];
  if (say.thinking !== undefined) {
    frames.push(chunk({ reasoning_content: say.thinking }));
  }
  for (const content of pieces(say.text)) frames.push(chunk({ content }));
  for (const [index, call] of (say.calls ?? []).entries()) {
    const json = argsText(call);
    const half = Math.ceil(json.length / 2);
    const id = call.id ?? `call_Fake${index}`;
    const start = { name: call.name, arguments: "" };
    frames.push(
      chunk({ tool_calls: [{ index, id, type: "function", function: start }] }),
      chunk({
        tool_calls: [{ index, function: { arguments: json.slice(0, half) } }],
      }),
      chunk({
        tool_calls: [{ index, function: { arguments: json.slice(half) } }],
      }),
    );
  }
  frames.push(chunk({}, chatStop(say)));
  const usage = sse({
    ...base,
    choices: [],
    usage: {
      prompt_tokens: input,
      completion_tokens: output,
      total_tokens: (input ?? 0) + (output ?? 0),
      prompt_tokens_details: { cached_tokens: cached, audio_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0 },
    },
  });
  if (includeUsage) frames.push(usage);
  frames.push("data: [DONE]\n\n");
  return frames;
}

function chatStop(say: Say): string {
  if (say.stop === "length") return "length";
  if (say.stop === "refused") return "content_filter";
  return say.calls?.length ? "tool_calls" : "stop";
}

/** A chat completion in one piece. */
export function openaiChatWhole(say: Say, model: string): unknown {
  const { input, output, cached } = { ...DEFAULT, ...say.usage };
  return {
    id: "chatcmpl-FakeFakeFakeFake",
    object: "chat.completion",
    created: CREATED,
    model,
    choices: [{
      index: 0,
      message: {
        role: "assistant",
        content: pieces(say.text).join("") || null,
        refusal: null,
        ...(say.calls?.length
          ? {
            tool_calls: say.calls.map((call, n) => ({
              id: call.id ?? `call_Fake${n}`,
              type: "function",
              function: { name: call.name, arguments: argsText(call) },
            })),
          }
          : {}),
      },
      logprobs: null,
      finish_reason: chatStop(say),
    }],
    usage: {
      prompt_tokens: input,
      completion_tokens: output,
      total_tokens: (input ?? 0) + (output ?? 0),
      prompt_tokens_details: { cached_tokens: cached },
    },
  };
}

/** The events of a response. */
export function openaiResponsesFrames(say: Say, model = "gpt-test"): string[] {
  const { input, output, cached } = { ...DEFAULT, ...say.usage };
  const frames: string[] = [];
  let sequence_number = 0;
  const event = (type: string, data: Record<string, unknown>) => {
    const body = { type, sequence_number: sequence_number++, ...data };
    frames.push(`event: ${type}\n${sse(body)}`);
  };
  const items: Record<string, unknown>[] = [];
  const whole = (status: string, extra: Record<string, unknown> = {}) => ({
    response: {
      id: "resp_FakeFakeFakeFake",
      object: "response",
      created_at: CREATED,
      status,
      error: null,
      incomplete_details: null,
      model,
      output: items,
      store: false,
      usage: null,
      ...extra,
    },
  });
  event("response.created", whole("in_progress"));
  event("response.in_progress", whole("in_progress"));
  const addItem = (
    item: Record<string, unknown>,
    final: Record<string, unknown>,
    middle: (at: Record<string, unknown>) => void,
  ) => {
    const output_index = items.length;
    event("response.output_item.added", { output_index, item });
    middle({ item_id: item["id"], output_index });
    const done = { ...item, ...final };
    event("response.output_item.done", { output_index, item: done });
    items.push(done);
  };
  if (say.thinking !== undefined) {
    addReasoning(say.thinking, { addItem, event });
  }
  if (say.text !== undefined) addMessage(say, { addItem, event });
  for (const [n, call] of (say.calls ?? []).entries()) {
    const json = argsText(call);
    const half = Math.ceil(json.length / 2);
    addItem(
      {
        id: `fc_Fake${n}`,
        type: "function_call",
        status: "in_progress",
        arguments: "",
        call_id: call.id ?? `call_Fake${n}`,
        name: call.name,
      },
      { status: "completed", arguments: json },
      (at) => {
        const type = "response.function_call_arguments";
        event(`${type}.delta`, { ...at, delta: json.slice(0, half) });
        event(`${type}.delta`, { ...at, delta: json.slice(half) });
        event(`${type}.done`, { ...at, arguments: json });
      },
    );
  }
  const usage = {
    input_tokens: input,
    input_tokens_details: { cached_tokens: cached },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: (input ?? 0) + (output ?? 0),
  };
  if (say.stop === undefined) {
    event("response.completed", whole("completed", { usage }));
  } else {
    const reason = say.stop === "length"
      ? "max_output_tokens"
      : "content_filter";
    event(
      "response.incomplete",
      whole("incomplete", { usage, incomplete_details: { reason } }),
    );
  }
  return frames;
}

interface Writer {
  addItem(
    item: Record<string, unknown>,
    final: Record<string, unknown>,
    middle: (at: Record<string, unknown>) => void,
  ): void;
  event(type: string, data: Record<string, unknown>): void;
}

function addReasoning(thinking: string, { addItem, event }: Writer): void {
  const summary = [{ type: "summary_text", text: thinking }];
  addItem(
    { id: "rs_Fake0", type: "reasoning", summary: [] },
    { summary, encrypted_content: encryptedOf(thinking), status: "completed" },
    (at) => {
      const where = { ...at, summary_index: 0 };
      const type = "response.reasoning_summary";
      event(`${type}_part.added`, {
        ...where,
        part: { type: "summary_text", text: "" },
      });
      event(`${type}_text.delta`, { ...where, delta: thinking });
      event(`${type}_text.done`, { ...where, text: thinking });
      event(`${type}_part.done`, { ...where, part: summary[0] });
    },
  );
}

function addMessage(say: Say, { addItem, event }: Writer): void {
  const text = pieces(say.text).join("");
  const part = { type: "output_text", annotations: [], logprobs: [], text };
  addItem(
    {
      id: "msg_Fake0",
      type: "message",
      status: "in_progress",
      role: "assistant",
      content: [],
    },
    { status: "completed", content: [part] },
    (at) => {
      const where = { ...at, content_index: 0 };
      event("response.content_part.added", {
        ...where,
        part: { ...part, text: "" },
      });
      for (const delta of pieces(say.text)) {
        event("response.output_text.delta", { ...where, delta, logprobs: [] });
      }
      event("response.output_text.done", { ...where, text, logprobs: [] });
      event("response.content_part.done", { ...where, part });
    },
  );
}

/** The encrypted form the fake gives a thought. */
export function encryptedOf(thinking: string): string {
  return btoa(`sealed ${thinking.length}`);
}

function isResponses(request: FakeRequest): boolean {
  return request.path.endsWith("/responses");
}

const wire: VendorWire = {
  basePath: "/v1",
  contentType: "text/event-stream; charset=utf-8",
  headers: { "x-request-id": "req_fake", "openai-version": "2020-10-01" },
  keyOf: (request) =>
    request.headers.get("authorization")?.replace(/^Bearer /, ""),
  frames: (say, request) =>
    isResponses(request)
      ? openaiResponsesFrames(say, request.body?.model)
      : openaiChatFrames(
        say,
        request.body?.model,
        request.body?.stream_options?.include_usage === true,
      ),
  errorFrame: (request) => {
    const message = "The server had an error processing your request.";
    if (!isResponses(request)) {
      return sse({
        error: { message, type: "server_error", param: null, code: null },
      });
    }
    const data = { type: "error", code: "server_error", message, param: null };
    return `event: error\n${sse(data)}`;
  },
  errorBody: (status) => {
    const [type, code, message] = ERRORS[status] ??
      ["server_error", null, `The server answered ${status}`];
    return { error: { message, type, param: null, code } };
  },
  route: async (request, options, reply) => {
    if (request.path === "/v1/models") {
      const data = (options.models ?? ["gpt-test"]).map((id) => ({
        id,
        object: "model",
        created: CREATED,
        owned_by: "fake",
      }));
      return Response.json({ object: "list", data });
    }
    const refused = (said: Reply) => {
      if (!("status" in said) || "raw" in said) return undefined;
      const { status, headers = {} } = said;
      const body = said.body ?? wire.errorBody(status, request);
      return Response.json(body, { status, headers });
    };
    if (request.path === "/v1/embeddings") {
      const refusal = refused(await reply());
      if (refusal !== undefined) return refusal;
      return Response.json({
        object: "list",
        data: [{ object: "embedding", index: 0, embedding: [0.1, 0.2, 0.3] }],
        model: request.body?.model,
        usage: { prompt_tokens: 3, total_tokens: 3 },
      });
    }
    if (isResponses(request)) return undefined;
    if (request.path !== "/v1/chat/completions") {
      const message = `Unknown request URL: ${request.path}`;
      const error = { message, type: "invalid_request_error", code: null };
      return Response.json({ error }, { status: 404 });
    }
    if (request.body?.stream === true) return undefined;
    const said = await reply();
    return refused(said) ??
      Response.json(openaiChatWhole(said as Say, request.body?.model));
  },
};

/** Starts the fake; `url` is what goes into `OPENAI_BASE_URL`. */
export function fakeOpenai(options: FakeOptions = {}): Promise<Fake> {
  return serveFake(wire, options);
}
