/**
 * The arithmetic of budgets: which limits hold for whom, whether a call fits,
 * what is spent and what is reserved. Values only; nothing is stored here.
 *
 * Never: what is reported spent is less than what was.
 *
 * @module
 */
import { z } from "zod";
import type { KeyBudget, Purse } from "../core/authority.ts";
import { dollars, NANO } from "../core/cost.ts";
import { AgentId } from "../core/ids.ts";

const Usd = z.union([z.number().nonnegative().max(1_000_000), z.literal("off")])
  .describe("Dollars a day for models with a price");
const Tokens = z.union([z.int().nonnegative(), z.literal("off")])
  .describe("Tokens a day, in and out, of all models");
const Unpriced = z.union([z.int().nonnegative(), z.literal("off")])
  .describe("Tokens a day of models without a price");

/** Limits of one agent, key, job or sender. */
const BudgetLimits = z.strictObject({
  usdPerDay: Usd.optional(),
  tokensPerDay: Tokens.optional(),
  unpricedTokensPerDay: Unpriced.optional(),
});
type BudgetLimits = z.infer<typeof BudgetLimits>;

export const BudgetsConfig = z.strictObject({
  usdPerDay: Usd.default(5),
  tokensPerDay: Tokens.default("off"),
  unpricedTokensPerDay: Unpriced.default(20_000_000),
  senderShare: z.number().min(0).max(1).default(0.2).describe(
    "The share of these that one paired sender has at most",
  ),
  agents: z.record(AgentId, BudgetLimits).prefault({}).describe(
    "Further limits by agent",
  ),
  keys: z.record(z.string().min(1).max(256), BudgetLimits).prefault({})
    .describe("Further limits by a token's id (carapace token list)"),
  jobs: z.record(z.string().min(1).max(64), BudgetLimits).prefault({})
    .describe("Further limits by job"),
  senders: z.record(z.string().min(1).max(256), BudgetLimits).prefault({})
    .describe("Limits by principal, instead of a sender's share"),
}).prefault({});
export type BudgetsConfig = z.infer<typeof BudgetsConfig>;

/** What a limit is on. */
export const METERS = ["usd", "tokens", "unpriced"] as const;
export type Meter = (typeof METERS)[number];

/** Nano-dollars, tokens, tokens without a price. */
export type Amounts = Readonly<Record<Meter, number>>;

export const NOTHING: Amounts = Object.freeze({
  usd: 0,
  tokens: 0,
  unpriced: 0,
});

/** Both together. */
export function add(a: Amounts, b: Amounts): Amounts {
  return {
    usd: a.usd + b.usd,
    tokens: a.tokens + b.tokens,
    unpriced: a.unpriced + b.unpriced,
  };
}

function subtract(a: Amounts, b: Amounts): Amounts {
  return {
    usd: a.usd - b.usd,
    tokens: a.tokens - b.tokens,
    unpriced: a.unpriced - b.unpriced,
  };
}

/** Whether there is nothing in it. */
export function isNothing(amounts: Amounts): boolean {
  return METERS.every((meter) => amounts[meter] === 0);
}

/** Who spends. */
export interface Spender {
  agent: string;
  /** The key. */
  credential: string;
  /** The sender. */
  principal: string;
  job?: string | undefined;
  /** Keys whose own budgets it spends of, beside its own. */
  payers?: readonly string[] | undefined;
  /** Those budgets, as the keys' records say. */
  purses?: readonly Purse[] | undefined;
}

/** Every key that a spender's calls count for, once. */
export function payersOf(
  { credential, payers = [], purses = [] }: Spender,
): string[] {
  const named = purses.map(({ key }) => key);
  return [...new Set([credential, ...payers, ...named])];
}

export const SCOPES = ["day", "agent", "key", "job", "sender"] as const;
export type BudgetScope = (typeof SCOPES)[number];

