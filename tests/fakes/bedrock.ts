/**
 * A fake of AWS Bedrock's Converse API: binary event-stream frames with both
 * checksums, signatures checked by computing them again, lists of models.
 */
import { createHash, createHmac } from "node:crypto";
import {
  argsText,
  type Fake,
  type FakeOptions,
  type FakeRequest,
  pieces,
  type Say,
  serveFake,
  type VendorWire,
} from "./vendor.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const ERRORS: Readonly<Record<number, [type: string, message: string]>> = {
  400: [
    "ValidationException",
    "A conversation must start with a user message.",
  ],
  401: [
    "UnrecognizedClientException",
    "The security token included in the request is invalid.",
  ],
  403: [
    "AccessDeniedException",
    "You don't have access to the model with the specified model ID.",
  ],
  404: [
    "ResourceNotFoundException",
    "This model version has reached the end of its life.",
  ],
  408: [
    "ModelTimeoutException",
    "Model has timed out in processing the request.",
  ],
  424: ["ModelErrorException", "The model returned an error."],
  429: [
    "ThrottlingException",
    "Too many requests, please wait before trying again.",
  ],
  500: [
    "InternalServerException",
    "The system encountered an unexpected error during processing.",
  ],
  503: [
    "ServiceUnavailableException",
    "Bedrock is unable to process your request.",
  ],
};

const TABLE = Array.from({ length: 256 }, (_, n) => {
  let crc = n;
  for (let bit = 0; bit < 8; bit++) {
    crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  }
  return crc >>> 0;
});

