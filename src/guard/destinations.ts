/**
 * Where a call would send something, and whether the owner named that place.
 * Places are compared by parsed equality of whole tokens, never by substring,
 * and never through a folding that could make two real addresses one.
 *
 * @module
 */
import type { Destination } from "../core/tool.ts";

/** A place a call's arguments name. */
export interface Place {
  kind: Destination["kind"];
  /** The argument's path. */
  path: string;
  /** Normalised; equal places are equal texts. */
  value: string;
}

const LIMITS = {
  /** Characters of a word that is looked at as an address; longer ones count as one. */
  tokenCharsMax: 2_048,
  /** Tokens of one message that can bless a place. */
  tokensMax: 20_000,
  /** Words of a name that is more than one (`Riverside View Hotel`). */
  nameWordsMax: 8,
  /** Values of one call that are looked at as places; with more it is refused. */
  valuesMax: 1_000,
} as const;

/** What cannot be looked at whole cannot be decided: never only its beginning. */
function bounded<T>(values: T[]): T[] {
  if (values.length <= LIMITS.valuesMax) return values;
  throw new RangeError("it names more than can be looked at");
}

/**
 * The value at a dotted path; `*` walks every element of an array.
 *
 * @throws {RangeError} for more values than are looked at
 */
export function valuesAt(args: unknown, path: string): unknown[] {
  let values: unknown[] = [args];
  for (const key of path.split(".")) {
    values = bounded(values.flatMap((value) => {
      if (key === "*") return Array.isArray(value) ? value : [];
      if (typeof value !== "object" || value === null) return [];
      return Object.hasOwn(value, key)
        ? [(value as Record<string, unknown>)[key]]
        : [];
    }));
  }
  return values;
}

const UNRESERVED =
  /%(2[dDeE]|3\d|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])/g;

/**
 * A URL as it is compared: parsed, unreserved characters spelled plainly,
 * without its fragment. One that carries a user name or password has no normal
 * form: it equals nothing.
 */
export function normalUrl(text: string): string | undefined {
  const url = URL.parse(text);
  if (url === null || url.username !== "" || url.password !== "") {
    return undefined;
  }
  // Each assignment is another parse, so only what is not so already is set.
  if (url.href.includes("#")) url.hash = "";
  if (url.hostname.endsWith(".")) {
    url.hostname = url.hostname.replace(/\.$/, "");
  }
  if (url.href.includes("%")) {
    const plain = (part: string) =>
      part.replaceAll(
        UNRESERVED,
        (_, hex) => String.fromCharCode(parseInt(hex, 16)),
      );
    url.pathname = plain(url.pathname);
    url.search = plain(url.search);
  }
  remember(url.href, url);
  return url.href;
}

const PARSED_MAX = 256;
const parsed = new Map<string, URL>();

function remember(text: string, url: URL): void {
  if (parsed.size >= PARSED_MAX) parsed.clear();
  parsed.set(text, url);
}

/** An address parsed, once for all who ask. Nobody may change it. */
export function parsedUrl(text: string): Readonly<URL> | null {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const url = URL.parse(text);
  if (url !== null) remember(text, url);
  return url;
}

const MAIL = /^(?:mailto:)?([^\s@<>"]{1,64})@([^\s@<>"]{1,253})$/i;
const PHONE = /^(?:tel:)?\+?[\d().\-/ ]{6,24}$/i;

/**
 * An address as it is compared. A mail domain and a phone number's punctuation
 * have one meaning however they are written; anything else is itself exactly.
 */
export function normalAddress(text: string): string {
  const trimmed = text.trim();
  const mail = MAIL.exec(trimmed);
  if (mail !== null) return `${mail[1]}@${mail[2]?.toLowerCase()}`;
  if (PHONE.test(trimmed)) {
    const digits = trimmed.replaceAll(/\D/g, "");
    if (digits.length >= 6) {
      return (/^(?:tel:)?\+/i.test(trimmed) ? "+" : "") + digits;
    }
  }
  return trimmed;
}

/** A path as it is compared: `.` and `//` gone, `..` resolved where it can be. */
export function normalPath(text: string): string {
  const path = text.trim().replaceAll("\\", "/");
  const isAbsolute = path.startsWith("/");
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else if (!isAbsolute) parts.push(part);
  }
  return (isAbsolute ? "/" : "") + parts.join("/");
}