/** One limit. */
export interface Limit {
  scope: BudgetScope;
  /** Of the agent, key, job or sender; empty for the day. */
  name: string;
  meter: Meter;
  /** Nano-dollars or tokens. */
  max: number;
  /** The configuration line, or {@linkcode OWN_BUDGET}. */
  because: string;
}

/** Where a limit comes from that a key was made with. */
export const OWN_BUDGET = "token create --budget";

const KEY = {
  usd: "usdPerDay",
  tokens: "tokensPerDay",
  unpriced: "unpricedTokensPerDay",
} as const satisfies Record<Meter, keyof BudgetLimits>;

function maxOf(
  said: number | "off" | undefined,
  meter: Meter,
): number | undefined {
  if (said === undefined || said === "off") return undefined;
  return meter === "usd" ? Math.round(said * NANO) : said;
}

/** Names of what a spender's calls count for. */
export function scopesOf(
  spender: Spender,
): { scope: BudgetScope; name: string }[] {
  const { agent, principal, job } = spender;
  return [
    { scope: "day", name: "" },
    { scope: "agent", name: agent },
    ...payersOf(spender).map((name) => ({ scope: "key" as const, name })),
    { scope: "sender", name: principal },
    ...job === undefined ? [] : [{ scope: "job" as const, name: job }],
  ];
}

/** The limits of one scope. */
export function limitsOf(
  config: BudgetsConfig,
  scope: BudgetScope,
  name: string,
): Limit[] {
  const own = scope === "day"
    ? config
    : config[`${scope}s`][name] as BudgetLimits | undefined;
  const place = scope === "day"
    ? "budgets"
    : `budgets.${scope}s${
      /^[A-Za-z_]\w*$/.test(name) ? `.${name}` : `.${JSON.stringify(name)}`
    }`;
  // A paired sender without a line of its own has its share of the day's.
  const isPeer = scope === "sender" && name.startsWith("peer:");
  return METERS.flatMap((meter) => {
    const max = maxOf(own?.[KEY[meter]], meter);
    if (max !== undefined) {
      return [{ scope, name, meter, max, because: `${place}.${KEY[meter]}` }];
    }
    const whole = maxOf(config[KEY[meter]], meter);
    if (!isPeer || whole === undefined || own?.[KEY[meter]] === "off") {
      return [];
    }
    const share = Math.floor(whole * config.senderShare);
    const because = "budgets.senderShare";
    return [{ scope, name, meter, max: share, because }];
  });
}

const OWN = {
  usd: "usdPerDay",
  tokens: "tokensPerDay",
} as const satisfies Partial<Record<Meter, keyof KeyBudget>>;

/** The limits a key was made with. */
export function limitsOfPurse({ key: name, ...budget }: Purse): Limit[] {
  return (["usd", "tokens"] as const).flatMap((meter) => {
    const max = maxOf(budget[OWN[meter]], meter);
    return max === undefined
      ? []
      : [{ scope: "key" as const, name, meter, max, because: OWN_BUDGET }];
  });
}

/** Every limit that a spender's call must fit in. */
export function limitsFor(spender: Spender, config: BudgetsConfig): Limit[] {
  return [
    ...scopesOf(spender).flatMap(({ scope, name }) =>
      limitsOf(config, scope, name)
    ),
    ...(spender.purses ?? []).flatMap(limitsOfPurse),
  ];
}

/** What a scope has spent and what is held back for calls under way. */
export interface Standing {
  spent: Amounts;
  reserved: Amounts;
}

const ZERO: Standing = Object.freeze({ spent: NOTHING, reserved: NOTHING });

/** A limit that a call does not fit in. */
export interface Refusal {
  limit: Limit;
  standing: Standing;
  ask: Amounts;
}

/** A settled hold, scope by scope, for who wants to know what was crossed. */
export interface Change {
  scope: BudgetScope;
  name: string;
  before: Amounts;
  after: Amounts;
}

interface Hold {
  spender: Spender;
  ask: Amounts;
}

