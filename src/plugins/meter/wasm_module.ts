/**
 * Reads a WebAssembly module section by section: what it has, what it imports,
 * and each section as it is to be written again.
 *
 * Never: a section or a kind of import that is not known; a count without a
 * limit; an import that the list does not name.
 *
 * @module
 */
import type { MeterImport } from "../imports.ts";
import type { FunctionType } from "./scan.ts";
import { isReferenceType, isValueType } from "./opcodes.ts";
import { refusal, WasmReader, WasmWriter } from "./wasm_reader.ts";

/** Section numbers. */
export const Section = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const;

/** The order in which sections stand. */
const ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];

/** What the reading is held to. */
export interface ReadOptions {
  limits: {
    bytesMax: number;
    typesMax: number;
    importsMax: number;
    functionsMax: number;
    globalsMax: number;
    exportsMax: number;
    tablesMax: number;
    segmentsMax: number;
    elementsMax: number;
  };
  imports: readonly MeterImport[];
  memoryPagesMax: number;
  tableEntriesMax: number;
  /** Functions that come between the imports' wrappers and the exports' stubs. */
  helpers: number;
  /** The export name that must be free. */
  reserved: string;
}

/** An imported function: its type, and on what terms it may be called. */
export interface ImportedFunction {
  typeIndex: number;
  type: FunctionType;
  terms: MeterImport;
}

/** A module as the meter needs it. */
export interface WasmModule {
  bytes: Uint8Array;
  types: readonly FunctionType[];
  imports: readonly ImportedFunction[];
  /** Imported and own. */
  functions: number;
  globals: number;
  /** The types of its own functions, in order. */
  bodyTypes: readonly FunctionType[];
  /** The same as numbers. */
  bodyTypeIndices: readonly number[];
  /** Its own functions that it exports, each with the stub it is reached by. */
  exported: ReadonlyMap<number, number>;
  /** The bodies, the count already read. */
  code: WasmReader | undefined;
  /** Every other section, ready to be written. */
  copied: ReadonlyMap<number, CopiedSection>;
  memoryPagesMax: number;
  tableEntriesMax: number;
}

/** A section's content after its count, with indices replaced on the way. */
class CopiedSection {
  readonly count: number;
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  readonly #hasCount: boolean;
  readonly #patches: readonly Patch[];

  constructor(
    from: { bytes: Uint8Array; start: number; end: number },
    options: { count?: number; patches?: readonly Patch[] } = {},
  ) {
    this.#bytes = from.bytes;
    this.#start = from.start;
    this.#end = from.end;
    this.#hasCount = options.count !== undefined;
    this.count = options.count ?? 0;
    this.#patches = options.patches ?? [];
  }

