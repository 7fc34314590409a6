/**
 * Logging as a function that is handed in. A room says what happened in a
 * stable event name and fields; the roof decides where it goes.
 *
 * Never: a message's content or a secret in a field.
 *
 * @module
 */

/** How loud a line is. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** One line: a dotted event name and flat fields. */
export type Log = (
  level: LogLevel,
  event: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** For callers that have nothing to say. */
export const silentLog: Log = (): void => {};
