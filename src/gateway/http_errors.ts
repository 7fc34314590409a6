/**
 * Errors as HTTP says them, in our shape and in that of OpenAI's API.
 *
 * Never: the text of an unexpected error leaves the process.
 *
 * @module
 */
import { AppError, type ErrorCode } from "../core/errors.ts";
import { ModelError } from "../core/model.ts";

const STATUS = {
  bad_input: 400,
  unauthorized: 401,
  not_paired: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  rate_limited: 429,
  unavailable: 503,
  upstream: 502,
  timeout: 504,
  cancelled: 499,
  budget: 429,
  locked: 409,
  internal: 500,
} as const satisfies Record<ErrorCode, number>;

const OPENAI_TYPE = {
  bad_input: "invalid_request_error",
  unauthorized: "authentication_error",
  not_paired: "authentication_error",
  forbidden: "permission_error",
  not_found: "invalid_request_error",
  conflict: "invalid_request_error",
  too_large: "invalid_request_error",
  rate_limited: "rate_limit_error",
  unavailable: "server_error",
  upstream: "server_error",
  timeout: "server_error",
  cancelled: "server_error",
  budget: "insufficient_quota",
  locked: "server_error",
  internal: "server_error",
} as const satisfies Record<ErrorCode, string>;

/** OpenAI's own words where it has one for the case. */
const OPENAI_CODE: Partial<Record<ErrorCode, string>> = {
  unauthorized: "invalid_api_key",
  rate_limited: "rate_limit_exceeded",
  budget: "insufficient_quota",
};

/** The same failures in the words of the Messages API. */
const MESSAGES_TYPE = {
  bad_input: "invalid_request_error",
  unauthorized: "authentication_error",
  not_paired: "authentication_error",
  forbidden: "permission_error",
  not_found: "not_found_error",
  conflict: "invalid_request_error",
  too_large: "request_too_large",
  rate_limited: "rate_limit_error",
  unavailable: "overloaded_error",
  upstream: "api_error",
  timeout: "timeout_error",
  cancelled: "api_error",
  budget: "billing_error",
  locked: "api_error",
  internal: "api_error",
} as const satisfies Record<ErrorCode, string>;

/** Which dialect a route's errors are in. */
export type Dialect = "plain" | "openai" | "responses" | "messages";

/** Anything thrown as an `AppError`; what we did not throw says nothing. */
export function toAppError(error: unknown): AppError {
  return error instanceof AppError ? error : new AppError(
    "internal",
    "Cannot answer: something unexpected happened",
    { cause: error, hint: "The log says more" },
  );
}

/** The body of an error in OpenAI's shape. */
export function toOpenAiError(error: AppError): {
  error: { message: string; type: string; param: string | null; code: string };
} {
  const param = error.details?.["param"];
  const code = error.details?.["code"];
  return {
    error: {
      message: error.hint === undefined
        ? error.message
        : `${error.message}. ${error.hint}`,
      type: OPENAI_TYPE[error.code],
      param: typeof param === "string" ? param : null,
      code: typeof code === "string"
        ? code
        : error instanceof ModelError
        ? error.class
        : OPENAI_CODE[error.code] ?? error.code,
    },
  };
}

/** The body of an error in the Messages API's shape. */
function toMessagesError(error: AppError): {
  type: "error";
  error: { type: string; message: string };
} {
  const { message, hint } = error;
  return {
    type: "error",
    error: {
      type: MESSAGES_TYPE[error.code],
      message: hint === undefined ? message : `${message}. ${hint}`,
    },
  };
}

/** The body of an error, as a dialect's clients read it. */
export function toErrorBody(error: AppError, dialect: Dialect): object {
  switch (dialect) {
    case "openai":
    case "responses":
      return toOpenAiError(error);
    case "messages":
      return toMessagesError(error);
    case "plain":
      return {
        error: {
          code: error.code,
          message: error.message,
          ...(error.hint === undefined ? {} : { hint: error.hint }),
          ...(error.details === undefined ? {} : { details: error.details }),
        },
      };
  }
}

/** One frame that says an answer failed after its headers were sent. */
export function errorFrame(thrown: unknown, dialect: Dialect): string {
  const error = toAppError(thrown);
  const body = toErrorBody(error, dialect);
  switch (dialect) {
    case "messages":
      return `event: error\ndata: ${JSON.stringify(body)}\n\n`;
    case "responses": {
      const { code, message, param } = toOpenAiError(error).error;
      const data = { type: "error", sequence_number: 0, code, message, param };
      return `event: error\ndata: ${JSON.stringify(data)}\n\n`;
    }
    default:
      return `data: ${JSON.stringify(body)}\n\n`;
  }
}

/** An error as a response. */
export function toErrorResponse(error: AppError, dialect: Dialect): Response {
  const headers: Record<string, string> = {
    "content-type": "application/json",
  };
  if (error.code === "unauthorized") {
    headers["www-authenticate"] = 'Bearer realm="carapace"';
  }
  const retryAfterMs = error.retryAfterMs ??
    (error.code === "rate_limited" || error.code === "unavailable"
      ? 1000
      : undefined);
  if (retryAfterMs !== undefined) {
    headers["retry-after"] = String(
      Math.max(1, Math.ceil(retryAfterMs / 1000)),
    );
  }
  const body = toErrorBody(error, dialect);
  const status = error.details?.["status"];
  return new Response(JSON.stringify(body), {
    status: typeof status === "number" ? status : STATUS[error.code],
    headers,
  });
}

/** An answer in JSON. */
export function json(value: unknown, status = 200): Response {
  return new Response(JSON.stringify(value), {
    status,
    headers: { "content-type": "application/json" },
  });
}
