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

/** Which dialect a route's errors are in. */
export type Dialect = "plain" | "openai";

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
  const body = dialect === "openai" ? toOpenAiError(error) : {
    error: {
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(error.details === undefined ? {} : { details: error.details }),
    },
  };
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
