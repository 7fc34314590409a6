import assert from "node:assert/strict";
import { ModelsConfig, WINDOW_DEFAULT, windowOf } from "./models.ts";

Deno.test("windowOf() knows families, and the configuration knows better", () => {
  const none = ModelsConfig.parse({});
  const rows: [name: string, tokens: number][] = [
    ["anthropic:claude-sonnet-4-5", 200_000],
    ["bedrock:us.anthropic.claude-3-7-sonnet-v1:0", 200_000],
    ["anthropic:claude-opus-4-5", 200_000],
    ["anthropic:claude-haiku-4-5-20251001", 200_000],
    ["bedrock:us.anthropic.claude-opus-4-6-v1", 1_000_000],
    ["openrouter:anthropic/claude-sonnet-4.6", 1_000_000],
    ["anthropic:claude-haiku-5-5", 1_000_000],
    ["openai:gpt-5-mini", 272_000],
    ["openai:gpt-5.4-mini", 272_000],
    ["openai:gpt-5.5-pro", 922_000],
    ["openai:gpt-5.6-sol", 922_000],
    ["openai:gpt-6.1-sol", 922_000],
    ["gemini:gemini-3.8-flash", 1_048_576],
    ["openai:gpt-5.3-chat-latest", 128_000],
    ["bedrock:amazon.nova-2-lite-v1:0", 1_000_000],
    ["bedrock:amazon.nova-lite-v1:0", 300_000],
    ["mistral:open-mixtral-8x7b", 32_768],
    ["mistral:mistral-large-latest", 131_072],
    ["deepseek:deepseek-v4-pro", 1_000_000],
    ["moonshot:moonshot-v1-8k", 8_192],
    ["moonshot:kimi-k2.6", 262_144],
    ["xai:grok-4-1-fast-reasoning", 2_000_000],
    ["xai:grok-4.20", 1_000_000],
    ["xai:grok-4-0709", 256_000],
    ["openai:gpt-4.1-nano", 1_047_576],
    ["openai:gpt-4o-mini", 128_000],
    ["openai:o3", 200_000],
    ["openrouter:google/gemini-2.5-pro", 1_048_576],
    ["ollama:llama3.1:8b", 4_096],
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
