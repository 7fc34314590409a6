/**
 * Where requests to vendors are made: the key goes on here and nowhere else,
 * and whatever is not the answer asked for becomes a {@linkcode ModelError}.
 *
 * @module
 */
import { readBytes } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import { ModelError } from "../core/model.ts";
import type { Secret } from "../core/secret.ts";
import { spellings } from "../core/spellings.ts";
import {
  type Place,
  toModelError,
  toNetworkError,
  toNonsense,
  toTruncated,
} from "./errors.ts";
import { record } from "./wire.ts";
import type { ProviderDeps, VendorRow } from "./vendor.ts";

const ERROR_BYTES_MAX = 64 * 1024;
const LIST_BYTES_MAX = 4 * 1024 * 1024;

/** What is sent where no key is wanted but the protocol has a place for one. */
export const NO_KEY = "none";

/** The place of a provider, for its errors. */
export function placeOf(deps: ProviderDeps, row: VendorRow): Place {
  return {
    id: deps.id,
    baseUrl: deps.baseUrl,
    keySource: deps.apiKey?.source,
    keyEnv: row.keyEnv,
    home: row,
  };
}

/** A vendor's answer to a list or a count: small, JSON. */
export async function getJson(
  deps: ProviderDeps,
  place: Place,
  request: { url: URL; headers: HeadersInit; signal: AbortSignal },
): Promise<unknown> {
  const { url, headers, signal } = request;
  const response = await call(deps, place, url, { headers, signal });
  try {
    const bytes = await readBytes(response.body, LIST_BYTES_MAX);
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof SyntaxError) {
      throw toNonsense(place, "something that is not JSON");
    }
    throw toNetworkError(place, error);
  }
}

/** One request through the door; anything but success is thrown. */
export async function call(
  deps: ProviderDeps,
  place: Place,
  ...[input, init]: Parameters<typeof fetch>
): Promise<Response> {
  let response: Response;
  try {
    response = await deps.fetch(input, init);
  } catch (error) {
    if (init?.signal?.aborted) throw init.signal.reason;
    throw toNetworkError(place, error);
  }
  if (response.ok) return response;
  throw toModelError(place, {
    status: response.status,
    headers: response.headers,
    body: await readFault(response, deps.apiKey),
  }, Date.parse(response.headers.get("date") ?? ""));
}

/**
 * A `fetch` for an SDK that asks for a stream: an error status, a page or a
 * plain JSON body is thrown as a {@linkcode ModelError} before the SDK sees it.
 */
export function streamFetch(deps: ProviderDeps, place: Place): typeof fetch {
  return async (input, init) => {
    const response = await call(deps, place, input, init);
    const type = response.headers.get("content-type") ?? "";
    if (response.body !== null && !/json|html|xml/i.test(type)) return response;
    if (/ndjson/i.test(type)) return response;
    const body = await readFault(response, deps.apiKey);
    if (hasError(body)) {
      throw toModelError(place, { body, headers: response.headers }, NaN);
    }
    throw toNonsense(
      place,
      /html/i.test(type)
        ? "a web page instead of an answer"
        : `"${type.slice(0, 60)}" instead of a stream`,
    );
  };
}

function hasError(body: string): boolean {
  try {
    const outer = record(JSON.parse(body));
    return outer["error"] !== undefined && outer["error"] !== null ||
      outer["object"] === "error";
  } catch {
    return false;
  }
}

/** The beginning of an error's body, without the key should it be quoted. */
async function readFault(
  response: Response,
  apiKey: Secret | undefined,
): Promise<string> {
  let body: string;
  try {
    const bytes = await readBytes(response.body, ERROR_BYTES_MAX);
    body = new TextDecoder().decode(bytes);
  } catch {
    // The status says enough: a body that is too long or cut adds nothing.
    return "";
  }
  // The longest first: one spelling may begin as another does.
  const forms = [...spellings(apiKey?.reveal() ?? "")]
    .sort((a, b) => b.length - a.length);
  return forms.reduce((text, form) => text.replaceAll(form, "…"), body);
}

/** The body of a stream, its breaks and aborts translated. */
export async function* bytesOf(
  response: Response,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (response.body === null) throw toTruncated(place);
  try {
    yield* response.body;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const broken = toTruncated(place);
    broken.cause = error;
    throw broken;
  }
}

/** What an SDK threw, as what it was: an abort, our own error, or a surprise. */
export function fromSdk(
  place: Place,
  error: unknown,
  signal: AbortSignal,
): unknown {
  if (signal.aborted) return signal.reason;
  let at = error;
  for (let depth = 0; at instanceof Error && depth < 5; depth++) {
    if (at instanceof AppError) return at;
    at = at.cause;
  }
  return toNetworkError(place, error);
}

/** Parses one frame's JSON. */
export function parseFrame(
  place: Place,
  data: string,
): Readonly<Record<string, unknown>> {
  try {
    return record(JSON.parse(data));
  } catch {
    throw toNonsense(place, "a frame that is not JSON");
  }
}

/** Refuses to call a vendor that will only say "no key". */
export function assertKey(
  deps: ProviderDeps,
  row: Pick<VendorRow, "needsKey" | "baseUrl" | "keyEnv">,
): void {
  if (
    deps.apiKey === undefined && row.needsKey &&
    deps.baseUrl.href === new URL(row.baseUrl ?? "").href
  ) {
    throw new ModelError("auth", `Cannot use "${deps.id}": it has no key`, {
      hint: row.keyEnv === undefined
        ? `Set providers.${deps.id}.apiKey`
        : `Set ${row.keyEnv}, or providers.${deps.id}.apiKey`,
      details: { provider: deps.id },
    });
  }
}

/** An address under a base URL, whether or not that ends with a slash. */
export function under(baseUrl: URL, path: string): URL {
  const url = new URL(baseUrl);
  url.pathname = url.pathname.replace(/\/+$/, "") + path;
  return url;
}
