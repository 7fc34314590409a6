/**
 * Reading with limits: bodies by bytes, JSON by depth and nodes before it is
 * parsed, queues by length.
 *
 * Never: an input is held whole before its limit was checked.
 *
 * @module
 */
import { AppError, ignore } from "./errors.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Reads a byte stream piece by piece. */
export interface ChunkReader {
  /** The next piece, or `undefined` at the end. Not before the last one came. */
  read(): Promise<Bytes | undefined>;
  /** Ends the source. Does not throw. */
  cancel(reason?: unknown): Promise<void>;
}

/** What is asked for at a time. */
const READ_BYTES = 16_384;

/**
 * The pieces of a stream, each in memory of its own size. A stream of the
 * runtime sets aside 64 KiB for every piece it is asked for in the usual way,
 * which is a hundred times a token of a model; here one buffer is lent again
 * and again.
 */
export function chunkReader(stream: ReadableStream<Bytes>): ChunkReader {
  const lent = lendingReader(stream);
  if (lent === undefined) return plainReader(stream);
  let buffer = new ArrayBuffer(READ_BYTES);
  return {
    read: () =>
      lent.read(new Uint8Array(buffer)).then(({ done, value }) => {
        if (value !== undefined) buffer = value.buffer;
        return done || value === undefined ? undefined : value.slice();
      }),
    cancel: (reason) => lent.cancel(reason).catch(ignore("it was over")),
  };
}

function lendingReader(
  stream: ReadableStream<Bytes>,
): ReadableStreamBYOBReader | undefined {
  try {
    return stream.getReader({ mode: "byob" });
  } catch {
    return undefined; // not a byte stream: it hands out what it has
  }
}

function plainReader(stream: ReadableStream<Bytes>): ChunkReader {
  const reader = stream.getReader();
  return {
    read: () => reader.read().then(({ value }) => value),
    cancel: (reason) => reader.cancel(reason).catch(ignore("it was over")),
  };
}

/** Reads a stream to its end, or stops at the limit. @throws `too_large` */
export async function readBytes(
  stream: ReadableStream<Bytes> | null,
  bytesMax: number,
): Promise<Bytes> {
  if (stream === null) return new Uint8Array();
  const reader = chunkReader(stream);
  const chunks: Bytes[] = [];
  let bytes = 0;
  for (let chunk = await reader.read(); chunk; chunk = await reader.read()) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) {
      await reader.cancel();
      throw new AppError(
        "too_large",
        `Cannot read the body: it is larger than ${bytesMax} bytes`,
        { details: { bytesMax } },
      );
    }
    chunks.push(chunk);
  }
  if (chunks.length === 1 && chunks[0] !== undefined) return chunks[0];
  const all = new Uint8Array(bytes);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return all;
}

/** Limits of a JSON text's shape. */
export interface JsonLimits {
  depthMax: number;
  nodesMax: number;
}

/** Counts depth and nodes of a JSON text without building anything. */
export function scanJson(text: string, limits: JsonLimits): void {
  let depth = 0;
  let nodes = 1;
  for (let n = 0; n < text.length; n++) {
    switch (text.charCodeAt(n)) {
      case 0x22: { // a string: skip to its end
        for (n++; n < text.length && text.charCodeAt(n) !== 0x22; n++) {
          if (text.charCodeAt(n) === 0x5c) n++;
        }
        break;
      }
      case 0x5b:
      case 0x7b:
        if (++depth > limits.depthMax) {
          throw new AppError(
            "bad_input",
            `Cannot read JSON: it is nested deeper than ${limits.depthMax} levels`,
            { details: { depthMax: limits.depthMax } },
          );
        }
        nodes++;
        break;
      case 0x5d:
      case 0x7d:
        depth--;
        break;
      case 0x2c:
        nodes++;
        break;
    }
    if (nodes > limits.nodesMax) {
      throw new AppError(
        "too_large",
        `Cannot read JSON: it holds more than ${limits.nodesMax} values`,
        { details: { nodesMax: limits.nodesMax } },
      );
    }
  }
}

/** Scans, then parses. @throws `bad_input` with the position of the mistake */
export function parseJson(text: string, limits: JsonLimits): unknown {
  scanJson(text, limits);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AppError(
      "bad_input",
      `Cannot read JSON: ${(error as SyntaxError).message}`,
      { cause: error },
    );
  }
}

/** Decodes UTF-8 strictly. @throws `bad_input` when the bytes are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new AppError("bad_input", "Cannot read text: it is not UTF-8", {
      cause: error,
    });
  }
}

/**
 * A queue one side fills and the other awaits, as an async iterable.
 * A full queue refuses (`push` says false): the caller decides what that means.
 */
export class Pipe<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #itemsMax: number;
  #wake: (() => void) | undefined;
  #closed = false;

  constructor(itemsMax: number) {
    this.#itemsMax = itemsMax;
  }

  get size(): number {
    return this.#items.length;
  }

  /** Adds an item; false when the pipe is full or closed. */
  push(item: T): boolean {
    if (this.#closed || this.#items.length >= this.#itemsMax) return false;
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** No more items; what is queued is still delivered. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      while (true) {
        // Bounded by the producer: ends when it closes.
        const item = this.#items.shift();
        if (item !== undefined) yield item;
        else if (this.#closed) return;
        else {
          const { promise, resolve } = Promise.withResolvers<void>();
          this.#wake = resolve;
          await promise;
          this.#wake = undefined;
        }
      }
    } finally {
      this.#closed = true;
      this.#items.length = 0;
    }
  }
}
