/**
 * Where a call would send something, and whether the owner named that place.
 * Places are compared by parsed equality, never by substring.
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

/** The value at a dotted path; `*` walks every element of an array. */
export function valuesAt(args: unknown, path: string): unknown[] {
  let values: unknown[] = [args];
  for (const key of path.split(".")) {
    values = values.flatMap((value) => {
      if (key === "*") return Array.isArray(value) ? value : [];
      if (typeof value !== "object" || value === null) return [];
      return Object.hasOwn(value, key)
        ? [(value as Record<string, unknown>)[key]]
        : [];
    });
  }
  return values;
}

/** A URL as it is compared: parsed, without its fragment and user info. */
export function normalUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  url.hash = "";
  url.username = "";
  url.password = "";
  url.hostname = url.hostname.replace(/\.$/, "");
  return url.href;
}

function normal(kind: Destination["kind"], value: unknown): string {
  const text = typeof value === "string" ? value.trim() : JSON.stringify(value);
  if (kind === "url") return normalUrl(text) ?? text;
  if (kind === "address") return text.normalize("NFKC").toLowerCase();
  return text;
}

/** Every place the arguments name. */
export function placesOf(
  args: unknown,
  destinations: readonly Destination[],
): Place[] {
  return destinations.flatMap(({ path, kind }) =>
    valuesAt(args, path)
      .filter((value) => value !== undefined && value !== null)
      .map((value) => ({ kind, path, value: normal(kind, value) }))
  );
}

/**
 * The places in a message the owner typed: its whole tokens, normalised both as
 * a URL and as an address, without the punctuation around them.
 */
export function placesIn(text: string): string[] {
  const places: string[] = [];
  for (const raw of text.split(/\s+/)) {
    const token = raw.replace(/^[<("'“‘[]+/, "").replace(
      /[>)"'”’\].,;:!?]+$/,
      "",
    );
    if (token === "" || token.length > 2048) continue;
    places.push(normal("address", token));
    const url = normalUrl(token);
    if (url !== undefined) places.push(url);
  }
  return places;
}
