import assert from "node:assert/strict";
import { generate } from "../../tests/wasm/generate.ts";
import { openWat } from "../../tests/wasm/wat.ts";
import { AppError } from "../core/errors.ts";
import { meter } from "./meter/meter.ts";

const HOST = { module: "host", name: "f", price: 2_000 };
const MODULES = 40;
const MUTANTS = 250;
const SLOW_MS = 1_000;

/** A small generator with a seed, so that a failure can be met again. */
function makeRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

/** The spans of the sections, header excluded. */
function sections(bytes: Uint8Array): [start: number, end: number][] {
  const spans: [number, number][] = [];
  let at = 8;
  while (at < bytes.length) {
    const start = at++;
    let size = 0;
    for (let shift = 0;; shift += 7) {
      const byte = bytes[at++] ?? 0;
      size += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    at += size;
    spans.push([start, at]);
  }
  return spans;
}

type Random = (below: number) => number;
type Mutation = (bytes: Uint8Array, random: Random) => Uint8Array;

function joined(parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

const MUTATIONS: readonly Mutation[] = [
  (bytes, random) => {
    const flipped = bytes.slice();
    for (let n = 0; n <= random(4); n++) {
      const at = random(flipped.length);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << random(8));
    }
    return flipped;
  },
  (bytes, random) => {
    const changed = bytes.slice();
    changed[random(bytes.length)] = random(256);
    return changed;
  },
  (bytes, random) => bytes.slice(0, random(bytes.length)),
  (bytes, random) => {
    const at = random(bytes.length);
    const inserted = Uint8Array.from(
      { length: 1 + random(5) },
      () => random(256),
    );
    return joined([bytes.subarray(0, at), inserted, bytes.subarray(at)]);
  },
  (bytes, random) => {
    const at = random(bytes.length);
    return joined([bytes.subarray(0, at), bytes.subarray(at + 1 + random(5))]);
  },
  (bytes, random) => {
    const parts = sections(bytes).map(([start, end]) =>
      bytes.subarray(start, end)
    );
    const [a, b] = [random(parts.length), random(parts.length)];
    const swapped = parts.map((part, n) =>
      (n === a ? parts[b] : n === b ? parts[a] : part) ?? part
    );
    if (random(2)) swapped.splice(random(swapped.length), 1);
    return joined([bytes.subarray(0, 8), ...swapped]);
  },
];

/** Whatever it does, it ends: the original might not. */
function runAll(bytes: Uint8Array<ArrayBuffer>): void {
  try {
    const module = new WebAssembly.Module(bytes);
    const host = { f: (x: unknown) => x };
    const { exports } = new WebAssembly.Instance(module, { host });
    for (const run of Object.values(exports)) {
      if (typeof run === "function") run(3, 9n);
    }
  } catch (error) {
    assert.ok(!(error instanceof WebAssembly.CompileError), String(error));
  }
}

Deno.test("meter() answers any bytes with a valid module or an AppError", async () => {
  const wat = await openWat();
  const random = makeRandom(20_261_122);
  const seen = { valid: 0, refused: 0 };
  const messages = new Set<string>();
  for (let n = 0; n < MODULES; n++) {
    const tape = Array.from({ length: 150 }, () => random(1e7));
    const whole = wat.assemble(generate(tape));
    for (let m = 0; m < MUTANTS; m++) {
      const mutate = MUTATIONS[random(MUTATIONS.length)] as Mutation;
      let mutant = new Uint8Array(mutate(whole, random));
      if (random(4) === 0) mutant = new Uint8Array(mutate(mutant, random));
      const start = performance.now();
      try {
        const out = meter(mutant, { imports: [HOST], fuel: 100_000 });
        assert.ok(WebAssembly.validate(out), `module ${n}, mutant ${m}`);
        assert.ok(WebAssembly.validate(mutant));
        runAll(out);
        seen.valid++;
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        assert.equal(error.code, "bad_input");
        messages.add(error.message.replaceAll(/\d+|".*?"/g, "#"));
        seen.refused++;
      }
      assert.ok(performance.now() - start < SLOW_MS);
    }
  }
  assert.ok(seen.valid > 500 && seen.refused > 3_000, JSON.stringify(seen));
  assert.ok(messages.size > 30, [...messages].join("\n"));
});

Deno.test("meter() answers bytes without any order", () => {
  const random = makeRandom(1);
  for (let n = 0; n < 20_000; n++) {
    const noise = Uint8Array.from({ length: random(64) }, () => random(256));
    const bytes = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...noise]);
    try {
      assert.ok(WebAssembly.validate(meter(bytes, { imports: [] })));
    } catch (error) {
      assert.ok(error instanceof AppError, String(error));
    }
  }
});
