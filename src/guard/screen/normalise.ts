/**
 * Text as a screen reads it: one form for what looks or means the same. Only
 * screens read it; what is stored, shown and sent stays as it was written.
 *
 * @module
 */
import { HIDDEN } from "../../core/hidden.ts";

export { visible } from "../../core/hidden.ts";

/** Letters of other alphabets that look like Latin ones. */
const LOOKALIKES: Readonly<Record<string, string>> = {
  а: "a",
  е: "e",
  о: "o",
  р: "p",
  с: "c",
  у: "y",
  х: "x",
  і: "i",
  ѕ: "s",
  ј: "j",
  һ: "h",
  ԁ: "d",
  ԛ: "q",
  ԝ: "w",
  к: "k",
  м: "m",
  т: "t",
  в: "b",
  н: "h",
  г: "r",
  п: "n",
  ο: "o",
  α: "a",
  ε: "e",
  ι: "i",
  ν: "v",
  ρ: "p",
  τ: "t",
  υ: "u",
  χ: "x",
  κ: "k",
  ı: "i",
  ɡ: "g",
};

/** Printable ASCII, tabs and line feeds: nothing to fold into another form. */
const PLAIN = /^[\t\n\r -~]*$/;

/** NFKC, without what is invisible. */
export function normalise(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.normalize("NFKC").replaceAll(HIDDEN, "");
}

/** Lower case with look-alike letters as Latin ones: for patterns. */
export function screenable(text: string): string {
  let plain = "";
  for (const char of normalise(text).toLowerCase()) {
    plain += LOOKALIKES[char] ?? char;
  }
  return plain;
}

/** Letters and digits only: what is left when a text is spaced or spelled out. */
export function fold(text: string): string {
  if (PLAIN.test(text)) {
    return text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "");
  }
  return normalise(text).toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, "");
}

/** How many characters {@linkcode normalise} would take out. */
export function invisibleCount(text: string): number {
  return text.match(HIDDEN)?.length ?? 0;
}