/** The checksum of the frames, by the book. */
export function crcOf(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc = (TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** One frame: prelude, its checksum, headers, payload, the checksum of all. */
export function eventFrame(
  headers: Readonly<Record<string, string>>,
  payload: Uint8Array,
): Bytes {
  const encoder = new TextEncoder();
  const head: number[] = [];
  for (const [name, value] of Object.entries(headers)) {
    const [key, text] = [encoder.encode(name), encoder.encode(value)];
    head.push(key.length, ...key, 7, text.length >> 8, text.length & 0xff);
    head.push(...text);
  }
  const total = 12 + head.length + payload.length + 4;
  const frame = new Uint8Array(total);
  const view = new DataView(frame.buffer);
  view.setUint32(0, total);
  view.setUint32(4, head.length);
  view.setUint32(8, crcOf(frame.subarray(0, 8)));
  frame.set(head, 12);
  frame.set(payload, 12 + head.length);
  view.setUint32(total - 4, crcOf(frame.subarray(0, total - 4)));
  return frame;
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function event(type: string, data: unknown): Bytes {
  return eventFrame({
    ":event-type": type,
    ":content-type": "application/json",
    ":message-type": "event",
  }, json(data));
}

/** An exception inside a stream. */
export function exceptionFrame(type: string, message: string): Bytes {
  return eventFrame({
    ":exception-type": type,
    ":content-type": "application/json",
    ":message-type": "exception",
  }, json({ message }));
}

const DEFAULT = { input: 12, output: 7, cached: 0, cacheWrite: 0 };

/** The signature the fake gives a thought. */
export function reasoningSignatureOf(thinking: string): string {
  return btoa(`reasoned ${thinking.length}`);
}

/** The frames of an answer. */
export function bedrockFrames(say: Say): Bytes[] {
  const { input, output, cached, cacheWrite } = { ...DEFAULT, ...say.usage };
  const frames = [event("messageStart", { role: "assistant", p: "abcdef" })];
  let contentBlockIndex = 0;
  const block = (start: unknown, deltas: unknown[]) => {
    // Only a tool's block is announced.
    if (start !== undefined) {
      frames.push(event("contentBlockStart", { contentBlockIndex, start }));
    }
    for (const delta of deltas) {
      const data = { contentBlockIndex, delta, p: "abcdefghij" };
      frames.push(event("contentBlockDelta", data));
    }
    frames.push(event("contentBlockStop", { contentBlockIndex, p: "abc" }));
    contentBlockIndex++;
  };
  if (say.thinking !== undefined) {
    const signature = reasoningSignatureOf(say.thinking);
    block(undefined, [
      { reasoningContent: { text: say.thinking } },
      { reasoningContent: { signature } },
    ]);
  }
  if (say.redacted !== undefined) {
    block(undefined, [{ reasoningContent: { redactedContent: say.redacted } }]);
  }
  if (say.text !== undefined) {
    block(undefined, pieces(say.text).map((text) => ({ text })));
  }
  for (const [n, call] of (say.calls ?? []).entries()) {
    const text = argsText(call);
    const half = Math.ceil(text.length / 2);
    const toolUseId = call.id ?? `tooluse_Fake${n}`;
    block({ toolUse: { toolUseId, name: call.name } }, [
      { toolUse: { input: "" } },
      { toolUse: { input: text.slice(0, half) } },
      { toolUse: { input: text.slice(half) } },
    ]);
  }
  frames.push(
    event("messageStop", { stopReason: stopOf(say), p: "abcdefgh" }),
    event("metadata", {
      metrics: { latencyMs: 512 },
      usage: {
        inputTokens: input,
        outputTokens: output,
        totalTokens: (input ?? 0) + (output ?? 0),
        ...(cached > 0 ? { cacheReadInputTokens: cached } : {}),
        ...(cacheWrite > 0 ? { cacheWriteInputTokens: cacheWrite } : {}),
      },
      p: "abcdefghijkl",
    }),
  );
  return frames;
}

function stopOf(say: Say): string {
  if (say.stop === "length") return "max_tokens";
  if (say.stop === "refused") return "content_filtered";
  return say.calls?.length ? "tool_use" : "end_turn";
}

function hmac(key: string | Uint8Array, text: string): Uint8Array {
  return new Uint8Array(createHmac("sha256", key).update(text).digest());
}

function hex(bytes: Uint8Array): string {
  return new Uint8Array(bytes).toHex();
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

function escape(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The signature (version 4) a request should have with a secret. */
export function signatureFor(request: FakeRequest, secret: string): string {
  const authorization = request.headers.get("authorization") ?? "";
  const scope = /Credential=[^/]+\/([^,]+)/.exec(authorization)?.[1] ?? "";
  const names = /SignedHeaders=([^,]+)/.exec(authorization)?.[1]?.split(";") ??
    [];
  const url = new URL(request.url);
  const canonical = [
    request.method,
    url.pathname.split("/").map(escape).join("/"),
    [...url.searchParams].map(([k, v]) => `${escape(k)}=${escape(v)}`).sort()
      .join("&"),
    ...names.map((name) =>
      `${name}:${(request.headers.get(name) ?? "").trim()}`
    ),
    "",
    names.join(";"),
    sha256(request.bytes),
  ].join("\n");
  const [day = "", region = "", service = ""] = scope.split("/");
  const key = [day, region, service, "aws4_request"].reduce<
    string | Uint8Array
  >((made, text) => hmac(made, text), `AWS4${secret}`);
  const text = [
    "AWS4-HMAC-SHA256",
    request.headers.get("x-amz-date"),
    scope,
    sha256(canonical),
  ].join("\n");
  return hex(hmac(key, text));
}

const wire: VendorWire = {
  basePath: "",
  contentType: "application/vnd.amazon.eventstream",
  headers: { "x-amzn-requestid": "00000000-fake-fake-fake-000000000000" },
  keyOf: () => undefined,
  isAllowed: (request, key) => {
    const authorization = request.headers.get("authorization") ?? "";
    const signed = /Signature=([0-9a-f]{64})/.exec(authorization)?.[1];
    return Promise.resolve(
      signed === undefined
        ? authorization === `Bearer ${key}`
        : signed === signatureFor(request, key),
    );
  },
  frames: bedrockFrames,
  errorFrame: () =>
    exceptionFrame("serviceUnavailableException", "Bedrock is unavailable."),
  errorBody: (status) => ({ message: ERRORS[status]?.[1] ?? "Unknown" }),
  errorHeaders: (status) => ({
    "x-amzn-errortype": `${
      ERRORS[status]?.[0] ?? "UnknownException"
    }:http://internal.amazon.com/coral/com.amazon.bedrock/`,
  }),
  route: (request, options) => {
    if (/^\/model\/[^/]+\/converse-stream$/.test(request.path)) {
      return Promise.resolve(undefined);
    }
    if (request.method === "GET" && request.path === "/foundation-models") {
      const modelSummaries = (options.models ?? ["fake.model-v1:0"]).map(
        (modelId) => ({
          modelId,
          modelName: `Model ${modelId}`,
          responseStreamingSupported: true,
        }),
      );
      return Promise.resolve(Response.json({ modelSummaries }));
    }
    if (request.method === "GET" && request.path === "/inference-profiles") {
      const inferenceProfileSummaries = [{
        inferenceProfileId: "global.fake.profile-v1:0",
        inferenceProfileName: "A profile",
        status: "ACTIVE",
      }];
      return Promise.resolve(Response.json({ inferenceProfileSummaries }));
    }
    return Promise.resolve(
      Response.json({ message: "Not found" }, {
        status: 404,
        headers: { "x-amzn-errortype": "UnknownOperationException" },
      }),
    );
  },
};

/** Starts the fake; `url` goes into `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`. */
export function fakeBedrock(options: FakeOptions = {}): Promise<Fake> {
  return serveFake(wire, options);
}
