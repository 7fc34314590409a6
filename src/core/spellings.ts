/**
 * How a text may be written when it is repeated: as it is, escaped, encoded.
 *
 * @module
 */

/** The middle of a text's base64 at each of three offsets, in both alphabets. */
function base64Forms(bytes: Uint8Array): string[] {
  return [0, 1, 2].flatMap((offset) => {
    const padded = new Uint8Array(offset + bytes.length);
    padded.set(bytes, offset);
    const text = padded.toBase64({ omitPadding: true });
    const from = offset === 0 ? 0 : offset + 1;
    const left = (offset + bytes.length) % 3;
    const middle = text.slice(from, text.length - (left === 0 ? 0 : 1));
    return [middle, middle.replaceAll("+", "-").replaceAll("/", "_")];
  });
}

function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function entities(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll('"', "&quot;")
    .replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** An encoded form shorter than this is found everywhere. */
const FORM_CHARS_MIN = 8;

/** Every spelling of a secret that is looked for; none for an empty one. */
export function spellings(secret: string): Set<string> {
  const bytes = new TextEncoder().encode(secret);
  const hex = bytes.toHex();
  const percent = hex.replaceAll(/../g, "%$&");
  const forms = new Set([
    secret,
    escaped(secret),
    escaped(escaped(secret)),
    entities(secret),
    encodeURIComponent(secret),
    encodeURI(secret),
    new URLSearchParams([["", secret]]).toString().slice(1),
    percent,
    percent.toUpperCase(),
    hex,
    hex.toUpperCase(),
    [...secret].reverse().join(""),
    ...base64Forms(bytes),
  ]);
  const long = [...forms].filter((form) => form.length >= FORM_CHARS_MIN);
  return new Set([...secret === "" ? [] : [secret], ...long]);
}
