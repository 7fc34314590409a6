/**
 * Whether an address would carry private text out: the rule for GET requests
 * that nobody named. A model that wants to leak writes the text into a URL,
 * plainly, in pieces, encoded, or as a host's name; each of these is looked for.
 *
 * What cannot be recognised must be small: opaque pieces and long texts that
 * stand in nothing the model has read are not let through.
 *
 * @module
 */
import type { Part } from "../core/message.ts";
import { fold } from "./screen/normalise.ts";

export const FETCH_LIMITS = {
  /** Folded characters in a row that count as carrying a private text. */
  windowChars: 12,
  /** An opaque piece this long must stand in a part that was read. */
  opaqueChars: 24,
  /** Characters of path and query that stand in nothing that was read. */
  newCharsMax: 160,
  /** Percent-decoding is undone so often. */
  decodesMax: 3,
  /** Characters of an address; a longer one does not pass unasked. */
  urlCharsMax: 4_096,
} as const;

/** A text's windows as bits: no false "no", and few false "yes". */
export class WindowIndex {
  readonly #bits: Uint32Array;
  readonly #mask: number;
  readonly folded: string;
  /** Short telling tokens: numbers, codes, passwords. */
  readonly tokens: ReadonlySet<string>;

  constructor(text: string) {
    this.folded = fold(text);
    this.tokens = tellingTokens(text);
    const count = Math.max(64, this.folded.length * 8);
    const size = 2 ** Math.ceil(Math.log2(count));
    this.#bits = new Uint32Array(size / 32);
    this.#mask = size - 1;
    for (const hash of hashes(this.folded)) {
      const at = hash & this.#mask;
      const word = at >>> 5;
      this.#bits[word] = (this.#bits[word] ?? 0) | (1 << (at & 31));
    }
  }

  /** Whether a window of a text, whose hashes these are, stands in this one. */
  holds(folded: string, windows: Int32Array): boolean {
    const bits = this.#bits;
    const mask = this.#mask;
    for (let n = 0; n < windows.length; n++) {
      const at = (windows[n] ?? 0) & mask;
      if (((bits[at >>> 5] ?? 0) & (1 << (at & 31))) === 0) continue;
      const window = folded.slice(n, n + FETCH_LIMITS.windowChars);
      if (this.folded.includes(window)) return true;
    }
    return false;
  }
}

const BASE = 31;
const TOP = (() => {
  let power = 1;
  for (let n = 1; n < FETCH_LIMITS.windowChars; n++) {
    power = Math.imul(power, BASE);
  }
  return power;
})();

/** A rolling hash of every window. */
function hashes(folded: string): Int32Array {
  const width = FETCH_LIMITS.windowChars;
  if (folded.length < width) return new Int32Array(0);
  const found = new Int32Array(folded.length - width + 1);
  let hash = 0;
  for (let n = 0; n < folded.length; n++) {
    if (n >= width) {
      hash = (hash - Math.imul(folded.charCodeAt(n - width), TOP)) | 0;
    }
    hash = (Math.imul(hash, BASE) + folded.charCodeAt(n)) | 0;
    if (n >= width - 1) {
      const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
      found[n - width + 1] = mixed ^ (mixed >>> 12);
    }
  }
  return found;
}

/** Words that say something by themselves: with a digit, and not just a year. */
function tellingTokens(text: string): Set<string> {
  const tokens = new Set<string>();
  for (const [token] of text.matchAll(/[\p{L}\p{N}]{4,64}/gu)) {
    if (!/\d/.test(token) || /^(?:19|20)\d\d$/.test(token)) continue;
    tokens.add(token.toLowerCase());
    if (tokens.size > 5_000) break;
  }
  return tokens;
}

const indexes = new WeakMap<Part, WindowIndex>();

/** The index of a part's text; made once, because a part does not change. */
export function indexOfPart(part: Part, text: string): WindowIndex {
  let index = indexes.get(part);
  if (index === undefined || index.folded.length > 0 && text === "") {
    indexes.set(part, index = new WindowIndex(text));
  }
  return index;
}

function percentDecoded(text: string): string {
  if (!text.includes("%")) return text;
  let decoded = text;
  for (let n = 0; n < FETCH_LIMITS.decodesMax; n++) {
    let next: string;
    try {
      next = decodeURIComponent(decoded);
    } catch {
      next = decoded.replaceAll(
        /%([0-7][0-9a-f])/gi,
        (_, hex) => String.fromCharCode(parseInt(hex, 16)),
      );
    }
    if (next === decoded) break;
    decoded = next;
  }
  return decoded;
}

function base64Texts(run: string): string[] {
  const plain = run.replaceAll("-", "+").replaceAll("_", "/")
    .replaceAll("=", "");
  const texts: string[] = [];
  for (let skip = 0; skip < 4 && plain.length - skip >= 12; skip++) {
    const cut = plain.slice(skip, plain.length - ((plain.length - skip) % 4));
    try {
      texts.push(atob(cut));
    } catch {
      // It is no base64 at this offset.
    }
  }
  return texts;
}

