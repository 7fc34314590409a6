/**
 * A model call that somebody has to pay for, from its reservation to what is
 * written of it.
 *
 * @module
 */
import { costOf, type Price } from "../core/cost.ts";
import type { Purse } from "../core/authority.ts";
import type { Usage } from "../core/message.ts";
import type { UsageCall, UsageOwner } from "../store/usage.ts";
import { add, type Amounts, type Limit, payersOf } from "./budget.ts";

/** A model call that somebody has to pay for. */
export interface PaidCall extends UsageOwner {
  runId: string;
  step: number;
  /** An estimate, rather high than low. */
  inputTokens: number;
  outputTokensMax: number;
  /** Budgets of the key and of those it was made with. */
  purses?: readonly Purse[] | undefined;
}

/** A reservation. What is settled or released once is done. */
export interface Hold {
  /** What the call came to; `estimate` when the vendor did not say. */
  settle(usage: Usage, by: "vendor" | "estimate"): void;
  /** Nothing was used. */
  release(): void;
}

/** A call that was let through. */
export interface Taken {
  id: string;
  day: string;
  ask: Amounts;
  usage: Usage;
  price: Price | undefined;
  limits: readonly Limit[];
}

/** What is to be written of a settled call. */
export interface Settled {
  call?: UsageCall;
  openId?: string;
}

/** Only whose a call is. */
export function ownerOf(
  call: UsageOwner & Pick<PaidCall, "purses">,
): UsageOwner {
  const { agent, model, principal, credential, session, job } = call;
  const payers = payersOf(call).filter((key) => key !== credential);
  return {
    ...{ agent, model, principal, credential, session },
    ...job === undefined ? {} : { job },
    ...payers.length === 0 ? {} : { payers },
  };
}

/** What a call counts for each meter. */
export function amountsOf(
  { usage, nano, unpriced }: Pick<UsageCall, "usage" | "nano" | "unpriced">,
): Amounts {
  const tokens = usage.inputTokens + usage.outputTokens;
  return { usd: nano, tokens, unpriced };
}

/** What a usage comes to by a model's price. */
export function priced(usage: Usage, price: Price | undefined): Amounts {
  const tokens = usage.inputTokens + usage.outputTokens;
  return price === undefined
    ? { usd: 0, tokens, unpriced: tokens }
    : { usd: costOf(usage, price), tokens, unpriced: 0 };
}

/** What is left of one when the other is taken away. */
export function minus(a: Amounts, b: Amounts): Amounts {
  const { usd, tokens, unpriced } = b;
  return add(a, { usd: -usd, tokens: -tokens, unpriced: -unpriced });
}

/** Whether a limit is on anything the call uses. */
export function isLimited({ limits, ask }: Taken): boolean {
  return limits.some(({ meter }) => ask[meter] > 0);
}
