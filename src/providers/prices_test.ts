import assert from "node:assert/strict";
import { priceOf, PRICES, PricesConfig } from "./prices.ts";

const NONE = PricesConfig.parse({});

Deno.test("priceOf() finds a model by the longest beginning of its name", async (t) => {
  const rows: [full: string, kind: string, input: number | undefined][] = [
    ["anthropic:claude-opus-5-5", "anthropic", 4],
    ["anthropic:claude-opus-5", "anthropic", 5],
    ["anthropic:claude-opus-5-20260724", "anthropic", 5],
    ["anthropic:claude-opus-4-1-20250805", "anthropic", 15],
    ["anthropic:claude-opus-4-20250514", "anthropic", 15],
    ["anthropic:claude-opus-4-5-20251101", "anthropic", 5],
    ["anthropic:claude-haiku-4-5", "anthropic", 1],
    ["anthropic:claude-haiku-9", "anthropic", undefined],
    ["bedrock:us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock", 3],
    ["bedrock:anthropic.claude-3-haiku-20240307-v1:0", "bedrock", 0.25],
    ["bedrock:us.amazon.nova-pro-v1:0", "bedrock", 0.8],
    ["openai:gpt-5", "openai", 1.25],
    ["openai:gpt-5-2025-08-07", "openai", 1.25],
    ["openai:gpt-5-mini", "openai", 0.25],
    ["openai:gpt-5.4-mini", "openai", 0.75],
    ["openai:gpt-57", "openai", undefined],
    ["openai:o3", "openai", 2],
    ["openrouter:openai/gpt-4o", "openai", 2.5],
    ["openrouter:anthropic/claude-opus-5.5", "openai", 4],
    ["gemini:gemini-2.5-pro", "gemini", 1.25],
    ["gemini:gemini-2.5-flash-lite", "gemini", 0.1],
    ["vllm:llama-3.3-70b", "openai", undefined],
    ["ollama:llama3.3", "ollama", 0],
    ["home:gpt-oss:20b", "ollama", 0],
    ["demo:demo", "demo", 0],
  ];
  for (const [full, kind, input] of rows) {
    await t.step(full, () => {
      assert.equal(priceOf(full, { kind, config: NONE })?.input, input);
    });
  }
});

Deno.test("priceOf() takes the configuration's word first, the longest that fits", async (t) => {
  const config = PricesConfig.parse({
    "vllm:*": { input: 0, output: 0 },
    "vllm:big-*": { input: 1, output: 2 },
    "gpt-5": { input: 9, output: 9, cached: 1 },
    "ollama:rented": { input: 3, output: 3 },
  });
  const rows: [full: string, kind: string, input: number, because: string][] = [
    ["vllm:llama", "openai", 0, 'prices["vllm:*"]'],
    ["vllm:big-one", "openai", 1, 'prices["vllm:big-*"]'],
    ["openai:gpt-5", "openai", 9, 'prices["gpt-5"]'],
    ["ollama:rented", "ollama", 3, 'prices["ollama:rented"]'],
  ];
  for (const [full, kind, input, because] of rows) {
    await t.step(full, () => {
      const price = priceOf(full, { kind, config });
      assert.deepEqual([price?.input, price?.because], [input, because]);
    });
  }
  const price = priceOf("openai:gpt-5", { kind: "openai", config });
  assert.deepEqual([price?.cached, price?.cacheWrite], [1, 9]);
});

Deno.test("PricesConfig refuses what is no price", () => {
  for (const bad of [-1, NaN, Infinity, "1", null]) {
    assert.equal(
      PricesConfig.safeParse({ m: { input: bad, output: 1 } }).success,
      false,
    );
  }
  assert.equal(PricesConfig.safeParse({ m: { input: 1 } }).success, false);
});

Deno.test("PRICES has each model once, and dearer output than cached input", () => {
  const names = PRICES.map(({ model }) => model.replaceAll(".", "-"));
  assert.equal(new Set(names).size, names.length);
  for (const { model, rates, long } of PRICES) {
    for (const { input, output, cached } of [rates, ...long ? [long] : []]) {
      assert.ok(input > 0 && output >= input && cached <= input, model);
    }
    if (long) assert.ok(long.input > rates.input, model);
  }
});
