import assert from "node:assert/strict";
import fc from "fast-check";
import { generate, HOST_PRICE } from "../../tests/wasm/generate.ts";
import { openWat } from "../../tests/wasm/wat.ts";
import { isOutOfFuel, meter, readFuel, setFuel } from "./meter/meter.ts";

const FUEL = 1_000_000_000_000;
const HOST = { module: "host", name: "f", price: HOST_PRICE };
const ARGUMENTS: [number, bigint][] = [[0, 0n], [1, -1n], [77, 1n << 40n]];

interface Outcome {
  results: string[];
  memory: string;
  table: number;
  g: bigint;
}

interface Running {
  exports: Record<string, unknown>;
  call(name: string, args: [number, bigint]): string;
  outcome(results: string[]): Outcome;
}

function start(bytes: Uint8Array<ArrayBuffer>): Running {
  const host = { f: (x: bigint) => x * 3n + 1n };
  const { exports } = new WebAssembly.Instance(
    new WebAssembly.Module(bytes),
    { host },
  );
  return {
    exports,
    call(name, [a, b]) {
      try {
        return String(
          (exports[name] as (a: number, b: bigint) => bigint)(a, b),
        );
      } catch (error) {
        return `trap: ${(error as Error).message}`;
      }
    },
    outcome(results) {
      const memory = new Uint8Array(
        (exports.memory as WebAssembly.Memory).buffer,
      );
      return {
        results,
        memory: `${memory.length} ${
          memory.reduce((h, b) => (h * 31 + b) | 0, 7)
        }`,
        table: (exports.table as WebAssembly.Table).length,
        g: (exports.g as WebAssembly.Global).value,
      };
    },
  };
}

const NAMES = ["f0", "f1", "f2", "f3"];

function runAll(running: Running): Outcome {
  return running.outcome(
    NAMES.flatMap((name) => ARGUMENTS.map((args) => running.call(name, args))),
  );
}

Deno.test("meter() changes nothing a module computes, and charges for all of it", async () => {
  const wat = await openWat();
  const policy = { imports: [HOST], fuel: FUEL };
  const tape = fc.array(fc.nat(10_000_000), { minLength: 40, maxLength: 500 });
  const seen = { results: 0, traps: 0 };
  fc.assert(
    fc.property(tape, (choices) => {
      const original = wat.assemble(generate(choices));
      const metered = meter(original, policy);
      assert.ok(WebAssembly.validate(metered));
      wat.check(metered);
      assert.deepEqual(meter(original, policy), metered, "same bytes");

      const plain = start(original);
      const counting = start(wat.assemble(generate(choices, { counts: true })));
      const paying = start(metered);
      const again = start(metered);
      for (const name of NAMES) {
        for (const args of ARGUMENTS) {
          const before = readFuel(paying.exports as WebAssembly.Exports);
          const want = plain.call(name, args);
          assert.equal(paying.call(name, args), want);
          assert.equal(again.call(name, args), want);
          const after = readFuel(paying.exports as WebAssembly.Exports);
          assert.ok(after < before, "every call costs");
          assert.equal(readFuel(again.exports as WebAssembly.Exports), after);
          const counter = counting.exports.count as WebAssembly.Global;
          counter.value = 0n;
          assert.equal(counting.call(name, args), want);
          const isTrap = want.startsWith("trap");
          seen[isTrap ? "traps" : "results"]++;
          if (!isTrap) assert.ok(before - after >= Number(counter.value));
        }
      }
      assert.deepEqual(paying.outcome([]), plain.outcome([]));
    }),
    { numRuns: 250, seed: 20_261_122 },
  );
  assert.ok(seen.results > 500 && seen.traps > 50, JSON.stringify(seen));
});

Deno.test("a metered module stops wherever its fuel ends, and only then", async () => {
  const wat = await openWat();
  const tape = fc.array(fc.nat(10_000_000), { minLength: 40, maxLength: 300 });
  fc.assert(
    fc.property(
      tape,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (choices, share) => {
        const original = wat.assemble(generate(choices));
        const metered = meter(original, { imports: [HOST], fuel: FUEL });
        const whole = start(metered);
        const want = whole.call("f3", [7, 7n]);
        if (want.startsWith("trap")) return;
        const cost = FUEL - readFuel(whole.exports as WebAssembly.Exports);
        const enough = start(metered);
        setFuel(enough.exports as WebAssembly.Exports, cost);
        assert.equal(enough.call("f3", [7, 7n]), want);
        assert.equal(readFuel(enough.exports as WebAssembly.Exports), 0);
        const short = start(metered);
        setFuel(
          short.exports as WebAssembly.Exports,
          Math.max(1, Math.floor((cost - 1) * share)),
        );
        const got = short.call("f3", [7, 7n]);
        // It may come to its end before the next gate, a few instructions over.
        if (got !== want) assert.equal(got, "trap: unreachable");
        assert.ok(isOutOfFuel(short.exports as WebAssembly.Exports));
      },
    ),
    { numRuns: 100, seed: 7 },
  );
});

Deno.test("meter() keeps the outcome of a whole run", async () => {
  const wat = await openWat();
  fc.assert(
    fc.property(fc.array(fc.nat(10_000_000), { maxLength: 800 }), (choices) => {
      const original = wat.assemble(generate(choices));
      const metered = meter(original, { imports: [HOST], fuel: FUEL });
      assert.deepEqual(runAll(start(metered)), runAll(start(original)));
    }),
    { numRuns: 100, seed: 99 },
  );
});
