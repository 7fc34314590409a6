/**
 * The body of an answer, passed on as it comes: counted, decoded and cut.
 *
 * Neither route lets the platform decode: both read raw bytes, so one place
 * sees how much came over the wire and how much it became.
 *
 * Never: a body held whole; a chunk read before someone asks for it.
 *
 * @module
 */
import {
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
} from "node:zlib";
import { type ChunkReader, chunkReader } from "../core/bounded.ts";
import { ignore } from "../core/errors.ts";
import type { Failure } from "./failures.ts";

/** What an answer may weigh. */
export interface BodyLimits {
  /** Decoded bytes in all. */
  responseBytesMax: number;
  /** Decoded bytes to each byte on the wire, looked at from `RATIO_FREE_BYTES` on. */
  inflateRatioMax: number;
}

/** A body that was cut, with the class of why. */
export class BodyCut extends TypeError {
  override readonly name = "BodyCut";
  readonly failure: Failure;

  constructor(failure: Failure, options?: ErrorOptions) {
    super(`the body was cut: ${failure}`, options);
    this.failure = failure;
  }
}

/** Small texts compress extremely well and hurt nobody. */
const RATIO_FREE_BYTES = 1_048_576;

/** Compressed bytes handed to a decoder at a time: at most ~16 MiB come of it. */
const SLICE_BYTES = 16_384;

type Bytes = Uint8Array<ArrayBuffer>;
type Decoder = ReturnType<typeof createGunzip>;

/** The encoding to undo, `undefined` for none, `null` for one we do not know. */
export function findEncoding(headers: Headers): string | undefined | null {
  const text = headers.get("content-encoding")?.trim().toLowerCase() ?? "";
  if (text === "" || text === "identity") return undefined;
  if (text === "x-gzip") return "gzip";
  return ["gzip", "br", "deflate"].includes(text) ? text : null;
}

function makeDecoder(encoding: string, first: Bytes): Decoder {
  if (encoding === "gzip") return createGunzip();
  if (encoding === "br") return createBrotliDecompress();
  // "deflate" means zlib, but some servers send it bare; the first byte tells.
  return ((first[0] ?? 0) & 0x0f) === 8 ? createInflate() : createInflateRaw();
}

async function* decode(
  source: AsyncIterable<Bytes>,
  encoding: string,
  onWire: (bytes: number) => void,
): AsyncGenerator<Bytes> {
  const input = source[Symbol.asyncIterator]();
  const first = await input.next();
  if (first.done === true) return;
  const decoder = makeDecoder(encoding, first.value);
  const feeding = feed(decoder, { first: first.value, rest: input, onWire });
  try {
    for await (const chunk of decoder) yield chunk as Bytes;
    await feeding;
  } finally {
    decoder.destroy();
    await input.return?.();
    await feeding.catch(ignore("the reader of the decoder was told"));
  }
}

/** Writes into a decoder as it makes room, and carries a broken source over. */
async function feed(
  decoder: Decoder,
  from: {
    first: Bytes;
    rest: AsyncIterator<Bytes>;
    onWire(bytes: number): void;
  },
): Promise<void> {
  try {
    let chunk: Bytes | undefined = from.first;
    while (chunk !== undefined) { // ends with the source, or when it is cut
      for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
        if (decoder.destroyed) return;
        const slice: Bytes = chunk.subarray(at, at + SLICE_BYTES);
        from.onWire(slice.length);
        if (!decoder.write(slice)) await drained(decoder);
      }
      const next: IteratorResult<Bytes> = await from.rest.next();
      chunk = next.done === true ? undefined : next.value;
    }
    decoder.end();
  } catch (error) {
    decoder.destroy(error as TypeError);
  }
}

function drained(decoder: Decoder): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  decoder.once("drain", resolve);
  decoder.once("close", resolve);
  return promise;
}

/** Yields a reader's chunks; leaving early cancels it. */
async function* chunksOf(reader: ChunkReader): AsyncGenerator<Bytes> {
  try {
    for (let chunk = await reader.read(); chunk; chunk = await reader.read()) {
      yield chunk;
    }
  } finally {
    await reader.cancel();
  }
}

/** What a caller of {@linkcode capBody} is told, once. */
export interface BodyEnd {
  /** `undefined` when the body came to its end or its reader left. */
  failure: Failure | undefined;
  /** Whether all of it came; else the connection is of no further use. */
  whole: boolean;
  bytes: number;
}

/**
 * The same bytes, decoded, until a limit or an abort: then the stream errors
 * with what `toError` makes of the failure, and the source is closed.
 *
 * @param options.signal Ends the body while it is waited for. The platform's own
 * does not always: the signal inside `fetch` follows ours by a weak reference,
 * which the collector may take once the headers are there.
 */
export function capBody(
  source: ReadableStream<Bytes>,
  options: BodyLimits & {
    encoding: string | undefined;
    signal: AbortSignal;
    onEnd(end: BodyEnd): void;
    toFailure(error: unknown): Failure;
    toError(failure: Failure): unknown;
  },
): ReadableStream<Bytes> {
  const { encoding, responseBytesMax, inflateRatioMax, signal } = options;
  const reader = chunkReader(source);
  const onAbort = () => {
    reader.cancel(signal.reason).catch(ignore("its reader is told"));
  };
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  let wire = 0;
  let bytes = 0;
  let ended = false;
  const end = (whole: boolean, failure?: Failure) => {
    if (ended) return;
    ended = true;
    signal.removeEventListener("abort", onAbort);
    options.onEnd({ failure, whole, bytes });
  };
  const next = encoding === undefined
    ? reader
    : generatorReader(decode(chunksOf(reader), encoding, (n) => {
      wire += n;
    }));
  return new ReadableStream<Bytes>({
    async pull(controller) {
      try {
        const value = await next.read();
        // What was cancelled ends like what is whole.
        signal.throwIfAborted();
        if (value === undefined) {
          end(true);
          controller.close();
          return;
        }
        bytes += value.byteLength;
        if (bytes > responseBytesMax) throw new BodyCut("size");
        if (
          encoding !== undefined && bytes > RATIO_FREE_BYTES &&
          bytes > wire * inflateRatioMax
        ) throw new BodyCut("inflate");
        controller.enqueue(value);
      } catch (error) {
        const cut = isBadData(error) && !signal.aborted
          ? new BodyCut("encoding", { cause: error })
          : error;
        const failure = cut instanceof BodyCut
          ? cut.failure
          : options.toFailure(error);
        end(false, failure);
        controller.error(options.toError(failure));
        await next.cancel(cut);
      }
    },
    async cancel(reason) {
      end(false);
      await next.cancel(reason);
    },
  }, { highWaterMark: 0 });
}

function generatorReader(chunks: AsyncGenerator<Bytes>): ChunkReader {
  return {
    read: async () => {
      const { done, value } = await chunks.next();
      return done === true ? undefined : value;
    },
    cancel: async () => {
      await chunks.return(undefined).catch(
        ignore("an ended body was cancelled"),
      );
    },
  };
}

function isBadData(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    /^(Z_|ERR_BROTLI|ERR__ERROR|ERR_PADDING|ERR_STREAM_PREMATURE)/.test(
      String(error.code),
    );
}
