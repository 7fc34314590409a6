/**
 * A vendor's own data (signatures, sealed thoughts) as the opaque text that a
 * dialect has room for, and back. Whoever holds the text holds nothing of ours:
 * it is what the vendor said to the same caller.
 *
 * @module
 */
import { VendorData } from "../../core/message.ts";

const CHARS_MAX = 1_048_576;

/** One text of letters, digits, `-` and `_`. */
export function encodeVendor(vendor: VendorData): string {
  const bytes = new TextEncoder().encode(JSON.stringify(vendor));
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** What was encoded; nothing for a text that is not ours. */
export function decodeVendor(text: string | undefined): VendorData | undefined {
  if (text === undefined || text === "" || text.length > CHARS_MAX) {
    return undefined;
  }
  try {
    const bytes = Uint8Array.fromBase64(text, { alphabet: "base64url" });
    const parsed = VendorData.safeParse(
      JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)),
    );
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined; // another program's signature: its thought stays out
  }
}
