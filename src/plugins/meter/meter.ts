/**
 * The meter: rewrites a WebAssembly module so that whatever it does uses up
 * fuel, and running out is a trap. It also holds the list of what a module may
 * import and the clamps on its memory and tables.
 *
 * The rewriting only appends. A global `__fuel` that starts with the budget (the
 * start function runs before anybody could set it), one wrapper for each imported
 * function, five helpers, one stub for each exported function: all come after what is there, so no index changes. The
 * guest cannot name them, because the module is validated without them. Every
 * mention of an imported function (calls, tables, exports, `ref.func`, start) is
 * turned to its wrapper, so no way of calling one is free.
 *
 * Never: a module passes that was not read to its last instruction; the same
 * bytes give different bytes; anything but an `AppError` is thrown.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { MeterImport } from "../imports.ts";
import {
  type Appended,
  emitBody,
  emitChargeLength,
  emitStub,
  emitTake,
  emitWrapper,
} from "./emit.ts";
import { type BodyLimits, BodyScanner } from "./scan.ts";
import { PREPAID } from "./opcodes.ts";
import { readModule, Section, type WasmModule } from "./wasm_module.ts";
import { refusal, WasmWriter } from "./wasm_reader.ts";

/** The export that holds what is left. */
export const FUEL_EXPORT = "__fuel";

/** Fuel for one call. */
export const FUEL_DEFAULT = 1_000_000_000;

/** How large a module may be, in every direction. */
export interface MeterLimits extends BodyLimits {
  bytesMax: number;
  typesMax: number;
  importsMax: number;
  functionsMax: number;
  globalsMax: number;
  exportsMax: number;
  tablesMax: number;
  /** Data segments, and element segments. */
  segmentsMax: number;
  /** Entries of all element segments together. */
  elementsMax: number;
  /** Times its own size a module may have after metering. */
  growthMax: number;
}

/** Room for the largest modules seen in the field, and not much more. */
export const METER_LIMITS: Readonly<MeterLimits> = Object.freeze({
  /** Bytes of a module; a larger one is not installed. So it is with all that follow. */
  bytesMax: 50 * 1024 * 1024,
  /** Types of a module. */
  typesMax: 10_000,
  /** Imports of a module. */
  importsMax: 1_000,
  /** Functions of a module. */
  functionsMax: 100_000,
  /** Globals of a module. */
  globalsMax: 10_000,
  /** Exports of a module. */
  exportsMax: 10_000,
  /** Tables of a module. */
  tablesMax: 4,
  /** Data and element segments of a module. */
  segmentsMax: 100_000,
  /** Entries of its tables. */
  elementsMax: 1_000_000,
  /** Local variables of one function. */
  localsMax: 10_000,
  /** Blocks within blocks of one function. */
  depthMax: 1_000,
  /** Targets of one branch table. */
  targetsMax: 10_000,
  /** How much larger metering may make a module. */
  growthMax: 6,
});

/** What a module may be and do. */
export interface MeterPolicy {
  /** Exactly the functions it may import. */
  imports: readonly MeterImport[];
  /** The budget the module starts with. */
  fuel?: number;
  /** Pages of 64 KiB its memory may have, at most. */
  memoryPagesMax?: number;
  /** Entries each of its tables may have, at most. */
  tableEntriesMax?: number;
  limits?: Partial<MeterLimits>;
}

/**
 * What lengths cost, as `units` for each `per`. Measured so that a loop of
 * nothing else ends within two seconds on the default budget.
 */
export const LENGTH_PRICES = Object.freeze({
  /**
   * `memory.fill`, `memory.copy`, `memory.init`, by the byte. None at all is the
   * dearest on some processors: an empty `rep stos` takes 100 ns.
   */
  memory: { units: 1, per: 8, none: 512 },
  /** `table.fill`, `table.copy`, `table.init`, by the entry. */
  table: { units: 64, per: 1 },
  /** `memory.grow`, by the page. */
  memoryGrow: { units: 2_048, per: 1 },
  /** `table.grow`, by the entry. */
  tableGrow: { units: 64, per: 1 },
});

