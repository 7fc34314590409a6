/**
 * What model calls used: a row each, their sums by day, and what was reserved
 * for calls that are not known to be over.
 *
 * Never: a sum is counted up in the store; one process keeps the sums and
 * writes them beside the rows they are of.
 *
 * @module
 */
import { z } from "zod";
import { Usage } from "../core/message.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** How long single calls are kept; their sums stay longer. */
const CALL_KEPT_MS = 90 * 86_400_000;
const SUM_KEPT_MS = 800 * 86_400_000;

/** A day, by UTC. */
export const Day = z.string().regex(
  /^\d{4}-\d{2}-\d{2}$/,
  "a day looks like 2026-01-31",
);

/** Who spent, and on what. */
const who = {
  /** `-` for a call that went past the agents. */
  agent: z.string().min(1).max(64),
  /** `provider:model`. */
  model: z.string().min(1).max(256),
  /** Of the sender. */
  principal: z.string().min(1).max(256),
  /** Of the key. */
  credential: z.string().max(256),
  /** `-` without a session that lasts. */
  session: z.string().min(1).max(300),
  job: z.string().max(64).optional(),
  /** Keys it counts for beside its own: those it was made with. */
  payers: z.array(z.string().max(256)).optional(),
};

/** Whose a call is. */
export const UsageOwner = z.strictObject(who);
export type UsageOwner = z.infer<typeof UsageOwner>;

const amounts = {
  usage: Usage,
  /** Nano-dollars. */
  nano: z.int().nonnegative(),
  /** Tokens of models nobody knows a price of. */
  unpriced: z.int().nonnegative(),
};

/** One call, or a minute of calls that went past the agents. */
export const UsageCall = z.strictObject({
  ...who,
  ...amounts,
  id: z.string().min(1).max(64),
  day: Day,
  at: z.int(),
  runId: z.string().min(1).max(64),
  step: z.int().nonnegative(),
  calls: z.int().positive(),
  /** `estimate`: the vendor did not say; `lost`: it was open in a crash. */
  by: z.enum(["vendor", "estimate", "lost"]),
});
export type UsageCall = z.infer<typeof UsageCall>;

/** The sum of a day's calls of one owner with one model. */
export const UsageSum = z.strictObject({
  ...who,
  ...amounts,
  day: Day,
  calls: z.int().nonnegative(),
});
export type UsageSum = z.infer<typeof UsageSum>;

/** What a day's sums must add up to. */
const UsageTotal = z.strictObject({ calls: z.int().nonnegative() });

/** What was reserved and is not settled. */
export const UsageOpen = UsageCall.omit({ calls: true, by: true });
export type UsageOpen = z.infer<typeof UsageOpen>;

/** The names of a sum within its day. */
export function sumId(owner: UsageOwner): string {
  const { agent, model, principal, credential, session, job = "" } = owner;
  return JSON.stringify([agent, model, principal, credential, session, job]);
}

/** The `usage` collections. */
export class UsageRows {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  /** The sums from one day to another, both included. */
  async sums(from: string, to: string): Promise<UsageSum[]> {
    const stretch = {
      prefix: makeKey("usage_day"),
      start: makeKey("usage_day", from),
      end: makeKey("usage_day", `${to}\uffff`),
    };
    const sums: UsageSum[] = [];
    for await (const { value } of this.#values.list(stretch, UsageSum)) {
      sums.push(value);
    }
    return sums;
  }

  /** How many calls a day has. */
  async total(day: string): Promise<number> {
    const key = makeKey("usage_total", day);
    return (await this.#values.find(key, UsageTotal))?.calls ?? 0;
  }

  /** A day's calls, in the order of their runs. */
  calls(day: string): AsyncIterable<UsageCall> {
    const stretch = { prefix: makeKey("usage", day) };
    const found = this.#values.list(stretch, UsageCall);
    return (async function* () {
      for await (const { value } of found) yield value;
    })();
  }

  /** What was reserved and never settled. */
  async open(): Promise<UsageOpen[]> {
    const open: UsageOpen[] = [];
    const prefix = makeKey("usage_open");
    for await (const { value } of this.#values.list({ prefix }, UsageOpen)) {
      open.push(value);
    }
    return open;
  }

  openRow(open: UsageOpen): Row {
    const value = UsageOpen.parse(open);
    return { key: makeKey("usage_open", value.id), value };
  }

  closeRow(id: string): Row {
    return { key: makeKey("usage_open", id), value: undefined };
  }

  callRow(call: UsageCall): Row {
    const value = UsageCall.parse(call);
    const { day, runId, step, id } = value;
    return {
      key: makeKey("usage", day, runId, step, id),
      value,
      expireInMs: CALL_KEPT_MS,
    };
  }

  sumRow(sum: UsageSum): Row {
    const value = UsageSum.parse(sum);
    const { day, agent, model, principal, credential, session, job } = value;
    const names = [principal, credential, session, job ?? ""];
    return {
      key: makeKey("usage_day", day, agent, model, ...names),
      value,
      expireInMs: SUM_KEPT_MS,
    };
  }

  totalRow(day: string, calls: number): Row {
    return {
      key: makeKey("usage_total", day),
      value: { calls },
      expireInMs: SUM_KEPT_MS,
    };
  }
}
