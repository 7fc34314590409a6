import assert from "node:assert/strict";
import process from "node:process";
import { AppError } from "../../core/errors.ts";
import { MEMORY, NUMBERS, VECTORS } from "../../../tests/wasm/instructions.ts";
import { openWat, type Wat } from "../../../tests/wasm/wat.ts";
import { EXTISM_IMPORTS, importsFor, type MeterImport } from "../imports.ts";
import {
  FUEL_DEFAULT,
  FUEL_EXPORT,
  isOutOfFuel,
  meter,
  type MeterPolicy,
  readFuel,
  setFuel,
} from "./meter.ts";
import { Kind, MAIN, MISC, SIMD } from "./opcodes.ts";

let wat: Wat;
Deno.test.beforeAll(async () => {
  wat = await openWat();
});

const HOST: MeterImport = { module: "host", name: "f", price: 2_000 };
const POLICY: MeterPolicy = { imports: [HOST] };
const BOMB_MS = 2_000;

type Call = (...args: unknown[]) => unknown;

function instantiate(
  bytes: Uint8Array<ArrayBuffer>,
  host: Record<string, Call> = { f: (x) => x },
): WebAssembly.Exports & Record<string, Call> {
  const { exports } = new WebAssembly.Instance(
    new WebAssembly.Module(bytes),
    { host },
  );
  return exports as WebAssembly.Exports & Record<string, Call>;
}

function metered(text: string, policy: MeterPolicy = POLICY) {
  const out = meter(wat.assemble(text), policy);
  wat.check(out);
  return out;
}

function refused(bytes: Uint8Array<ArrayBuffer>, why: RegExp, policy = POLICY) {
  assert.throws(() => meter(bytes, policy), (error) => {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.code, "bad_input");
    assert.match(error.message, /^Cannot meter the module: /);
    assert.match(error.message, why);
    assert.doesNotMatch(error.message, /\.$/);
    return true;
  });
}

/** What a call used up. */
function spent(exports: WebAssembly.Exports, call: () => unknown): number {
  setFuel(exports, FUEL_DEFAULT);
  call();
  return FUEL_DEFAULT - readFuel(exports);
}

const loop = (body: string, before = "") =>
  `(module
    (import "host" "f" (func $import (param i64) (result i64)))
    (memory 1024) (table $t 1000 funcref) (type $v (func))
    (elem declare func $nothing) (elem (i32.const 0) $nothing)
    (data $d "text") (elem $e func $nothing)
    (func $nothing)
    (func (export "run") (local $i i32) (local $j i64) ${before}
      (loop $l ${body} (br $l))))`;

