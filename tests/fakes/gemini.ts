/**
 * A fake of Google's Gemini API: `streamGenerateContent?alt=sse` with thoughts,
 * function calls and their signatures, and the models' list, on a real socket.
 */
import {
  type Fake,
  type FakeCall,
  type FakeOptions,
  type FakeRequest,
  pieces,
  type Say,
  serveFake,
  type VendorWire,
} from "./vendor.ts";

const ERRORS: Readonly<Record<number, [status: string, message: string]>> = {
  400: [
    "INVALID_ARGUMENT",
    "Please ensure that function call turn comes immediately after a user turn",
  ],
  401: ["UNAUTHENTICATED", "Request had invalid authentication credentials."],
  403: ["PERMISSION_DENIED", "Your API key was reported as leaked."],
  404: [
    "NOT_FOUND",
    "models/nonesuch is not found for API version v1, or is not supported for generateContent.",
  ],
  429: [
    "RESOURCE_EXHAUSTED",
    "Resource has been exhausted (e.g. check quota).",
  ],
  500: ["INTERNAL", "An internal error has occurred."],
  503: ["UNAVAILABLE", "The model is overloaded. Please try again later."],
  504: ["DEADLINE_EXCEEDED", "The request timed out. Please try again."],
};

const DEFAULT = { input: 12, output: 7, cached: 0 };

/** The signature the fake gives a thought; the same thought, the same one. */
export function thoughtSignatureOf(thinking: string): string {
  return btoa(`thought ${thinking.length}`);
}

type Json = Record<string, unknown>;

/** The chunks of an answer, as the vendor streams them. */
export function geminiFrames(say: Say, model = "gemini-test"): string[] {
  const { input, output, cached } = { ...DEFAULT, ...say.usage };
  const usage = (done: boolean) => ({
    promptTokenCount: input,
    ...(done ? { candidatesTokenCount: output } : {}),
    totalTokenCount: (input ?? 0) + (done ? output ?? 0 : 0),
    promptTokensDetails: [{ modality: "TEXT", tokenCount: input }],
    ...(cached > 0 ? { cachedContentTokenCount: cached } : {}),
  });
  const frames: string[] = [];
  const chunk = (candidate: Json, done = false) =>
    frames.push(
      `data: ${
        JSON.stringify({
          candidates: [{ ...candidate, index: 0 }],
          usageMetadata: usage(done),
          modelVersion: model,
          responseId: "FakeFakeFakeFake",
        })
      }\r\n\r\n`,
    );
  const part = (one: Json) => ({ content: { parts: [one], role: "model" } });
  if (say.thinking !== undefined) {
    chunk(part({ text: say.thinking, thought: true }));
  }
  for (const text of pieces(say.text)) chunk(part({ text }));
  const { calls = [] } = say;
  let signature = say.thinking === undefined
    ? undefined
    : thoughtSignatureOf(say.thinking);
  const bad = calls.find((call) => call.rawArgs !== undefined);
  for (const call of bad === undefined ? calls : []) {
    chunk(part({
      functionCall: toCall(call),
      // Of calls made together only the first is signed.
      ...(signature === undefined ? {} : { thoughtSignature: signature }),
    }));
    signature = undefined;
  }
  const last = signature === undefined
    ? { content: { parts: [{ text: "" }], role: "model" } }
    : part({ text: "", thoughtSignature: signature });
  chunk(
    bad !== undefined
      ? {
        content: {},
        finishReason: "MALFORMED_FUNCTION_CALL",
        finishMessage:
          `Malformed function call: default_api.${bad.name}${bad.rawArgs}`,
      }
      : { ...last, finishReason: stopOf(say) },
    true,
  );
  return frames;
}

function toCall(call: FakeCall): Json {
  return {
    name: call.name,
    args: call.args ?? {},
    ...(call.id === undefined ? {} : { id: call.id }),
  };
}

function stopOf(say: Say): string {
  if (say.stop === "length") return "MAX_TOKENS";
  return say.stop === "refused" ? "SAFETY" : "STOP";
}

/** An error as the vendor words it. */
export function geminiError(code: number): unknown {
  const [status, message] = ERRORS[code] ?? ["UNKNOWN", "Unknown error"];
  return { error: { code, message, status } };
}

const wire: VendorWire = {
  basePath: "",
  contentType: "text/event-stream",
  headers: { "server-timing": "gfet4t7; dur=42" },
  keyOf: (request) => request.headers.get("x-goog-api-key") ?? undefined,
  frames: (say, request) => geminiFrames(say, modelOf(request)),
  errorFrame: () => `data: ${JSON.stringify(geminiError(503))}\r\n\r\n`,
  errorBody: geminiError,
  route: (request, options) => {
    const isSse = new URL(request.url).searchParams.get("alt") === "sse";
    if (request.path.endsWith(":streamGenerateContent") && isSse) {
      return Promise.resolve(undefined);
    }
    if (!/^\/v1(beta)?\/models$/.test(request.path)) {
      return Promise.resolve(Response.json(geminiError(404), { status: 404 }));
    }
    const models = [
      ...(options.models ?? ["gemini-test"]).map((id) => ({
        name: `models/${id}`,
        displayName: `Gemini ${id}`,
        supportedGenerationMethods: ["generateContent", "countTokens"],
      })),
      {
        name: "models/embedding-test",
        displayName: "Embedding",
        supportedGenerationMethods: ["embedContent"],
      },
    ];
    return Promise.resolve(Response.json({ models }));
  },
};

function modelOf(request: FakeRequest): string | undefined {
  return /\/models\/([^:]+):/.exec(request.path)?.[1];
}

/** Starts the fake; `url` is what goes into `GOOGLE_GEMINI_BASE_URL`. */
export function fakeGemini(options: FakeOptions = {}): Promise<Fake> {
  return serveFake(wire, options);
}