const FUEL_MAX = Number.MAX_SAFE_INTEGER;
/** V8 refuses a larger function. */
const BODY_BYTES_MAX = 7_654_321;
const I32 = 0x7f;
const I64 = 0x7e;
const HELPERS = 5;

/**
 * Rewrites a module so that it pays for what it does.
 *
 * @throws {AppError} `bad_input` for a module that is not valid, not understood
 * to its last instruction, too large in some direction, or imports what the
 * policy does not list.
 *
 * @example
 * ```ts ignore
 * const bytes = meter(guest, { imports: importsFor({ log: true }) });
 * ```
 */
export function meter(
  bytes: Uint8Array<ArrayBuffer>,
  policy: MeterPolicy,
): Uint8Array<ArrayBuffer> {
  const fuel = policy.fuel ?? FUEL_DEFAULT;
  checkFuel(fuel);
  const limits = { ...METER_LIMITS, ...policy.limits };
  const module = readModule(bytes, {
    limits,
    imports: policy.imports,
    memoryPagesMax: policy.memoryPagesMax ?? 1_024,
    tableEntriesMax: policy.tableEntriesMax ?? 100_000,
    reserved: FUEL_EXPORT,
    helpers: HELPERS,
  });
  const appended = placeAppended(module);
  const outMax = bytes.length * limits.growthMax + 65_536;
  // Code first: it is what finds most that is wrong.
  const code = emitCode(module, { appended, limits, outMax });
  validate(bytes);
  return emitModule(module, { appended, code, fuel, outMax });
}

/**
 * What is left of a module's fuel: zero when it ran out. After another trap it
 * may be more than was left: a loop that calls nothing counts in a local.
 */
export function readFuel(exports: WebAssembly.Exports): number {
  const left = fuelGlobal(exports).value;
  return left > 0n ? Number(left) : 0;
}

/** Whether the module's last trap was for want of fuel. */
export function isOutOfFuel(exports: WebAssembly.Exports): boolean {
  return fuelGlobal(exports).value < 0n;
}

/** Gives a module fuel for its next call. */
export function setFuel(exports: WebAssembly.Exports, fuel: number): void {
  checkFuel(fuel);
  fuelGlobal(exports).value = BigInt(fuel);
}

function fuelGlobal(
  exports: WebAssembly.Exports,
): WebAssembly.Global & { value: bigint } {
  const value = exports[FUEL_EXPORT];
  if (!(value instanceof WebAssembly.Global)) {
    throw new AppError(
      "bad_input",
      `Cannot read the fuel of a module: it has no "${FUEL_EXPORT}"`,
      { hint: "Meter the module before it is compiled" },
    );
  }
  return value;
}

function checkFuel(fuel: number): void {
  if (!Number.isSafeInteger(fuel) || fuel < 1 || fuel > FUEL_MAX) {
    throw new AppError(
      "bad_input",
      `Cannot give a module ${fuel} fuel: it must be a whole number from 1`,
    );
  }
}

function placeAppended(module: WasmModule): Appended {
  const take = module.functions + module.imports.length;
  return {
    fuel: module.globals,
    take,
    charges: [1, 2, 3, 4].map((n) => take + n),
  };
}

/** Asks the engine whether the module is right as it came. */
function validate(bytes: Uint8Array<ArrayBuffer>): void {
  if (WebAssembly.validate(bytes)) return;
  let why = "";
  try {
    new WebAssembly.Module(bytes);
  } catch (error) {
    why = error instanceof Error
      ? error.message.replace(/^WebAssembly\.\w+\(\): /, ": ")
      : "";
  }
  throw refusal(`it is not valid WebAssembly${why}`);
}

interface EmitOptions {
  appended: Appended;
  outMax: number;
}