const BOMBS: Record<string, string> = {
  "an empty loop": loop(""),
  "a loop that is tested first": loop(
    `(loop $m (if (i32.eqz (local.get $i)) (then ${
      "nop ".repeat(200)
    } (br $m))))`,
  ),
  "a loop with two ways back": loop(
    `(loop $m (if (i32.eqz (local.get $i)) (then ${
      "nop ".repeat(200)
    } (br $m)) (else ${"nop ".repeat(200)} (br $m))))`,
  ),
  "a counting loop": loop(
    "(local.set $i (i32.add (local.get $i) (i32.const 1)))",
  ),
  "division": loop(
    "(local.set $j (i64.rem_u (i64.const -1) (i64.or (local.get $j) (i64.const 77777))))",
  ),
  "memory.fill of 64 MiB": loop(
    "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000))",
  ),
  "memory.fill of nothing": loop(
    "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0))",
  ),
  "memory.copy of 32 MiB": loop(
    "(memory.copy (i32.const 0) (i32.const 0x2000000) (i32.const 0x2000000))",
  ),
  "memory.init": loop(
    "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))",
  ),
  "memory.grow by a page": loop("(drop (memory.grow (i32.const 1)))"),
  "memory.grow by nothing": loop("(drop (memory.grow (i32.const 0)))"),
  "memory.grow by too much": loop("(drop (memory.grow (i32.const -1)))"),
  "table.grow by one": loop(
    "(drop (table.grow $t (ref.null func) (i32.const 1)))",
  ),
  "table.grow by all": loop(
    "(drop (table.grow $t (ref.func $nothing) (i32.const 99000)))",
  ),
  "table.grow by too much": loop(
    "(drop (table.grow $t (ref.null func) (i32.const -1)))",
  ),
  "table.fill": loop(
    "(table.fill $t (i32.const 0) (ref.func $nothing) (i32.const 1000))",
  ),
  "table.copy": loop(
    "(table.copy $t $t (i32.const 0) (i32.const 500) (i32.const 500))",
  ),
  "table.init": loop(
    "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
  ),
  "table.set": loop("(table.set $t (i32.const 1) (ref.func $nothing))"),
  "calls": loop("(call $nothing)"),
  "indirect calls": loop("(call_indirect $t (type $v) (i32.const 0))"),
  "calls of an import": loop("(drop (call $import (i64.const 1)))"),
  "calls of a function with many locals": `(module
    (func $wide (local ${"i64 ".repeat(9_000)}))
    (func (export "run") (loop $l (call $wide) (br $l))))`,
  "a tree of calls": `(module
    (func $f (param i32) (result i32)
      (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0)) (else
        (i32.add (call $f (i32.sub (local.get 0) (i32.const 1)))
          (call $f (i32.sub (local.get 0) (i32.const 2)))))))
    (func (export "run") (drop (call $f (i32.const 70)))))`,
  ...Object.fromEntries(
    Object.entries({
      "in a branch": "(if (local.get 0) (then SELF SELF))",
      "after a way out": "(br_if 0 (i32.eqz (local.get 0))) SELF SELF",
      "in the head of a loop that is left": `(br_if 0 (i32.eqz (local.get 0)))
        (loop $l SELF SELF (return))`,
      "in the head of a loop with one way back": `
        (br_if 0 (i32.eqz (local.get 0)))
        (loop $l SELF SELF
          (if (i32.eqz (local.get 0)) (then ${"nop ".repeat(200)} (br $l))))`,
      "in a long branch": `(br_if 0 (i32.eqz (local.get 0)))
        (if (local.get 0) (then ${"nop ".repeat(200)} SELF SELF))`,
      "by another's hand": `(br_if 0 (i32.eqz (local.get 0)))
        (call $g (local.get 0)) (call $g (local.get 0))`,
      "through a table": `(br_if 0 (i32.eqz (local.get 0)))
        SELF (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))`,
      "by a tail call": `(br_if 0 (i32.eqz (local.get 0)))
        SELF (return_call $f (i32.sub (local.get 0) (i32.const 1)))`,
    }).map(([what, body]) => [
      `a tree of calls ${what}`,
      `(module (type $t (func (param i32))) (table funcref (elem $f))
        (func $g (param i32) (call $f (i32.sub (local.get 0) (i32.const 1))))
        (func $f (param i32)
          ${
        body.replaceAll(
          "SELF",
          "(call $f (i32.sub (local.get 0) (i32.const 1)))",
        )
      })
        (func (export "run") (call $f (i32.const 70))))`,
    ]),
  ),
  "tail calls in turn": `(module
    (func $a (export "run") (return_call $b)) (func $b (return_call $a)))`,
  "indirect tail calls": `(module (type $v (func)) (table funcref (elem $a $b))
    (func $a (export "run") (return_call_indirect (type $v) (i32.const 1)))
    (func $b (return_call_indirect (type $v) (i32.const 0))))`,
};

Deno.test("a module that does not end runs out of fuel within 2 s", async (t) => {
  for (const [what, text] of Object.entries(BOMBS)) {
    await t.step(what, () => {
      const exports = instantiate(metered(text));
      // Of this thread: a busy machine says nothing about a module.
      const start = process.threadCpuUsage();
      assert.throws(() => exports.run?.(), WebAssembly.RuntimeError);
      const { user, system } = process.threadCpuUsage(start);
      const ms = (user + system) / 1_000;
      assert.ok(isOutOfFuel(exports));
      assert.equal(readFuel(exports), 0);
      assert.ok(ms < BOMB_MS, `${ms} ms`);
    });
  }
  await t.step("recursion ends at the stack or the fuel", () => {
    const exports = instantiate(
      metered(`(module (func $f (export "run") (call $f) (call $f)))`),
    );
    assert.throws(() => exports.run?.());
  });
  await t.step("a start function", () => {
    const bytes = metered(`(module (func $s (loop $l (br $l))) (start $s))`);
    assert.throws(() => instantiate(bytes), WebAssembly.RuntimeError);
  });
});