  /** The entries, without the count. */
  copyTo(writer: WasmWriter): void {
    let from = this.#start;
    for (const { pos, length, index } of this.#patches) {
      writer.copy(this.#bytes, from, pos);
      writer.u32(index);
      from = pos + length;
    }
    writer.copy(this.#bytes, from, this.#end);
  }

  /** The section with its number, length and count. */
  copyWhole(writer: WasmWriter, id: number): void {
    writer.u8(id);
    const mark = writer.open();
    if (this.#hasCount) writer.u32(this.count);
    this.copyTo(writer);
    writer.close(mark);
  }
}

interface Patch {
  pos: number;
  length: number;
  index: number;
}

/** Reads a module. @throws `bad_input` */
export function readModule(
  bytes: Uint8Array,
  options: ReadOptions,
): WasmModule {
  const { bytesMax } = options.limits;
  if (bytes.length > bytesMax) {
    throw refusal(`it is ${bytes.length} bytes, the limit is ${bytesMax}`, {
      details: { what: "bytes", count: bytes.length, max: bytesMax },
    });
  }
  const magic = [0x00, 0x61, 0x73, 0x6d];
  if (magic.some((byte, n) => bytes[n] !== byte)) {
    throw refusal("it is not WebAssembly");
  }
  const version = [...bytes.subarray(4, 8)].join(".");
  if (version !== "1.0.0.0") {
    throw refusal(
      bytes.length < 8
        ? `it is cut off at byte ${bytes.length}`
        : `its version is not 1 but ${version}`,
      { hint: "A component must be turned into a core module first" },
    );
  }
  return new ModuleReading(bytes, options).read();
}

class ModuleReading {
  readonly #bytes: Uint8Array;
  readonly #options: ReadOptions;
  readonly #copied = new Map<number, CopiedSection>();
  readonly #types: FunctionType[] = [];
  readonly #imports: ImportedFunction[] = [];
  readonly #bodyTypes: FunctionType[] = [];
  readonly #bodyTypeIndices: number[] = [];
  /** Exported functions and their stubs, in the order of the stubs. */
  readonly #exported = new Map<number, number>();
  #functions = 0;
  #globals = 0;
  #code: WasmReader | undefined;
  #patches: Patch[] = [];

  constructor(bytes: Uint8Array, options: ReadOptions) {
    this.#bytes = bytes;
    this.#options = options;
  }

  read(): WasmModule {
    const reader = new WasmReader(this.#bytes, 8);
    let last = -1;
    // The function section is read before anything can mention a function.
    while (!reader.done) {
      const id = reader.u8();
      const start = reader.pos;
      const section = reader.span(reader.u32());
      if (id === Section.custom) {
        this.#custom(section);
        continue;
      }
      const order = ORDER.indexOf(id);
      if (order < 0) {
        throw refusal(
          id === 13
            ? "it uses exceptions, which are not accepted"
            : `an unknown section ${id} at byte ${start - 1}`,
        );
      }
      if (order <= last) {
        throw refusal(`section ${id} at byte ${start - 1} is out of order`);
      }
      last = order;
      this.#section(id, section);
    }
    return {
      bytes: this.#bytes,
      types: this.#types,
      imports: this.#imports,
      functions: this.#functions,
      globals: this.#globals,
      bodyTypes: this.#bodyTypes,
      bodyTypeIndices: this.#bodyTypeIndices,
      exported: this.#exported,
      code: this.#code,
      copied: this.#copied,
      memoryPagesMax: this.#options.memoryPagesMax,
      tableEntriesMax: this.#options.tableEntriesMax,
    };
  }

  #section(id: number, reader: WasmReader): void {
    this.#patches = [];
    const { start } = reader;
    switch (id) {
      case Section.type:
        return this.#vector(id, reader, "types", () => this.#type(reader));
      case Section.import:
        return this.#vector(id, reader, "imports", () => this.#import(reader));
      case Section.function:
        return this.#vector(id, reader, "functions", () => {
          const index = reader.u32();
          this.#bodyTypes.push(this.#typeAt(index));
          this.#bodyTypeIndices.push(index);
          this.#functions++;
        });
      case Section.table:
        return this.#tables(reader);
      case Section.memory:
        return this.#memory(reader);
      case Section.global:
        return this.#vector(id, reader, "globals", () => this.#global(reader));
      case Section.export:
        return this.#vector(id, reader, "exports", () => this.#export(reader));
      case Section.start:
        this.#functionIndex(reader);
        return this.#copy(id, reader, { start });
      case Section.element:
        return this.#elements(reader);
      case Section.code: {
        const count = reader.count(
          "functions",
          this.#options.limits.functionsMax,
        );
        if (count !== this.#bodyTypes.length) {
          throw refusal(
            `it declares ${this.#bodyTypes.length} functions and has ${count}`,
          );
        }
        this.#code = reader;
        return;
      }
      case Section.data:
        reader.count("data segments", this.#options.limits.segmentsMax);
        reader.skip(reader.end - reader.pos);
        return this.#copy(id, reader, { start });
      default:
        reader.skip(reader.end - reader.pos);
        return this.#copy(id, reader, { start });
    }
  }

  /** Keeps the names, for readable traps; drops everything else. */
  #custom(reader: WasmReader): void {
    const start = reader.pos;
    if (reader.name() !== "name") return;
    this.#copied.set(
      Section.custom,
      new CopiedSection({ bytes: this.#bytes, start, end: reader.end }),
    );
  }

  #vector(
    id: number,
    reader: WasmReader,
    what: "types" | "imports" | "functions" | "globals" | "exports",
    each: () => void,
  ): void {
    const count = reader.count(what, this.#options.limits[`${what}Max`]);
    const start = reader.pos;
    for (let n = 0; n < count; n++) each();
    this.#copy(id, reader, { count, start });
  }

  #copy(
    id: number,
    reader: WasmReader,
    from: { start: number; count?: number },
  ): void {
    if (!reader.done) {
      throw refusal(
        `section ${id} ends at byte ${reader.pos}, not ${reader.end}`,
      );
    }
    const { start, ...count } = from;
    this.#copied.set(
      id,
      new CopiedSection({ bytes: this.#bytes, start, end: reader.end }, {
        ...count,
        patches: this.#patches,
      }),
    );
  }

