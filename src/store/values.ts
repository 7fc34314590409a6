/**
 * Values between rows and the engine: JSON as UTF-8 behind one byte that says
 * how it is kept, sealed where it must be, in pieces where it is too large.
 *
 * Never: a row that cannot be read ends a list; it is skipped, counted, logged.
 *
 * @module
 */
import type { z } from "zod";
import { AppError, errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Cipher } from "./cipher.ts";
import { collectionOf, keyText, makeKey, showKey } from "./keys.ts";

/** The first byte of a stored value. */
const KEPT = { clear: 0, cipher: 1, keyFile: 2, pieces: 0x80 } as const;

/** A value longer than this is kept in pieces; the engine's limit is 65,536. */
export const VALUE_BYTES_MAX = 61_440;

/** The largest value at all, pieces together. */
export const VALUE_BYTES_TOTAL_MAX = 16_777_216;

/** Where the pieces of a large value are. */
export interface Pieces {
  id: string;
  count: number;
  bytes: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Encodes and seals. Knows no engine. */
export class Codec {
  readonly #cipher: Cipher | undefined;
  readonly #keyFile: Cipher | undefined;

  /** `cipher` seals everything; `keyFile` only what is always sealed. */
  constructor(ciphers: { cipher?: Cipher; keyFile?: Cipher }) {
    this.#cipher = ciphers.cipher;
    this.#keyFile = ciphers.keyFile;
  }

  /** The bytes of a value under a key, before they are cut in pieces. */
  encode(key: Deno.KvKey, value: unknown): Uint8Array {
    const collection = collectionOf(key);
    const text = JSON.stringify(value);
    if (text === undefined) {
      throw new AppError(
        "internal",
        `Cannot store ${showKey(key)}: its value is not JSON`,
      );
    }
    const plain = encoder.encode(text);
    if (plain.length > VALUE_BYTES_TOTAL_MAX) {
      throw new AppError(
        "too_large",
        `Cannot store ${
          showKey(key)
        }: it is larger than ${VALUE_BYTES_TOTAL_MAX} bytes`,
        { details: { bytesMax: VALUE_BYTES_TOTAL_MAX } },
      );
    }
    if (collection.clear) return withKept(KEPT.clear, plain);
    const aad = encoder.encode(keyText(key));
    if (this.#cipher !== undefined) {
      return withKept(KEPT.cipher, this.#cipher.seal(plain, aad));
    }
    if (!collection.secret) return withKept(KEPT.clear, plain);
    if (this.#keyFile === undefined) {
      throw new AppError(
        "internal",
        `Cannot store ${showKey(key)}: it must be sealed and there is no key`,
      );
    }
    return withKept(KEPT.keyFile, this.#keyFile.seal(plain, aad));
  }

  /** The value in whole bytes. @throws {AppError} when it cannot be opened */
  decode(key: Deno.KvKey, bytes: Uint8Array): unknown {
    const kept = bytes[0];
    const body = bytes.subarray(1);
    if (kept === KEPT.clear) {
      if (collectionOf(key).secret) {
        throw new AppError(
          "forbidden",
          "it must be sealed and is not: somebody else wrote it",
        );
      }
      return JSON.parse(decoder.decode(body));
    }
    const cipher = kept === KEPT.cipher
      ? this.#cipher
      : kept === KEPT.keyFile
      ? this.#keyFile
      : undefined;
    if (cipher === undefined) {
      throw new AppError("forbidden", "it is sealed and its key is not here");
    }
    return JSON.parse(
      decoder.decode(cipher.open(body, encoder.encode(keyText(key)))),
    );
  }
}

function withKept(kept: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(body.length + 1);
  bytes[0] = kept;
  bytes.set(body, 1);
  return bytes;
}

/** The short value that stands for a large one. */
export function encodePieces(pieces: Pieces): Uint8Array {
  return withKept(KEPT.pieces, encoder.encode(JSON.stringify(pieces)));
}

function decodePieces(bytes: Uint8Array): Pieces | undefined {
  return bytes[0] === KEPT.pieces
    ? JSON.parse(decoder.decode(bytes.subarray(1)))
    : undefined;
}

/** One row as it was found: its value, or why it cannot be read. */
export type Found =
  | { ok: true; key: Deno.KvKey; value: unknown }
  | { ok: false; key: Deno.KvKey; error: unknown };

/** A stretch of the store. */
export interface Stretch {
  prefix: Deno.KvKey;
  /** First key, inclusive. */
  start?: Deno.KvKey;
  /** End, exclusive. */
  end?: Deno.KvKey;
  limit?: number;
  reverse?: boolean;
}

function selectorOf(stretch: Stretch): Deno.KvListSelector {
  const { prefix, start, end } = stretch;
  if (start !== undefined && end !== undefined) return { start, end };
  if (start !== undefined) return { prefix, start };
  return end === undefined ? { prefix } : { prefix, end };
}

/** Reads rows: whole, opened, parsed. */
export class Values {
  readonly #kv: Deno.Kv;
  readonly #codec: Codec;
  readonly #log: Log;
  #unreadable = 0;

  constructor(kv: Deno.Kv, options: { codec: Codec; log: Log }) {
    this.#kv = kv;
    this.#codec = options.codec;
    this.#log = options.log;
  }

  /** How many rows were skipped because they could not be read. */
  get unreadable(): number {
    return this.#unreadable;
  }

  /** One row. @throws {AppError} `internal` naming the key when it is unreadable */
  async find<T>(
    key: Deno.KvKey,
    schema: z.ZodType<T>,
  ): Promise<T | undefined> {
    const { value } = await this.#kv.get<Uint8Array>(key);
    if (value === null) return undefined;
    try {
      return schema.parse(
        this.#codec.decode(key, await this.#whole(key, value)),
      );
    } catch (error) {
      throw unreadable(key, error);
    }
  }

  /** Rows as they are found, the unreadable ones with their error. */
  async *scan(stretch: Stretch): AsyncGenerator<Found, void, undefined> {
    const entries = this.#kv.list<Uint8Array>(selectorOf(stretch), {
      ...(stretch.limit === undefined ? {} : { limit: stretch.limit }),
      reverse: stretch.reverse ?? false,
      batchSize: Math.min(Math.max(stretch.limit ?? 200, 1), 500),
    });
    for await (const { key, value } of entries) {
      let found: Found;
      try {
        const bytes = await this.#whole(key, value);
        found = { ok: true, key, value: this.#codec.decode(key, bytes) };
      } catch (error) {
        found = { ok: false, key, error };
      }
      yield found;
    }
  }

  /** Rows that can be read; others are skipped, counted and logged. */
  async *list<T>(
    stretch: Stretch,
    schema: z.ZodType<T>,
  ): AsyncGenerator<{ key: Deno.KvKey; value: T }, void, undefined> {
    for await (const found of this.scan(stretch)) {
      if (found.ok) {
        const parsed = schema.safeParse(found.value);
        if (parsed.success) yield { key: found.key, value: parsed.data };
        else this.skip(found.key, parsed.error);
      } else this.skip(found.key, found.error);
    }
  }

  /** Keys only, for deleting what cannot be read as well. */
  async *keys(prefix: Deno.KvKey): AsyncGenerator<Deno.KvKey, void, undefined> {
    for await (const { key } of this.#kv.list({ prefix })) yield key;
  }

  /** Counts and logs a row that is left out. */
  skip(key: Deno.KvKey, error: unknown): void {
    this.#unreadable++;
    this.#log("error", "store.row.unreadable", {
      key: showKey(key),
      reason: errorText(error),
    });
  }