Deno.test("lengths are charged as unsigned numbers, without turning round", () => {
  const exports = instantiate(metered(`(module (memory 1 2)
    (table $t 1 2 funcref)
    (func (export "fill") (param i32)
      (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "tgrow") (param i32) (result i32)
      (table.grow $t (ref.null func) (local.get 0))))`));
  setFuel(exports, 1_000);
  assert.throws(() => exports.fill?.(-1), /unreachable/);
  assert.ok(isOutOfFuel(exports), "2^32 - 1 bytes are not free");
  const small = spent(exports, () => exports.fill?.(1));
  assert.equal(spent(exports, () => exports.fill?.(65_536)), small + 8_192);
  assert.equal(spent(exports, () => exports.fill?.(0)), small + 512);
  // What cannot succeed does nothing, and is not a trap.
  assert.equal(
    spent(exports, () => assert.equal(exports.grow?.(-1), -1)) < 5_000,
    true,
  );
  assert.equal(
    spent(exports, () => assert.equal(exports.tgrow?.(-1), -1)) < 5_000,
    true,
  );
  assert.ok(spent(exports, () => assert.equal(exports.grow?.(1), 1)) > 2_048);
});

Deno.test("every way to an import pays its price", async (t) => {
  const exports = instantiate(metered(`(module
    (type $f (func (param i64) (result i64)))
    (import "host" "f" (func $h (type $f)))
    (table $t (export "table") 8 funcref)
    (elem (table $t) (i32.const 0) func $h)
    (elem (table $t) (i32.const 1) funcref (ref.func $h))
    (elem $later funcref (ref.func $h))
    (elem declare func $h)
    (global $g (export "global") funcref (ref.func $h))
    (export "exported" (func $h))
    (func (export "call") (param i64) (result i64) (call $h (local.get 0)))
    (func (export "tail") (param i64) (result i64) (return_call $h (local.get 0)))
    (func (export "table0") (param i64) (result i64)
      (call_indirect $t (type $f) (local.get 0) (i32.const 0)))
    (func (export "table1") (param i64) (result i64)
      (call_indirect $t (type $f) (local.get 0) (i32.const 1)))
    (func (export "tailTable") (param i64) (result i64)
      (return_call_indirect $t (type $f) (local.get 0) (i32.const 0)))
    (func (export "set") (param i64) (result i64)
      (table.set $t (i32.const 2) (ref.func $h))
      (call_indirect $t (type $f) (local.get 0) (i32.const 2)))
    (func (export "init") (param i64) (result i64)
      (table.init $t $later (i32.const 3) (i32.const 0) (i32.const 1))
      (call_indirect $t (type $f) (local.get 0) (i32.const 3)))
    (func (export "fromGlobal") (param i64) (result i64)
      (table.set $t (i32.const 4) (global.get $g))
      (call_indirect $t (type $f) (local.get 0) (i32.const 4))))`));
  const ways = [
    "exported",
    "call",
    "tail",
    "table0",
    "table1",
    "tailTable",
    "set",
    "init",
    "fromGlobal",
  ];
  for (const way of ways) {
    await t.step(way, () => {
      const cost = spent(exports, () => assert.equal(exports[way]?.(5n), 5n));
      assert.ok(cost >= 2_000 && cost < 2_700, `${cost}`);
    });
  }
  await t.step("a table's and a global's function, called by the host", () => {
    const fromTable = (exports.table as unknown as WebAssembly.Table).get(0);
    const fromGlobal = (exports.global as unknown as WebAssembly.Global).value;
    for (const f of [fromTable, fromGlobal]) {
      assert.ok(spent(exports, () => f(1n)) >= 2_000);
    }
  });
  await t.step("an imported start function", () => {
    const bytes = metered(
      `(module (import "host" "f" (func $h)) (start $h))`,
    );
    assert.equal(FUEL_DEFAULT - readFuel(instantiate(bytes)), 2_000);
  });
});

