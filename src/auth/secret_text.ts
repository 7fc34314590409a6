/**
 * Texts that open something: 256 random bits under a prefix that says what for,
 * kept as their SHA-256.
 *
 * @module
 */
import { createHash } from "node:crypto";

const BYTES = 32;

/** The name under which a text is kept. */
export function hashToken(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** A new one: `cara_…` a token, `card_…` a device's, `cari_…` an invitation. */
export function makeTokenText(prefix: "cara" | "card" | "cari"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(BYTES));
  const text = bytes.toBase64({ alphabet: "base64url", omitPadding: true });
  return `${prefix}_${text}`;
}
