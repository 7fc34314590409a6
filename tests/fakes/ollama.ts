/**
 * A fake of Ollama: `/api/chat` as lines of JSON, `/api/tags`, `/api/version`,
 * and its copy of OpenAI's chat completions, on a real socket.
 */
import { openaiChatFrames, openaiChatWhole } from "./openai.ts";
import {
  type Fake,
  type FakeOptions,
  type FakeRequest,
  pieces,
  type Reply,
  type Say,
  serveFake,
  type VendorWire,
} from "./vendor.ts";

const AT = "2026-01-01T00:00:00.000000Z";
const DEFAULT = { input: 12, output: 7 };

const ERRORS: Readonly<Record<number, string>> = {
  400: "invalid character '}' looking for beginning of value",
  401: "unauthorized",
  404: "model 'nonesuch' not found",
  429: "too many concurrent requests",
  500: "the model failed to generate a response",
  503: "server busy, please try again. maximum pending requests exceeded",
};

/** The lines of an answer. */
export function ollamaFrames(say: Say, model = "fake:latest"): string[] {
  const { input, output } = { ...DEFAULT, ...say.usage };
  const line = (data: Record<string, unknown>) =>
    `${JSON.stringify({ model, created_at: AT, ...data })}\n`;
  const message = (data: Record<string, unknown>) =>
    line({ message: { role: "assistant", content: "", ...data }, done: false });
  const frames: string[] = [];
  if (say.thinking !== undefined) {
    frames.push(message({ thinking: say.thinking }));
  }
  for (const content of pieces(say.text)) frames.push(message({ content }));
  for (const [index, call] of (say.calls ?? []).entries()) {
    frames.push(message({
      tool_calls: [{
        id: call.id ?? `call_fake${index}`,
        function: {
          index,
          name: call.name,
          arguments: call.rawArgs ?? call.args ?? {},
        },
      }],
    }));
  }
  frames.push(line({
    message: { role: "assistant", content: "" },
    done: true,
    done_reason: say.stop === "length" ? "length" : "stop",
    total_duration: 4883583458,
    load_duration: 1334875,
    ...(input === null ? {} : { prompt_eval_count: input }),
    prompt_eval_duration: 342546000,
    ...(output === null ? {} : { eval_count: output }),
    eval_duration: 4535599000,
  }));
  return frames;
}

/** It also speaks OpenAI's dialect. */
function toOpenaiAnswer(request: FakeRequest, reply: Reply): Response {
  if ("status" in reply && !("raw" in reply)) {
    const { status = 500 } = reply as { status?: number };
    const message = ERRORS[status] ?? "internal error";
    const error = { message, type: "api_error", param: null, code: null };
    return Response.json({ error }, { status });
  }
  const { body } = request;
  if (body?.stream !== true) {
    return Response.json(openaiChatWhole(reply as Say, body?.model));
  }
  return new Response(openaiChatFrames(reply as Say, body.model).join(""), {
    headers: { "content-type": "text/event-stream" },
  });
}

const wire: VendorWire = {
  basePath: "",
  contentType: "application/x-ndjson",
  headers: {},
  keyOf: (request) =>
    request.headers.get("authorization")?.replace(/^Bearer /, ""),
  frames: (say, request) => ollamaFrames(say, request.body?.model),
  errorFrame: () =>
    '{"error":"an error was encountered while running the model"}\n',
  errorBody: (status) => ({ error: ERRORS[status] ?? "internal error" }),
  route: async (request, options, reply) => {
    if (request.path === "/api/chat") return undefined;
    if (request.path === "/v1/chat/completions") {
      return toOpenaiAnswer(request, await reply());
    }
    if (request.path === "/api/version") {
      return Response.json({ version: "0.40.12" });
    }
    if (request.path === "/api/tags") {
      const models = (options.models ?? ["fake:latest"]).map((name) => ({
        name,
        model: name,
        modified_at: AT,
        size: 1,
        digest: "0".repeat(64),
        details: { family: "fake", parameter_size: "1B" },
      }));
      return Response.json({ models });
    }
    return new Response("404 page not found", { status: 404 });
  },
};

/** Starts the fake; `url` is what goes into `OLLAMA_HOST`. */
export function fakeOllama(options: FakeOptions = {}): Promise<Fake> {
  return serveFake(wire, options);
}