Deno.test("every path pays for what it runs, and little more", async (t) => {
  const nops = (count: number) => "nop ".repeat(count);
  const round = 1_000;
  const rows: [
    what: string,
    body: string,
    paths: [arg: number, runs: number][],
  ][] = [
    [
      "a short arm beside a long one",
      `(if (local.get 0) (then ${nops(300)}) (else ${nops(80)}))`,
      [[1, 300], [0, 80]],
    ],
    [
      "a long arm beside a short one",
      `(if (local.get 0) (then ${nops(80)}) (else ${nops(300)}))`,
      [[1, 80], [0, 300]],
    ],
    [
      "a block left early",
      `(block (br_if 0 (local.get 0)) ${nops(300)}) ${nops(70)}`,
      [[1, 70], [0, 370]],
    ],
    [
      "a block left late",
      `(block ${nops(200)} (br_if 0 (local.get 0)) ${nops(90)}) ${nops(300)}`,
      [[1, 500], [0, 590]],
    ],
    [
      "cases of a switch",
      `(block (block (block (br_table 0 1 2 (local.get 0))) ${
        nops(300)
      } (br 1)) ${nops(90)}) ${nops(50)}`,
      [[0, 350], [1, 140], [2, 50]],
    ],
    [
      "a loop that is tested first",
      `(local.set $j (i32.const 10)) (loop $m (if (local.get $j) (then ${
        nops(300)
      } (local.set $j (i32.sub (local.get $j) (i32.const 1))) (br $m))))`,
      [[0, 3_000]],
    ],
    [
      "two ways back",
      `(local.set $j (i32.const 10)) (loop $m ${nops(60)}
        (local.set $j (i32.sub (local.get $j) (i32.const 1)))
        (if (local.get $j) (then (if (local.get 0)
          (then ${nops(300)} (br $m)) (else ${nops(200)} (br $m))))))`,
      [[1, 10 * 60 + 9 * 300], [0, 10 * 60 + 9 * 200]],
    ],
    [
      "a way back out of an inner loop",
      `(local.set $j (i32.const 20)) (loop $m ${nops(60)}
        (loop $n ${nops(30)}
          (local.set $j (i32.sub (local.get $j) (i32.const 1)))
          (br_if $n (i32.gt_u (local.get $j) (i32.const 10)))
          (br_if $m (i32.eq (local.get $j) (i32.const 10)))))`,
      [[0, 2 * 60 + 11 * 30]],
    ],
    [
      "a loop with a dear test that is not entered",
      `(loop $m ${nops(200)} (if (i32.const 0) (then ${nops(300)} (br $m))))`,
      [[0, 200]],
    ],
    [
      "an inner loop",
      `(local.set $j (i32.const 10)) (loop $m ${
        nops(40)
      } (br_if $m (local.tee $j (i32.sub (local.get $j) (i32.const 1)))))`,
      [[0, 400]],
    ],
  ];
  for (const [what, body, paths] of rows) {
    await t.step(what, () => {
      const exports = instantiate(metered(`(module
        (func (export "run") (param i32) (local $i i32) (local $j i32)
          (loop $l ${body}
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
              (i32.const ${round}))))))`));
      for (const [arg, runs] of paths) {
        const cost = spent(exports, () => exports.run?.(arg)) / round;
        assert.ok(cost >= runs, `${what} ${arg}: ${cost} for ${runs}`);
        assert.ok(cost < runs + 220, `${what} ${arg}: ${cost} for ${runs}`);
      }
    });
  }
});

Deno.test("an import's terms: price, length, answer", () => {
  const text = `(module
    (import "host" "alloc" (func $a (param i64) (result i64)))
    (import "host" "wait" (func $w (param i32) (result i32)))
    (func (export "alloc") (param i64) (result i64) (call $a (local.get 0)))
    (func (export "wait") (result i32) (call $w (i32.const 1))))`;
  const imports = [
    {
      module: "host",
      name: "alloc",
      price: 100,
      length: { param: 0, units: 3, per: 4 },
    },
    { module: "host", name: "wait", price: 10, answer: 52 },
  ];
  const wait = () => assert.fail("the host was called");
  const exports = instantiate(metered(text, { imports }), {
    alloc: (x) => x,
    wait,
  });
  const none = spent(exports, () => exports.alloc?.(0n));
  assert.ok(none >= 100 && none < 200);
  assert.equal(spent(exports, () => exports.alloc?.(4_000n)), none + 3_000);
  assert.throws(() => exports.alloc?.(-1n), /unreachable/);
  assert.ok(isOutOfFuel(exports), "2^64 - 1 is not negative");
  setFuel(exports, FUEL_DEFAULT);
  assert.equal(exports.wait?.(), 52);
});

