/**
 * One line of standard input, as the terminal's own editing gives it.
 *
 * @module
 */
import type { Io } from "./verb.ts";

/** Reads up to the line's end or `charsMax`; what follows stays unread. */
export async function readLine(io: Io, charsMax = 1_024): Promise<string> {
  const reader = io.stdin.getReader();
  const decoder = new TextDecoder();
  try {
    let text = "";
    while (!text.includes("\n") && text.length < charsMax) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
    return text.split("\n")[0] ?? "";
  } finally {
    reader.releaseLock();
  }
}
