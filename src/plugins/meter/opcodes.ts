/**
 * The WebAssembly instructions the meter knows: what immediates follow each,
 * and what each costs.
 *
 * Accepted: the first version, sign extension, saturating conversions, bulk
 * memory, reference types, multi-value, 128-bit SIMD, tail calls. Everything
 * else is refused: threads, exceptions, garbage collection, typed function
 * references, 64-bit and multiple memories, and relaxed SIMD (its results differ
 * between machines).
 *
 * Never: an instruction whose length is guessed.
 *
 * @module
 */

/** What follows an opcode, or how the meter treats it. */
export const Kind = {
  unknown: 0,
  plain: 1,
  /** One LEB128 index. */
  index: 2,
  memarg: 3,
  i32: 4,
  i64: 5,
  f32: 6,
  f64: 7,
  block: 8,
  loop: 9,
  if: 10,
  else: 11,
  end: 12,
  br: 13,
  brIf: 14,
  brTable: 15,
  return: 16,
  unreachable: 17,
  call: 18,
  callIndirect: 19,
  returnCall: 20,
  returnCallIndirect: 21,
  selectTyped: 22,
  refNull: 23,
  refFunc: 24,
  /** One zero byte, the memory. */
  memory: 25,
  memoryGrow: 26,
  prefixFc: 27,
  prefixFd: 28,
  /** One lane byte. */
  lane: 29,
  memargLane: 30,
  /** Sixteen bytes. */
  wide: 31,
  memoryInit: 32,
  memoryCopy: 33,
  memoryFill: 34,
  tableInit: 35,
  tableCopy: 36,
  tableGrow: 37,
  tableFill: 38,
} as const;

/**
 * What every call pays of the function it calls: a function that costs no more
 * until it comes to a call or a loop takes no fuel at its entry.
 */
export const PREPAID = 16;

/** How much dearer than one plain instruction, where it is. Measured. */
export const Weight = {
  /** Calls, direct: frame and stack check; and the callee's beginning. */
  call: 6 + PREPAID,
  /** Calls through a table: bounds, signature, load. */
  callIndirect: 10 + PREPAID,
  divide32: 8,
  divide64: 16,
  divideFloat: 4,
  squareRoot: 8,
  /** Instructions the engine hands to its own C++ code. */
  runtime: 64,
  /** `memory.grow`: a new buffer for the host each time, even by no page. */
  grow: 2_048,
  /** Bulk memory and tables: a call out. */
  bulk: 96,
} as const;

/** Reserved and not accepted, by the name of what they belong to. */
const PROPOSALS: readonly [from: number, to: number, name: string][] = [
  [0x06, 0x0a, "exceptions"],
  [0x14, 0x15, "typed function references"],
  [0x18, 0x19, "exceptions"],
  [0x1f, 0x1f, "exceptions"],
  [0xd3, 0xd6, "garbage collection"],
  [0xfb, 0xfb, "garbage collection"],
  [0xfe, 0xfe, "threads"],
];

/** Which proposal an opcode of the first page belongs to. */
export function proposalOf(opcode: number): string | undefined {
  return PROPOSALS.find(([from, to]) => opcode >= from && opcode <= to)?.[2];
}

type Row = readonly [from: number, to: number, kind: number, weight?: number];

function table(size: number, rows: readonly Row[]): {
  kinds: Uint8Array;
  weights: Uint16Array;
} {
  const kinds = new Uint8Array(size);
  const weights = new Uint16Array(size).fill(1);
  for (const [from, to, kind, weight] of rows) {
    kinds.fill(kind, from, to + 1);
    if (weight !== undefined) weights.fill(weight, from, to + 1);
  }
  return { kinds, weights };
}

