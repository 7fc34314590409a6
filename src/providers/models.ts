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
export const WINDOWS_AT = "2026-01-15";

/** Assumed of a model nobody told us about. */
export const WINDOW_DEFAULT = 32_768;

/**
 * The first pattern that matches the model's own name, or `provider:model`,
 * holds. Source: each vendor's model overview, on {@linkcode WINDOWS_AT}.
 */
const WINDOWS: readonly (readonly [name: RegExp, tokens: number])[] = [
  // A local server cuts silently at what it was started with.
  [/^ollama:/, 8_192],
  [/^demo:/, 32_768],
  [/claude-(instant|1|2\.0)/, 100_000],
  [/claude/, 200_000],
  [/gpt-4\.1/, 1_047_576],
  [/gpt-5.*chat/, 128_000],
  [/gpt-5/, 400_000],
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
  [/gemma-?3/, 131_072],
  [/gemma/, 8_192],
  [/nova-(lite|pro|premier)/, 300_000],
  [/nova-micro/, 128_000],
  [/titan-text-express/, 8_192],
  [/llama-?4-scout/, 10_000_000],
  [/llama-?4-maverick/, 1_000_000],
  [/llama-?3[.-][123]|llama3\.[123]/, 131_072],
  [/llama-?3/, 8_192],
  [/codestral/, 256_000],
  [/mi(s|x)tral|ministral|magistral|devstral|pixtral/, 131_072],
  [/deepseek/, 128_000],
  [/qwen-?3|qwq/, 131_072],
  [/qwen/, 32_768],
  [/kimi|moonshot/, 131_072],
  [/glm-4|minimax/, 128_000],
  [/grok-4-fast/, 2_000_000],
  [/grok-4/, 256_000],
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