Deno.test("meter() accepts every instruction it claims to know", () => {
  const known = [MAIN, MISC, SIMD].flatMap(({ kinds }) => [...kinds]);
  const computing = [
    Kind.plain,
    Kind.memarg,
    Kind.lane,
    Kind.memargLane,
    Kind.wide,
  ];
  const count = known.filter((kind) => computing.includes(kind as 1)).length;
  const rows = [...NUMBERS, ...VECTORS, ...MEMORY];
  assert.equal(new Set(rows.map(({ text }) => text)).size, rows.length);
  // Beside the rows: nop, drop, select, ref.is_null, v128.const.
  assert.equal(rows.length + 5, count);
  const zero: Record<string, string> = {
    i: "i32.const 9",
    l: "i64.const 9",
    f: "f32.const 9",
    d: "f64.const 9",
    v: "v128.const i64x2 9 9",
  };
  const type: Record<string, string> = {
    i: "i32",
    l: "i64",
    f: "f32",
    d: "f64",
    v: "v128",
  };
  const functions = rows.map(({ text, takes, gives }, n) =>
    `(func (export "f${n}") ${gives && `(result ${type[gives]})`}
      ${[...takes].map((t) => zero[t]).join(" ")} nop ${text})`
  );
  const exports = instantiate(
    metered(`(module (memory 1) ${functions.join("\n")})`),
  );
  const original = instantiate(
    wat.assemble(`(module (memory 1) ${functions.join("\n")})`),
  );
  for (const [n, { gives }] of rows.entries()) {
    if (gives === "v") continue; // not a value in JavaScript
    assert.deepEqual(exports[`f${n}`]?.(), original[`f${n}`]?.());
  }
});

