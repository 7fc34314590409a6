/**
 * The one rule for making a credential out of another: what is asked for must be
 * within what its maker has, and what comes out is their intersection.
 *
 * Never: a credential that may do more than the one it was made with.
 *
 * @module
 */
import {
  type Allowed,
  type Authority,
  isAllowed,
  type KeyBudget,
  leastOf,
  type PrincipalKind,
  type Purse,
  Scopes,
  toScope,
} from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { type Integrity, meetIntegrity } from "../core/label.ts";
import type { TokenRow } from "../store/tokens.ts";

/** What a credential is asked to be. */
export interface Wish {
  kind: PrincipalKind;
  scopes: readonly string[];
  agents?: Allowed;
  models?: Allowed;
  tools?: Allowed;
  /** Whose words its messages are: the owner's for `owner`, else `untrusted`. */
  integrity?: Integrity;
  /** What it may spend in a day, under its own id. */
  purse?: Purse;
}

/** What it comes to. */
export type Granted = Pick<
  TokenRow,
  "scopes" | "agents" | "models" | "tools" | "integrity" | "purses"
>;

/** Purses that one credential carries: its own and its makers'. */
const PURSES_MAX = 8;

/**
 * What was asked for, no wider than `by` (absent at the machine itself).
 *
 * @param how `what` is named in errors: `token "x"`
 * @throws {AppError} `forbidden` naming what is wider, `bad_input` for a scope
 * that does not exist
 */
export function narrowed(
  wish: Wish,
  how: { by: Authority | undefined; what: string },
): Granted {
  const { by, what } = how;
  const unknown = wish.scopes.filter((name) => toScope(name) === undefined);
  if (unknown.length > 0) {
    throw new AppError(
      "bad_input",
      `Cannot make ${what}: there is no scope ${quoted(unknown)}`,
    );
  }
  const scopes = Scopes.of(wish.scopes);
  const integrity = wish.integrity ??
    (wish.kind === "owner" ? "owner" : "untrusted");
  const wanted = {
    agents: wish.agents ?? "any",
    models: wish.models ?? "any",
    tools: wish.tools ?? "any",
  };
  const purses = [...by?.purses ?? [], ...wish.purse ? [wish.purse] : []];
  const carried = purses.length === 0 ? {} : { purses };
  if (by === undefined) {
    return { scopes: scopes.list(), ...wanted, integrity, ...carried };
  }
  if (purses.length > PURSES_MAX) {
    throw new AppError(
      "forbidden",
      `Cannot make ${what}: ${PURSES_MAX} budgets hold for it already`,
      { hint: "Make it with a key that is nearer to the owner's" },
    );
  }
  const wider = [
    ...widerThan(by, { ...wish, scopes, integrity, purses }),
    ...beyondBudget(by, wish.purse),
  ];
  if (wider.length > 0) {
    throw new AppError(
      "forbidden",
      `Cannot make ${what}: the token it is made with does not have ${
        wider.join(", ")
      }`,
      {
        hint: "Ask for less, or make it with a token that has it",
        details: { missing: wider },
      },
    );
  }
  const { agents, models, tools } = by.narrow(wanted).toRecord();
  return {
    scopes: by.scopes.intersect(scopes).list(),
    agents,
    models,
    tools,
    integrity,
    ...carried,
  };
}

/** What of a budget is more than its maker has itself. */
function beyondBudget(by: Authority, asked: KeyBudget = {}): string[] {
  const own = leastOf(by.purses);
  const isMore = (meter: keyof KeyBudget) =>
    (asked[meter] ?? 0) > (own[meter] ?? Infinity);
  return [
    ...isMore("usdPerDay") ? [`a budget of ${asked.usdPerDay} $ a day`] : [],
    ...isMore("tokensPerDay")
      ? [`a budget of ${asked.tokensPerDay} tokens a day`]
      : [],
  ];
}

/**
 * Refuses whoever may do less than a credential: its text, or its end, would be
 * in the hands of somebody it outranks.
 *
 * @param how `act` is named in errors: `rotate token "x"`
 * @throws {AppError} `forbidden`
 */
export function checkCovers(
  by: Authority,
  held: Granted & { kind: PrincipalKind },
  how: { act: string },
): void {
  const wider = widerThan(by, { ...held, scopes: Scopes.of(held.scopes) });
  if (wider.length === 0) return;
  throw new AppError(
    "forbidden",
    `Cannot ${how.act}: it has ${wider.join(", ")} and you do not`,
    { hint: "Use a token that has at least as much" },
  );
}

/**
 * Refuses whoever may not end a credential. It may be ended by itself, by an
 * owner with `admin`, and by whatever may do all that it may.
 *
 * @throws {AppError} `forbidden`
 */
export function checkMayEnd(
  by: Authority,
  held: Granted & { kind: PrincipalKind; credential: string },
  how: { act: string },
): void {
  const isOwner = by.kind === "owner" && by.scopes.has("admin");
  if (isOwner || by.credential === held.credential) return;
  checkCovers(by, held, how);
}

function quoted(names: readonly string[]): string {
  return names.map((name) => JSON.stringify(name.slice(0, 64))).join(", ");
}

/** Everything asked for by name that `by` does not have. */
function widerThan(
  by: Authority,
  asked: {
    scopes: Scopes;
    agents?: Allowed;
    models?: Allowed;
    tools?: Allowed;
    integrity: Integrity;
    kind: PrincipalKind;
    purses?: readonly Purse[] | undefined;
  },
): string[] {
  const own = by.toRecord();
  const wider = asked.scopes.list().filter((scope) => !by.scopes.has(scope))
    .map((scope) => `scope "${scope}"`);
  for (const list of ["agents", "models", "tools"] as const) {
    const names = asked[list];
    // What is not named is narrowed to its maker's.
    if (names === undefined) continue;
    if (names === "any") {
      if (own[list] !== "any") wider.push(`any of ${list}`);
      continue;
    }
    const missing = names.filter((name) => !isAllowed(own[list], name));
    if (missing.length > 0) wider.push(`${list} ${quoted(missing)}`);
  }
  if (meetIntegrity(asked.integrity, by.integrity) !== asked.integrity) {
    wider.push(`integrity "${asked.integrity}"`);
  }
  // Another's purse would be spent beside its own.
  const carried = new Set(asked.purses?.map(({ key }) => key));
  if (by.purses.some(({ key }) => !carried.has(key))) {
    wider.push("a budget of its own");
  }
  if (asked.kind !== "program" && by.kind !== "owner") {
    wider.push(`kind "${asked.kind}"`);
  }
  return wider;
}
