/**
 * Reads untrusted text for what looks like orders. It marks; it does not decide,
 * and nothing is let through because it found nothing.
 *
 * @module
 */
import { invisibleCount, screenable } from "./normalise.ts";
import { SCREEN_PATTERNS } from "./patterns.ts";

const LIMITS = {
  /** Characters of one part that are read: its head and its tail. */
  charsMax: 200_000,
  /** So many characters that show nothing are a finding of their own. */
  invisibleMax: 8,
} as const;

/** The ids of the patterns that a text fits; empty for most texts. */
export function screen(text: string): readonly string[] {
  const half = LIMITS.charsMax / 2;
  const read = text.length <= LIMITS.charsMax
    ? text
    : `${text.slice(0, half)}\n${text.slice(-half)}`;
  const plain = screenable(read);
  const found = SCREEN_PATTERNS
    .filter(({ pattern }) => pattern.test(plain))
    .map(({ id }) => id);
  return invisibleCount(read) > LIMITS.invisibleMax
    ? [...found, "invisible_text"]
    : found;
}