Deno.test("meter() refuses what is not granted, not known or too large", async (t) => {
  const bytes = (text: string) => wat.assemble(text);
  const limited = (limits: MeterPolicy["limits"], more = {}): MeterPolicy => ({
    ...POLICY,
    ...(limits === undefined ? {} : { limits }),
    ...more,
  });
  const raw = (...sections: number[][]) =>
    new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat()]);
  const leb = (
    n: number,
  ) => [(n & 0x7f) | 0x80, (n >> 7 & 0x7f) | 0x80, n >> 14];
  const code = (...body: number[]) => {
    const function_ = [...leb(body.length + 2), 0, ...body, 0x0b];
    const types = [1, 4, 1, 0x60, 0, 0];
    const count = function_.length + 1;
    return raw(types, [3, 2, 1, 0], [10, ...leb(count), 1, ...function_]);
  };
  const times = (count: number, ...of: number[]) =>
    Array.from({ length: count }, () => of).flat();
  const whole = bytes(loop(""));
  const rows: [string, Uint8Array<ArrayBuffer>, RegExp, MeterPolicy?][] = [
    ["nothing", new Uint8Array(), /not WebAssembly/],
    ["a text", new TextEncoder().encode("#!/bin/sh\n"), /not WebAssembly/],
    ["half a header", whole.slice(0, 6), /cut off at byte 6/],
    [
      "a component",
      new Uint8Array([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0]),
      /version is not 1/,
    ],
    ["a module cut off", whole.slice(0, whole.length - 3), /cut off/],
    [
      "too many bytes",
      whole,
      /it is \d+ bytes, the limit is 100/,
      limited({ bytesMax: 100 }),
    ],
    ["an unknown section", raw([14, 0]), /unknown section 14/],
    ["sections out of order", raw([3, 1, 0], [1, 1, 0]), /out of order/],
    ["a section twice", raw([1, 1, 0], [1, 1, 0]), /out of order/],
    ["exceptions: tags", raw([13, 1, 0]), /exceptions/],
    ["exceptions: try", code(0x06, 0x40, 0x0b), /exceptions/],
    ["exceptions: try_table", code(0x1f, 0x40, 0, 0x0b), /exceptions/],
    ["exceptions: throw", code(0x08, 0), /exceptions/],
    ["threads: an atomic", code(0xfe, 0x03, 0), /threads/],
    [
      "threads: shared memory",
      raw([5, 4, 1, 3, 1, 1]),
      /shared between threads/,
    ],
    ["64-bit memory", raw([5, 3, 1, 4, 1]), /not accepted/],
    [
      "two memories",
      raw([5, 5, 2, 0, 1, 0, 1]),
      /has 2 memories, the limit is 1/,
    ],
    [
      "garbage collection: a struct",
      raw([1, 3, 1, 0x5f, 0]),
      /not a function type/,
    ],
    ["garbage collection: code", code(0xfb, 0), /garbage collection/],
    ["typed references: call_ref", code(0x14, 0), /typed function references/],
    ["relaxed SIMD", code(0xfd, 0x80, 0x02), /relaxed/],
    ["an unknown instruction", code(0xff), /unknown instruction 0xff/],
    [
      "an unknown 0xfc instruction",
      code(0xfc, 0x20),
      /unknown instruction 0xfc 32/,
    ],
    [
      "an unknown 0xfd instruction",
      code(0xfd, 0x9a, 0x01),
      /unknown instruction 0xfd 154/,
    ],
    [
      "code that does not fit its types",
      bytes("(module (func (result i32) i64.const 1))"),
      /not valid WebAssembly/,
    ],
    ["code that goes on", code(0x0b, 0x01), /ends at byte/],
    [
      "code that does not end",
      raw([1, 4, 1, 0x60, 0, 0], [3, 2, 1, 0], [10, 5, 1, 3, 0, 2, 0x40]),
      /cut off/,
    ],
    [
      "functions without code",
      raw([1, 4, 1, 0x60, 0, 0], [3, 2, 1, 0]),
      /no code/,
    ],
    [
      "too many functions",
      bytes("(module (func) (func) (func))"),
      /has 3 functions, the limit is 2/,
      limited({ functionsMax: 2 }),
    ],
    [
      "too many types",
      raw([1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]),
      /has 4294967295 types/,
    ],
    [
      "too many imports",
      bytes(`(module (import "host" "f" (func)) (import "host" "f" (func)))`),
      /2 imports, the limit is 1/,
      limited({ importsMax: 1 }),
    ],
    [
      "too many globals",
      bytes("(module (global i32 i32.const 0) (global i32 i32.const 0))"),
      /2 globals, the limit is 1/,
      limited({ globalsMax: 1 }),
    ],
    [
      "too many exports",
      bytes(`(module (func (export "a") (export "b")))`),
      /2 exports, the limit is 1/,
      limited({ exportsMax: 1 }),
    ],
    [
      "too many tables",
      bytes("(module (table 1 funcref) (table 1 funcref))"),
      /2 tables, the limit is 1/,
      limited({ tablesMax: 1 }),
    ],
    [
      "too many segments",
      bytes(`(module (memory 1) (data "a") (data "b"))`),
      /2 data segments, the limit is 1/,
      limited({ segmentsMax: 1 }),
    ],
    [
      "too many elements",
      bytes(
        "(module (table 9 funcref) (elem (i32.const 0) $f $f $f) (func $f))",
      ),
      /3 elements, the limit is 2/,
      limited({ elementsMax: 2 }),
    ],
    [
      "billions of locals",
      raw([1, 4, 1, 0x60, 0, 0], [3, 2, 1, 0], [
        10,
        10,
        1,
        8,
        1,
        0xff,
        0xff,
        0xff,
        0xff,
        0x0f,
        0x7f,
        0x0b,
      ]),
      /has 4294967295 locals, the limit is 10000/,
    ],
    [
      "deep blocks",
      code(...times(1_001, 0x02, 0x40), ...times(1_001, 0x0b)),
      /nest deeper than 1000/,
    ],
    [
      "a wide br_table",
      code(0x41, 0, 0x0e, 0x91, 0x4e, ...times(10_002, 0)),
      /targets in one `br_table`, the limit is 10000/,
    ],
    [
      "a memory that begins too large",
      bytes("(module (memory 1025))"),
      /begins with 1025 pages, the limit is 1024/,
    ],
    [
      "a table that begins too large",
      bytes("(module (table 100001 funcref))"),
      /begins with 100001 entries/,
    ],
    [
      "an import that is not granted",
      bytes(`(module (import "host" "g" (func)))`),
      /imports "g" from "host", which is not granted/,
    ],
    [
      "an import of another module",
      bytes(`(module (import "env" "f" (func)))`),
      /not granted/,
    ],
    [
      "an imported memory",
      bytes(`(module (import "host" "f" (memory 1)))`),
      /the memory "f".*only functions/,
    ],
    [
      "an imported table",
      bytes(`(module (import "host" "f" (table 1 funcref)))`),
      /the table "f"/,
    ],
    [
      "an imported global",
      bytes(`(module (import "host" "f" (global i32)))`),
      /the global "f"/,
    ],
    [
      "an import that gives functions",
      bytes(`(module (import "host" "f" (func (result funcref))))`),
      /with a type it does not have/,
    ],
    [
      "an export of the meter's name",
      bytes(`(module (func (export "__fuel")))`),
      /the meter's own name/,
    ],
    [
      "growth without bound",
      code(...times(20_000, 0x03, 0x40, 0x0b)),
      /larger than/,
      limited({ growthMax: 1 }),
    ],
  ];
  for (const [what, module, why, policy] of rows) {
    await t.step(what, () => refused(module, why, policy));
  }
});

