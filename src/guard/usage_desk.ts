/**
 * What was spent, as it is asked for: today, by day, model, agent, session, key
 * or sender, and how the budgets stand.
 *
 * Never: one key is told of another's spending; only the owner sees all.
 *
 * @module
 */
import type { Authority, Purse } from "../core/authority.ts";
import { dayEnd, dayOf, dollars, NANO } from "../core/cost.ts";
import type { BudgetStanding, UsageTotals } from "../core/methods.ts";
import type { Clock } from "../core/time.ts";
import { addUsage, NO_USAGE } from "../core/message.ts";
import type { UsageRows, UsageSum } from "../store/usage.ts";
import {
  type BudgetsConfig,
  type Limit,
  limitsOf,
  limitsOfPurse,
  type Meter,
  type Standing,
} from "./budget.ts";
import type { BudgetNotice, Spending } from "./spending.ts";

/** What sums can be grouped by. */
export type UsageBy =
  | "day"
  | "model"
  | "agent"
  | "session"
  | "key"
  | "sender";

/** Whose spending is asked for; absent for all of it. */
export interface UsageWho {
  principal: string;
  credential: string;
}

const FIELD = {
  day: "day",
  model: "model",
  agent: "agent",
  session: "session",
  key: "credential",
  sender: "principal",
} as const satisfies Record<UsageBy, keyof UsageSum>;

const METER_NAME = {
  usd: "usd",
  tokens: "tokens",
  unpriced: "unpriced_tokens",
} as const satisfies Record<Meter, BudgetStanding["meter"]>;

/** Sums of sums. */
export function totalOf(
  sums: readonly Pick<UsageSum, "calls" | "usage" | "nano" | "unpriced">[],
): UsageTotals {
  let usage = NO_USAGE;
  let calls = 0;
  let nano = 0;
  let unpricedTokens = 0;
  for (const sum of sums) {
    usage = addUsage(usage, sum.usage);
    calls += sum.calls;
    nano += sum.nano;
    unpricedTokens += sum.unpriced;
  }
  const isPriced = unpricedTokens === 0;
  return {
    calls,
    ...usage,
    usd: nano / NANO,
    priced: isPriced,
    unpricedTokens,
  };
}

function toStanding(
  limit: Limit,
  standing: Standing,
  resetsAt: number,
): BudgetStanding {
  const { scope, name, meter, max, because } = limit;
  const unit = meter === "usd" ? NANO : 1;
  const spent = standing.spent[meter];
  return {
    scope,
    ...(name === "" ? {} : { name }),
    meter: METER_NAME[meter],
    limit: max / unit,
    spent: spent / unit,
    reserved: standing.reserved[meter] / unit,
    share: max === 0 ? 1 : spent / max,
    because,
    resetsAt,
  };
}

/** A notice as it is sent to those who watch. */
export function noticePayload(
  { state, limit, spent, reserved, day, resetsAt }: BudgetNotice,
): BudgetStanding & { state: BudgetNotice["state"]; day: string } {
  const standing = { spent, reserved };
  return { state, day, ...toStanding(limit, standing, resetsAt) };
}

/** Answers questions about spending. */
export class UsageDesk {
  readonly #rows: UsageRows;
  readonly #spending: Spending;
  readonly #config: () => BudgetsConfig;
  readonly #clock: Clock;

  constructor(
    deps: {
      rows: UsageRows;
      spending: Spending;
      config(): BudgetsConfig;
      clock: Clock;
    },
  ) {
    this.#rows = deps.rows;
    this.#spending = deps.spending;
    this.#config = () => deps.config();
    this.#clock = deps.clock;
  }

  async #sums(
    from: string,
    to: string,
    who: UsageWho | undefined,
  ): Promise<UsageSum[]> {
    await this.#spending.flush();
    const sums = await this.#rows.sums(from, to);
    return who === undefined
      ? sums
      : sums.filter((sum) =>
        sum.principal === who.principal && sum.credential === who.credential
      );
  }

  /** What today came to. */
  async today(who?: UsageWho): Promise<UsageTotals> {
    const day = dayOf(this.#clock.now());
    return totalOf(await this.#sums(day, day, who));
  }

  /** Sums of the last days, grouped; the dearest first, days in order. */
  async cost(
    query: { by: UsageBy; days: number },
    who?: UsageWho,
  ): Promise<{
    from: string;
    to: string;
    total: UsageTotals;
    rows: ({ name: string } & UsageTotals)[];
  }> {
    const now = this.#clock.now();
    const from = dayOf(now - (query.days - 1) * 86_400_000);
    const to = dayOf(now);
    const sums = await this.#sums(from, to, who);
    const groups = Map.groupBy(sums, (sum) => sum[FIELD[query.by]]);
    const rows = [...groups].map(([name, group]) => ({
      name,
      ...totalOf(group),
    }));
    const tokens = (row: UsageTotals) => row.inputTokens + row.outputTokens;
    rows.sort((a, b) =>
      query.by === "day"
        ? a.name.localeCompare(b.name)
        : b.usd - a.usd || tokens(b) - tokens(a)
    );
    return { from, to, total: totalOf(sums), rows };
  }

  /**
   * How every limit stands: all of them, or one key's own.
   *
   * @param purses What keys were made with; of another's, none is shown
   */
  budgets(who?: UsageWho, purses: readonly Purse[] = []): BudgetStanding[] {
    const config = this.#config();
    const { ledger } = this.#spending;
    const resetsAt = dayEnd(this.#clock.now());
    const limits = who === undefined
      ? [
        ...limitsOf(config, "day", ""),
        ...(["agent", "key", "job", "sender"] as const).flatMap((scope) => {
          const named = Object.keys(config[`${scope}s`]);
          const names = new Set([...named, ...ledger.names(scope)]);
          return [...names].sort().flatMap((name) =>
            limitsOf(config, scope, name)
          );
        }),
      ]
      : [
        ...limitsOf(config, "key", who.credential),
        ...limitsOf(config, "sender", who.principal),
      ];
    const own = purses.filter(({ key }) =>
      who === undefined || key === who.credential
    );
    return [...limits, ...own.flatMap(limitsOfPurse)].map((limit) =>
      toStanding(limit, ledger.standing(limit.scope, limit.name), resetsAt)
    );
  }

  /** Today in words, for the chat. Only the owner is told of others. */
  async text(authority: Authority): Promise<string> {
    const { principal, credential } = authority;
    const who = authority.kind === "owner"
      ? undefined
      : { principal, credential };
    const today = await this.today(who);
    const { calls, inputTokens, outputTokens, cachedTokens } = today;
    const lines = [
      `Today: ${calls} model calls, ${inputTokens} tokens in ` +
      `(${cachedTokens} from the vendor's cache), ${outputTokens} out, ` +
      `${dollars(today.usd * NANO)}.`,
      ...today.priced ? [] : [
        `${today.unpricedTokens} of these tokens have no known price.`,
      ],
      ...this.budgets(who, authority.purses).map((row) => {
        const isMoney = row.meter === "usd";
        const show = (n: number) => isMoney ? dollars(n * NANO) : String(n);
        const unit = isMoney
          ? ""
          : row.meter === "tokens"
          ? " tokens"
          : " tokens without a price";
        const whose = row.name === undefined
          ? "day"
          : `${row.scope} ${row.name}`;
        return `Budget of the ${whose}: ${show(row.spent)} of ` +
          `${show(row.limit)}${unit} (${row.because}).`;
      }),
    ];
    return lines.join("\n");
  }
}
