/**
 * What the server knows of each token, under the SHA-256 of its text.
 *
 * Never: a token's text.
 *
 * @module
 */
import { z } from "zod";
import { Allowed, PrincipalKind, Purse, Scope } from "../core/authority.ts";
import { idSchema } from "../core/ids.ts";
import { Integrity } from "../core/label.ts";
import type { KvJournal, Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** One token's record: what it may do, and until when. */
export const TokenRow = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  id: idSchema("tok"),
  name: z.string().min(1).max(64),
  scopes: z.array(Scope),
  agents: Allowed,
  models: Allowed,
  tools: Allowed,
  integrity: Integrity,
  /** Its own budget and those of the keys it was made with. */
  purses: z.array(Purse).optional(),
  kind: PrincipalKind,
  /** Counts up with every change of what the token may do. */
  revision: z.int().nonnegative(),
  createdAt: z.int(),
  expiresAt: z.int().optional(),
  /** Kept in a row of its own; joined in when read. */
  lastUsedAt: z.int().optional(),
  revokedAt: z.int().optional(),
  /** The credential it was minted by; absent when made at the machine itself. */
  mintedBy: z.string().max(256).optional(),
  /** Which text it is: each rotation counts up. */
  generation: z.int().nonnegative().optional(),
  /** The hash of the text that holds until this one is first used. */
  replaces: z.string().regex(/^[0-9a-f]{64}$/).optional(),
  /** Its text stands in the environment; another text there replaces it. */
  fromEnvironment: z.literal(true).optional(),
});
export type TokenRow = z.infer<typeof TokenRow>;

const Used = z.strictObject({ at: z.int() });

/** The `token` collection. */
export class TokenRows {
  readonly #values: Values;
  #revision = 0;

  constructor(values: Values, journal: KvJournal) {
    this.#values = values;
    journal.onCommitted((rows) => {
      if (rows.some(({ key }) => key[0] === "token")) this.#revision++;
    });
  }

  /** Counts commits that changed any token: what was read before is stale. */
  get revision(): number {
    return this.#revision;
  }

  /** By the hash of the text. `lastUsedAt` is not joined in. */
  async find(sha256: string): Promise<TokenRow | undefined> {
    const row = await this.#values.find(makeKey("token", sha256), TokenRow);
    return row?.sha256 === sha256 ? row : undefined;
  }

  /** Every token, oldest first. */
  async list(): Promise<TokenRow[]> {
    const used = new Map<string, number>();
    const prefix = makeKey("token_used");
    for await (const { key, value } of this.#values.list({ prefix }, Used)) {
      used.set(String(key[2]), value.at);
    }
    const rows: TokenRow[] = [];
    const tokens = { prefix: makeKey("token") };
    for await (const { key, value } of this.#values.list(tokens, TokenRow)) {
      const lastUsedAt = used.get(value.id);
      if (value.sha256 !== key[2]) {
        this.#values.skip(key, new TypeError("its hash is not its key's"));
      } else {rows.push(
          lastUsedAt === undefined ? value : { ...value, lastUsedAt },
        );}
    }
    return rows.sort((a, b) => a.id < b.id ? -1 : 1);
  }

  /** The row that stores a token. */
  row(next: TokenRow, options: { isNew?: boolean } = {}): Row {
    const { lastUsedAt: _, ...value } = TokenRow.parse(next);
    const key = makeKey("token", value.sha256);
    return options.isNew ? { key, value, absent: true } : { key, value };
  }

  /** The row that forgets one text of a token. */
  forgetRow({ sha256 }: Pick<TokenRow, "sha256">): Row {
    return { key: makeKey("token", sha256), value: undefined };
  }

  /** The rows that delete a token. */
  deleteRows(row: TokenRow): Row[] {
    return [
      { key: makeKey("token", row.sha256), value: undefined },
      { key: makeKey("token_used", row.id), value: undefined },
    ];
  }

  /** The row that notes a token's last use; it cannot undo a revocation. */
  usedRow(id: string, at: number): Row {
    return { key: makeKey("token_used", id), value: Used.parse({ at }) };
  }
}
