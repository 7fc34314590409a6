/**
 * Writes a planned function body, and the functions the meter appends.
 *
 * Never: a decision; those are in the plan.
 *
 * @module
 */
import type { MeterImport } from "../imports.ts";
import {
  type BodyPlan,
  Change,
  CHANGE_STRIDE,
  type FunctionType,
} from "./scan.ts";
import type { WasmReader, WasmWriter } from "./wasm_reader.ts";

/** The instructions the meter writes itself. */
const Op = {
  unreachable: 0x00,
  if: 0x04,
  end: 0x0b,
  br: 0x0c,
  call: 0x10,
  select: 0x1b,
  localGet: 0x20,
  localTee: 0x22,
  globalGet: 0x23,
  globalSet: 0x24,
  localSet: 0x21,
  i32Const: 0x41,
  i64Const: 0x42,
  i32Eqz: 0x45,
  i32LeU: 0x4d,
  i64LtS: 0x53,
  i64LeU: 0x58,
  i64Add: 0x7c,
  i64Sub: 0x7d,
  i64Mul: 0x7e,
  i64Shl: 0x86,
  i64ShrU: 0x88,
  i64ExtendU: 0xad,
} as const;
const I64 = 0x7e;
const I32 = 0x7f;
const VOID = 0x40;

/** A length above this is charged as this: keeps every sum inside 64 bits. */
const LENGTH_MAX = 2n ** 40n;

/** Where the appended things stand in the module's index spaces. */
export interface Appended {
  /** The global that holds the fuel. */
  fuel: number;
  /** The helper that takes an `i64`. */
  take: number;
  /** The helpers that charge a length, by `Charge`. */
  charges: readonly number[];
}

/** Writes the body this reader spans as its plan says. */
export function emitBody(
  writer: WasmWriter,
  body: { reader: WasmReader; plan: BodyPlan },
  appended: Appended,
): void {
  const { reader: { bytes, end }, plan } = body;
  const mark = writer.open();
  writer.u32(plan.localGroups + 1);
  writer.copy(bytes, plan.groupsStart, plan.codeStart);
  writer.put(1, I64);
  const { changes, regions } = plan;
  let from = plan.codeStart;
  const last = plan.count * CHANGE_STRIDE;
  for (let at = 0; at < last; at += CHANGE_STRIDE) {
    const change = changes[at + 1] as number;
    const a = changes[at + 2] as number;
    if (a === 0 && change === Change.point) continue;
    const offset = changes[at] as number;
    writer.copy(bytes, from, offset);
    from = offset;
    const loop = changes[at + 4] as number;
    const region = loop < 0 ? -1 : regions[loop] as number;
    const local = plan.locals;
    switch (change) {
      case Change.point:
      case Change.gate:
        takeFuel(writer, {
          cost: a,
          local,
          global: appended.fuel,
          inRegion: region >= 0,
          isGate: change === Change.gate,
        });
        break;
      case Change.loopEnter:
        if (regions[a] !== a) break;
        writer.u8(Op.globalGet);
        writer.u32(appended.fuel);
        setLocal(writer, local);
        break;
      case Change.loopExit:
        if (regions[a] === a) writeBack(writer, local, appended.fuel);
        break;
      case Change.leave:
        if (region >= 0 && (a < 0 || regions[a] !== region)) {
          writeBack(writer, local, appended.fuel);
        }
        break;
      case Change.leaveIf:
        if (region < 0 || (a >= 0 && regions[a] === region)) break;
        writer.put(Op.if, VOID);
        writeBack(writer, local, appended.fuel);
        writer.u8(Op.br);
        writer.u32((changes[at + 3] as number) + 1);
        writer.u8(Op.end);
        from += changes[at + 5] as number;
        break;
      case Change.redirect:
        writer.u8(changes[at + 3] as number);
        writer.u32(a);
        from += changes[at + 5] as number;
        break;
      case Change.charge:
        writer.u8(Op.call);
        writer.u32(appended.charges[a] as number);
        break;
    }
  }
  writer.copy(bytes, from, end);
  writer.close(mark);
}

function setLocal(writer: WasmWriter, local: number): void {
  writer.u8(Op.localSet);
  writer.u32(local);
}

function writeBack(writer: WasmWriter, local: number, global: number): void {
  writer.u8(Op.localGet);
  writer.u32(local);
  writer.u8(Op.globalSet);
  writer.u32(global);
}

