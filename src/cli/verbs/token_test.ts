import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { parseBudget } from "./token.ts";

Deno.test("parseBudget() takes dollars, tokens, or one of each", () => {
  for (
    const [text, budget] of [
      ["2", { usdPerDay: 2 }],
      ["$2.50", { usdPerDay: 2.5 }],
      ["0usd", { usdPerDay: 0 }],
      ["1000000USD", { usdPerDay: 1_000_000 }],
      ["500000tokens", { tokensPerDay: 500_000 }],
      ["2usd, 0tokens", { usdPerDay: 2, tokensPerDay: 0 }],
      ["7tokens,$1", { usdPerDay: 1, tokensPerDay: 7 }],
    ] as const
  ) assert.deepEqual(parseBudget(text), budget, text);
});

Deno.test("parseBudget() says what a budget is when it is none", () => {
  for (
    const text of [
      ...["", ",", "ten", "-1", "1e9", "1000000.01", "0x10", "2 usd"],
      ...["1.5tokens", "$1tokens", "1usd,2usd", "1,1", "1tokens,1tokens"],
      ...["99999999999999999tokens", "Infinity", "NaN", "2eur"],
    ]
  ) {
    assert.throws(
      () => parseBudget(text),
      (error) =>
        error instanceof AppError &&
        /2usd,500000tokens/.test(error.hint ?? ""),
      text,
    );
  }
});
