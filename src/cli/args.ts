/**
 * A verb's arguments: options by `node:util`, mistakes as usage errors.
 *
 * @module
 */
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { AppError, errorText } from "../core/errors.ts";
import { EXIT } from "./verb.ts";

/** An error of the caller's: exit code 2 and the verb's usage. */
export function usageError(message: string, hint?: string): AppError {
  return new AppError("bad_input", message, {
    ...(hint === undefined ? {} : { hint }),
    details: { exit: EXIT.usage },
  });
}

type Known<T extends ParseArgsOptionsConfig> = {
  args: string[];
  options: T & { json: { type: "boolean" } };
  allowPositionals: true;
  strict: true;
};

/** Parsed options (`values`) and what is left (`positionals`). */
export type Args<T extends ParseArgsOptionsConfig> = ReturnType<
  typeof parseArgs<Known<T>>
>;

/**
 * Reads options and positional arguments; `--json` is always known.
 *
 * @throws {AppError} a usage error that names the mistake
 */
export function readArgs<const T extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: T,
): Args<T> {
  try {
    return parseArgs<Known<T>>({
      args: [...args],
      options: { ...options, json: { type: "boolean" } },
      allowPositionals: true,
      strict: true,
    });
  } catch (error) {
    // Node's own words: `Unknown option '--x'`, and advice after the first dot.
    const [first = ""] = errorText(error).split(". ");
    throw usageError(first.replaceAll("'", '"'));
  }
}

/** Refuses more positional arguments than a verb takes. */
export function positionalsMax(
  positionals: readonly string[],
  countMax: number,
): void {
  const extra = positionals[countMax];
  if (extra !== undefined) {
    throw usageError(`Cannot take the argument "${extra}": it is one too many`);
  }
}

const DURATION = /^(\d{1,6})\s*(ms|s|m|min|h|d|w)$/;
const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `30d`, `12h`, `90s` as milliseconds. @throws a usage error */
export function parseDuration(text: string): number {
  const match = DURATION.exec(text.trim());
  const ms = Number(match?.[1] ?? 0) * (DURATION_MS[match?.[2] ?? ""] ?? 0);
  if (ms <= 0) {
    throw usageError(
      `Cannot read the duration "${text}"`,
      "Write a number and a unit: 90s, 30m, 12h, 30d, 4w",
    );
  }
  return ms;
}
