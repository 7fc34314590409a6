/**
 * Bytes of a WebAssembly module, read and written: LEB128 numbers, names,
 * vectors, each with its bound.
 *
 * Never: a read past the end of what it was given; a plain exception for a
 * malformed module (always an `AppError` that says what and where).
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";

/** What every refusal of a module looks like. */
export function refusal(
  why: string,
  options: { hint?: string; details?: Record<string, unknown> } = {},
): AppError {
  return new AppError("bad_input", `Cannot meter the module: ${why}`, options);
}

/** Reads a span of a module, front to back. */
export class WasmReader {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  pos: number;

  constructor(bytes: Uint8Array, start = 0, end: number = bytes.length) {
    this.bytes = bytes;
    this.start = start;
    this.pos = start;
    this.end = end;
  }

  get done(): boolean {
    return this.pos >= this.end;
  }

  u8(): number {
    if (this.pos >= this.end) throw this.truncated();
    return this.bytes[this.pos++] as number;
  }

  /** An unsigned 32-bit LEB128 number, at most five bytes. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      // The fifth byte may carry four bits and no continuation.
      if (shift === 28 && byte > 0x0f) break;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw refusal(`a number at byte ${this.pos} is not 32 bits`);
  }

  /** A signed 33-bit LEB128 number, as block types are written. */
  s33(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        return byte & 0x40 ? value - 2 ** (shift + 7) : value;
      }
    }
    throw refusal(`a number at byte ${this.pos} is not 33 bits`);
  }

  /** Passes over a LEB128 number of at most this many bytes. */
  skipLeb(bytesMax: number): void {
    for (let n = 0; n < bytesMax; n++) {
      if (this.u8() < 0x80) return;
    }
    throw refusal(`a number at byte ${this.pos} is too long`);
  }

  skip(count: number): void {
    if (count > this.end - this.pos) throw this.truncated();
    this.pos += count;
  }

  /** A length-prefixed UTF-8 name. */
  name(): string {
    const length = this.u32();
    const start = this.pos;
    this.skip(length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
        .decode(this.bytes.subarray(start, this.pos));
    } catch {
      throw refusal(`a name at byte ${start} is not UTF-8`);
    }
  }

  /** The count of a vector, refused above the limit. */
  count(what: string, max: number): number {
    const count = this.u32();
    if (count > max) {
      throw refusal(`it has ${count} ${what}, the limit is ${max}`, {
        details: { what, count, max },
      });
    }
    return count;
  }

  /** The next span of this length as a reader of its own. */
  span(length: number): WasmReader {
    const start = this.pos;
    this.skip(length);
    return new WasmReader(this.bytes, start, this.pos);
  }

  truncated(): AppError {
    return refusal(`it is cut off at byte ${this.end}`);
  }
}

/** Bytes in the making. Grows by doubling up to a limit, then refuses. */
export class WasmWriter {
  bytes: Uint8Array<ArrayBuffer>;
  length = 0;
  readonly #bytesMax: number;

  constructor(capacity: number, bytesMax: number = Number.MAX_SAFE_INTEGER) {
    this.bytes = new Uint8Array(capacity);
    this.#bytesMax = bytesMax;
  }

  /** Makes room, so that the caller may write `count` bytes directly. */
  reserve(count: number): void {
    const need = this.length + count;
    if (need <= this.bytes.length) return;
    if (need > this.#bytesMax) {
      throw refusal(
        `metering would make it larger than ${this.#bytesMax} bytes`,
        { details: { bytesMax: this.#bytesMax } },
      );
    }
    const grown = new Uint8Array(Math.max(need, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  u8(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  put(...values: number[]): void {
    this.reserve(values.length);
    for (const value of values) this.bytes[this.length++] = value;
  }

  u32(value: number): void {
    this.reserve(5);
    while (value >= 0x80) {
      this.bytes[this.length++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    this.bytes[this.length++] = value;
  }

  /** A signed LEB128 number of up to 64 bits. */
  s64(value: bigint): void {
    this.reserve(10);
    while (value < -64n || value > 63n) {
      this.bytes[this.length++] = Number(value & 0x7fn) | 0x80;
      value >>= 7n;
    }
    this.bytes[this.length++] = Number(value & 0x7fn);
  }

  /** A signed LEB128 number that fits 32 bits and is not negative. */
  s32(value: number): void {
    this.reserve(5);
    while (value > 63) {
      this.bytes[this.length++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    this.bytes[this.length++] = value;
  }

  name(text: string): void {
    const encoded = new TextEncoder().encode(text);
    this.u32(encoded.length);
    this.copy(encoded, 0, encoded.length);
  }

  copy(from: Uint8Array, start: number, end: number): void {
    const count = end - start;
    this.reserve(count);
    // A call into `set` costs more than a dozen bytes copied by hand.
    if (count < 48) {
      const { bytes } = this;
      let at = this.length;
      for (let n = start; n < end; n++) bytes[at++] = from[n] as number;
    } else this.bytes.set(from.subarray(start, end), this.length);
    this.length += count;
  }

  append(other: WasmWriter): void {
    this.copy(other.bytes, 0, other.length);
  }

  /** Starts a length-prefixed span; give the mark to {@linkcode close}. */
  open(): number {
    this.reserve(5);
    this.length += 5;
    return this.length;
  }

  /** Ends a span: writes its length in as few bytes as it takes. */
  close(mark: number): void {
    const end = this.length;
    const size = end - mark;
    this.length = mark - 5;
    this.u32(size);
    this.bytes.copyWithin(this.length, mark, end);
    this.length += size;
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.length);
  }
}
