/**
 * How much each model can be shown at once: a table kept as data, which the
 * configuration can override.
 *
 * Never: a number here is trusted more than a vendor's own refusal.
 *
 * @module
 */
import { z } from "zod";

/** What the configuration says of one model. */
export const ModelConfig = z.strictObject({
  windowTokens: z.int().min(1024).max(100_000_000).optional().describe(
    "Tokens the model can be shown at once, its answer included",
  ),
});

export const ModelsConfig = z.record(
  z.string().min(1).max(256),
  ModelConfig.prefault({}),
).prefault({}).describe(
  "Facts of models by name, provider:model or the model alone",
);
export type ModelsConfig = z.infer<typeof ModelsConfig>;

/** A model's window and who says so. */
export interface ModelWindow {
  tokens: number;
  because: string;
}

/** When the table was last compared with the vendors' documentation. */
export const WINDOWS_AT = "2026-11-22";

/** Assumed of a model nobody told us about. */
export const WINDOW_DEFAULT = 32_768;

/**
 * The first pattern that matches the model's own name, or `provider:model`,
 * holds; where sizes of a family differ, the smallest. Compared on
 * {@linkcode WINDOWS_AT} with: Anthropic "Claude Haiku 5.5", "Claude Opus 4.6",
 * "Claude Haiku 4.5" (platform.claude.com, of October 2026); OpenAI "Compare
 * models" (developers.openai.com) and Google Cloud's card of "GPT 6.1 Sol"; xAI
 * "Grok 4.20" (docs.x.ai); DeepSeek "Models & Pricing" (api-docs.deepseek.com);
 * Google "Gemini 3 Flash", "Gemma" (ai.google.dev); AWS "Nova Lite", "Command R+"
 * (Bedrock user guide); Ollama "Context length" (docs of the server). The rest
 * (Mistral, Moonshot, GLM, Qwen, MiniMax, Llama, Phi) is from lists of third
 * parties.
 */
const WINDOWS: readonly (readonly [name: RegExp, tokens: number])[] = [
  // A local server cuts silently at what it was started with: below 24 GiB of
  // graphics memory that is 4k, unless somebody said more.
  [/^ollama:/, 4_096],
  [/^demo:/, 32_768],
  [/claude-(instant|1|2\.0)/, 100_000],
  [/claude-(fable|mythos)/, 1_000_000],
  [
    /claude-(opus-(4[.-][678]|[5-9])|sonnet-(4[.-]6|[5-9])|haiku-[5-9])/,
    1_000_000,
  ],
  [/claude/, 200_000],
  [/gpt-4\.1/, 1_047_576],
  [/gpt-5.*chat/, 128_000],
  // Of 1,050,000 and 400,000 an answer's 128,000 are kept free: a request that
  // takes more than the rest is refused.
  [/gpt-6|gpt-5\.([4-9]|\d\d)(?!-(mini|nano))/, 922_000],
  [/gpt-5/, 272_000],
  [/gpt-4o|chatgpt-4o|gpt-4-turbo|gpt-4-\d{4}-preview/, 128_000],
  [/gpt-4-32k/, 32_768],
  [/gpt-4/, 8_192],
  [/gpt-3\.5/, 16_385],
  [/gpt-oss/, 131_072],
  [/(^|[:/])o1-(mini|preview)/, 128_000],
  [/(^|[:/])o[134]/, 200_000],
  [/gemini-1\.5-pro/, 2_097_152],
  [/gemini-1\.0|gemini-pro$/, 32_760],
  [/gemini/, 1_048_576],
  [/gemma-?[34]/, 131_072],
  [/gemma/, 8_192],
  [/nova-(premier|2-lite)/, 1_000_000],
  [/nova-(lite|pro)/, 300_000],
  [/nova-micro/, 128_000],
  [/titan-text-express/, 8_192],
  [/llama-?4-scout/, 10_000_000],
  [/llama-?4-maverick/, 1_000_000],
  [/llama-?3[.-][123]|llama3\.[123]/, 131_072],
  [/llama-?3/, 8_192],
  [/codestral|mistral-large-3/, 256_000],
  [/mixtral|mistral-?(7b|saba|tiny)/, 32_768],
  [/mi(s|x)tral|ministral|magistral|devstral|pixtral/, 131_072],
  [/deepseek-(flash|v4)/, 1_000_000],
  [/deepseek/, 128_000],
  [/qwen-?3-max/, 262_144],
  [/qwen-?3|qwq/, 131_072],
  [/qwen/, 32_768],
  [/moonshot-v1-8k/, 8_192],
  [/moonshot-v1-32k/, 32_768],
  [/kimi-k2(\.\d|-(0905|thinking|turbo))/, 262_144],
  [/kimi|moonshot/, 131_072],
  [/glm-(4\.[67]|5)/, 200_000],
  [/glm-4|minimax/, 128_000],
  [/grok-4([.-]1)?-fast/, 2_000_000],
  [/grok-4\.(20|3)/, 1_000_000],
  [/grok-(4|code)/, 256_000],
  [/grok/, 131_072],
  [/command-(r|a)/, 128_000],
  [/phi-?(3|4)/, 16_384],
];

/**
 * The window of a model by its full name. The configuration's word counts,
 * then the table's, then the default.
 */
export function windowOf(name: string, config: ModelsConfig): ModelWindow {
  const model = name.replace(/^[a-z0-9][a-z0-9_-]*[:/]/, "");
  for (const known of [name, model]) {
    const tokens = config[known]?.windowTokens;
    if (tokens !== undefined) {
      return { tokens, because: `models["${known}"].windowTokens` };
    }
  }
  const text = name.toLowerCase();
  const row = WINDOWS.find(([pattern]) => pattern.test(text));
  return row === undefined
    ? { tokens: WINDOW_DEFAULT, because: "the model is not in the table" }
    : { tokens: row[1], because: `the table of ${WINDOWS_AT}` };
}