/** Takes fuel from the global, or in a region from the local. */
function takeFuel(
  writer: WasmWriter,
  at: {
    cost: number;
    local: number;
    global: number;
    inRegion: boolean;
    isGate: boolean;
  },
): void {
  const { cost, local, global, inRegion, isGate } = at;
  writer.u8(inRegion ? Op.localGet : Op.globalGet);
  writer.u32(inRegion ? local : global);
  writer.u8(Op.i64Const);
  writer.s32(cost);
  writer.u8(Op.i64Sub);
  if (isGate) {
    writer.u8(Op.localTee);
    writer.u32(local);
  }
  if (!inRegion) {
    writer.u8(Op.globalSet);
    writer.u32(global);
  } else if (!isGate) setLocal(writer, local);
  if (!isGate) return;
  if (!inRegion) {
    writer.u8(Op.localGet);
    writer.u32(local);
  }
  writer.put(Op.i64Const, 0, Op.i64LtS, Op.if, VOID);
  // So that the host can tell running out from any other trap.
  if (inRegion) writeBack(writer, local, global);
  writer.put(Op.unreachable, Op.end);
}

/** The helper all other helpers call: `(amount: i64)`, an amount below 2^52. */
export function emitTake(writer: WasmWriter, fuel: number): void {
  const mark = writer.open();
  writer.put(1, 1, I64, Op.globalGet);
  writer.u32(fuel);
  writer.put(Op.localGet, 0, Op.i64Sub, Op.localTee, 1, Op.globalSet);
  writer.u32(fuel);
  writer.put(Op.localGet, 1, Op.i64Const, 0, Op.i64LtS, Op.if, VOID);
  writer.put(Op.unreachable, Op.end, Op.end);
  writer.close(mark);
}

/** `(length: i32) -> i32`: charges the length and gives it back. */
export function emitChargeLength(
  writer: WasmWriter,
  price: { units: number; per: number; upTo?: number; none?: number },
  take: number,
): void {
  const mark = writer.open();
  writer.put(0, Op.localGet, 0, Op.i64ExtendU);
  if (price.upTo !== undefined) {
    // A growth that cannot succeed does nothing and is charged nothing.
    writer.put(Op.i64Const, 0, Op.localGet, 0, Op.i32Const);
    writer.s32(price.upTo);
    writer.put(Op.i32LeU, Op.select);
  }
  emitScale(writer, price);
  if (price.none !== undefined) {
    writer.u8(Op.i64Const);
    writer.s32(price.none);
    writer.put(Op.i64Const, 0, Op.localGet, 0, Op.i32Eqz);
    writer.put(Op.select, Op.i64Add);
  }
  writer.u8(Op.call);
  writer.u32(take);
  writer.put(Op.localGet, 0, Op.end);
  writer.close(mark);
}

/** `per` is a power of two: so many items cost `units`. */
function emitScale(
  writer: WasmWriter,
  price: { units: number; per: number },
): void {
  writer.u8(Op.i64Const);
  writer.s32(price.units);
  writer.put(Op.i64Mul, Op.i64Const);
  writer.s32(Math.log2(price.per));
  writer.u8(Op.i64ShrU);
}

/** Stands before an import: charges its price, then calls it. */
export function emitWrapper(
  writer: WasmWriter,
  to: { index: number; type: FunctionType; terms: MeterImport },
  appended: Appended,
): void {
  const { type, terms } = to;
  const mark = writer.open();
  writer.put(0, Op.i64Const);
  writer.s64(BigInt(terms.price));
  if (terms.length !== undefined) {
    const { param } = terms.length;
    // min(length, LENGTH_MAX), so that no length can turn the sum around.
    for (let n = 0; n < 2; n++) {
      emitLength(writer, param, type);
      if (n === 0) {
        writer.u8(Op.i64Const);
        writer.s64(LENGTH_MAX);
      }
    }
    writer.u8(Op.i64Const);
    writer.s64(LENGTH_MAX);
    writer.put(Op.i64LeU, Op.select);
    emitScale(writer, terms.length);
    writer.u8(Op.i64Add);
  }
  writer.u8(Op.call);
  writer.u32(appended.take);
  if (terms.answer === undefined) {
    for (let param = 0; param < type.params.length; param++) {
      writer.u8(Op.localGet);
      writer.u32(param);
    }
    writer.u8(Op.call);
    writer.u32(to.index);
  } else {
    writer.u8(Op.i32Const);
    writer.s32(terms.answer);
  }
  writer.u8(Op.end);
  writer.close(mark);
}

function emitLength(
  writer: WasmWriter,
  param: number,
  type: FunctionType,
): void {
  writer.u8(Op.localGet);
  writer.u32(param);
  if (type.params[param] === I32) writer.u8(Op.i64ExtendU);
}

/** Stands before an exported function: pays what a call in the module pays. */
export function emitStub(
  writer: WasmWriter,
  to: { index: number; params: number; price: number },
  take: number,
): void {
  const mark = writer.open();
  writer.put(0, Op.i64Const);
  writer.s32(to.price);
  writer.u8(Op.call);
  writer.u32(take);
  for (let param = 0; param < to.params; param++) {
    writer.u8(Op.localGet);
    writer.u32(param);
  }
  writer.u8(Op.call);
  writer.u32(to.index);
  writer.u8(Op.end);
  writer.close(mark);
}
