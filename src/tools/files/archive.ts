/**
 * Chosen entries of a zip archive, inflated within limits.
 *
 * Never: more is inflated than the limits say, whatever the archive's own
 * directory claims; an entry's name becomes a path.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";

/** Bounds of reading an archive. */
export const ARCHIVE_LIMITS = {
  /** Entries of an archive; one with more is not opened. */
  entriesMax: 4_096,
  /** Inflated bytes of one entry, and of all that were chosen. */
  entryBytesMax: 16_777_216,
  totalBytesMax: 33_554_432,
} as const;

function tooLarge(what: string): AppError {
  return new AppError("too_large", `Cannot read the archive: ${what}`);
}

/** A buffer that grows up to a limit. */
class Sink {
  readonly chunks: Uint8Array[] = [];
  bytes = 0;

  join(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.bytes);
    let at = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }
}

/** Input is fed in pieces of this size, so that a limit is seen in time. */
const FEED_BYTES = 4_096;

/**
 * The entries a predicate chooses, by name.
 *
 * @throws {AppError} `too_large` over a limit, `bad_input` for what is no zip
 */
export async function unzipChosen(
  bytes: Uint8Array<ArrayBuffer>,
  isWanted: (name: string) => boolean,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const { Unzip, UnzipInflate } = await import("fflate");
  const sinks = new Map<string, Sink>();
  let entries = 0;
  let total = 0;
  let failure: unknown;
  const unzip = new Unzip((entry) => {
    if (++entries > ARCHIVE_LIMITS.entriesMax) {
      failure ??= tooLarge(
        `it holds more than ${ARCHIVE_LIMITS.entriesMax} entries`,
      );
    }
    if (failure !== undefined || !isWanted(entry.name)) return;
    const sink = new Sink();
    entry.ondata = (error, chunk) => {
      if (error !== null) failure ??= error;
      if (failure !== undefined) return;
      sink.bytes += chunk.length;
      total += chunk.length;
      if (
        sink.bytes > ARCHIVE_LIMITS.entryBytesMax ||
        total > ARCHIVE_LIMITS.totalBytesMax
      ) {
        failure = tooLarge("what is in it is too large");
        sink.chunks.length = 0;
        return;
      }
      sink.chunks.push(chunk);
    };
    sinks.set(entry.name, sink);
    entry.start();
  });
  unzip.register(UnzipInflate);
  try {
    for (let at = 0; at < bytes.length && failure === undefined;) {
      const end = Math.min(at + FEED_BYTES, bytes.length);
      unzip.push(bytes.subarray(at, end), end === bytes.length);
      at = end;
    }
  } catch (error) {
    failure ??= error;
  }
  if (failure instanceof AppError) throw failure;
  if (failure !== undefined || entries === 0) {
    throw new AppError("bad_input", "Cannot read the archive: it is damaged", {
      cause: failure,
    });
  }
  return new Map([...sinks].map(([name, sink]) => [name, sink.join()]));
}
