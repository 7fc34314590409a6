/**
 * `docs/usage.md`: the table of prices and of metrics come from the program.
 *
 * @module
 */
import type { Rates } from "../../src/core/cost.ts";
import { SERIES } from "../../src/ops/metrics.ts";
import {
  PRICE_SOURCES,
  PRICES,
  PRICES_AT,
} from "../../src/providers/prices.ts";
import { markdownTable } from "./markdown.ts";

function ratesOf({ input, output, cached, cacheWrite }: Rates): string[] {
  return [input, output, cached, cacheWrite].map((rate) =>
    String(Number(rate.toFixed(4)))
  );
}

function priceTable(): string {
  const rows = PRICES.flatMap(({ vendor, model, rates, long }) => [
    [vendor, `\`${model}\``, ...ratesOf(rates)],
    ...long === undefined ? [] : [[
      vendor,
      `\`${model}\`, over ${long.overTokens.toLocaleString("en-US")} tokens in`,
      ...ratesOf(long),
    ]],
  ]);
  return markdownTable(
    ["vendor", "model", "in", "out", "cached", "cache write"],
    rows,
  );
}

function seriesTable(): string {
  const rows = Object.entries(SERIES).map(([name, { kind, help, labels }]) => [
    `\`${name}\``,
    kind,
    labels.join(", "),
    help,
  ]);
  return markdownTable(["series", "kind", "labels", "what"], rows);
}

/** The whole document. */
export function makeUsageDoc(): Promise<string> {
  const sources = Object.entries(PRICE_SOURCES).map(([vendor, url]) =>
    `[${vendor}](${url})`
  );
  return Promise.resolve(`# What it costs

Every model call is reserved before it is made and settled after: those of
turns, of compaction, and those that go past the agents through
\`/v1/chat/completions\`. Days are by UTC.

- \`carapace usage --by day|model|agent|session|key|sender --days N\` says what was
  used; cached tokens are a part of the tokens in, shown apart.
- \`carapace budget\` says what is left. \`/usage\` says both in a chat.
- Clients ask \`usage.status\`, \`usage.cost\` and \`usage.budget\`; the event
  \`usage.budget\` comes when a limit is at 80 %, reached, or first refuses a call.
  Only the owner sees all; a token sees its own.

## Budgets

Without a line of configuration the limits are 5 $ a day for models with a known
price and 20 million tokens a day for models without one; a paired sender has at
most a fifth of each. Models on your own machine (Ollama, the demo) cost nothing.

\`\`\`jsonc
{
  "budgets": {
    "usdPerDay": 10,
    "unpricedTokensPerDay": "off",
    "senderShare": 0.1,
    "agents": { "research": { "usdPerDay": 2 } },
    "keys": { "tok_0123456789": { "tokensPerDay": 500000 } },
    "jobs": { "nightly": { "usdPerDay": 0.5 } },
    "senders": { "peer:telegram:main:1234": { "usdPerDay": 3 } }
  }
}
\`\`\`

A key can also be made with a budget of its own, which holds beside these lines
and for whatever is made with the key:
\`carapace token create bot --budget 2usd,500000tokens\`.
\`carapace token list\` shows what is spent of it.

A call must fit in every limit that is about it, at the price of all its input
and of the longest answer it may give, so a budget ends a little before its last
cent. One that does not fit ends its run with the reason \`budget\`; when a limit is
reached, new turns are refused and told which line raises it. A turn that waits
for an approval holds nothing back. A call that a crash cut off counts as spent
at what was reserved for it. When a vendor does not say what it used, or an
answer is cut off, the tokens are estimated. Changes hold from the next call.

## Prices

Dollars a million tokens, compared with the vendors' lists on ${PRICES_AT}
(${sources.join(", ")}). The longest beginning of
a model's name counts, whoever serves it. Models with open weights are not in the
table: what they cost depends on who runs them. Batch, fast and regional rates and
what vendors bill apart (searches, storage) are not counted.

\`\`\`jsonc
{
  "prices": {
    "openai:gpt-5": { "input": 1.25, "output": 10, "cached": 0.125 },
    "groq:llama-3.3-*": { "input": 0.59, "output": 0.79 },
    "lmstudio:*": { "input": 0, "output": 0 }
  }
}
\`\`\`

${priceTable()}

## Metrics

\`GET /metrics\` with a token that has the scope \`metrics\` or \`read\`.

${seriesTable()}
`);
}
