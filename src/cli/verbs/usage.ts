/**
 * `carapace usage`: tokens and money of the last days, by whatever it went to.
 *
 * @module
 */
import { dollars, NANO } from "../../core/cost.ts";
import type {
  BudgetStanding,
  MethodOutput,
  UsageTotals,
} from "../../core/methods.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine } from "../printable.ts";
import { makePaint, type Paint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const DAYS_DEFAULT = 7;
const DAYS_MAX = 800;
const BY = ["day", "model", "agent", "session", "key", "sender"] as const;
type By = (typeof BY)[number];

export const usage: Verb = {
  name: "usage",
  about: "Show what models were paid, and what for",
  usage: [
    `carapace usage [--by ${BY.join("|")}] [--days N] [--json]`,
  ],
  examples: [
    "carapace usage",
    "carapace usage --by model --days 30",
    "carapace usage --by key --json | jq '.rows[] | {name, usd}'",
  ],
  needs: "gateway",
  run: runUsage,
};

function readBy(text: string | undefined): By {
  const by = BY.find((one) => one === (text ?? "day"));
  if (by !== undefined) return by;
  throw usageError(
    `Cannot group by "${text}": it is one of ${BY.join(", ")}`,
  );
}

function readDays(text: string | undefined): number {
  if (text === undefined) return DAYS_DEFAULT;
  const days = /^\d{1,4}$/.test(text) ? Number(text) : NaN;
  if (days >= 1 && days <= DAYS_MAX) return days;
  throw usageError(
    `Cannot use --days "${text}": it is a number from 1 to ${DAYS_MAX}`,
  );
}

async function runUsage(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    by: { type: "string" },
    days: { type: "string", short: "d" },
  });
  positionalsMax(positionals, 0);
  const query = { by: readBy(values.by), days: readDays(values.days) };
  using client = await openGateway(io, { roof });
  const cost = await client.call("usage.cost", query);
  if (values.json === true) io.out(jsonLine(cost));
  else {
    const { budgets } = query.by === "key"
      ? await client.call("usage.budget", {})
      : { budgets: [] };
    io.out(costText(cost, makePaint(io), budgets));
  }
  return EXIT.ok;
}

/** What a key may spend in a day, limit by limit. */
function limitText(budgets: readonly BudgetStanding[], key: string): string {
  return budgets.filter(({ scope, name }) => scope === "key" && name === key)
    .map(({ meter, limit }) =>
      meter === "usd"
        ? `${dollars(Math.round(limit * NANO))} a day`
        : `${count(limit)} tokens a day`
    ).join(", ");
}

/** Money as far as it is known. */
function costOf({ usd, priced, unpricedTokens }: UsageTotals): string {
  const money = dollars(Math.round(usd * NANO));
  if (priced) return money;
  return usd === 0
    ? "no price"
    : `${money} + ${count(unpricedTokens)} tokens without a price`;
}

function count(n: number): string {
  return n.toLocaleString("en-US");
}

function cells(name: string, totals: UsageTotals): string[] {
  const { calls, inputTokens, outputTokens, cachedTokens } = totals;
  return [
    name,
    count(calls),
    count(inputTokens),
    count(cachedTokens),
    count(outputTokens),
    costOf(totals),
  ];
}

/** The answer as people read it. */
export function costText(
  cost: MethodOutput<"usage.cost">,
  paint: Paint,
  budgets: readonly BudgetStanding[] = [],
): string {
  const { by, from, to, rows, total } = cost;
  const span = from === to ? `on ${to}` : `from ${from} to ${to}`;
  if (rows.length === 0) return `${paint("dim", `nothing ${span} (UTC)`)}\n`;
  const heading = [by.toUpperCase(), "CALLS", "IN", "CACHED", "OUT", "COST"];
  const lines = rows.map(({ name, ...totals }) => cells(name, totals));
  const limits = rows.map(({ name }) => limitText(budgets, name));
  if (limits.some((text) => text !== "")) {
    heading.push("BUDGET");
    for (const [n, line] of lines.entries()) line.push(limits[n] ?? "");
  }
  if (rows.length > 1) lines.push(cells("all", total));
  return `${table(heading, lines, paint)}${
    paint("dim", `${span} (UTC); limits: carapace budget`)
  }\n`;
}
