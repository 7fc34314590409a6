/**
 * Text as a screen reads it: one form for what looks or means the same. Only
 * screens read it; what is stored, shown and sent stays as it was written.
 *
 * @module
 */

/** Characters that show nothing, or change the order of what is shown. */
const INVISIBLE =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;

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
  return text.normalize("NFKC").replaceAll(INVISIBLE, "");
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

/**
 * A text with everything invisible spelled out, for a person who is to decide
 * on it: what is shown is what is there. Line breaks and tabs stay.
 */
export function visible(text: string): string {
  return text.replaceAll(
    INVISIBLE,
    (char) =>
      `⟨U+${
        (char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")
      }⟩`,
  ).replaceAll("\r", "⟨U+000D⟩");
}

/** How many characters {@linkcode normalise} would take out. */
export function invisibleCount(text: string): number {
  return text.match(INVISIBLE)?.length ?? 0;
}
