/**
 * A configuration's value as it may be shown.
 *
 * Never: a secret, or a password inside a URL, comes out.
 *
 * @module
 */
import { Secret } from "../core/secret.ts";

/** What stands where a secret is. */
export const HIDDEN = "[secret]";

/** A plain copy to print or send: secrets and passwords in URLs are hidden. */
export function redacted(value: unknown): unknown {
  if (value instanceof Secret) return HIDDEN;
  if (typeof value === "string") return withoutPassword(value);
  if (Array.isArray(value)) return value.map(redacted);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [name, redacted(inner)]),
    );
  }
  return value;
}

function withoutPassword(text: string): string {
  return text.replaceAll(
    /([a-z][a-z0-9+.-]*:\/\/)[^\s/?#@]*@/gi,
    `$1${HIDDEN}@`,
  );
}
