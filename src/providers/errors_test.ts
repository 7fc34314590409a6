import assert from "node:assert/strict";
import { AppError } from "../core/errors.ts";
import { ModelError, type ModelErrorClass } from "../core/model.ts";
import {
  type Answer,
  classify,
  type Place,
  retryAfterMs,
  toModelError,
  toNetworkError,
} from "./errors.ts";

const PLACE: Place = {
  id: "acme",
  baseUrl: new URL("https://api.acme.test/v1"),
  keySource: "env ACME_KEY",
  keyEnv: "ACME_KEY",
};

/** Bodies as the vendors document them. */
const ANSWERS: [why: string, answer: Answer, want: ModelErrorClass][] = [
  [
    "anthropic: key",
    anthropic(401, "authentication_error", "invalid x-api-key"),
    "auth",
  ],
  [
    "anthropic: permission",
    anthropic(
      403,
      "permission_error",
      "Your API key does not have permission to use the specified resource",
    ),
    "auth",
  ],
  [
    "anthropic: billing",
    anthropic(402, "billing_error", "There is an issue with your billing"),
    "quota",
  ],
  [
    "anthropic: credit",
    anthropic(
      400,
      "invalid_request_error",
      "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    "quota",
  ],
  [
    "anthropic: own spend limit",
    anthropic(
      400,
      "invalid_request_error",
      "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ),
    "quota",
  ],
  ["anthropic: tier's spend limit", {
    status: 429,
    body: {
      type: "error",
      error: {
        type: "rate_limit_error",
        message: "Monthly spend cap reached",
        details: { error_code: "enforced_spend_limit_reached" },
      },
    },
  }, "quota"],
  [
    "anthropic: rate",
    anthropic(
      429,
      "rate_limit_error",
      "This request would exceed your organization's rate limit of 50 requests per minute",
    ),
    "rate",
  ],
  [
    "anthropic: overloaded",
    anthropic(529, "overloaded_error", "Overloaded"),
    "overloaded",
  ],
  ["anthropic: overloaded in a stream", {
    body: anthropic(0, "overloaded_error", "Overloaded").body,
  }, "overloaded"],
  [
    "anthropic: too long",
    anthropic(
      400,
      "invalid_request_error",
      "prompt is too long: 345320 tokens > 199999 maximum",
    ),
    "context_overflow",
  ],
  [
    "anthropic: too long with its answer",
    anthropic(
      400,
      "invalid_request_error",
      "input length and `max_tokens` exceed context limit: 198000 + 8192 > 200000",
    ),
    "context_overflow",
  ],
  [
    "anthropic: too large",
    anthropic(413, "request_too_large", "Request exceeds the maximum size"),
    "context_overflow",
  ],
  [
    "anthropic: unknown model",
    anthropic(404, "not_found_error", "model: claude-nonesuch"),
    "not_found",
  ],
  [
    "anthropic: bad request",
    anthropic(
      400,
      "invalid_request_error",
      "messages: at least one message is required",
    ),
    "bad_request",
  ],
  [
    "anthropic: server",
    anthropic(500, "api_error", "Internal server error"),
    "server",
  ],
  [
    "openai: key",
    openai(
      401,
      "invalid_request_error",
      "invalid_api_key",
      "Incorrect API key provided: sk-abc***wxyz",
    ),
    "auth",
  ],
  [
    "openai: quota",
    openai(
      429,
      "insufficient_quota",
      "insufficient_quota",
      "You exceeded your current quota, please check your plan and billing details.",
    ),
    "quota",
  ],
  [
    "openai: credit",
    openai(
      429,
      "insufficient_quota",
      "credit_balance_exhausted",
      "No balance left",
    ),
    "quota",
  ],
  [
    "openai: rate",
    openai(
      429,
      "requests",
      "rate_limit_exceeded",
      "Rate limit reached for gpt-x in organization org-x on requests per min (RPM): Limit 3, Used 3",
    ),
    "rate",
  ],
  [
    "openai: slow down",
    openai(503, "service_unavailable_error", "slow_down", "Slow down"),
    "overloaded",
  ],
  [
    "openai: overloaded",
    openai(
      503,
      "service_unavailable_error",
      "server_is_overloaded",
      "Overloaded",
    ),
    "overloaded",
  ],
  [
    "openai: too long",
    openai(
      400,
      "invalid_request_error",
      "context_length_exceeded",
      "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    ),
    "context_overflow",
  ],
  [
    "openai: policy",
    openai(
      400,
      "invalid_request_error",
      "content_policy_violation",
      "Your request was rejected as a result of our safety system.",
    ),
    "refused",
  ],
  [
    "openai: unknown model",
    openai(
      404,
      "invalid_request_error",
      "model_not_found",
      "The model `x` does not exist or you do not have access to it.",
    ),
    "not_found",
  ],
  [
    "openai: server",
    openai(
      500,
      "server_error",
      null,
      "The server had an error while processing your request.",
    ),
    "server",
  ],
  [
    "openai: parameter",
    openai(
      400,
      "invalid_request_error",
      "unsupported_parameter",
      "Unsupported parameter: 'temperature' is not supported with this model.",
    ),
    "bad_request",
  ],
  ["responses: failed in a stream", {
    body: { error: { code: "server_error", message: "Oops" } },
  }, "server"],
  ["responses: rate in a stream", {
    body: { error: { code: "rate_limit_exceeded", message: "Slow" } },
  }, "rate"],
  ["vllm: too long", {
    status: 400,
    body: {
      object: "error",
      message: "This model's maximum context length is 4096 tokens",
      type: "BadRequestError",
      code: 400,
    },
  }, "context_overflow"],
  ["vllm: unknown model", {
    status: 404,
    body: {
      object: "error",
      message: "The model `x` does not exist.",
      type: "NotFoundError",
      code: 404,
    },
  }, "not_found"],
  ["llama.cpp: too long", {
    status: 400,
    body: {
      error: {
        code: 400,
        message: "the request exceeds the available context size",
        type: "exceed_context_size_error",
      },
    },
  }, "context_overflow"],
  ["llama.cpp: loading", {
    status: 503,
    body: {
      error: { code: 503, message: "Loading model", type: "unavailable_error" },
    },
  }, "overloaded"],
  ["fastapi: detail", {
    status: 422,
    body: {
      detail: [{ type: "extra_forbidden", loc: ["body", "stream_options"] }],
    },
  }, "bad_request"],
  ["ollama: unknown model", {
    status: 404,
    body: { error: "model 'nonesuch' not found" },
  }, "not_found"],
  ["ollama: no tools", {
    status: 400,
    body: {
      error: "registry.ollama.ai/library/gemma:latest does not support tools",
    },
  }, "bad_request"],
  ["ollama: busy", {
    status: 503,
    body: {
      error:
        "server busy, please try again.  maximum pending requests exceeded",
    },
  }, "overloaded"],
  ["ollama: failed", {
    status: 500,
    body: { error: "the model failed to generate a response" },
  }, "server"],
  [
    "gemini: key",
    google(
      400,
      "INVALID_ARGUMENT",
      "API key not valid. Please pass a valid API key.",
      [
        {
          "@type": "type.googleapis.com/google.rpc.ErrorInfo",
          reason: "API_KEY_INVALID",
          domain: "googleapis.com",
          metadata: { service: "generativelanguage.googleapis.com" },
        },
      ],
    ),
    "auth",
  ],
  [
    "gemini: leaked key",
    google(
      403,
      "PERMISSION_DENIED",
      "Your API key was reported as leaked. Please use another API key.",
    ),
    "auth",
  ],
  [
    "gemini: rate a minute",
    google(
      429,
      "RESOURCE_EXHAUSTED",
      "You exceeded your current quota, please check your plan and billing details.",
      [
        quotaFailure("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
        retryInfo("32.5s"),
      ],
    ),
    "rate",
  ],
  [
    "gemini: quota of the day",
    google(
      429,
      "RESOURCE_EXHAUSTED",
      "You exceeded your current quota, please check your plan and billing details.",
      [
        quotaFailure("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        retryInfo("12s"),
      ],
    ),
    "quota",
  ],
  [
    "gemini: exhausted",
    google(
      429,
      "RESOURCE_EXHAUSTED",
      "Resource has been exhausted (e.g. check quota).",
    ),
    "rate",
  ],
  [
    "gemini: too long",
    google(
      400,
      "INVALID_ARGUMENT",
      "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "context_overflow",
  ],
  [
    "gemini: signature missing",
    google(
      400,
      "INVALID_ARGUMENT",
      "Function call is missing a thought_signature in functionCall parts.",
    ),
    "bad_request",
  ],
  [
    "gemini: place",
    google(
      400,
      "FAILED_PRECONDITION",
      "User location is not supported for the API use.",
    ),
    "bad_request",
  ],
  [
    "gemini: unknown model",
    google(
      404,
      "NOT_FOUND",
      "models/nonesuch is not found for API version v1, or is not supported for generateContent.",
    ),
    "not_found",
  ],
  [
    "gemini: overloaded",
    google(
      503,
      "UNAVAILABLE",
      "The model is overloaded. Please try again later.",
    ),
    "overloaded",
  ],
  [
    "gemini: server",
    google(500, "INTERNAL", "An internal error has occurred."),
    "server",
  ],
  [
    "gemini: too slow",
    google(504, "DEADLINE_EXCEEDED", "Deadline expired."),
    "timeout",
  ],
  ["gemini: an error in a list", {
    status: 503,
    body: [{ error: { code: 503, status: "UNAVAILABLE", message: "busy" } }],
  }, "overloaded"],
  ["gemini: slow in a stream", {
    body: { error: { code: 504, status: "DEADLINE_EXCEEDED", message: "x" } },
  }, "timeout"],
  [
    "bedrock: signature",
    aws(
      403,
      "InvalidSignatureException",
      "The request signature we calculated does not match the signature you provided.",
    ),
    "auth",
  ],
  [
    "bedrock: token",
    aws(
      403,
      "ExpiredTokenException",
      "The security token included in the request is expired",
    ),
    "auth",
  ],
  [
    "bedrock: access",
    aws(
      403,
      "AccessDeniedException",
      "You don't have access to the model with the specified model ID.",
    ),
    "auth",
  ],
  [
    "bedrock: rate",
    aws(
      429,
      "ThrottlingException",
      "Too many tokens, please wait before trying again.",
    ),
    "rate",
  ],
  [
    "bedrock: quota",
    aws(
      400,
      "ServiceQuotaExceededException",
      "Your request exceeds the service quota for your account.",
    ),
    "quota",
  ],
  [
    "bedrock: not ready",
    aws(
      429,
      "ModelNotReadyException",
      "The model specified in the request is not ready to serve inference requests.",
    ),
    "overloaded",
  ],
  [
    "bedrock: unavailable",
    aws(503, "ServiceUnavailableException", "The service isn't available."),
    "overloaded",
  ],
  [
    "bedrock: too long",
    aws(400, "ValidationException", "Input is too long for requested model."),
    "context_overflow",
  ],
  [
    "bedrock: too long, by the model",
    aws(
      400,
      "ValidationException",
      "The model returned the following errors: prompt is too long: 212345 tokens > 200000 maximum",
    ),
    "context_overflow",
  ],
  [
    "bedrock: unknown model",
    aws(
      400,
      "ValidationException",
      "The provided model identifier is invalid.",
    ),
    "not_found",
  ],
  [
    "bedrock: profile wanted",
    aws(
      400,
      "ValidationException",
      "Invocation of model ID x with on-demand throughput isn't supported. Retry your request with the ID or ARN of an inference profile that contains this model.",
    ),
    "bad_request",
  ],
  [
    "bedrock: gone",
    aws(
      404,
      "ResourceNotFoundException",
      "This model version has reached the end of its life.",
    ),
    "not_found",
  ],
  [
    "bedrock: model's time",
    aws(
      408,
      "ModelTimeoutException",
      "The request took too long to process.",
    ),
    "timeout",
  ],
  [
    "bedrock: model's error",
    aws(
      424,
      "ModelErrorException",
      "The request failed due to an error while processing the model.",
    ),
    "server",
  ],
  [
    "bedrock: server",
    aws(500, "InternalServerException", "An internal server error occurred."),
    "server",
  ],
  ["bedrock: type in the body", {
    status: 400,
    body: { __type: "com.amazon.coral#ThrottlingException", message: "slow" },
  }, "rate"],
  ["openrouter: credit", {
    status: 402,
    body: { error: { code: 402, message: "Insufficient credits" } },
  }, "quota"],
  ["openrouter: moderation", {
    status: 403,
    body: {
      error: {
        code: 403,
        message: "openai/x requires moderation. Your input was flagged.",
        metadata: { reasons: ["violence"], flagged_input: "…" },
      },
    },
  }, "refused"],
  ["groq: too long", {
    status: 400,
    body: {
      error: {
        message: "Please reduce the length of the messages or completion.",
        type: "invalid_request_error",
        param: "messages",
        code: "context_length_exceeded",
      },
    },
  }, "context_overflow"],
  ["groq: rate", {
    status: 429,
    body: {
      error: {
        message:
          "Rate limit reached for model `x` in organization `y` on tokens per minute (TPM): Limit 6000, Used 5900, Requested 900.",
        type: "tokens",
        code: "rate_limit_exceeded",
      },
    },
  }, "rate"],
  ["mistral: key", {
    status: 401,
    body: { detail: "Unauthorized" },
  }, "auth"],
  ["mistral: rate", {
    status: 429,
    body: {
      object: "error",
      message: "Requests rate limit exceeded",
      type: "rate_limited",
      param: null,
      code: "1300",
    },
  }, "rate"],
  ["mistral: capacity", {
    status: 429,
    body: {
      object: "error",
      message: "Service tier capacity exceeded for this model.",
      type: "service_tier_capacity_exceeded",
      param: null,
      code: "3505",
    },
  }, "overloaded"],
  ["venice: key", {
    status: 401,
    body: { error: "Authentication failed" },
  }, "auth"],
  ["venice: balance", {
    status: 402,
    body: { error: "Insufficient USD or Diem balance to complete request" },
  }, "quota"],
  ["lm studio: no model", {
    status: 404,
    body: {
      error: {
        message: "No models loaded. Please load a model.",
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found",
      },
    },
  }, "not_found"],
  ["a gateway's page", {
    status: 502,
    body: "<html><h1>502 Bad Gateway</h1></html>",
  }, "server"],
  ["a gateway's patience", { status: 504, body: "" }, "timeout"],
  ["a stranger's 418", { status: 418, body: "teapot" }, "bad_request"],
];

function anthropic(status: number, type: string, message: string): Answer {
  return {
    status,
    body: JSON.stringify({
      type: "error",
      error: { type, message },
      request_id: "req_011",
    }),
  };
}

function google(
  ...[code, status, message, details]: [number, string, string, unknown[]?]
): Answer {
  return {
    status: code,
    body: JSON.stringify({
      error: { code, message, status, ...(details ? { details } : {}) },
    }),
  };
}

function quotaFailure(quotaId: string): unknown {
  return {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    violations: [{
      quotaMetric:
        "generativelanguage.googleapis.com/generate_content_free_tier_requests",
      quotaId,
      quotaDimensions: { location: "global", model: "gemini-x" },
    }],
  };
}

function retryInfo(retryDelay: string): unknown {
  return { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay };
}

function aws(status: number, type: string, message: string): Answer {
  return {
    status,
    headers: new Headers({
      "x-amzn-errortype": `${type}:http://internal.amazon.com/coral/`,
    }),
    body: JSON.stringify({ message }),
  };
}

function openai(
  ...[status, type, code, message]: [number, string, string | null, string]
): Answer {
  return { status, body: { error: { message, type, param: null, code } } };
}

Deno.test("classify() knows the vendors' documented errors", async (t) => {
  for (const [why, answer, want] of ANSWERS) {
    await t.step(why, () => assert.equal(classify(answer), want));
  }
});

Deno.test("toModelError() names the provider and never quotes a key", async (t) => {
  for (const [why, answer] of ANSWERS) {
    await t.step(why, () => {
      const error = toModelError(PLACE, answer, NaN);
      assert.match(error.message, /acme/);
      assert.doesNotMatch(error.message, /[.\s]$|<html|sk-/);
      assert.ok(error.hint);
      assert.ok(error.message.length < 500);
    });
  }
  await t.step("a key inside a message is covered", () => {
    const body = { error: { message: "bad header sk-proj-abcdef0123456789" } };
    const error = toModelError(PLACE, { status: 400, body }, NaN);
    assert.doesNotMatch(error.message, /abcdef/);
  });
  await t.step("a wait that stands in the body is kept", () => {
    const answer = google(429, "RESOURCE_EXHAUSTED", "Slow down", [
      retryInfo("32.5s"),
    ]);
    assert.equal(toModelError(PLACE, answer, NaN).retryAfterMs, 32_500);
  });
  await t.step("a model one may not use is named, the key is not", () => {
    const words =
      "You don't have access to the model with the specified model ID.";
    const error = toModelError(
      PLACE,
      aws(403, "AccessDeniedException", words),
      NaN,
    );
    assert.match(error.message, /access to the model/);
  });
  await t.step("without a key it says which to set", () => {
    const place = { ...PLACE, keySource: undefined };
    const error = toModelError(place, { status: 401, body: "" }, NaN);
    assert.match(error.message, /it has no key; set ACME_KEY/);
  });
});

Deno.test("retryAfterMs() reads seconds, dates and milliseconds", async (t) => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  const rows: [Record<string, string>, number | undefined][] = [
    [{}, undefined],
    [{ "retry-after": "7" }, 7000],
    [{ "retry-after": "0" }, 0],
    [{ "retry-after": "Thu, 01 Jan 2026 00:00:05 GMT" }, 5000],
    [{ "retry-after": "Wed, 31 Dec 2025 00:00:00 GMT" }, 0],
    [{ "retry-after-ms": "250", "retry-after": "1" }, 250],
    [{ "retry-after": "soon" }, undefined],
    [{ "retry-after": "999999999" }, 86_400_000],
  ];
  for (const [headers, want] of rows) {
    await t.step(
      JSON.stringify(headers),
      () => assert.equal(retryAfterMs(new Headers(headers), now), want),
    );
  }
});

Deno.test("toNetworkError() says where and why", async (t) => {
  const rows: [string, RegExp][] = [
    ["tcp connect error: Connection refused (os error 111)", /nothing listens/],
    ["dns error: failed to lookup address information", /no address/],
    ["invalid peer certificate: UnknownIssuer", /certificate/],
    ['Requires net access to "x"', /may not connect/],
    ["connection reset by peer", /broke/],
    ["something else", /Cannot reach acme at api\.acme\.test$/],
  ];
  for (const [cause, want] of rows) {
    await t.step(cause, () => {
      const error = toNetworkError(PLACE, new TypeError(cause));
      assert.ok(error instanceof ModelError && error.class === "network");
      assert.match(error.message, want);
      assert.match(error.message, /api\.acme\.test/);
    });
  }
  await t.step("what the door refuses stays a refusal", () => {
    const refusal = new AppError("forbidden", "not on the list");
    assert.equal(toNetworkError(PLACE, refusal), refusal);
  });
  await t.step("what the door could not reach is the network", () => {
    const failure = new AppError("upstream", "Cannot connect: refused");
    const error = toNetworkError(PLACE, failure);
    assert.ok(error instanceof ModelError && error.isRetryable);
  });
  await t.step("the door's timeout is a timeout", () => {
    const error = toNetworkError(PLACE, new AppError("timeout", "60 s"));
    assert.ok(error instanceof ModelError && error.class === "timeout");
  });
});