Deno.test("meter() clamps memory and tables, and appends only", () => {
  const text = `(module (import "host" "f" (func))
    (memory (export "m") 1) (table (export "t") 1 funcref)
    (memory.grow) (func (export "a") (result i32) (memory.grow (i32.const 3))))`
    .replace("(memory.grow) ", "");
  const bytes = metered(text, {
    ...POLICY,
    memoryPagesMax: 2,
    tableEntriesMax: 5,
  });
  const exports = instantiate(bytes);
  assert.equal(exports.a?.(), -1);
  assert.equal((exports.t as unknown as WebAssembly.Table).grow(4), 1);
  assert.throws(() => (exports.t as unknown as WebAssembly.Table).grow(1));
  const module = new WebAssembly.Module(bytes);
  assert.deepEqual(
    WebAssembly.Module.exports(module).map(({ name }) => name),
    ["m", "t", "a", FUEL_EXPORT],
  );
  assert.equal(WebAssembly.Module.imports(module).length, 1);
});

Deno.test("meter() keeps names for traps and drops other custom sections", () => {
  const named = (name: string, ...content: number[]) => {
    const all = [name.length, ...new TextEncoder().encode(name), ...content];
    return [0, all.length, ...all];
  };
  const bytes = new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...named("producers", 0),
    ...named("name"),
    ...named("sourceMappingURL", 1, 0x61),
  ]);
  const module = new WebAssembly.Module(meter(bytes, POLICY));
  const count = (name: string) =>
    WebAssembly.Module.customSections(module, name).length;
  assert.deepEqual(["producers", "name", "sourceMappingURL"].map(count), [
    0,
    1,
    0,
  ]);
});

Deno.test("fuel is read, set and refused", () => {
  const exports = instantiate(
    metered(`(module (func (export "run")))`, { ...POLICY, fuel: 5_000 }),
  );
  assert.equal(readFuel(exports), 5_000);
  exports.run?.();
  assert.ok(readFuel(exports) < 5_000);
  setFuel(exports, 77);
  assert.equal(readFuel(exports), 77);
  for (const fuel of [0, -1, 1.5, NaN, 2 ** 53]) {
    assert.throws(() => setFuel(exports, fuel), AppError);
    assert.throws(
      () => meter(wat.assemble("(module)"), { imports: [], fuel }),
      AppError,
    );
  }
  assert.throws(() => readFuel({}), AppError);
});

Deno.test("importsFor() gives what was granted and nothing else", () => {
  const names = (list: readonly MeterImport[]) => list.map(({ name }) => name);
  const least = names(importsFor());
  assert.ok(least.includes("alloc") && least.includes("input_load_u64"));
  const all = importsFor({
    config: true,
    log: true,
    wasi: true,
    user: ["carapace_http", "carapace_emit", "not_ours"],
  });
  for (const { name } of EXTISM_IMPORTS.never) {
    assert.ok(!names(all).includes(name), name);
  }
  for (const name of ["config_get", "log_info", "fd_write", "carapace_http"]) {
    assert.ok(!least.includes(name));
    assert.ok(names(all).includes(name));
  }
  assert.ok(!names(all).includes("not_ours"));
  assert.ok(!names(all).includes("carapace_kv_get"));
});
