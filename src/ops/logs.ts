/**
 * Where log lines go: one line each on standard error, JSON or readable, always
 * redacted, never longer than a limit.
 *
 * Never: a line with a key, a password or a token in it.
 *
 * @module
 */
import {
  configureSync,
  getJsonLinesFormatter,
  getLogger,
  type LogRecord,
  type TextFormatter,
} from "@logtape/logtape";
import { redactByField, redactByPattern } from "@logtape/redaction";
import type { Log, LogLevel } from "../core/log.ts";
import type { LogConfig } from "./config.ts";
import type { LogRing } from "./log_ring.ts";

/** Longest line that is written. */
export const LINE_BYTES_MAX = 8_192;

const FIELDS = [
  /^pass(code|phrase|word)$/i,
  /secret/i,
  /^(access|refresh|bearer|bot)?_?token$/i,
  /api_?key/i,
  /authorization/i,
  /signature/i,
  /cookie/i,
];

/** Texts that look like credentials, wherever they stand. */
export const CREDENTIAL_PATTERNS: readonly RegExp[] = [
  /car[adi]_[A-Za-z0-9_-]{20,}/g,
  /\bsk-[A-Za-z0-9_-]{16,}/g,
  /\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}/g,
  /\bxox[abprs]-[A-Za-z0-9-]{10,}/g,
  /\bAIza[A-Za-z0-9_-]{30,}/g,
  /\bAKIA[A-Z0-9]{16}\b/g,
  /\bBearer\s+[A-Za-z0-9._~+/-]{8,}=*/gi,
  /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}/g,
];

const LEVELS = {
  debug: "debug",
  info: "info",
  warn: "warning",
  error: "error",
} as const satisfies Record<LogLevel, string>;

const COLOURS: Readonly<Record<string, string>> = {
  debug: "\x1b[2m",
  warning: "\x1b[33m",
  error: "\x1b[31m",
};

function show(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return /[\s="]/.test(text) ? JSON.stringify(text) : text;
}

function readable(isColored: boolean): TextFormatter {
  return (record) => {
    const time = new Date(record.timestamp).toISOString().slice(11, 19);
    const fields = Object.entries(record.properties)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}=${show(value)}`).join(" ");
    const level = record.level.padEnd(7);
    const colour = isColored ? COLOURS[record.level] ?? "" : "";
    const line = `${time} ${level} ${record.message.join("")} ${fields}`;
    return `${colour}${line.trimEnd()}${colour === "" ? "" : "\x1b[0m"}\n`;
  };
}

// Also what reorders the text beside it.
const CONTROL =
  // deno-lint-ignore no-control-regex
  /[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A formatter whose lines are redacted, printable and short enough. */
function lineMaker(formatter: TextFormatter): TextFormatter {
  const patterns = CREDENTIAL_PATTERNS.map((pattern) => ({
    pattern,
    replacement: "[redacted]",
  }));
  const redacted = redactByPattern(formatter, patterns);
  return (record) => {
    const line = redacted(record).replaceAll(CONTROL, "\uFFFD");
    return line.length > LINE_BYTES_MAX
      ? `${line.slice(0, LINE_BYTES_MAX - 8)} [cut]\n`
      : line;
  };
}

/** Opens the log. `write` gets whole lines. */
export function openLog(
  config: LogConfig,
  options: {
    isTerminal: boolean;
    write(line: string): void;
    /** Keeps the same lines, always as JSON. */
    ring?: Pick<LogRing, "add">;
  },
): Log {
  const isPretty = config.format === "pretty" ||
    config.format === "auto" && options.isTerminal;
  const plain = isPretty
    ? readable(options.isTerminal)
    : getJsonLinesFormatter();
  const { ring, write } = options;
  const toLine = lineMaker(plain);
  const toJson = isPretty ? lineMaker(getJsonLinesFormatter()) : toLine;
  const sink = (record: LogRecord) => {
    const line = toLine(record);
    write(line);
    ring?.add(
      record.level === "warning" || record.level === "fatal" ||
        record.level === "trace"
        ? "warn"
        : record.level,
      toJson === toLine ? line : toJson(record),
    );
  };
  configureSync({
    reset: true,
    sinks: {
      out: redactByField(sink, {
        fieldPatterns: FIELDS,
        action: () => "[redacted]",
      }),
    },
    loggers: [
      {
        category: ["carapace"],
        lowestLevel: LEVELS[config.level],
        sinks: ["out"],
      },
      {
        category: ["logtape", "meta"],
        lowestLevel: "warning",
        sinks: ["out"],
      },
    ],
  });
  const logger = getLogger(["carapace"]);
  return (level, event, fields = {}) => {
    if (level === "debug") logger.debug(event, { ...fields });
    else if (level === "info") logger.info(event, { ...fields });
    else if (level === "warn") logger.warn(event, { ...fields });
    else logger.error(event, { ...fields });
  };
}
