/**
 * A vendor's failure in our words: one class, the place it happened, what to
 * do. Pure: it is given what was answered and makes the error.
 *
 * Never: a key in a message; a vendor's page or stack trace passed on whole.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import { ModelError, type ModelErrorClass } from "../core/model.ts";
import type { VendorRow } from "./vendor.ts";
import { list, record, text } from "./wire.ts";

/** Where a call went, for the message. */
export interface Place {
  /** The provider's name. */
  id: string;
  baseUrl: URL;
  /** Where the key came from: `env NAME`, `secret NAME`; never the key. */
  keySource: string | undefined;
  /** The environment name that would give it one. */
  keyEnv: string | undefined;
  /** The vendor's own service, where it refuses calls without a key. */
  home?: Pick<VendorRow, "needsKey" | "baseUrl" | "keyEnv">;
}

/** What a vendor answered. `status` is absent for an error inside a stream. */
export interface Answer {
  status?: number;
  body: unknown;
  headers?: Headers;
}

/** What the known error bodies have in common. */
interface Fault {
  type: string;
  code: string;
  param: string;
  message: string;
  /** How long to wait, where the body says it and the limit is a short one. */
  retryMs: number | undefined;
}

const RETRY_AFTER_MS_MAX = 24 * 60 * 60 * 1000;

/** Reads the error out of a body, whichever vendor's shape it has. */
function toFault(body: unknown, headers?: Headers): Fault {
  const parsed = typeof body === "string" ? parseOr(body) : body;
  const outer = record(Array.isArray(parsed) ? parsed[0] : parsed);
  const inner = typeof outer["error"] === "object"
    ? record(outer["error"])
    : outer;
  const details = record(inner["details"]);
  const infos = list(inner["details"]).map(record);
  const reason = infos.map((info) => text(info["reason"])).find((one) =>
    one !== ""
  );
  // `Name:http://…` in a header, or `namespace#Name` in the body.
  const named = headers?.get("x-amzn-errortype")?.split(":")[0] ??
    text(outer["__type"]).split("#").at(-1);
  const detail = Array.isArray(outer["detail"])
    ? JSON.stringify(outer["detail"])
    : outer["detail"];
  const said = [inner["message"], outer["error"], detail, outer["message"]]
    .find((one) => typeof one === "string" && one !== "");
  return {
    type: text(inner["type"]) || text(named),
    code: text(details["error_code"]) || text(inner["code"]) ||
      [text(inner["status"]), text(reason)].join(" ").trim(),
    param: text(inner["param"]),
    message: cleanWords(text(said)),
    retryMs: retryOfInfos(infos),
  };
}

/** `retryDelay` of a short limit; one for the day is a quota, not a rate. */
function retryOfInfos(
  infos: readonly Readonly<Record<string, unknown>>[],
): number | undefined {
  const isDaily = infos.some((info) =>
    /per_?day/i.test(JSON.stringify([info["violations"], info["metadata"]]))
  );
  const delay = infos.map((info) => text(info["retryDelay"]))
    .find((one) => /^\d+(\.\d+)?s$/.test(one));
  return isDaily || delay === undefined ? undefined : parseFloat(delay) * 1000;
}