  /** A value's bytes, put together from its pieces if it is in pieces. */
  async #whole(key: Deno.KvKey, first: Uint8Array): Promise<Uint8Array> {
    let bytes: Uint8Array | null = first;
    // A writer may replace the value between our two reads; then we begin again.
    for (let attempt = 0; attempt < 4; attempt++) {
      if (!(bytes instanceof Uint8Array)) {
        throw new AppError("internal", "its value is not bytes");
      }
      const pieces = decodePieces(bytes);
      if (pieces === undefined) return bytes;
      const whole = await this.#join(pieces);
      if (whole !== undefined) return whole;
      bytes = (await this.#kv.get<Uint8Array>(key)).value;
    }
    throw new AppError("internal", "some of its pieces are missing");
  }

  async #join(pieces: Pieces): Promise<Uint8Array | undefined> {
    const whole = new Uint8Array(
      Math.min(pieces.bytes, VALUE_BYTES_TOTAL_MAX * 2),
    );
    let offset = 0;
    const list = this.#kv.list<Uint8Array>(
      { prefix: makeKey("chunk", pieces.id) },
      { batchSize: 50 },
    );
    for await (const { value } of list) {
      if (offset + value.length > whole.length) return undefined;
      whole.set(value, offset);
      offset += value.length;
    }
    return offset === pieces.bytes ? whole : undefined;
  }
}

function unreadable(key: Deno.KvKey, cause: unknown): AppError {
  return new AppError(
    "internal",
    `Cannot read row ${showKey(key)}: ${errorText(cause)}`,
    { cause },
  );
}
