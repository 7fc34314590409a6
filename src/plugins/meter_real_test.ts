import assert from "node:assert/strict";
import createPlugin from "@extism/extism";
import wabtInit from "wabt";
import { compileGuest, modulesOf } from "../../tests/wasm/guests.ts";
import { importsFor } from "./imports.ts";
import {
  FUEL_DEFAULT,
  isOutOfFuel,
  meter,
  readFuel,
  setFuel,
} from "./meter/meter.ts";

const ENV = (name: string, signature: string) =>
  `@external("extism:host/env", "${name}") declare function ${name}${signature};`;

const GUEST = `
${ENV("input_length", "(): u64")}
${ENV("input_load_u8", "(at: u64): u8")}
${ENV("alloc", "(size: u64): u64")}
${ENV("store_u8", "(at: u64, byte: u8): void")}
${ENV("output_set", "(at: u64, size: u64): void")}
export function shout(): i32 {
  const size = input_length();
  let text = "";
  for (let n: u64 = 0; n < size; n++) {
    text += String.fromCharCode(input_load_u8(n)).toUpperCase();
  }
  const block = alloc(text.length);
  for (let n = 0; n < text.length; n++) {
    store_u8(block + n, text.charCodeAt(n) as u8);
  }
  output_set(block, text.length);
  return 0;
}
export function spin(): i32 { while (true) { shout(); } return 0; }
export function hoard(): i32 { while (true) { alloc(1); } return 0; }
export function hoardMuch(): i32 { while (true) { alloc(1 << 26); } return 0; }
`;

type Options = NonNullable<Parameters<typeof createPlugin>[1]>;
type Logger = NonNullable<Options["logger"]>;

/** Extism says on the console that a block was refused. */
const SILENT = Object.fromEntries(
  ["trace", "debug", "info", "warn", "error"].map((level) => [level, () => {}]),
) as unknown as Logger;

async function open(grants = importsFor()) {
  const bytes = meter(await compileGuest(GUEST), { imports: grants });
  // Extism's worker is not used: the host has a worker of its own.
  const plugin = await createPlugin({ wasm: [{ data: bytes }] }, {
    useWasi: false,
    logger: SILENT,
    memory: { maxPages: 1_024 },
  });
  const { exports } = await plugin.getInstance();
  return { plugin, exports };
}

Deno.test("a guest in Extism pays for its work and is told when it cannot", async () => {
  const { plugin, exports } = await open();
  try {
    setFuel(exports, FUEL_DEFAULT);
    const output = await plugin.call("shout", "hello");
    assert.equal(output?.text(), "HELLO");
    const spent = FUEL_DEFAULT - readFuel(exports);
    assert.ok(spent > 100_000 && spent < 300_000, `${spent}`);
    setFuel(exports, spent);
    assert.equal((await plugin.call("shout", "hello"))?.text(), "HELLO");
    for (const name of ["spin", "hoard", "hoardMuch"]) {
      setFuel(exports, FUEL_DEFAULT);
      const start = performance.now();
      await assert.rejects(plugin.call(name, "hello"), /unreachable/, name);
      assert.ok(isOutOfFuel(exports), name);
      const ms = performance.now() - start;
      assert.ok(ms < 8_000, `${name}: ${ms} ms`);
    }
  } finally {
    await plugin.close();
  }
});

Deno.test("an assembler of 600 KB works the same with a meter inside", async () => {
  const source = `(module (func (export "f") (param i32) (result i32)
    (if (result i32) (local.get 0) (then (i32.const 1)) (else (i32.const 2)))))`;
  const assemble = async () => {
    const wabt = await wabtInit();
    const module = wabt.parseWat("a.wat", source);
    try {
      return new Uint8Array(module.toBinary({}).buffer);
    } finally {
      module.destroy();
    }
  };
  let plain: Uint8Array | undefined;
  let paying: Uint8Array | undefined;
  await modulesOf(async () => {
    plain = await assemble();
  });
  await modulesOf(async () => {
    paying = await assemble();
  }, (bytes) =>
    meter(bytes, {
      fuel: 1e12,
      memoryPagesMax: 65_536,
      imports: WebAssembly.Module.imports(new WebAssembly.Module(bytes)).map(
        ({ module, name }) => ({ module, name, price: 2_000 }),
      ),
    }));
  assert.ok(plain !== undefined && plain.length > 40);
  assert.deepEqual(paying, plain);
});
