/**
 * What the meter costs: time added to compute kernels, size added to modules,
 * speed of rewriting, and how long the default fuel lasts. Prints one JSON
 * object.
 *
 *     deno run --allow-read --allow-env --allow-sys tests/bench/meter_bench.ts
 */
import {
  FUEL_DEFAULT,
  meter,
  readFuel,
  setFuel,
} from "../../src/plugins/meter/meter.ts";
import { compileGuest, modulesOf } from "../wasm/guests.ts";

const ROUNDS = 15;
const PLENTY = Number.MAX_SAFE_INTEGER;
/** Each kernel with its argument: some tens of milliseconds. */
const KERNELS = {
  sha: 20_000,
  matrix: 20,
  sort: 12,
  scan: 30,
  fib: 34,
  sieve: 12,
  interpret: 20_000_000,
  strings: 600,
} as const;

type Kernels = Record<keyof typeof KERNELS, (argument: number) => number>;

function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

async function instantiate(bytes: Uint8Array<ArrayBuffer>) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return instance.exports as unknown as Kernels & WebAssembly.Exports;
}

function time(run: () => unknown): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** The same work without and with a meter, in turns; the fastest of each. */
async function kernels(): Promise<Record<string, unknown>> {
  const source = await Deno.readTextFile(
    new URL("../wasm/kernels.asc", import.meta.url),
  );
  const original = await compileGuest(source, { pages: 64 });
  const metered = meter(original, { imports: [], fuel: PLENTY });
  const plain = await instantiate(original);
  const paying = await instantiate(metered);
  const rows = Object.entries(KERNELS).map(([name, argument]) => {
    const kernel = name as keyof typeof KERNELS;
    let [without, with_, units] = [Infinity, Infinity, 0];
    for (let n = -2; n < ROUNDS; n++) { // two to let the engine optimise
      const a = time(() => plain[kernel](argument));
      setFuel(paying, PLENTY);
      const b = time(() => paying[kernel](argument));
      units = PLENTY - readFuel(paying);
      if (n < 0) continue;
      without = Math.min(without, a);
      with_ = Math.min(with_, b);
    }
    return [kernel, {
      plainMs: round(without),
      meteredMs: round(with_),
      addedPercent: round((with_ / without - 1) * 100),
      fuelLastsMs: round(FUEL_DEFAULT / units * with_, 0),
    }];
  });
  return Object.fromEntries(rows);
}

/** Modules of the field, as their scripts bring them. */
async function rewriting(): Promise<Record<string, unknown>> {
  const scripts = {
    wabt: async () => await (await import("wabt")).default(),
    binaryen: async () => await import("assemblyscript/asc"),
  };
  const rows: [string, unknown][] = [];
  for (const [name, load] of Object.entries(scripts)) {
    for (const bytes of await modulesOf(load)) {
      const imports = WebAssembly.Module.imports(new WebAssembly.Module(bytes))
        .map(({ module, name }) => ({ module, name, price: 2_000 }));
      const policy = { imports, memoryPagesMax: 65_536 };
      let [first, best] = [0, Infinity];
      let out = bytes;
      for (let n = 0; n < 6; n++) {
        const ms = time(() => out = meter(bytes, policy));
        first ||= ms;
        best = Math.min(best, ms);
      }
      rows.push([name, {
        bytes: bytes.length,
        firstMs: round(first),
        megabytesPerSecond: round(bytes.length / 1_000 / best),
        grownPercent: round((out.length / bytes.length - 1) * 100),
      }]);
    }
  }
  return Object.fromEntries(rows);
}

async function main(): Promise<void> {
  // Rewriting first: importing the compiler brings its module with it.
  const result = { rewriting: await rewriting(), kernels: await kernels() };
  console.log(JSON.stringify(result, null, 2));
}

if (import.meta.main) main();
