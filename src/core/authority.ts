/**
 * What a run may do. Scopes have one combiner, intersection, so authority can
 * only shrink on its way from a credential to a tool call.
 *
 * Never: anything a caller says widens an authority. `grantAuthority` is called
 * by `auth` from the server's record of a credential, and by nobody else (the
 * architecture test holds that).
 *
 * @module
 */
import { z } from "zod";
import { Integrity, meetIntegrity } from "./label.ts";
import { fullModel } from "./model.ts";

/** Everything that can be asked for at a door. */
export const Scope = z.enum([
  "read",
  "chat",
  "tools",
  "write",
  "admin",
  "approvals",
  "pairing",
  "hooks",
  "metrics",
]);
export type Scope = z.infer<typeof Scope>;

/** What each scope includes beside itself. */
const IMPLIED: Readonly<Record<Scope, readonly Scope[]>> = {
  read: [],
  chat: [],
  tools: [],
  write: ["read", "chat", "tools"],
  admin: Scope.options,
  approvals: [],
  pairing: [],
  hooks: [],
  metrics: [],
};

/** `operator.read` and `read` are the same scope; unknown names are nothing. */
export function toScope(name: string): Scope | undefined {
  const parsed = Scope.safeParse(name.replace(/^operator\./, ""));
  return parsed.success ? parsed.data : undefined;
}

/** A set of scopes, closed under what each implies. */
export class Scopes {
  readonly #set: ReadonlySet<Scope>;

  private constructor(set: ReadonlySet<Scope>) {
    this.#set = set;
  }

  /** From names; unknown ones are left out. */
  static of(names: Iterable<string>): Scopes {
    const set = new Set<Scope>();
    for (const name of names) {
      const scope = toScope(name);
      if (scope === undefined) continue;
      set.add(scope);
      for (const implied of IMPLIED[scope]) set.add(implied);
    }
    return new Scopes(set);
  }

  has(scope: Scope): boolean {
    return this.#set.has(scope);
  }

