import assert from "node:assert/strict";
import fc from "fast-check";
import { costOf, dayEnd, dayOf, dollars, NANO, type Price } from "./cost.ts";
import { addUsage, type Usage } from "./message.ts";

const PRICE: Price = {
  input: 4,
  output: 20,
  cached: 0.2,
  cacheWrite: 5,
  long: { overTokens: 1000, input: 8, output: 30, cached: 0.4, cacheWrite: 10 },
  because: "a test",
};

function usage(change: Partial<Usage>): Usage {
  return {
    inputTokens: 0,
    outputTokens: 0,
    cachedTokens: 0,
    cacheWriteTokens: 0,
    ...change,
  };
}

Deno.test("costOf() prices each kind of token once", async (t) => {
  const rows: [why: string, usage: Partial<Usage>, nano: number][] = [
    ["nothing", {}, 0],
    ["input", { inputTokens: 1000 }, 4_000_000],
    ["output", { outputTokens: 1000 }, 20_000_000],
    ["cached is part of input", { inputTokens: 1000, cachedTokens: 1000 }, 2e5],
    [
      "a cache write is part of input",
      { inputTokens: 1000, cacheWriteTokens: 400, cachedTokens: 100 },
      500 * 4000 + 400 * 5000 + 100 * 200,
    ],
    ["one over the limit is dear", { inputTokens: 1001 }, 1001 * 8000],
    [
      "more cached than input, a vendor's nonsense, is not negative",
      { inputTokens: 1, cachedTokens: 10 },
      2000,
    ],
  ];
  for (const [why, change, nano] of rows) {
    await t.step(why, () => assert.equal(costOf(usage(change), PRICE), nano));
  }
});

Deno.test("costOf() is a whole number and never less than its parts", () => {
  const tokens = fc.nat(1_000_000);
  const rate = fc.double({ min: 0, max: 200, noNaN: true });
  fc.assert(fc.property(
    fc.record({ inputTokens: tokens, outputTokens: tokens }),
    fc.record({ inputTokens: tokens, outputTokens: tokens }),
    fc.record({ input: rate, output: rate, cached: rate, cacheWrite: rate }),
    (a, b, rates) => {
      const price = { ...rates, because: "a test" };
      const [one, two] = [usage(a), usage(b)];
      const whole = costOf(addUsage(one, two), price);
      const parts = costOf(one, price) + costOf(two, price);
      assert.ok(Number.isSafeInteger(whole));
      assert.ok(parts >= whole - 1 && parts <= whole + 2);
    },
  ));
});

Deno.test("dollars() shows what small things cost", () => {
  assert.deepEqual(
    [0, 1234, 0.0042 * NANO, 0.5 * NANO, 5 * NANO, 12.345 * NANO].map(dollars),
    ["$0", "$0.0000012", "$0.0042", "$0.5", "$5.00", "$12.35"],
  );
});

Deno.test("dayOf() and dayEnd() count days by UTC", () => {
  const at = Date.UTC(2026, 10, 22, 23, 59, 59, 999);
  assert.equal(dayOf(at), "2026-11-22");
  assert.equal(dayEnd(at), at + 1);
  assert.equal(dayOf(at + 1), "2026-11-23");
  assert.equal(dayEnd(at + 1), at + 1 + 86_400_000);
});
