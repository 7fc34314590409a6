/**
 * What a model call costs: prices, and the one multiplication that makes money
 * of tokens. Money is a whole number of nano-dollars (1 $ is 1,000,000,000), so
 * that sums are exact.
 *
 * Never: a cost is rounded down.
 *
 * @module
 */
import type { Usage } from "./message.ts";

/** Nano-dollars in a dollar. */
export const NANO = 1_000_000_000;

/** Dollars a million tokens. */
export interface Rates {
  input: number;
  output: number;
  /** Input the vendor had kept. */
  cached: number;
  /** Input the vendor was told to keep. */
  cacheWrite: number;
}

/** What a model's tokens cost, and who says so. */
export interface Price extends Rates {
  /** The rates of a whole call whose input is larger than this. */
  long?: Rates & { overTokens: number };
  because: string;
}

/** What a model is that nobody is paid for. */
export function freePrice(because: string): Price {
  return { input: 0, output: 0, cached: 0, cacheWrite: 0, because };
}

/** A call's cost in nano-dollars, rounded up. */
export function costOf(usage: Usage, price: Price): number {
  const { inputTokens, outputTokens, cachedTokens, cacheWriteTokens } = usage;
  const rates: Rates =
    price.long !== undefined && inputTokens > price.long.overTokens
      ? price.long
      : price;
  const plain = Math.max(0, inputTokens - cachedTokens - cacheWriteTokens);
  // A dollar a million tokens is a thousand nano-dollars a token.
  const nano = 1000 * (
    plain * rates.input + cachedTokens * rates.cached +
    cacheWriteTokens * rates.cacheWrite + outputTokens * rates.output
  );
  // Less than a millionth of a nano-dollar is how doubles add, not money.
  return Math.max(0, Math.ceil(nano - 1e-6));
}

/** `$4.20`, `$0.0031`: enough places to see what a small thing costs. */
export function dollars(nano: number): string {
  const usd = nano / NANO;
  if (usd === 0) return "$0";
  return usd >= 1 ? `$${usd.toFixed(2)}` : `$${Number(usd.toPrecision(2))}`;
}

/** The day of a moment, as usage is counted: by UTC. */
export function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

/** When the day of a moment ends. */
export function dayEnd(at: number): number {
  return (Math.floor(at / 86_400_000) + 1) * 86_400_000;
}
