/**
 * One error class with a closed list of codes. The code is for programs, the
 * message for operators, the hint says what to do next.
 *
 * Never: an `AppError` carries a secret; a message ends with a full stop.
 *
 * @module
 */

/** Why something failed, in a word that every border translates. */
export type ErrorCode =
  | "bad_input"
  | "unauthorized"
  | "not_paired"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "too_large"
  | "rate_limited"
  | "unavailable"
  | "upstream"
  | "timeout"
  | "cancelled"
  | "budget"
  | "locked"
  | "internal";

/** What may be said beside the message. */
export interface AppErrorOptions extends ErrorOptions {
  /** What the reader can do about it. */
  hint?: string;
  /** Wait this long before trying again. */
  retryAfterMs?: number;
  /** Values for programs: field names, positions, scopes. Never secrets. */
  details?: Readonly<Record<string, unknown>>;
}

/** The one error this program throws on purpose. */
export class AppError extends Error {
  override readonly name: string = "AppError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(
      message,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.hint = options.hint;
    this.retryAfterMs = options.retryAfterMs;
    this.details = options.details;
  }
}

/** The text of anything thrown, on one line, for a log or a cause. */
export function errorText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s+/g, " ").slice(0, 500);
}

/** Whether this is an abort (a cancelled wait), not a failure. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError" ||
    error instanceof AppError && error.code === "cancelled";
}

const ignored = new Map<string, number>();

/**
 * Swallows an error out loud: the reason is counted, programming errors pass.
 *
 * @example
 * ```ts
 * import { ignore } from "./errors.ts";
 * await Promise.reject(new DOMException("gone", "AbortError"))
 *   .catch(ignore("client left first"));
 * ```
 */
export function ignore(why: string): (error: unknown) => void {
  return (error) => {
    if (error instanceof ReferenceError || error instanceof SyntaxError) {
      throw error;
    }
    ignored.set(why, (ignored.get(why) ?? 0) + 1);
  };
}

/** How often each reason of {@linkcode ignore} was used since the start: reasons are texts of the program. */
export function ignoredCounts(): ReadonlyMap<string, number> {
  return ignored;
}
