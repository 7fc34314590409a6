/**
 * Reading with limits: bodies by bytes, JSON by depth and nodes before it is
 * parsed, queues by length.
 *
 * Never: an input is held whole before its limit was checked.
 *
 * @module
 */
import { AppError } from "./errors.ts";

/** Reads a stream to its end, or stops at the limit. @throws `too_large` */
export async function readBytes(
  stream: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const chunk of stream ?? []) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) {
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
