import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../core/errors.ts";
import { evalMath } from "./math.ts";

Deno.test("evalMath() computes what arithmetic says", async (t) => {
  const rows: [expression: string, want: number][] = [
    ["1+2*3", 7],
    ["(1+2)*3", 9],
    ["2^3^2", 512],
    ["2 ** 10", 1024],
    ["-2 + 5", 3],
    ["10 % 4", 2],
    ["sqrt(16) + max(1, 7, 3)", 11],
    ["2 * PI", 2 * Math.PI],
    ["6 ÷ 2 × 4 − 1", 11],
    ["1e3 / 4", 250],
    ["-2^2", -4],
    ["(-2)^2", 4],
    ["((-2))^2", 4],
    ["2 * (-(1+2))^2", 18],
    ["-sqrt(4)^2", -4],
    ["2^-1", 0.5],
  ];
  for (const [expression, want] of rows) {
    await t.step(expression, async () => {
      assert.equal(await evalMath(expression), want);
    });
  }
});

Deno.test("evalMath() refuses everything that is not arithmetic", async (t) => {
  const rows = [
    "",
    "x",
    "constructor",
    "__proto__",
    "toString()",
    "a.b",
    "[1,2]",
    "1; 2",
    "'text'",
    "this",
    "(1",
    "1 ? 2 : 3",
    "sqrt.call(1)",
    "1 == 1",
    "globalThis",
  ];
  for (const expression of rows) {
    await t.step(JSON.stringify(expression), async () => {
      await assert.rejects(evalMath(expression), AppError);
    });
  }
});

Deno.test("evalMath() agrees with JavaScript on generated sums", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.tuple(fc.constantFrom("+", "-", "*"), fc.nat(1000)), {
      minLength: 1,
      maxLength: 12,
    }),
    async (terms) => {
      const text = "1" + terms.map(([op, n]) => ` ${op} ${n}`).join("");
      const want = Number(new Function(`return ${text}`)());
      assert.equal(await evalMath(text), want);
    },
  ));
});