/** The normal form of a place of this kind. */
export function normalPlace(kind: Destination["kind"], value: unknown): string {
  const text = typeof value === "string"
    ? value.trim()
    : JSON.stringify(value) ?? "";
  if (kind === "url") return normalUrl(text) ?? text;
  return kind === "path" ? normalPath(text) : normalAddress(text);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}

/**
 * Every place the arguments name; an array at a path names each element.
 *
 * @throws {RangeError} for more than are looked at
 */
export function placesOf(
  args: unknown,
  destinations: readonly Destination[],
): Place[] {
  return destinations.flatMap(({ path, kind, at }) =>
    valuesAt(args, path).flatMap((value) =>
      Array.isArray(value) ? bounded(value) : [value]
    )
      .filter((value) => value !== undefined && value !== null && value !== "")
      .map((value) => {
        const asked = at === undefined
          ? value
          : `${at}?q=${encodeURIComponent(textOf(value).toWellFormed())}`;
        return { kind, path, value: normalPlace(kind, asked) };
      })
  );
}

const OPENING = /^[<("'“‘«\[{`*_]+/;
const CLOSING = /[>)"'”’»\]}`*_.,;:!?]+$/;
const BARE_HOST =
  /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,24}(?:[/?]\S*)?$/i;

/**
 * A number by itself: no sign, no exponent, and nothing that may be grouping,
 * which people write in ways that mean different numbers (1.000 or 1,000).
 */
const NUMBER = /^\p{Sc}?(\d{1,15}(?:\.\d{1,2})?)\p{Sc}?$/u;

/**
 * The places a text that blesses them names: its whole tokens, as URLs,
 * addresses and paths, and runs of words for names that are more than one.
 */
export class NamedPlaces {
  readonly #tokens = new Set<string>();
  readonly #numbers = new Set<number>();
  /** Words between spaces; punctuation after a word ends the run. */
  #words = "\n";
  #left: number = LIMITS.tokensMax;

  /** Adds every token of a message. */
  add(text: string): void {
    for (const raw of text.split(/\s+/)) {
      if (raw === "" || raw.length > LIMITS.tokenCharsMax) continue;
      if (this.#left-- <= 0) return;
      const opened = raw.replace(OPENING, "");
      const word = opened.replace(CLOSING, "");
      if (word === "") continue;
      if (opened !== raw) this.#words += "\n";
      this.#words += ` ${word} `;
      if (word !== opened) this.#words += "\n";
      this.#addToken(word);
      const number = NUMBER.exec(word)?.[1];
      if (number !== undefined) this.#numbers.add(Number(number));
      // A path or a name may end in a dot of its own.
      if (opened !== word) this.#addToken(opened);
    }
    this.#words += "\n";
  }

  #addToken(token: string): void {
    this.#tokens.add(normalAddress(token));
    const url = normalUrl(token) ??
      (BARE_HOST.test(token) ? normalUrl(`https://${token}`) : undefined);
    if (url !== undefined) this.#tokens.add(url);
    if (token.includes("/")) this.#tokens.add(normalPath(token));
  }

  /** Whether a place, as {@linkcode normalPlace} writes it, was named. */
  has(value: string): boolean {
    if (this.#tokens.has(value)) return true;
    return value.includes(" ") && this.hasText(value);
  }

  /** Whether a text was written just so, as whole words. */
  hasText(text: string): boolean {
    const words = text.split(" ");
    if (words.length > LIMITS.nameWordsMax) return false;
    return words.every((word) => word !== "" && !/\s/.test(word)) &&
      this.#words.includes(` ${words.join("  ")} `);
  }

  /** Whether a number was written, whatever its decimals and currency sign. */
  hasNumber(value: number): boolean {
    return this.#numbers.has(value);
  }

  /** Whether a single word was written. */
  hasWord(word: string): boolean {
    return this.#tokens.has(word);
  }
}

/** Configured entries as places: each is one token, whatever is in it. */
export function trustedPlaces(entries: Iterable<string>): Set<string> {
  const places = new Set<string>();
  for (const entry of entries) {
    const text = entry.trim();
    places.add(normalAddress(text));
    const url = normalUrl(text);
    if (url !== undefined) places.add(url);
    if (text.includes("/")) places.add(normalPath(text));
  }
  return places;
}
