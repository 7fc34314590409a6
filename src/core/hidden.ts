/**
 * What can hide in a text, in one list: whoever asks a person about a text, in
 * a card, a page or a question, shows it.
 *
 * @module
 */

/** Characters that show nothing, or change the order of what is shown. */
export const HIDDEN =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;

/** Characters that change the order of all that follows them. */
const ORDERS = /[\u202a-\u202e\u2066-\u2069]/g;

function named(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/**
 * A text that reads in the order it was written in, for conversations: letters
 * of every script, and what joins them, stay as they are.
 */
export function ordered(text: string): string {
  return text.replaceAll(ORDERS, named);
}

/**
 * A text with everything invisible spelled out, for a person who is to decide
 * on it: what is shown is what is there. Line breaks and tabs stay.
 */
export function visible(text: string): string {
  return text.replaceAll(HIDDEN, named).replaceAll("\r", "⟨U+000D⟩");
}