function emitCode(
  module: WasmModule,
  options: EmitOptions & { limits: BodyLimits },
): WasmWriter {
  const { appended, limits, outMax } = options;
  const writer = new WasmWriter(
    Math.ceil((module.code?.end ?? 0) * 1.5) + 1_024,
    outMax,
  );
  const { types, functions, bodyTypes, exported } = module;
  const importedFunctions = module.imports.length;
  const scanner = new BodyScanner({
    types,
    importedFunctions,
    functions,
    stubs: module.exported,
    limits,
  });
  const { code } = module;
  writer.u32(
    bodyTypes.length + importedFunctions + HELPERS + exported.size,
  );
  for (const [n, type] of bodyTypes.entries()) {
    if (code === undefined) throw refusal("it has functions but no code");
    const reader = code.span(code.u32());
    const plan = scanner.scan(reader, type, importedFunctions + n);
    const before = writer.length;
    emitBody(writer, { reader, plan }, appended);
    if (writer.length - before > BODY_BYTES_MAX) {
      throw refusal(
        `a function would be larger than ${BODY_BYTES_MAX} bytes once metered`,
      );
    }
  }
  if (code !== undefined && !code.done) {
    throw refusal("its code section is longer than its code");
  }
  for (const [index, { type, terms }] of module.imports.entries()) {
    emitWrapper(writer, { index, type, terms }, appended);
  }
  const { memory, table, memoryGrow, tableGrow } = LENGTH_PRICES;
  emitTake(writer, appended.fuel);
  for (
    const price of [
      memory,
      table,
      { ...memoryGrow, upTo: module.memoryPagesMax },
      { ...tableGrow, upTo: module.tableEntriesMax },
    ]
  ) emitChargeLength(writer, price, appended.take);
  for (const index of exported.keys()) {
    const type = bodyTypes[index - importedFunctions] ?? { params: [] };
    const params = type.params.length;
    emitStub(writer, { index, params, price: PREPAID }, appended.take);
  }
  return writer;
}

/** All sections in their order, with what is appended to each. */
function emitModule(
  module: WasmModule,
  options: EmitOptions & { code: WasmWriter; fuel: number },
): Uint8Array<ArrayBuffer> {
  const { appended, code, outMax } = options;
  const out = new WasmWriter(module.bytes.length + code.length + 4_096, outMax);
  out.put(0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
  const add = (id: number, extra: number, write: (w: WasmWriter) => void) => {
    const copied = module.copied.get(id);
    out.u8(id);
    const mark = out.open();
    out.u32((copied?.count ?? 0) + extra);
    copied?.copyTo(out);
    write(out);
    out.close(mark);
  };
  const keep = (id: number) => module.copied.get(id)?.copyWhole(out, id);
  add(Section.type, 2, (w) => w.put(0x60, 1, I64, 0, 0x60, 1, I32, 1, I32));
  keep(Section.import);
  const { imports, exported, bodyTypeIndices } = module;
  const appendedCount = imports.length + HELPERS + exported.size;
  add(Section.function, appendedCount, (w) => {
    for (const { typeIndex } of imports) w.u32(typeIndex);
    w.u32(module.types.length);
    for (let n = 1; n < HELPERS; n++) w.u32(module.types.length + 1);
    for (const index of exported.keys()) {
      w.u32(bodyTypeIndices[index - imports.length] ?? 0);
    }
  });
  keep(Section.table);
  keep(Section.memory);
  add(Section.global, 1, (w) => {
    w.put(I64, 1, 0x42);
    w.s64(BigInt(options.fuel));
    w.u8(0x0b);
  });
  add(Section.export, 1, (w) => {
    w.name(FUEL_EXPORT);
    w.u8(3);
    w.u32(appended.fuel);
  });
  keep(Section.start);
  keep(Section.element);
  keep(Section.dataCount);
  out.u8(Section.code);
  out.u32(code.length);
  out.append(code);
  keep(Section.data);
  keep(Section.custom);
  return out.finish();
}
