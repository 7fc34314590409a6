/**
 * Text from a model, a tool or the wire, made harmless for a terminal: what
 * would steer the terminal is shown instead of obeyed.
 *
 * Never: a control character other than newline and tab comes out.
 *
 * @module
 */
import { HIDDEN } from "../core/hidden.ts";

const NEWLINE = 0x0a;
const TAB = 0x09;
const RETURN = 0x0d;

/** Characters that reorder or hide what stands beside them. */
function isBidi(code: number): boolean {
  return code === 0x061c || code === 0x200e || code === 0x200f ||
    (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

/** Without any mark of its own; not what says how an emoji looks. */
function isInvisible(char: string, code: number): boolean {
  const isSelector = code >= 0xfe00 && code <= 0xfe0f;
  return code > 0x7f && !isSelector && char.search(HIDDEN) !== -1;
}

function named(code: number): string {
  return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
}

/** A control character as something that can be seen. */
function shown(code: number): string {
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "\u2421" : named(code);
}

function isControl(code: number): boolean {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f);
}

/**
 * Lines of text, safe to write to a terminal. Newlines and tabs stay, a
 * carriage return before a newline goes; every other control character and
 * every character that reorders text becomes visible.
 *
 * @example
 * ```ts
 * import { printable } from "./printable.ts";
 * printable("\x1b[2Jhi"); // "␛[2Jhi"
 * ```
 */
export function printable(text: string): string {
  let out = "";
  let from = 0;
  for (let n = 0; n < text.length; n++) {
    const code = text.charCodeAt(n);
    if (code === NEWLINE || code === TAB) continue;
    if (!isControl(code) && !isBidi(code)) continue;
    out += text.slice(from, n);
    from = n + 1;
    if (code === RETURN && text.charCodeAt(n + 1) === NEWLINE) continue;
    out += shown(code);
  }
  return from === 0 ? text : out + text.slice(from);
}

/**
 * One line that hides nothing: newlines and tabs become marks, invisible
 * characters are named. With `charsMax` the rest is cut and counted, so that
 * nobody takes a part for the whole.
 */
export function printableLine(
  text: string,
  options: { charsMax?: number } = {},
): string {
  const { charsMax = Infinity } = options;
  let out = "";
  let count = 0;
  for (const char of text) {
    if (count === charsMax) {
      return `${out}… (+${text.length - out.length})`;
    }
    count++;
    const code = char.codePointAt(0) ?? 0;
    if (code === NEWLINE) out += "⏎";
    else if (code === TAB) out += "⇥";
    else if (isControl(code)) out += shown(code);
    else if (isBidi(code) || isInvisible(char, code)) out += named(code);
    else out += char;
  }
  return out;
}

/**
 * A value as one line of JSON for programs; what would steer a terminal that
 * shows the line is escaped, the value stays the same.
 */
export function jsonLine(value: unknown): string {
  const text = JSON.stringify(value) ?? "null";
  let out = "";
  let from = 0;
  for (let n = 0; n < text.length; n++) {
    const code = text.charCodeAt(n);
    if (!isControl(code) && !isBidi(code)) continue;
    out += text.slice(from, n) + `\\u${code.toString(16).padStart(4, "0")}`;
    from = n + 1;
  }
  return `${out}${text.slice(from)}\n`;
}
