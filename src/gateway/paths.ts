/**
 * Turns a request's target into the one path everything else works on.
 *
 * Never: two readers see different paths. Whatever could be read in two ways is
 * refused here instead of being repaired.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import { GATEWAY_LIMITS } from "./limits.ts";

function refuse(why: string): AppError {
  return new AppError("bad_input", `Cannot read the request's path: ${why}`, {
    hint: "Send a plain absolute path",
  });
}

/**
 * The target of a request as its raw URL holds it: decoded once, without query.
 *
 * @param url The URL as the runtime gives it: not normalised
 * @param host The Host header; a target that names another host is refused
 * @throws {AppError} `bad_input` for every ambiguous form
 */
export function parsePath(url: string, host: string): string {
  const scheme = url.startsWith("https:") ? "https" : "http";
  const start = `${scheme}://${host}`.length;
  if (
    !url.startsWith(`${scheme}://${host}`) || url.charCodeAt(start) !== 0x2f
  ) {
    throw refuse("it names another host than the Host header, or none");
  }
  const query = url.indexOf("?", start);
  const raw = query === -1 ? url.slice(start) : url.slice(start, query);
  // Nearly every path: no escape, no dot, nothing to decide.
  if (raw.length <= 256 && /^(\/[A-Za-z0-9_-]+)+$/.test(raw)) return raw;
  return parseRarePath(raw);
}

function parseRarePath(raw: string): string {
  if (raw.length > GATEWAY_LIMITS.pathCharsMax) throw refuse("it is too long");
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x20\x7f\\#]/.test(raw)) {
    throw refuse("it holds a backslash, a fragment or a control character");
  }
  // %25 hides a second encoding; the others hide a border or a dot segment.
  if (/%(2f|5c|2e|25|23|3f|[01][0-9a-f]|20|7f|3b)/i.test(raw)) {
    throw refuse(
      "it holds an encoded slash, dot, percent or control character",
    );
  }
  if (raw.includes("//")) throw refuse("it holds an empty segment");
  let path: string;
  try {
    path = decodeURIComponent(raw);
  } catch (error) {
    throw new AppError(
      "bad_input",
      "Cannot read the request's path: it is not percent-encoded UTF-8",
      { cause: error },
    );
  }
  if (path.split("/").some((segment) => segment === "." || segment === "..")) {
    throw refuse("it holds a dot segment");
  }
  return path;
}

/** The query of a raw URL; empty when there is none. */
export function parseQuery(url: string): URLSearchParams {
  const at = url.indexOf("?");
  return new URLSearchParams(at === -1 ? "" : url.slice(at + 1));
}
