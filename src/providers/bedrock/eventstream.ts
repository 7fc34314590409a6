/**
 * Frames of AWS's binary event stream out of bytes that arrive cut anywhere:
 * total length, headers length, checksum of the two; headers; payload; checksum
 * of all.
 *
 * Never: a frame is handed on whose checksums do not fit, or that is larger
 * than the protocol allows.
 *
 * @module
 */
import { crc32 } from "node:zlib";

const FRAME_BYTES_MAX = 24 * 1024 * 1024;
/** The most a single answer may send. */
const STREAM_BYTES_MAX = 256 * 1024 * 1024;
const PRELUDE_BYTES = 12;
const CRC_BYTES = 4;

/** One frame: its text headers and its payload. */
export interface EventFrame {
  headers: ReadonlyMap<string, string>;
  payload: Uint8Array;
}

/** Bytes that are waiting for their frame to be whole. */
class Waiting {
  #bytes = new Uint8Array(4096);
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  add(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) {
      const needed = this.length + chunk.length;
      const room = needed * 2 > this.#bytes.length
        ? new Uint8Array(needed * 2)
        : this.#bytes;
      room.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = room;
      this.#end = this.length;
      this.#start = 0;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  view(length: number): DataView {
    const { buffer, byteOffset } = this.#bytes;
    return new DataView(buffer, byteOffset + this.#start, length);
  }

  /** A copy, so that what is handed on does not change. */
  take(length: number): Uint8Array {
    const taken = this.#bytes.slice(this.#start, this.#start + length);
    this.#start += length;
    return taken;
  }
}

/**
 * Reads frames; `toError` makes what is thrown for bytes that are none. An
 * unfinished frame at the end is left out: the reader knows what is missing.
 */
export async function* readEventStream(
  chunks: AsyncIterable<Uint8Array>,
  toError: (what: string) => Error,
): AsyncGenerator<EventFrame, void, undefined> {
  const waiting = new Waiting();
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > STREAM_BYTES_MAX) throw toError("an answer without an end");
    waiting.add(chunk);
    while (waiting.length >= PRELUDE_BYTES) {
      const prelude = waiting.view(PRELUDE_BYTES);
      const total = prelude.getUint32(0);
      const known = new Uint8Array(prelude.buffer, prelude.byteOffset, 8);
      if (crc32(known) !== prelude.getUint32(8)) {
        throw toError("bytes that are no event stream");
      }
      const least = PRELUDE_BYTES + prelude.getUint32(4) + CRC_BYTES;
      if (total > FRAME_BYTES_MAX || total < least) {
        throw toError("a frame of an impossible length");
      }
      if (waiting.length < total) break;
      yield toFrame(waiting.take(total), toError);
    }
  }
}

function toFrame(
  frame: Uint8Array,
  toError: (what: string) => Error,
): EventFrame {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const end = frame.length - CRC_BYTES;
  if (crc32(frame.subarray(0, end)) !== view.getUint32(end)) {
    throw toError("a frame with a wrong checksum");
  }
  const headersEnd = PRELUDE_BYTES + view.getUint32(4);
  const headers = readHeaders(frame.subarray(PRELUDE_BYTES, headersEnd));
  if (headers === undefined) throw toError("a frame with broken headers");
  return { headers, payload: frame.subarray(headersEnd, end) };
}

/** Bytes of a header's value by its type; texts and bytes say their own. */
const VALUE_BYTES = [0, 0, 1, 2, 4, 8, -1, -1, 8, 16] as const;
const TEXT_TYPE = 7;

function readHeaders(bytes: Uint8Array): Map<string, string> | undefined {
  const headers = new Map<string, string>();
  const decoder = new TextDecoder();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  try {
    while (at < bytes.length) {
      const nameEnd = at + 1 + view.getUint8(at);
      const name = decoder.decode(bytes.subarray(at + 1, nameEnd));
      const type = view.getUint8(nameEnd);
      at = nameEnd + 1;
      let length: number | undefined = VALUE_BYTES[type];
      if (length === undefined) return undefined;
      if (length < 0) {
        length = view.getUint16(at);
        at += 2;
      }
      if (at + length > bytes.length) return undefined;
      if (type === TEXT_TYPE) {
        headers.set(name, decoder.decode(bytes.subarray(at, at + length)));
      }
      at += length;
    }
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return headers;
}