/** One-byte opcodes. */
export const MAIN = table(256, [
  [0x00, 0x00, Kind.unreachable],
  [0x01, 0x01, Kind.plain],
  [0x02, 0x02, Kind.block],
  [0x03, 0x03, Kind.loop],
  [0x04, 0x04, Kind.if],
  [0x05, 0x05, Kind.else],
  [0x0b, 0x0b, Kind.end],
  [0x0c, 0x0c, Kind.br],
  [0x0d, 0x0d, Kind.brIf],
  [0x0e, 0x0e, Kind.brTable],
  [0x0f, 0x0f, Kind.return],
  [0x10, 0x10, Kind.call, Weight.call],
  [0x11, 0x11, Kind.callIndirect, Weight.callIndirect],
  [0x12, 0x12, Kind.returnCall, Weight.call],
  [0x13, 0x13, Kind.returnCallIndirect, Weight.callIndirect],
  [0x1a, 0x1b, Kind.plain],
  [0x1c, 0x1c, Kind.selectTyped],
  [0x20, 0x24, Kind.index],
  [0x25, 0x26, Kind.index, Weight.runtime],
  [0x28, 0x3e, Kind.memarg],
  [0x3f, 0x3f, Kind.memory],
  [0x40, 0x40, Kind.memoryGrow, Weight.grow],
  [0x41, 0x41, Kind.i32],
  [0x42, 0x42, Kind.i64],
  [0x43, 0x43, Kind.f32],
  [0x44, 0x44, Kind.f64],
  [0x45, 0xc4, Kind.plain],
  [0x6d, 0x70, Kind.plain, Weight.divide32],
  [0x7f, 0x82, Kind.plain, Weight.divide64],
  [0x91, 0x91, Kind.plain, Weight.squareRoot],
  [0x95, 0x95, Kind.plain, Weight.divideFloat],
  [0x9f, 0x9f, Kind.plain, Weight.squareRoot],
  [0xa3, 0xa3, Kind.plain, Weight.divideFloat],
  [0xd0, 0xd0, Kind.refNull],
  [0xd1, 0xd1, Kind.plain],
  [0xd2, 0xd2, Kind.refFunc, Weight.runtime],
  [0xfc, 0xfc, Kind.prefixFc],
  [0xfd, 0xfd, Kind.prefixFd],
]);

/** After `0xfc`: saturating conversions, bulk memory, tables. */
export const MISC = table(18, [
  [0, 7, Kind.plain],
  [8, 8, Kind.memoryInit, Weight.bulk],
  [9, 9, Kind.index, Weight.runtime],
  [10, 10, Kind.memoryCopy, Weight.bulk],
  [11, 11, Kind.memoryFill, Weight.bulk],
  [12, 12, Kind.tableInit, Weight.bulk],
  [13, 13, Kind.index, Weight.runtime],
  [14, 14, Kind.tableCopy, Weight.bulk],
  [15, 15, Kind.tableGrow, Weight.bulk],
  [16, 16, Kind.index],
  [17, 17, Kind.tableFill, Weight.bulk],
]);

const UNASSIGNED = [
  ...[0x9a, 0xa2, 0xa5, 0xa6, 0xaf, 0xb0, 0xb2, 0xb3, 0xb4, 0xbb, 0xc2, 0xc5],
  ...[0xc6, 0xcf, 0xd0, 0xd2, 0xd3, 0xd4, 0xe2, 0xee],
];

/** After `0xfd`: 128-bit SIMD. From 0x100 on it is relaxed SIMD. */
export const SIMD = table(256, [
  [0x00, 0x0b, Kind.memarg],
  [0x0c, 0x0d, Kind.wide],
  [0x0e, 0x14, Kind.plain],
  [0x15, 0x22, Kind.lane],
  [0x23, 0x53, Kind.plain],
  [0x54, 0x5b, Kind.memargLane],
  [0x5c, 0x5d, Kind.memarg],
  [0x5e, 0xff, Kind.plain],
  [0xe3, 0xe3, Kind.plain, Weight.squareRoot],
  [0xe7, 0xe7, Kind.plain, Weight.divideFloat],
  [0xef, 0xef, Kind.plain, Weight.squareRoot],
  [0xf3, 0xf3, Kind.plain, Weight.divideFloat],
  ...UNASSIGNED.map((code): Row => [code, code, Kind.unknown]),
]);

/** Value types: the numbers, `v128`, `funcref`, `externref`. */
export function isValueType(byte: number): boolean {
  return byte >= 0x7b && byte <= 0x7f || isReferenceType(byte);
}

/** `funcref` or `externref`. */
export function isReferenceType(byte: number): boolean {
  return byte === 0x70 || byte === 0x6f;
}
