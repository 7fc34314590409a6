/**
 * What models cost: a table kept as data, with its date and its sources, which
 * the configuration can override. A model that is not in it has no price: its
 * tokens are counted, its money is not guessed.
 *
 * Never: a price here is taken for an invoice; batch, fast and regional rates,
 * storage and tools that vendors bill apart are not in it.
 *
 * @module
 */
import { z } from "zod";
import { freePrice, type Price, type Rates } from "../core/cost.ts";

const Rate = z.number().nonnegative().max(1_000_000);

/** What the configuration says a model costs. */
export const PriceConfig = z.strictObject({
  input: Rate.describe("Dollars a million tokens of input"),
  output: Rate.describe("Dollars a million tokens of output"),
  cached: Rate.optional().describe(
    "Dollars a million tokens of input the vendor had kept; as input when absent",
  ),
  cacheWrite: Rate.optional().describe(
    "Dollars a million tokens of input the vendor is told to keep; as input when absent",
  ),
});
export type PriceConfig = z.infer<typeof PriceConfig>;

export const PricesConfig = z.record(
  z.string().min(1).max(256),
  PriceConfig,
).prefault({}).describe(
  "What models cost, by provider:model, the model alone, or a beginning with * after it; the longest that fits counts",
);
export type PricesConfig = z.infer<typeof PricesConfig>;

/** When the table was last compared with its sources. */
export const PRICES_AT = "2026-11-22";

/** Where the table's numbers are from. */
export const PRICE_SOURCES: Readonly<Record<string, string>> = {
  Anthropic: "https://platform.claude.com/docs/en/about-claude/pricing",
  OpenAI: "https://developers.openai.com/api/docs/pricing",
  Google: "https://ai.google.dev/gemini-api/docs/pricing",
  xAI: "https://docs.x.ai/docs/models",
  Amazon: "https://aws.amazon.com/bedrock/pricing/",
};

/** One row of the table. */
export interface PriceRow {
  vendor: string;
  /** The beginning of the model's name, dots and dashes alike. */
  model: string;
  rates: Rates;
  long?: Rates & { overTokens: number };
}

type Tuple = readonly [
  input: number,
  output: number,
  cached: number,
  cacheWrite?: number,
];

function rates([input, output, cached, cacheWrite = input]: Tuple): Rates {
  return { input, output, cached, cacheWrite };
}

function row(
  vendor: string,
  model: string,
  short: Tuple,
  long?: readonly [overTokens: number, rates: Tuple],
): PriceRow {
  return {
    vendor,
    model,
    rates: rates(short),
    ...(long === undefined
      ? {}
      : { long: { overTokens: long[0], ...rates(long[1]) } }),
  };
}

/** Claude: a cache write of five minutes costs a quarter more than input. */
function claude(
  model: string,
  [input, output, cached]: Tuple,
  long?: readonly [overTokens: number, rates: Tuple],
): PriceRow {
  return row("Anthropic", model, [input, output, cached, input * 1.25], long);
}

/** OpenAI's newer models: over 272,000 tokens of input all of it is dearer. */
function gpt(
  model: string,
  [input, output, cached, cacheWrite = input]: Tuple,
): PriceRow {
  return row("OpenAI", model, [input, output, cached, cacheWrite], [
    272_000,
    [input * 2, output * 1.5, cached * 2, cacheWrite * 2],
  ]);
}

/**
 * The longest beginning that fits a model's name counts. Models with open
 * weights are absent on purpose: what they cost depends on who serves them.
 */
