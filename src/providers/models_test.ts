import assert from "node:assert/strict";
import { ModelsConfig, WINDOW_DEFAULT, windowOf } from "./models.ts";

Deno.test("windowOf() knows families, and the configuration knows better", () => {
  const none = ModelsConfig.parse({});
  const rows: [name: string, tokens: number][] = [
    ["anthropic:claude-sonnet-4-5", 200_000],
    ["bedrock:us.anthropic.claude-3-7-sonnet-v1:0", 200_000],
    ["openai:gpt-5-mini", 400_000],
    ["openai:gpt-4.1-nano", 1_047_576],
    ["openai:gpt-4o-mini", 128_000],
    ["openai:o3", 200_000],
    ["openrouter:google/gemini-2.5-pro", 1_048_576],
    ["ollama:llama3.1:8b", 8_192],
    ["mine:something-new", WINDOW_DEFAULT],
  ];
  for (const [name, tokens] of rows) {
    assert.equal(windowOf(name, none).tokens, tokens, name);
  }
  const config = ModelsConfig.parse({
    "gpt-5-mini": { windowTokens: 5000 },
    "openai:gpt-5-mini": { windowTokens: 6000 },
  });
  assert.equal(windowOf("openai:gpt-5-mini", config).tokens, 6000);
  assert.deepEqual(windowOf("other:gpt-5-mini", config), {
    tokens: 5000,
    because: 'models["gpt-5-mini"].windowTokens',
  });
});
