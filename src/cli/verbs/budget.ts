/**
 * `carapace budget`: every limit on spending, and how it stands today.
 *
 * @module
 */
import { dollars, NANO } from "../../core/cost.ts";
import type { BudgetStanding } from "../../core/methods.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine } from "../printable.ts";
import { agoText, makePaint, type Paint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const NEAR_SHARE = 0.8;

export const budget: Verb = {
  name: "budget",
  about: "Show the limits on spending, and how they stand today",
  usage: ["carapace budget [show] [--json]"],
  examples: [
    "carapace budget",
    "carapace config set budgets.usdPerDay 10",
    "carapace budget --json | jq '.budgets[] | select(.share > 0.8)'",
  ],
  needs: "gateway",
  run: runBudget,
};

async function runBudget(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  positionalsMax(positionals, 1);
  const [form = "show"] = positionals;
  if (form !== "show") throw usageError(`Unknown form "${form.slice(0, 40)}"`);
  using client = await openGateway(io, { roof });
  const standing = await client.call("usage.budget", {});
  if (values.json === true) io.out(jsonLine(standing));
  else {
    const now = io.clock.now();
    io.out(budgetText(standing.budgets, { paint: makePaint(io), now }));
  }
  return EXIT.ok;
}

function amount(meter: BudgetStanding["meter"], n: number): string {
  return meter === "usd"
    ? dollars(Math.round(n * NANO))
    : n.toLocaleString("en-US");
}

const UNIT = {
  usd: "money",
  tokens: "tokens",
  unpriced_tokens: "tokens without a price",
} as const satisfies Record<BudgetStanding["meter"], string>;

/** The limits as people read them. */
export function budgetText(
  budgets: readonly BudgetStanding[],
  options: { paint: Paint; now: number },
): string {
  const { paint, now } = options;
  const [first] = budgets;
  if (first === undefined) {
    return `${paint("dim", "no limit is on what you spend")}\n`;
  }
  const rows = budgets.map((one) => [
    one.name === undefined ? one.scope : `${one.scope} ${one.name}`,
    UNIT[one.meter],
    amount(one.meter, one.spent),
    one.reserved === 0 ? "" : amount(one.meter, one.reserved),
    amount(one.meter, one.limit),
    `${Math.round(one.share * 100)} %`,
    one.because,
  ]);
  const heading = ["OF", "ON", "SPENT", "HELD", "LIMIT", "USED", "LINE"];
  const near = budgets.filter(({ share }) => share >= NEAR_SHARE).length;
  const note = near === 0
    ? ""
    : `${
      paint("yellow", `${near} of ${budgets.length} nearly or wholly used`)
    }\n`;
  return `${table(heading, rows, paint)}${note}${
    paint("dim", `begins anew ${agoText(first.resetsAt, now)}`)
  }\n`;
}