export const PRICES: readonly PriceRow[] = [
  claude("claude-fable-5.1", [10, 50, 0.25]),
  claude("claude-mythos-5.1", [10, 50, 0.25]),
  claude("claude-fable-5", [10, 50, 1]),
  claude("claude-mythos-5", [10, 50, 1]),
  claude("claude-opus-5.5", [4, 20, 0.2]),
  claude("claude-opus-5", [5, 25, 0.5]),
  claude("claude-opus-4.5", [5, 25, 0.5]),
  claude("claude-opus-4.6", [5, 25, 0.5]),
  claude("claude-opus-4.7", [5, 25, 0.5]),
  claude("claude-opus-4.8", [5, 25, 0.5]),
  claude("claude-opus-4", [15, 75, 1.5]),
  claude("claude-sonnet-5.5", [2, 10, 0.1]),
  claude("claude-sonnet-5", [2, 10, 0.2]),
  claude("claude-sonnet-4", [3, 15, 0.3]),
  claude("claude-haiku-5.5", [0.1, 0.5, 0.01], [
    100_000,
    [0.5, 2.5, 0.05, 0.625],
  ]),
  claude("claude-haiku-4.5", [1, 5, 0.1]),
  claude("claude-3.7-sonnet", [3, 15, 0.3]),
  claude("claude-3.5-sonnet", [3, 15, 0.3]),
  claude("claude-3.5-haiku", [0.8, 4, 0.08]),
  claude("claude-3-opus", [15, 75, 1.5]),
  claude("claude-3-haiku", [0.25, 1.25, 0.03]),

  gpt("gpt-6.2-astra", [8, 40, 0.4, 10]),
  gpt("gpt-6.2-sol", [2, 10, 0.1, 2.5]),
  gpt("gpt-6.1-sol", [2, 10, 0.1, 2.5]),
  gpt("gpt-6-astra", [10, 50, 1, 12.5]),
  gpt("gpt-6-sol", [2, 10, 0.2, 2.5]),
  gpt("gpt-6-luna", [0.1, 0.5, 0.01, 0.125]),
  gpt("gpt-5.6-sol", [4, 20, 0.4, 5]),
  gpt("gpt-5.6-terra", [2, 12, 0.2, 2.5]),
  gpt("gpt-5.6-luna", [0.2, 1.2, 0.02, 0.25]),
  gpt("gpt-5.5-pro", [30, 180, 30]),
  gpt("gpt-5.5", [5, 30, 0.5]),
  gpt("gpt-5.4-pro", [30, 180, 30]),
  row("OpenAI", "gpt-5.4-mini", [0.75, 4.5, 0.075]),
  row("OpenAI", "gpt-5.4-nano", [0.2, 1.25, 0.02]),
  gpt("gpt-5.4", [2.5, 15, 0.25]),
  row("OpenAI", "gpt-5.2-pro", [21, 168, 21]),
  row("OpenAI", "gpt-5.2", [1.75, 14, 0.175]),
  row("OpenAI", "gpt-5.3-codex", [1.75, 14, 0.175]),
  row("OpenAI", "gpt-5.1-codex-mini", [0.25, 2, 0.025]),
  row("OpenAI", "gpt-5.1", [1.25, 10, 0.125]),
  row("OpenAI", "gpt-5-pro", [15, 120, 15]),
  row("OpenAI", "gpt-5-mini", [0.25, 2, 0.025]),
  row("OpenAI", "gpt-5-nano", [0.05, 0.4, 0.005]),
  row("OpenAI", "gpt-5", [1.25, 10, 0.125]),
  row("OpenAI", "gpt-4.1-mini", [0.4, 1.6, 0.1]),
  row("OpenAI", "gpt-4.1-nano", [0.1, 0.4, 0.025]),
  row("OpenAI", "gpt-4.1", [2, 8, 0.5]),
  row("OpenAI", "gpt-4o-mini", [0.15, 0.6, 0.075]),
  row("OpenAI", "gpt-4o", [2.5, 10, 1.25]),
  row("OpenAI", "chatgpt-4o", [5, 15, 5]),
  row("OpenAI", "gpt-4-turbo", [10, 30, 10]),
  row("OpenAI", "gpt-3.5-turbo", [0.5, 1.5, 0.5]),
  row("OpenAI", "o1-pro", [150, 600, 150]),
  row("OpenAI", "o1-mini", [1.1, 4.4, 0.55]),
  row("OpenAI", "o1", [15, 60, 7.5]),
  row("OpenAI", "o3-pro", [20, 80, 20]),
  row("OpenAI", "o3-mini", [1.1, 4.4, 0.55]),
  row("OpenAI", "o3-deep-research", [10, 40, 2.5]),
  row("OpenAI", "o3", [2, 8, 0.5]),
  row("OpenAI", "o4-mini-deep-research", [2, 8, 0.5]),
  row("OpenAI", "o4-mini", [1.1, 4.4, 0.275]),

  // Half of this until the end of 2026; the dearer price is the safe one.
  row("Google", "gemini-3.8-flash", [1.5, 7.5, 0.15]),
  row("Google", "gemini-3.6-flash", [1.5, 7.5, 0.15]),
  row("Google", "gemini-3.5-flash-lite", [0.3, 2.5, 0.03]),
  row("Google", "gemini-3.5-flash", [1.5, 9, 0.15]),
  row("Google", "gemini-3.1-flash-lite", [0.25, 1.5, 0.025]),
  row("Google", "gemini-3.1-pro", [2, 12, 0.2], [200_000, [4, 18, 0.4]]),
  row("Google", "gemini-3-pro", [2, 12, 0.2], [200_000, [4, 18, 0.4]]),
  row("Google", "gemini-3-flash", [0.5, 3, 0.05]),
  row("Google", "gemini-2.5-pro", [1.25, 10, 0.125], [
    200_000,
    [2.5, 15, 0.25],
  ]),
  row("Google", "gemini-2.5-flash-lite", [0.1, 0.4, 0.01]),
  row("Google", "gemini-2.5-flash", [0.3, 2.5, 0.03]),
  row("Google", "gemini-2.0-flash-lite", [0.075, 0.3, 0.075]),
  row("Google", "gemini-2.0-flash", [0.1, 0.4, 0.1]),

  row("xAI", "grok-4.7", [2, 6, 0.5], [200_000, [4, 12, 1]]),
  row("xAI", "grok-4.6", [2, 6, 0.5], [200_000, [4, 12, 1]]),
  row("xAI", "grok-4.5", [2, 6, 0.3], [200_000, [4, 12, 0.6]]),
  row("xAI", "grok-4.3", [1.25, 2.5, 0.2], [200_000, [2.5, 5, 0.4]]),
  row("xAI", "grok-4.20", [1.25, 2.5, 0.2], [200_000, [2.5, 5, 0.4]]),
  row("xAI", "grok-4-fast", [0.2, 0.5, 0.05], [128_000, [0.4, 1, 0.05]]),
  row("xAI", "grok-4", [3, 15, 0.75], [128_000, [6, 30, 0.75]]),
  row("xAI", "grok-3-mini", [0.3, 0.5, 0.075]),
  row("xAI", "grok-3", [3, 15, 0.75]),
  row("xAI", "grok-code-fast-1", [0.2, 1.5, 0.02]),

  row("Amazon", "nova-micro", [0.035, 0.14, 0.035]),
  row("Amazon", "nova-lite", [0.06, 0.24, 0.06]),
  row("Amazon", "nova-pro", [0.8, 3.2, 0.8]),
  row("Amazon", "nova-premier", [2.5, 12.5, 2.5]),
  row("Amazon", "nova-2-lite", [0.3, 2.5, 0.075]),
];