  #type(reader: WasmReader): void {
    const form = reader.u8();
    if (form !== 0x60) {
      throw refusal(
        `type ${this.#types.length} is not a function type`,
        { hint: "Build it without garbage collection" },
      );
    }
    this.#types.push({
      params: this.#valueTypes(reader),
      results: this.#valueTypes(reader),
    });
  }

  #valueTypes(reader: WasmReader): number[] {
    const count = reader.count("values in one type", 1_000);
    return Array.from({ length: count }, () => this.#valueType(reader));
  }

  #valueType(reader: WasmReader): number {
    const byte = reader.u8();
    if (!isValueType(byte)) {
      throw refusal(`an unknown value type at byte ${reader.pos - 1}`);
    }
    return byte;
  }

  #typeAt(index: number): FunctionType {
    const type = this.#types[index];
    if (type === undefined) throw refusal(`type ${index} does not exist`);
    return type;
  }

  #import(reader: WasmReader): void {
    const module = reader.name();
    const name = reader.name();
    const kind = reader.u8();
    if (kind !== 0) {
      const what = ["", "table", "memory", "global", "tag"][kind] ?? "thing";
      throw refusal(
        `it imports the ${what} "${name}" from "${module}", and only functions may be imported`,
      );
    }
    const terms = this.#options.imports.find((row) =>
      row.module === module && row.name === name
    );
    if (terms === undefined) {
      throw refusal(
        `it imports "${name}" from "${module}", which is not granted`,
        {
          hint: "Grant what it wants, or build it without that function",
          details: { module, name },
        },
      );
    }
    const typeIndex = reader.u32();
    const type = this.#typeAt(typeIndex);
    checkImportType(type, terms);
    this.#imports.push({ typeIndex, type, terms });
    this.#functions++;
  }

  #tables(reader: WasmReader): void {
    const { limits: { tablesMax }, tableEntriesMax } = this.#options;
    const count = reader.count("tables", tablesMax);
    const out = new WasmWriter(16 * count);
    for (let n = 0; n < count; n++) {
      const type = reader.u8();
      if (!isReferenceType(type)) {
        throw refusal(`table ${n} is of an unknown type`);
      }
      out.u8(type);
      this.#limits(reader, out, {
        what: "table",
        unit: "entries",
        max: tableEntriesMax,
      });
    }
    this.#rewritten(Section.table, reader, { count, out });
  }

  #memory(reader: WasmReader): void {
    const count = reader.count("memories", 1);
    const out = new WasmWriter(16);
    const max = this.#options.memoryPagesMax;
    for (let n = 0; n < count; n++) {
      this.#limits(reader, out, { what: "memory", unit: "pages", max });
    }
    this.#rewritten(Section.memory, reader, { count, out });
  }

  #limits(
    reader: WasmReader,
    out: WasmWriter,
    of: { what: string; unit: string; max: number },
  ): void {
    const flags = reader.u8();
    if (flags > 1) {
      throw refusal(
        `its ${of.what} is ${
          flags === 3 ? "shared between threads" : "of a kind not accepted"
        } (flags ${flags})`,
      );
    }
    const min = reader.u32();
    const max = flags === 1 ? reader.u32() : of.max;
    if (min > of.max) {
      throw refusal(
        `its ${of.what} begins with ${min} ${of.unit}, the limit is ${of.max}`,
        { details: { what: of.what, count: min, max: of.max } },
      );
    }
    out.u8(1);
    out.u32(min);
    out.u32(Math.min(max, of.max));
  }

  #rewritten(
    id: number,
    reader: WasmReader,
    to: { count: number; out: WasmWriter },
  ): void {
    if (!reader.done) throw refusal(`section ${id} is longer than its content`);
    const { bytes, length } = to.out;
    this.#copied.set(
      id,
      new CopiedSection({ bytes, start: 0, end: length }, { count: to.count }),
    );
  }

  #global(reader: WasmReader): void {
    this.#valueType(reader);
    if (reader.u8() > 1) {
      throw refusal(
        "a global is shared between threads, which is not accepted",
      );
    }
    this.#constant(reader);
    this.#globals++;
  }

  #export(reader: WasmReader): void {
    const name = reader.name();
    if (name === this.#options.reserved) {
      throw refusal(`it exports "${name}", which is the meter's own name`);
    }
    const kind = reader.u8();
    if (kind === 0) this.#exportedFunction(reader);
    else if (kind <= 3) reader.u32();
    else throw refusal(`export "${name}" is of an unknown kind ${kind}`);
  }

  /** Calls pay for the beginning of what they call; the host's do by a stub. */
  #exportedFunction(reader: WasmReader): void {
    const pos = reader.pos;
    const index = reader.u32();
    const imported = this.#imports.length;
    let to = this.#functions + index;
    if (index >= imported) {
      const next = this.#functions + imported + this.#options.helpers +
        this.#exported.size;
      to = this.#exported.get(index) ?? next;
      this.#exported.set(index, to);
    }
    this.#patches.push({ pos, length: reader.pos - pos, index: to });
  }

  /** An index of a function outside of code: an import's becomes its wrapper's. */
  #functionIndex(reader: WasmReader): void {
    const pos = reader.pos;
    const index = reader.u32();
    if (index >= this.#imports.length) return;
    const length = reader.pos - pos;
    this.#patches.push({ pos, length, index: this.#functions + index });
  }

  #constant(reader: WasmReader): void {
    while (true) {
      // Bounded by the section: every turn takes a byte.
      const opcode = reader.u8();
      if (opcode === 0x0b) return;
      if (opcode === 0x41 || opcode === 0x23) reader.skipLeb(5);
      else if (opcode === 0x42) reader.skipLeb(10);
      else if (opcode === 0x43) reader.skip(4);
      else if (opcode === 0x44) reader.skip(8);
      else if (opcode === 0xd2) this.#functionIndex(reader);
      else if (opcode === 0xd0) {
        if (!isReferenceType(reader.u8())) throw this.#badConstant(reader);
      } else if (opcode === 0xfd) {
        if (reader.u32() !== 12) throw this.#badConstant(reader);
        reader.skip(16);
      } else if (
        !(opcode >= 0x6a && opcode <= 0x6c || opcode >= 0x7c && opcode <= 0x7e)
      ) throw this.#badConstant(reader);
    }
  }

  #badConstant(reader: WasmReader): Error {
    return refusal(`an unknown constant expression at byte ${reader.pos - 1}`);
  }

  #elements(reader: WasmReader): void {
    const { segmentsMax, elementsMax } = this.#options.limits;
    const count = reader.count("element segments", segmentsMax);
    const start = reader.pos;
    let room = elementsMax;
    for (let n = 0; n < count; n++) {
      const flags = reader.u32();
      if (flags > 7) {
        throw refusal(`element segment ${n} is of an unknown kind`);
      }
      const isActive = (flags & 1) === 0;
      const isExplicit = (flags & 2) !== 0;
      const areExpressions = (flags & 4) !== 0;
      if (isActive) {
        if (isExplicit) reader.u32();
        this.#constant(reader);
      }
      // The kind or type is left out only for the plainest active segments.
      if (!isActive || isExplicit) reader.u8();
      const entries = reader.count("elements", room);
      room -= entries;
      for (let entry = 0; entry < entries; entry++) {
        if (areExpressions) this.#constant(reader);
        else this.#functionIndex(reader);
      }
    }
    this.#copy(Section.element, reader, { count, start });
  }
}

/** Numbers only: a reference from outside would be a function without a wrapper. */
function checkImportType(type: FunctionType, terms: MeterImport): void {
  const isNumber = (byte: number) => byte >= 0x7c && byte <= 0x7f;
  const isFor = (byte: number | undefined) => byte === 0x7f || byte === 0x7e;
  const takesNumbers = [...type.params, ...type.results].every(isNumber);
  const hasLength = terms.length === undefined ||
    isFor(type.params[terms.length.param]);
  const canAnswer = terms.answer === undefined ||
    type.results.length === 1 && type.results[0] === 0x7f;
  if (!takesNumbers || !hasLength || !canAnswer) {
    throw refusal(
      `it imports "${terms.name}" from "${terms.module}" with a type it does not have`,
    );
  }
}