  /** What both have. There is no union. */
  intersect(other: Scopes): Scopes {
    return new Scopes(
      new Set([...this.#set].filter((scope) => other.has(scope))),
    );
  }

  /** Whether everything in the other is here too. */
  covers(other: Scopes): boolean {
    return other.list().every((scope) => this.has(scope));
  }

  /** Sorted names, as stored and shown. */
  list(): Scope[] {
    return [...this.#set].sort();
  }

  toJSON(): Scope[] {
    return this.list();
  }
}

/** What kind of actor stands behind a credential. */
export const PrincipalKind = z.enum(["owner", "peer", "program", "node"]);
export type PrincipalKind = z.infer<typeof PrincipalKind>;

/** `any` or the exact names. An empty list is none, which is not `any`. */
export const Allowed = z.union([z.literal("any"), z.array(z.string())]);
export type Allowed = z.infer<typeof Allowed>;

function meetAllowed(a: Allowed, b: Allowed): Allowed {
  if (a === "any") return b;
  if (b === "any") return a;
  return a.filter((name) => b.includes(name));
}

/** Whether a name is in an {@linkcode Allowed}. */
export function isAllowed(allowed: Allowed, name: string): boolean {
  return allowed === "any" || allowed.includes(name);
}

/** What a key may spend in a day, by UTC. What is not named is not limited here. */
export const KeyBudget = z.strictObject({
  /** For models with a price. */
  usdPerDay: z.number().nonnegative().max(1_000_000).optional(),
  /** In and out, of all models. */
  tokensPerDay: z.int().nonnegative().optional(),
});
export type KeyBudget = z.infer<typeof KeyBudget>;

/**
 * A key's budget under the key's id. Whatever is made with a key carries the
 * key's purse beside its own, so that all of them together spend no more.
 */
export const Purse = z.strictObject({
  key: z.string().max(256),
  ...KeyBudget.shape,
});
export type Purse = z.infer<typeof Purse>;

/** What several purses leave: the least of each. */
export function leastOf(purses: readonly KeyBudget[]): KeyBudget {
  const least: KeyBudget = {};
  for (const meter of ["usdPerDay", "tokensPerDay"] as const) {
    const said = purses.flatMap((purse) => purse[meter] ?? []);
    if (said.length > 0) least[meter] = Math.min(...said);
  }
  return least;
}

/** An authority as it is stored with a run and read back at boot. */
export const AuthorityRecord = z.strictObject({
  /** The principal's id: `owner`, `peer:<network>:<account>:<id>`, `token:<id>`. */
  principal: z.string().min(1).max(256),
  kind: PrincipalKind,
  /** The credential's id and revision; revoking it ends every run made with it. */
  credential: z.string().max(256),
  revision: z.int(),
  scopes: z.array(Scope),
  agents: Allowed,
  models: Allowed,
  tools: Allowed,
  /** Whose words the principal's own messages are. */
  integrity: Integrity,
  /** Of the credential and of those it was made with; absent without any. */
  purses: z.array(Purse).optional(),
});
export type AuthorityRecord = z.infer<typeof AuthorityRecord>;

/** An immutable authority. Made by {@linkcode grantAuthority}, narrowed by `narrow`. */
export class Authority {
  readonly #record: AuthorityRecord;
  readonly scopes: Scopes;

  /** @internal Use `grantAuthority` (only `auth`) or `narrow`. */
  constructor(record: AuthorityRecord) {
    this.#record = structuredClone(record);
    this.scopes = Scopes.of(record.scopes);
  }

  get principal(): string {
    return this.#record.principal;
  }
  get kind(): PrincipalKind {
    return this.#record.kind;
  }
  get credential(): string {
    return this.#record.credential;
  }
  get revision(): number {
    return this.#record.revision;
  }
  get integrity(): Integrity {
    return this.#record.integrity;
  }

  /** What is spent for it counts in each of these; nothing takes one away. */
  get purses(): readonly Purse[] {
    return structuredClone(this.#record.purses ?? []);
  }

  allowsAgent(id: string): boolean {
    return isAllowed(this.#record.agents, id);
  }
  allowsModel(id: string): boolean {
    const { models } = this.#record;
    return models === "any" || isAllowed(models.map(fullModel), fullModel(id));
  }
  allowsTool(name: string): boolean {
    return isAllowed(this.#record.tools, name);
  }

  /** `this ∩ requested`; whatever is not named stays as it is. */
  narrow(
    requested: {
      scopes?: Iterable<string>;
      agents?: Allowed;
      models?: Allowed;
      tools?: Allowed;
      integrity?: Integrity;
    },
  ): Authority {
    const own = this.#record;
    return new Authority({
      ...own,
      scopes: requested.scopes === undefined
        ? own.scopes
        : this.scopes.intersect(Scopes.of(requested.scopes)).list(),
      agents: meetAllowed(own.agents, requested.agents ?? "any"),
      models: meetAllowed(own.models, requested.models ?? "any"),
      tools: meetAllowed(own.tools, requested.tools ?? "any"),
      integrity: meetIntegrity(own.integrity, requested.integrity ?? "owner"),
    });
  }

  /** What is stored with a run. */
  toRecord(): AuthorityRecord {
    return structuredClone(this.#record);
  }
}

/** Who acts, as the server's own record says. Built by `auth` only. */
export interface Principal {
  /** `owner`, `peer:…` or `token:<id>`. */
  readonly id: string;
  readonly kind: PrincipalKind;
  /** The credential's name, for people. */
  readonly name: string;
  readonly authority: Authority;
  /** Which text of a credential it showed: texts that are rotated count up. */
  readonly generation?: number;
}

/**
 * Makes an authority from the server's record of a credential, or from a run's
 * stored row at boot.
 */
export function grantAuthority(record: AuthorityRecord): Authority {
  return new Authority(AuthorityRecord.parse(record));
}
