/**
 * Random modules that always end: functions of every kind of control flow and
 * every accepted instruction, driven by a tape of choices (so that a test
 * library can shrink it).
 *
 * Floats are made canonical after each operation, since the bits of a NaN may
 * differ from one compilation to the next.
 */
import { type Instruction, MEMORY, NUMBERS, VECTORS } from "./instructions.ts";

const TYPE: Record<string, string> = {
  i: "i32",
  l: "i64",
  f: "f32",
  d: "f64",
  v: "v128",
};
const OPERATIONS = [...NUMBERS, ...VECTORS];
const BY_RESULT = Object.groupBy(OPERATIONS, ({ gives }) => gives);
const LOADS = Object.groupBy(MEMORY, ({ gives }) => gives);
const STORES = MEMORY.filter(({ gives }) => gives === "");
const FUNCTIONS = 4;
const LOOPS_DEEP = 2;
const TABLE = 8;

/** What a call of the host's function costs. */
export const HOST_PRICE = 2_000;

/** Choices made before, one after the other; when they run out, all zero. */
class Tape {
  readonly #choices: readonly number[];
  #at = 0;
  constructor(choices: readonly number[]) {
    this.#choices = choices;
  }
  below(limit: number): number {
    return (this.#choices[this.#at++] ?? 0) % limit;
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

class FunctionWriter {
  readonly lines: string[] = [];
  readonly #tape: Tape;
  readonly #self: number;
  readonly #counts: boolean;
  #room = 60;
  /** The enclosing labels, innermost last; only a block's is branched to. */
  readonly #labels: ("block" | "loop" | "value")[] = [];
  #loops = 0;

  constructor(tape: Tape, self: number, counts: boolean) {
    this.#tape = tape;
    this.#self = self;
    this.#counts = counts;
  }

  /** One instruction that runs: in the counting twin it is counted first. */
  op(text: string, price = 1): void {
    if (this.#counts) {
      this.lines.push(
        `global.get $count i64.const ${price} i64.add global.set $count`,
      );
    }
    this.lines.push(text);
  }

  /** Structure: not counted. */
  mark(text: string): void {
    this.lines.push(text);
  }

  value(type: string, deep = 0): void {
    const tape = this.#tape;
    if (deep > 4 || this.#room-- < 0) return this.leaf(type);
    switch (tape.below(9)) {
      case 0:
        return this.leaf(type);
      case 1:
        return this.choice(type, deep);
      case 2:
        return this.load(type, deep);
      case 3:
        if (type === "i") return this.reference(deep);
        return this.operation(type, deep);
      case 4:
        return this.call(type, deep);
      case 5:
        this.value(type, deep + 1);
        this.value(type, deep + 1);
        this.value("i", deep + 1);
        return this.op(type === "v" ? `select (result v128)` : "select");
      default:
        return this.operation(type, deep);
    }
  }

  leaf(type: string): void {
    const n = this.#tape.below(1_000_003);
    if (n % 3 === 0) return this.op(`local.get $${type}${n % 2}`);
    if (type === "v") {
      return this.op(`v128.const i32x4 ${n} ${n * 7} ${n % 9} -${n}`);
    }
    const sign = n % 5 === 0 ? "-" : "";
    const tail = (type === "f" || type === "d") && n % 2 ? ".25" : "";
    this.op(`${TYPE[type]}.const ${sign}${n}${tail}`);
  }

  operation(type: string, deep: number): void {
    const operation = this.#tape.of(BY_RESULT[type] ?? []);
    for (const taken of operation.takes) this.value(taken, deep + 1);
    this.op(operation.text);
    this.canonical(operation);
  }

  /** x, or zero where x is not a number. */
  canonical({ text, gives }: Instruction): void {
    if (gives === "f" || gives === "d") {
      const t = TYPE[gives];
      this.op(`local.tee $c${gives}`);
      this.op(`${t}.const 0`);
      this.op(`local.get $c${gives}`);
      this.op(`local.get $c${gives}`);
      this.op(`${t}.eq`);
      return this.op("select");
    }
    if (gives !== "v" || !/^f(32x4|64x2)/.test(text)) return;
    this.op("local.tee $cv");
    this.op("local.get $cv");
    this.op("local.get $cv");
    this.op(`${text.slice(0, 5)}.eq`);
    this.op("v128.and");
  }

  choice(type: string, deep: number): void {
    this.value("i", deep + 1);
    this.op(`if (result ${TYPE[type]})`);
    this.#labels.push("value");
    this.statements(1);
    this.value(type, deep + 1);
    this.mark("else");
    this.value(type, deep + 1);
    this.#labels.pop();
    this.mark("end");
  }

  address(deep: number): void {
    this.value("i", deep + 1);
    // Mostly inside the memory.
    this.op("i32.const 0xffff");
    this.op("i32.and");
  }

  load(type: string, deep: number): void {
    const load = this.#tape.of(LOADS[type] ?? []);
    this.address(deep);
    for (const taken of load.takes.slice(1)) this.value(taken, deep + 1);
    const [name = "", lane = ""] = load.text.split(" ");
    this.op(`${name} offset=${this.#tape.below(64)} ${lane}`);
    this.canonical({
      ...load,
      text: type === "v" ? "f64x2" : load.text,
    });
  }

  reference(deep: number): void {
    switch (this.#tape.below(5)) {
      case 0:
        this.op("i32.const 3");
        this.op("table.get $t");
        return this.op("ref.is_null");
      case 1:
        this.op("ref.null func");
        this.value("i", deep + 1);
        this.op("i32.const 3");
        this.op("i32.and");
        return this.op("table.grow $t");
      case 2:
        return this.op("table.size $t");
      case 3:
        this.op(`ref.func $${this.#tape.of(["f0", "f1", "host"])}`);
        return this.op("ref.is_null");
      default:
        return this.op("memory.size");
    }
  }

  /** Only functions before this one, so that there is no recursion. */
  call(type: string, deep: number): void {
    if (this.#self === 0 || this.#loops > 1 || this.#tape.below(4) === 3) {
      if (type !== "l") return this.operation(type, deep);
      this.value("l", deep + 1);
      return this.op("call $host", HOST_PRICE);
    }
    // In loops only the first, so that the work stays small.
    const callee = this.#tape.below(this.#loops > 0 ? 1 : this.#self);
    this.value("i", deep + 1);
    this.value("l", deep + 1);
    if (this.#tape.below(2)) {
      this.op(`i32.const ${callee}`);
      this.op("call_indirect $t (type $f)");
    } else this.op(`call $f${callee}`);
    if (type === "l") return;
    if (type === "i") return this.op("i32.wrap_i64");
    this.op("drop");
    this.leaf(type);
  }

  statements(most: number): void {
    const count = this.#tape.below(most + 1);
    for (let n = 0; n < count && this.#room > 0; n++) this.statement();
  }

  statement(): void {
    const tape = this.#tape;
    this.#room--;
    switch (tape.below(14)) {
      case 0:
      case 1:
        return this.loop();
      case 2:
        this.op("block");
        this.#labels.push("block");
        this.statements(3);
        this.#labels.pop();
        return this.mark("end");
      case 3:
        return this.branchIf();
      case 4:
        return this.branchTable();
      case 5:
        return this.store();
      case 6:
        return this.bulk();
      case 7:
        return this.tables();
      case 8:
        return this.pair();
      case 9:
        this.value("i");
        this.op("if");
        this.#labels.push("block");
        this.statements(2);
        this.leave();
        this.#labels.pop();
        return this.mark("end");
      case 10:
        this.value("l");
        this.op("global.get $g");
        this.op("i64.xor");
        return this.op("global.set $g");
      case 11:
        this.value("i");
        this.op("i32.const 1");
        this.op("i32.and");
        this.op("memory.grow");
        return this.op("drop");
      default: {
        const type = tape.of([..."ilfdv"]);
        this.value(type);
        return this.op(`local.set $${type}${tape.below(2)}`);
      }
    }
  }

  /** A loop of at most four rounds, in one of the shapes compilers write. */
  loop(): void {
    if (this.#loops >= LOOPS_DEEP) return;
    const counter = `$n${this.#loops++}`;
    const shape = this.#tape.below(3);
    this.op(`i32.const ${1 + this.#tape.below(4)}`);
    this.op(`local.set ${counter}`);
    if (shape === 0) {
      this.#enter("loop", "loop");
      this.statements(4);
      this.#countDown(counter);
      this.op("br_if 0");
    } else if (shape === 1) {
      this.#enter("loop", "loop");
      this.statements(1);
      this.#countDown(counter);
      this.#enter("if", "block");
      this.statements(4);
      this.op("br 1");
      this.#leave();
    } else {
      this.#enter("block", "block");
      this.#enter("loop", "loop");
      this.#countDown(counter);
      this.op("i32.eqz");
      this.op("br_if 1");
      this.statements(4);
      this.op("br 0");
      this.#leave();
    }
    this.#leave();
    this.#loops--;
  }

  #countDown(counter: string): void {
    this.op(`local.get ${counter}`);
    this.op("i32.const 1");
    this.op("i32.sub");
    this.op(`local.tee ${counter}`);
  }

  #enter(text: string, label: "block" | "loop"): void {
    this.op(text);
    this.#labels.push(label);
  }

  #leave(): void {
    this.#labels.pop();
    this.mark("end");
  }

  /** How far out a block's label is, or -1. */
  label(): number {
    const blocks = this.#labels.flatMap((kind, at) =>
      kind === "block" ? [this.#labels.length - 1 - at] : []
    );
    return blocks.length === 0 ? -1 : this.#tape.of(blocks);
  }

  /** A forward jump at the end of a block's code. */
  leave(): void {
    const label = this.label();
    switch (this.#tape.below(6)) {
      case 0:
        if (label >= 0) this.op(`br ${label}`);
        return;
      case 1:
        this.value("l");
        return this.op("return");
      case 2:
        return this.tail();
      case 3:
        if (this.#tape.below(20) === 19) this.op("unreachable");
    }
  }

  tail(): void {
    if (this.#self === 0 || this.#loops > 0) return;
    const callee = this.#tape.below(this.#self);
    this.value("i");
    this.value("l");
    if (this.#tape.below(2)) {
      this.op(`i32.const ${callee}`);
      return this.op("return_call_indirect $t (type $f)");
    }
    this.op(`return_call $f${callee}`);
  }

  branchIf(): void {
    const label = this.label();
    this.value("i");
    if (label < 0) {
      // Out of the function, with its result.
      this.op("local.set $i0");
      this.op("local.get $l1");
      this.op("local.get $i0");
      this.op(`br_if ${this.#labels.length}`);
      return this.op("drop");
    }
    this.op(`br_if ${label}`);
  }

  branchTable(): void {
    for (let n = 0; n < 3; n++) {
      this.op("block");
      this.#labels.push("block");
    }
    this.value("i");
    this.op("i32.const 3");
    this.op("i32.and");
    this.op(`br_table 0 1 2 ${this.#labels.length - 1 - this.#outermost()}`);
    for (let n = 0; n < 3; n++) {
      this.#labels.pop();
      this.mark("end");
      if (n < 2) this.simple();
    }
  }

  /** The depth of the outermost block: a far jump out of loops. */
  #outermost(): number {
    return this.#labels.indexOf("block");
  }

  simple(): void {
    const type = this.#tape.of([..."ilfdv"]);
    this.value(type, 2);
    this.op(`local.set $${type}1`);
  }

  store(): void {
    const store = this.#tape.of(STORES);
    this.address(2);
    for (const taken of store.takes.slice(1)) this.value(taken, 2);
    const [name = "", lane = ""] = store.text.split(" ");
    this.op(`${name} offset=${this.#tape.below(64)} ${lane}`);
  }

  bulk(): void {
    const kind = this.#tape.below(4);
    if (kind === 3) return this.op("data.drop $spare");
    this.address(3);
    this.value("i", 4);
    this.op(`i32.const ${kind === 0 ? 3 : 255}`);
    this.op("i32.and");
    this.value("i", 4);
    this.op(`i32.const ${kind === 0 ? 3 : 255}`);
    this.op("i32.and");
    this.op(["memory.init $data", "memory.copy", "memory.fill"][kind] ?? "nop");
  }

  tables(): void {
    const kind = this.#tape.below(5);
    if (kind === 4) return this.op("elem.drop $spare");
    if (kind === 3) {
      this.op(`i32.const ${FUNCTIONS + 1}`);
      this.op("ref.func $host");
      return this.op("table.set $t");
    }
    this.op(`i32.const ${FUNCTIONS + 1}`);
    this.op(kind === 2 ? "ref.null func" : "i32.const 0");
    this.value("i", 4);
    this.op("i32.const 1");
    this.op("i32.and");
    this.op(
      ["table.init $t $elem", "table.copy $t $t", "table.fill $t"][kind] ?? "",
    );
  }

  /** A block that takes and gives two values. */
  pair(): void {
    this.value("i", 3);
    this.value("l", 3);
    this.op("block (param i32 i64) (result i64 i32)");
    this.op("local.set $l0");
    this.op("local.set $i0");
    this.op("local.get $l0");
    this.op("local.get $i0");
    this.mark("end");
    this.op("local.set $i1");
    this.op("local.set $l1");
  }

  text(): string {
    this.statements(8);
    this.value("l");
    return `(func $f${this.#self} (export "f${this.#self}") (type $f)
      (param $i0 i32) (param $l0 i64) (result i64)
      (local $i1 i32) (local $l1 i64) (local $f0 f32) (local $f1 f32)
      (local $d0 f64) (local $d1 f64) (local $v0 v128) (local $v1 v128)
      (local $cf f32) (local $cd f64) (local $cv v128)
      (local $n0 i32) (local $n1 i32)
      ${this.lines.join("\n      ")})`;
  }
}

/** A module, and its twin that counts what it runs in the export `count`. */
export function generate(
  choices: readonly number[],
  options: { counts?: boolean } = {},
): string {
  const tape = new Tape(choices);
  const functions = Array.from(
    { length: FUNCTIONS },
    (_, n) => new FunctionWriter(tape, n, options.counts ?? false).text(),
  );
  const names = functions.map((_, n) => `$f${n}`).join(" ");
  return `(module
    (type $f (func (param i32 i64) (result i64)))
    (import "host" "f" (func $host (param i64) (result i64)))
    (memory (export "memory") 2 3)
    (table $t (export "table") ${TABLE} 32 funcref)
    (global $g (export "g") (mut i64) (i64.const 0))
    (global $count (export "count") (mut i64) (i64.const 0))
    (export "host" (func $host))
    (elem (table $t) (i32.const 0) func ${names})
    (elem $elem funcref (ref.func $f0) (ref.null func) (ref.func $host))
    (elem $spare func $host)
    (elem declare func ${names} $host)
    (data (i32.const 16) "a text in the memory of the module")
    (data $data "another text")
    (data $spare "a spare text")
    ${functions.join("\n    ")})`;
}
