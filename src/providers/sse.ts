/**
 * Lines and server-sent events out of bytes that arrive cut anywhere, also
 * inside a character.
 *
 * Never: more than one unfinished line is held; a line longer than the limit.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** The longest line, in UTF-16 units. */
const LINE_CHARS_MAX = 8 * 1024 * 1024;
/** The most a single answer may send. */
const STREAM_BYTES_MAX = 256 * 1024 * 1024;

/** One event: its name (`message` when none was given) and its data. */
export interface SseFrame {
  event: string;
  data: string;
}

/** A comment line: the server says it is alive. */
export const COMMENT: SseFrame = Object.freeze({ event: ":", data: "" });

/** The complete lines of each chunk; `\n`, `\r\n` and `\r` all end one. */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<string[], void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  let bytes = 0;
  let skipLf = false;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    let text = decoder.decode(chunk, { stream: true });
    if (skipLf && text.length > 0) {
      if (text.startsWith("\n")) text = text.slice(1);
      skipLf = false;
    }
    if (text.includes("\r")) {
      skipLf = text.endsWith("\r");
      text = text.replaceAll(/\r\n?/g, "\n");
    }
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARS_MAX || bytes > STREAM_BYTES_MAX) {
      throw new AppError("too_large", "Cannot read the answer: it has no end");
    }
    if (lines.length > 0) yield lines;
  }
  rest += decoder.decode();
  if (rest !== "") yield [rest];
}

/** Reads server-sent events; a comment comes out as {@linkcode COMMENT}. */
export async function* readSse(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<SseFrame, void, undefined> {
  let event = "";
  let data: string | undefined;
  for await (const lines of readLines(chunks)) {
    for (const line of lines) {
      if (line === "") {
        if (data !== undefined) yield { event: event || "message", data };
        event = "";
        data = undefined;
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) {
        yield COMMENT;
        continue;
      }
      const field = colon < 0 ? line : line.slice(0, colon);
      if (field !== "data" && field !== "event") continue;
      let value = colon < 0 ? "" : line.slice(colon + 1);
      if (value.startsWith(" ")) value = value.slice(1);
      if (field === "event") event = value;
      else data = data === undefined ? value : `${data}\n${value}`;
    }
  }
  if (data !== undefined) yield { event: event || "message", data };
}
