/**
 * Services and servers that speak OpenAI's chat completions, by name: their
 * address and the environment name of their key, and nothing else of them.
 *
 * @module
 */
import { makeOpenaiProvider, openaiRow } from "./openai/openai.ts";
import type { VendorRow } from "./vendor.ts";

/** What one preset says. */
type Preset = Pick<VendorRow, "title" | "baseUrl" | "keyEnv" | "needsKey"> & {
  id: string;
};

const PRESETS: readonly Preset[] = [
  {
    id: "openrouter",
    title: "OpenRouter",
    baseUrl: "https://openrouter.ai/api/v1",
    keyEnv: "OPENROUTER_API_KEY",
    needsKey: true,
  },
  {
    id: "venice",
    title: "Venice",
    baseUrl: "https://api.venice.ai/api/v1",
    keyEnv: "VENICE_API_KEY",
    needsKey: true,
  },
  {
    id: "groq",
    title: "Groq",
    baseUrl: "https://api.groq.com/openai/v1",
    keyEnv: "GROQ_API_KEY",
    needsKey: true,
  },
  {
    id: "mistral",
    title: "Mistral",
    baseUrl: "https://api.mistral.ai/v1",
    keyEnv: "MISTRAL_API_KEY",
    needsKey: true,
  },
  {
    id: "vllm",
    title: "vLLM",
    baseUrl: "http://127.0.0.1:8000/v1",
    keyEnv: "VLLM_API_KEY",
    needsKey: false,
  },
  {
    id: "lmstudio",
    title: "LM Studio",
    baseUrl: "http://127.0.0.1:1234/v1",
    keyEnv: "LM_API_TOKEN",
    needsKey: false,
  },
];

/** A row for each; none is reached unless a line or its key asks for it. */
export const PRESET_ROWS: readonly VendorRow[] = PRESETS.map((preset) => {
  const row: VendorRow = {
    ...preset,
    kind: openaiRow.kind,
    onDemand: true,
    supports: {
      thinking: "effort, where the model has it; goes back within one exchange",
      cache: "by the vendor itself; hits counted where it says them",
      schema: "where the model has it",
      forward: true,
    },
    make: (deps, config) => makeOpenaiProvider(deps, config, row),
  };
  return row;
});