function parseOr(body: string): unknown {
  if (!/^\s*[{[]/.test(body)) return undefined;
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** One short line without anything that looks like a key. */
function cleanWords(message: string): string {
  return errorText(message)
    .replaceAll(/\b(sk|pk|rk|gsk|xai|key|token|bearer)[-_ ][\w*.…-]{6,}/gi, "…")
    .slice(0, 300).replace(/[.\s]+$/, "");
}

/** Words in a type or code, most telling first. */
const BY_NAME: readonly (readonly [RegExp, ModelErrorClass])[] = [
  [
    /context_length|context_window|string_above_max|exceed_context/,
    "context_overflow",
  ],
  [
    /insufficient_quota|spend_limit|billing|credit_balance|payment|servicequota/,
    "quota",
  ],
  [/content_filter|content_policy|safety|moderation|refus/, "refused"],
  [
    /api_key|authentication|unauthenticated|permission|account_deactivated|unauthorized|accessdenied|expiredtoken|unrecognizedclient|invalidsignature/,
    "auth",
  ],
  [/overloaded|slow_down|unavailable|capacity|notready/, "overloaded"],
  [/rate_limit|too_many_requests|resource_exhausted|throttling/, "rate"],
  [/model_not_found|not_found|notfound/, "not_found"],
  [/timeout|timed_out|deadline_exceeded/, "timeout"],
  [/request_too_large/, "context_overflow"],
  [/server_error|api_error|internal|modelerror|modelstreamerror/, "server"],
  [/invalid_argument|failed_precondition|validation/, "bad_request"],
];

/** Words in a message that say more than its type does. */
const BY_WORDS: readonly (readonly [RegExp, ModelErrorClass])[] = [
  [
    /prompt is too long|maximum context length|context (length|window|size)|too many tokens|exceeds? the (model'?s )?(maximum|available) (input|context)|input is too long|input length and `?max_tokens|input token count .{1,40}exceeds/i,
    "context_overflow",
  ],
  [
    /credit balance|exceeded your current quota|usage limits?\b|out of credits|insufficient (funds|credits|balance)|billing/i,
    "quota",
  ],
  [/content (filter|policy)|usage policies|safety system|flagged/i, "refused"],
  [
    /model .{1,120}(not found|does not exist)|no such model|try pulling it|model identifier is invalid/i,
    "not_found",
  ],
];

function byStatus(status: number | undefined): ModelErrorClass {
  switch (status) {
    case undefined:
      return "server";
    case 401:
    case 403:
      return "auth";
    case 402:
      return "quota";
    case 404:
    case 410:
      return "not_found";
    case 408:
    case 504:
      return "timeout";
    case 413:
      return "context_overflow";
    case 409:
    case 425:
      return "server";
    case 429:
      return "rate";
    case 503:
    case 529:
      return "overloaded";
  }
  return status >= 500 ? "server" : "bad_request";
}

/** The class of a failure: by its words, its name, its status. */
export function classify(answer: Answer): ModelErrorClass {
  const fault = toFault(answer.body, answer.headers);
  const name = `${fault.code} ${fault.type}`.toLowerCase();
  const isRate = answer.status === 429 && fault.retryMs !== undefined;
  // "Too many tokens" in a minute are not too many at once.
  if (isRate || name.includes("throttling")) return "rate";
  // A quota wears a rate limit's status and a too long prompt a bad request's.
  if (answer.status === undefined || answer.status < 500) {
    for (const [words, errorClass] of BY_WORDS) {
      if (words.test(fault.message)) return errorClass;
    }
  }
  for (const [words, errorClass] of BY_NAME) {
    if (words.test(name)) return errorClass;
  }
  return byStatus(answer.status);
}

/** How long the vendor asks to wait. `now` is for the date form. */
export function retryAfterMs(
  headers: Headers | undefined,
  now: number,
): number | undefined {
  if (headers === undefined) return undefined;
  const exact = Number(headers.get("retry-after-ms") ?? NaN);
  const value = headers.get("retry-after") ?? "";
  const seconds = /^\s*\d+(\.\d+)?\s*$/.test(value) ? Number(value) : NaN;
  const until = Date.parse(value) - now;
  const ms = [exact, seconds * 1000, until].find((n) => Number.isFinite(n));
  if (ms === undefined) return undefined;
  return Math.min(Math.max(ms, 0), RETRY_AFTER_MS_MAX);
}

/** The address as people know it: host and port. */
export function hostOf(url: URL): string {
  return url.host;
}

function keyName(place: Place): string {
  if (place.keySource !== undefined) return `the key from ${place.keySource}`;
  return place.keyEnv === undefined
    ? "the call: it has no key"
    : `the call: it has no key; set ${place.keyEnv}`;
}

/** What happened and what to do, by class. */
function words(
  errorClass: ModelErrorClass,
  place: Place,
): { message: string; hint: string } {
  const { id } = place;
  const at = `${id} (${hostOf(place.baseUrl)})`;
  switch (errorClass) {
    case "auth":
      return place.keySource === undefined
        ? {
          message: `${id} refused ${keyName(place)}`,
          hint: `Give provider "${id}" a key`,
        }
        : {
          message: `${id} refused ${keyName(place)}; check it or set another`,
          hint: `The key must belong to ${hostOf(place.baseUrl)}`,
        };
    case "quota":
      return {
        message:
          `${at} will not answer: the account's quota or credit is used up`,
        hint:
          "Add credit or raise the limit at the vendor, or choose another model",
      };
    case "rate":
      return {
        message: `${at} is limiting the rate of calls`,
        hint: "Wait a moment, or choose another model",
      };
    case "overloaded":
      return {
        message: `${at} is overloaded`,
        hint: "Try again in a moment, or choose another model",
      };
    case "context_overflow":
      return {
        message: `${at} cannot take a conversation this long`,
        hint: "Begin a new one with /new, or lower limits.historyTokensMax",
      };
    case "refused":
      return {
        message: `${at} refused to answer this`,
        hint: "Say it differently",
      };
    case "not_found":
      return {
        message: `${at} does not know the model or the address`,
        hint:
          `Check the model's name; if the API lives under /v1, provider "${id}" needs that in its baseUrl`,
      };
    case "bad_request":
      return {
        message: `${at} did not accept the request`,
        hint: "Choose another model, or report this",
      };
    case "timeout":
      return {
        message: `${at} did not answer in time`,
        hint: `Try again, or raise firstTokenMs of provider "${id}"`,
      };
    case "network":
      return {
        message: `Cannot reach ${id} at ${hostOf(place.baseUrl)}`,
        hint: `Check that ${
          hostOf(place.baseUrl)
        } is up and is the right address`,
      };
    case "server":
      return {
        message: `${at} failed to answer`,
        hint: "Try again in a moment",
      };
  }
}

/** The error for what a vendor answered. */
export function toModelError(
  place: Place,
  answer: Answer,
  now: number,
): ModelError {
  const errorClass = classify(answer);
  const { message, hint } = words(errorClass, place);
  const fault = toFault(answer.body, answer.headers);
  // What a vendor says about a key it refused may quote the key.
  const isQuotable = errorClass !== "auth" ||
    /access to the model/i.test(fault.message);
  const said = isQuotable ? fault.message : "";
  const wait = retryAfterMs(answer.headers, now) ?? fault.retryMs;
  return new ModelError(
    errorClass,
    `${message}${said === "" ? "" : `: ${said}`}`,
    {
      hint,
      ...(answer.status === undefined ? {} : { status: answer.status }),
      ...(wait === undefined ? {} : { retryAfterMs: wait }),
      details: {
        provider: place.id,
        ...(fault.param === "" ? {} : { param: fault.param }),
      },
    },
  );
}

/** A 200 that is not what was asked for, or a stream that makes no sense. */
export function toNonsense(place: Place, what: string): ModelError {
  return new ModelError(
    "server",
    `${place.id} (${hostOf(place.baseUrl)}) sent ${what}`,
    {
      hint:
        `Check that ${place.baseUrl.href} is the API's address and not a web page's`,
      details: { provider: place.id },
    },
  );
}

/** A stream that stopped before the vendor said it was done. */
export function toTruncated(place: Place): ModelError {
  return new ModelError(
    "network",
    `${place.id} (${
      hostOf(place.baseUrl)
    }) stopped in the middle of its answer`,
    { hint: "Try again", details: { provider: place.id } },
  );
}

const NETWORK_CAUSES: readonly (readonly [RegExp, string])[] = [
  [/refused|ECONNREFUSED/i, "nothing listens there"],
  [/dns|lookup|ENOTFOUND|resolve/i, "the name has no address"],
  [/certificate|tls|ssl|UnknownIssuer/i, "its certificate is not trusted"],
  [
    /NotCapable|Requires net access|not allowed/i,
    "this program may not connect there",
  ],
  [/timed? ?out|ETIMEDOUT/i, "it did not answer"],
  [/reset|closed|broken pipe|ECONNRESET|eof/i, "the connection broke"],
];

/**
 * The error for a call that got no answer. What the door out refused stays as
 * it is: that is policy, not weather.
 */
export function toNetworkError(place: Place, error: unknown): AppError {
  if (error instanceof ModelError) return error;
  if (error instanceof AppError && error.code === "timeout") {
    const { message, hint } = words("timeout", place);
    const details = { provider: place.id };
    return new ModelError("timeout", message, { hint, cause: error, details });
  }
  if (error instanceof AppError && error.code !== "upstream") return error;
  const cause = error instanceof Error && error.cause !== undefined
    ? `${errorText(error)} ${errorText(error.cause)}`
    : errorText(error);
  const why = NETWORK_CAUSES.find(([words]) => words.test(cause))?.[1];
  const { message, hint } = words("network", place);
  return new ModelError(
    "network",
    why === undefined ? message : `${message}: ${why}`,
    { hint, cause: error, details: { provider: place.id } },
  );
}