function hexTexts(run: string): string[] {
  const hex = run.replaceAll(/[^0-9a-f]/gi, "");
  const texts: string[] = [];
  for (let skip = 0; skip < 2; skip++) {
    let text = "";
    for (let n = skip; n + 1 < hex.length; n += 2) {
      text += String.fromCharCode(parseInt(hex.slice(n, n + 2), 16));
    }
    texts.push(text);
  }
  return texts;
}

/** Latin letters of a folded text, thirteen on. */
function rotated(folded: string): string {
  let text = "";
  for (let n = 0; n < folded.length; n++) {
    const code = folded.charCodeAt(n);
    text += code >= 97 && code <= 122
      ? String.fromCharCode((code - 84) % 26 + 97)
      : folded.charAt(n);
  }
  return text;
}

function reversed(folded: string): string {
  let text = "";
  for (let n = folded.length - 1; n >= 0; n--) text += folded.charAt(n);
  return text;
}

/** What a text may say, undone from the usual encodings; folded. */
function* readings(text: string): Generator<string, void, undefined> {
  const plain = percentDecoded(text);
  const folded = fold(plain);
  yield folded;
  yield reversed(folded);
  yield rotated(folded);
  if (plain.length < 16) return;
  for (const [run] of plain.matchAll(/[A-Za-z0-9+/_=-]{16,}/g)) {
    for (const decoded of base64Texts(run)) yield fold(decoded);
  }
  for (const [run] of plain.matchAll(/(?:[0-9a-f]{2}[^0-9a-z]?){8,}/gi)) {
    for (const decoded of hexTexts(run)) yield fold(decoded);
  }
}

/** What a URL is held against. */
export interface Known {
  /** Indexes of every private part. */
  secret: readonly WindowIndex[];
  /** Whether a text stands in a part anybody may know. */
  isPublicText(text: string): boolean;
  /** Whether the owner wrote this word in what they asked. */
  isOwnersWord(word: string): boolean;
}

function holdsWindow(folded: string, secret: readonly WindowIndex[]): boolean {
  const windows = hashes(folded);
  return windows.length > 0 &&
    secret.some((index) => index.holds(folded, windows));
}

/** An opaque piece: long, and no words. */
function isOpaque(run: string): boolean {
  if (run.length < FETCH_LIMITS.opaqueChars) return false;
  const digits = run.replaceAll(/\D/g, "").length;
  const isWords = run.split(/[-_+]/).every((word) =>
    /^(?:[A-Z]?[a-z]{1,14}|\d{1,4})$/.test(word)
  );
  return !isWords && (digits >= 3 || /[a-z][A-Z]|[A-Z]{2}[a-z]/.test(run) ||
    run.length > 40);
}

/**
 * Why a URL may carry something private out, or `undefined` when it is plain.
 */
export function whyNotPlain(
  url: Readonly<URL>,
  known: Known,
): string | undefined {
  if (url.username !== "" || url.password !== "") {
    return "it carries a user name or password";
  }
  if (url.href.length > FETCH_LIMITS.urlCharsMax) return "it is too long";
  const text = `${url.hostname} ${url.pathname} ${url.search}`;
  if (known.secret.length === 0) return undefined;
  const decoded = percentDecoded(text);
  // The owner's own plain words are what they asked to be looked for.
  const others = decoded.replaceAll(
    /\p{L}+/gu,
    (word) => known.isOwnersWord(word) ? " " : word,
  ).replaceAll("\n", " ");
  for (const reading of readings(others)) {
    if (holdsWindow(reading, known.secret)) {
      return "it carries text of a private part";
    }
  }
  for (const [run] of decoded.matchAll(/[\p{L}\p{N}]{4,64}/gu)) {
    if (!/\d/.test(run)) continue;
    const token = run.toLowerCase();
    if (
      known.secret.some((index) => index.tokens.has(token)) &&
      !known.isPublicText(run)
    ) return "it carries a number or code of a private part";
  }
  const runs = text.match(/[A-Za-z0-9+_=%~-]{2,}/g) ?? [];
  const isShort = runs.reduce((sum, run) => sum + run.length, 0) <=
    FETCH_LIMITS.newCharsMax;
  let fresh = 0;
  for (const run of runs) {
    const opaque = isOpaque(run);
    // What is short and no blob need not be looked for in what was read.
    if (isShort && !opaque) continue;
    if (known.isOwnersWord(run) || known.isPublicText(run)) continue;
    if (opaque) return "it carries an opaque text that nobody wrote";
    fresh += run.length;
  }
  return fresh > FETCH_LIMITS.newCharsMax
    ? "it carries much text that nobody wrote"
    : undefined;
}