/** One day's accounts. */
export class Ledger {
  readonly #scopes = new Map<string, Standing>();
  readonly #holds = new Map<string, Hold>();

  standing(scope: BudgetScope, name: string): Standing {
    return this.#scopes.get(`${scope}:${name}`) ?? ZERO;
  }

  /** Whether nothing is held back. */
  get isIdle(): boolean {
    return this.#holds.size === 0;
  }

  /** The names of one scope that spent or reserved something. */
  names(scope: BudgetScope): string[] {
    return [...this.#scopes.keys()].flatMap((id) =>
      id.startsWith(`${scope}:`) ? [id.slice(scope.length + 1)] : []
    );
  }

  #change(
    spender: Spender,
    update: (standing: Standing) => Standing,
  ): Change[] {
    return scopesOf(spender).map(({ scope, name }) => {
      const old = this.standing(scope, name);
      const next = update(old);
      this.#scopes.set(`${scope}:${name}`, next);
      return { scope, name, before: old.spent, after: next.spent };
    });
  }

  /** Counts what was spent before. */
  load(spender: Spender, spent: Amounts): void {
    this.#change(spender, (old) => ({ ...old, spent: add(old.spent, spent) }));
  }

  /** The first limit that has no room for an ask. A meter it does not use is free. */
  refusal(limits: readonly Limit[], ask: Amounts): Refusal | undefined {
    for (const limit of limits) {
      const { meter, max, scope, name } = limit;
      const standing = this.standing(scope, name);
      const { spent, reserved } = standing;
      if (ask[meter] === 0) continue;
      if (spent[meter] + reserved[meter] + ask[meter] > max) {
        return { limit, standing, ask };
      }
    }
    return undefined;
  }

  /** Holds an ask back. Check {@linkcode refusal} in the same breath. */
  hold(id: string, spender: Spender, ask: Amounts): void {
    this.#holds.set(id, { spender, ask });
    this.#change(
      spender,
      (old) => ({ ...old, reserved: add(old.reserved, ask) }),
    );
  }

  /** Counts what a held call came to, and gives the rest back. Once. */
  settle(id: string, actual: Amounts): Change[] {
    const hold = this.#holds.get(id);
    if (hold === undefined) return [];
    this.#holds.delete(id);
    return this.#change(hold.spender, ({ spent, reserved }) => ({
      spent: add(spent, actual),
      reserved: subtract(reserved, hold.ask),
    }));
  }
}

/** An amount with its unit, for people. */
export function amountText(meter: Meter, amount: number): string {
  if (meter === "usd") return dollars(amount);
  const text = amount.toLocaleString("en-US");
  return meter === "tokens"
    ? `${text} tokens`
    : `${text} tokens of models without a price`;
}

/** Whose budget it is, for people. */
export function scopeText(
  { scope, name }: Pick<Limit, "scope" | "name">,
): string {
  return scope === "day"
    ? "the day's budget"
    : `the budget of ${scope} "${name}"`;
}

/** The share of a limit after which it is told of. */
export const NEAR_SHARE = 0.8;

/** What a limit's spending crossed: four fifths of it, or all. */
export function crossed(
  { max }: Pick<Limit, "max">,
  before: number,
  after: number,
): "near" | "reached" | undefined {
  if (max === 0 || after === before) return undefined;
  if (before < max && after >= max) return "reached";
  const near = max * NEAR_SHARE;
  return before < near && after >= near ? "near" : undefined;
}

/** The day's limits in a line, for a start's banner. */
export function budgetText(config: BudgetsConfig): string {
  const said = limitsOf(config, "day", "").map(({ meter, max }) =>
    meter === "usd"
      ? `${dollars(max)} a day`
      : `${amountText(meter, max).replace(" tokens", " tokens a day")}`
  );
  return said.length === 0
    ? "no limit: budgets are off"
    : `${said.join(", ")}; then turns stop (budgets in the configuration)`;
}