/** Servers of one's own: nobody is paid by the token. */
const LOCAL_KINDS: ReadonlySet<string> = new Set(["ollama", "demo"]);

function normal(name: string): string {
  return name.toLowerCase().replaceAll(".", "-");
}

/** The longest first, so that the first that fits is the one that counts. */
const BY_LENGTH = PRICES.map((one) => ({ one, name: normal(one.model) }))
  .sort((a, b) => b.name.length - a.name.length);

/**
 * The names a model may stand in the table by: as it is called, and without
 * what a reseller or region puts before it (`openai/`, `us.amazon.`).
 */
function namesOf(model: string): string[] {
  const short = model.slice(model.lastIndexOf("/") + 1);
  const bare = short.replace(/^([a-z]{2,6}\.)?(anthropic|amazon|meta)\./i, "");
  return [...new Set([model, short, bare])].map(normal);
}

/** Whether a table's name ends where the model's does, or at a new word. */
function fits(name: string, model: string): boolean {
  return model.startsWith(name) && /^($|[-:@_])/.test(model.slice(name.length));
}

function findRow(model: string): PriceRow | undefined {
  const names = namesOf(model);
  return BY_LENGTH.find(({ name }) => names.some((one) => fits(name, one)))
    ?.one;
}

function findConfigured(
  full: string,
  config: PricesConfig,
): Price | undefined {
  const model = full.slice(full.indexOf(":") + 1);
  let best: string | undefined;
  for (const key of Object.keys(config)) {
    const isFit = key.endsWith("*")
      ? [full, model].some((name) => name.startsWith(key.slice(0, -1)))
      : key === full || key === model;
    if (isFit && key.length > (best?.length ?? 0)) best = key;
  }
  const said = best === undefined ? undefined : config[best];
  if (said === undefined) return undefined;
  const { input, output, cached = input, cacheWrite = input } = said;
  return { input, output, cached, cacheWrite, because: `prices["${best}"]` };
}

/**
 * What a model costs, or `undefined` when nobody knows.
 *
 * @param full `provider:model`
 * @param kind The provider's wire
 */
export function priceOf(
  full: string,
  { kind, config }: { kind: string; config: PricesConfig },
): Price | undefined {
  const configured = findConfigured(full, config);
  if (configured !== undefined) return configured;
  if (LOCAL_KINDS.has(kind)) return freePrice("it runs on your own machine");
  const row = findRow(full.slice(full.indexOf(":") + 1));
  if (row === undefined) return undefined;
  return {
    ...row.rates,
    ...(row.long === undefined ? {} : { long: row.long }),
    because: `${row.vendor}'s price list of ${PRICES_AT}`,
  };
}
