/**
 * Makes, lists and ends tokens. A token is 256 random bits; what is kept is its
 * SHA-256 and what it may do.
 *
 * Never: a token that may do more than the one it was made with; a revoked one
 * that comes back, from the environment or a cache; a token's text in a row, a
 * log or an error.
 *
 * @module
 */
import {
  type Allowed,
  type Authority,
  type KeyBudget,
  leastOf,
  PrincipalKind,
} from "../core/authority.ts";
import { AppError, errorText, ignore } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { Integrity } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { AuditEntry } from "../store/audit.ts";
import type { Store } from "../store/store.ts";
import type { TokenRow } from "../store/tokens.ts";
import { Endings, type EndListener } from "./endings.ts";
import { checkCovers, checkMayEnd, narrowed } from "./minting.ts";
import { hashToken, makeTokenText } from "./secret_text.ts";

export { hashToken } from "./secret_text.ts";

/** What a new token is to be. */
export interface TokenRequest {
  name: string;
  scopes: readonly string[];
  agents?: Allowed;
  models?: Allowed;
  tools?: Allowed;
  /** Whose words its messages are: `untrusted` unless said, the owner's for `owner`. */
  integrity?: Integrity;
  /** `program` unless said. */
  kind?: PrincipalKind;
  expiresInMs?: number;
  /** What it may spend in a day, beside what its maker may. */
  budget?: KeyBudget;
}

/** What `Tokens` needs. */
export interface TokensDeps {
  store: Pick<Store, "tokens" | "journal" | "audit">;
  clock: Clock;
  log: Log;
}

/** A token as it is shown: without its hash, with all its budgets in one. */
export type TokenView = Omit<TokenRow, "sha256"> & { budget?: KeyBudget };

/** A token from the environment must be this long. */
export const ADOPTED_CHARS_MIN = 24;
const ADOPTED_CHARS_MAX = 512;
const ADOPTED_DISTINCT_MIN = 8;
/** Tokens that are not revoked. */
export const TOKENS_MAX = 1000;

/** The tokens of one store. */
export class Tokens {
  readonly #store: TokensDeps["store"];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #listeners: Endings;
  /** Ended in this process, whether or not the disk has heard of it. */
  readonly #ended = new Set<string>();
  /** By credential, the number below which its texts ended in this process. */
  readonly #textsFrom = new Map<string, number>();
  #endings = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(deps: TokensDeps) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#listeners = new Endings(deps.log);
  }

  /** Counts changes to any token: what was looked up before is stale. */
  get revision(): number {
    return this.#store.tokens.revision + this.#endings;
  }

  /**
   * Makes a token; its text is in the answer and nowhere else.
   *
   * @param by whose credential makes it; absent at the machine itself (the CLI)
   * @param standing when that credential ends; a token's own record says it too
   * @throws {AppError} `forbidden` naming what is wider than `by` has,
   * `bad_input` for a scope that does not exist
   */
  async create(
    request: TokenRequest,
    by?: Authority,
    standing?: { expiresAt?: number },
  ): Promise<{ id: string; token: string; row: TokenRow }> {
    const rows = await this.#store.tokens.list();
    if (rows.filter((row) => !this.#isOver(row)).length >= TOKENS_MAX) {
      throw new AppError(
        "conflict",
        `Cannot make token "${request.name}": there are ${TOKENS_MAX} already`,
        { hint: "Revoke those nobody uses: `carapace token list`" },
      );
    }
    const token = makeTokenText("cara");
    const row = this.#makeRow(request, { token, by, rows, standing });
    await this.#store.journal.commit([
      this.#store.tokens.row(row, { isNew: true }),
      this.#store.audit.row(told("token.create", row, by)),
    ]);
    return { id: row.id, token, row };
  }

  /**
   * Takes a token from the environment as the owner's. The same text again
   * changes nothing; another text ends the one adopted before.
   *
   * @throws {AppError} `bad_input` when it can be guessed, `forbidden` when it
   * was revoked or is over
   */
  async adopt(
    token: string,
    options: Partial<TokenRequest> = {},
  ): Promise<{ id: string; row: TokenRow; isNew: boolean }> {
    checkAdopted(token);
    const sha256 = hashToken(token);
    const found = await this.#store.tokens.find(sha256);
    if (found !== undefined && this.#isOver(found)) {
      throw new AppError(
        "forbidden",
        `Cannot use CARAPACE_TOKEN: that token was revoked or has expired`,
        { hint: "Set another one: `openssl rand -base64 32` makes one" },
      );
    }
    await this.#retire((row) => row.sha256 !== sha256);
    if (found !== undefined) return { id: found.id, row: found, isNew: false };
    const request: TokenRequest = {
      name: "CARAPACE_TOKEN",
      scopes: ["admin"],
      kind: "owner",
      ...options,
    };
    const row: TokenRow = {
      ...this.#makeRow(request, { token, by: undefined, rows: [] }),
      fromEnvironment: true,
    };
    await this.#store.journal.commit([
      this.#store.tokens.row(row, { isNew: true }),
      this.#store.audit.row(told("token.adopt", row)),
    ]);
    return { id: row.id, row, isNew: true };
  }

  /** Ends a token that was adopted; for a start without one in the environment. */
  async retireAdopted(): Promise<void> {
    await this.#retire(() => true);
  }

  /** Runs what reads a token's texts and then changes them, one at a time. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#last.then(work, work);
    this.#last = run.catch(ignore("whoever asked hears of it"));
    return run;
  }

  /** The tokens, oldest first; those revoked only when asked for. */
  async list(options: { withRevoked?: boolean } = {}): Promise<TokenView[]> {
    const rows = await this.#store.tokens.list();
    return rows
      .filter((row) =>
        // A text that is not used yet is the same token.
        row.replaces === undefined &&
        (options.withRevoked ||
          row.revokedAt === undefined && !this.#ended.has(row.id))
      )
      .map(({ sha256: _, ...view }) =>
        view.purses === undefined
          ? view
          : { ...view, budget: leastOf(view.purses) }
      );
  }

  /**
   * Ends a token: at once for every door of this process, then on disk. It does
   * not wait for the audit log.
   *
   * @throws {AppError} `not_found`; `forbidden` when it may do what `by` may
   * not; `unavailable` when the disk failed, and then the token is ended until
   * this process ends
   */
  async revoke(id: string, by?: Authority): Promise<void> {
    const texts = async () =>
      (await this.#store.tokens.list()).filter((row) => row.id === id);
    const row = (await texts()).find((r) => r.replaces === undefined);
    if (row === undefined) {
      throw new AppError(
        "not_found",
        `Cannot revoke token "${id}": no such token`,
        { hint: "`carapace token list` shows their ids" },
      );
    }
    if (by !== undefined) {
      checkMayEnd(by, { ...row, credential: id }, {
        act: `revoke token "${row.name}"`,
      });
    }
    if (row.revokedAt !== undefined) return;
    // At once; a text that is being made meanwhile is found after it is.
    this.#end(id);
    await this.#alone(async () => {
      const rows = await texts();
      const revokedAt = this.#clock.now();
      await this.#commitFirst(
        rows.map((one) =>
          one.replaces === undefined
            ? this.#store.tokens.row({
              ...one,
              revokedAt,
              revision: one.revision + 1,
            })
            : this.#store.tokens.forgetRow(one)
        ),
        told("token.revoke", row, by),
      );
    });
  }

  /**
   * Makes a token's next text. It works at once; the present one until the next
   * is first used. What the token may do does not change.
   *
   * @param named its id, or a name that only one token has
   * @throws {AppError} `not_found`; `forbidden` when it may do what `by` may
   * not; `conflict` for one that stands in the environment
   */
  rotate(
    named: string,
    by?: Authority,
  ): Promise<{ id: string; token: string }> {
    return this.#alone(() => this.#rotate(named, by));
  }

  async #rotate(
    named: string,
    by: Authority | undefined,
  ): Promise<{ id: string; token: string }> {
    const rows = (await this.#store.tokens.list()).filter((row) =>
      !this.#isOver(row) && (row.id === named || row.name === named)
    );
    const [row, ...others] = rows.filter((r) => r.replaces === undefined);
    if (row === undefined || others.length > 0) {
      throw new AppError(
        "not_found",
        `Cannot rotate token "${named}": ${
          row === undefined ? "no such token" : "several have that name"
        }`,
        { hint: "`carapace token list` shows their ids" },
      );
    }
    if (row.fromEnvironment) {
      throw new AppError(
        "conflict",
        "Cannot rotate the token of CARAPACE_TOKEN",
        { hint: "Set another text there and start again" },
      );
    }
    if (by !== undefined) {
      checkCovers(by, row, { act: `rotate token "${row.name}"` });
    }
    const token = makeTokenText("cara");
    const next: TokenRow = {
      ...row,
      sha256: hashToken(token),
      generation: (row.generation ?? 0) + 1,
      replaces: row.sha256,
    };
    await this.#store.journal.commit([
      this.#store.tokens.row(next, { isNew: true }),
      // Of texts that were never used, only the newest counts.
      ...rows.filter((r) => r.replaces === row.sha256)
        .map((r) => this.#store.tokens.forgetRow(r)),
      this.#store.audit.row(told("token.rotate", row, by)),
    ]);
    return { id: row.id, token };
  }

  /** Whether a text is one of a token's; it is not used by being asked. */
  async holds(id: string, text: string): Promise<boolean> {
    const row = await this.#store.tokens.find(hashToken(text));
    return row?.id === id && !this.#isOver(row);
  }

  /** The first use of a token's next text: the one before is over. */
  #settle({ sha256 }: TokenRow): Promise<void> {
    return this.#alone(async () => {
      const row = await this.#store.tokens.find(sha256);
      if (row === undefined || this.#isOver(row)) return;
      const { replaces, ...settled } = row;
      if (replaces === undefined) return;
      await this.#store.journal.commit([
        this.#store.tokens.row(settled),
        this.#store.tokens.forgetRow({ sha256: replaces }),
        this.#store.audit.row(told("token.rotated", row)),
      ]);
      const { id, generation = 0 } = row;
      this.#textsFrom.set(id, generation);
      this.#listeners.tell(id, generation);
    });
  }

  /** Calls with a credential's id when it ends, until disposed. */
  onRevoked(listener: EndListener): Disposable {
    return this.#listeners.on(listener);
  }

  /**
   * Tells listeners of tokens whose time has come since the last call. Sockets
   * outlive a handshake, so somebody must call this now and then.
   */
  async endExpired(): Promise<string[]> {
    const now = this.#clock.now();
    const due = (await this.#store.tokens.list()).filter((row) =>
      row.expiresAt !== undefined && row.expiresAt <= now &&
      row.revokedAt === undefined && !this.#ended.has(row.id)
    ).map((row) => row.id);
    for (const id of due) this.#end(id);
    return due;
  }

  /** The record of a token that may be used now, by its hash. */
  async find(sha256: string): Promise<TokenRow | undefined> {
    const row = await this.#store.tokens.find(sha256);
    if (row === undefined || this.#isOver(row)) return undefined;
    // Its caller reads again: the rows have changed.
    if (row.replaces !== undefined) await this.#settle(row);
    return row;
  }

  /** How a token stands; `undefined` for one that is over. */
  async standing(
    credential: string,
  ): Promise<{ expiresAt?: number; revision: number } | undefined> {
    const rows = await this.#store.tokens.list();
    const row = rows.find((r) => r.id === credential);
    if (row === undefined || this.#isOver(row)) return undefined;
    const { expiresAt, revision } = row;
    return { revision, ...(expiresAt === undefined ? {} : { expiresAt }) };
  }

  /** Whether a credential stands as it did when a run was made with it. */
  async isLive(credential: string, revision: number): Promise<boolean> {
    return (await this.standing(credential))?.revision === revision;
  }

  /**
   * Whether a credential, or the text of it that was shown, was ended in this
   * process, at once. Who keeps something open for a principal asks again after
   * it began to listen: what ended between the check and the listening was told
   * to nobody.
   *
   * @param generation Which text was shown; absent where that is not known
   */
  hasEnded(credential: string, generation?: number): boolean {
    return this.#ended.has(credential) ||
      generation !== undefined &&
        generation < (this.#textsFrom.get(credential) ?? 0);
  }

  /** Notes a use without waiting; losing one costs nothing. */
  touch(id: string, at: number): void {
    this.#store.journal.commit([this.#store.tokens.usedRow(id, at)])
      .catch(ignore("a token's last use was not stored"));
  }

  #isOver(row: TokenRow): boolean {
    return row.revokedAt !== undefined || this.#ended.has(row.id) ||
      row.expiresAt !== undefined && row.expiresAt <= this.#clock.now();
  }

  #makeRow(
    request: TokenRequest,
    given: {
      token: string;
      by: Authority | undefined;
      rows: readonly TokenRow[];
      standing?: { expiresAt?: number } | undefined;
    },
  ): TokenRow {
    const { by, rows } = given;
    const now = this.#clock.now();
    const kind = PrincipalKind.parse(request.kind ?? "program");
    const parent = rows.find((row) => row.id === by?.credential);
    const { standing = parent } = given;
    const isOver = standing === undefined ||
      parent !== undefined && this.#isOver(parent);
    if (by !== undefined && isOver) {
      throw new AppError(
        "forbidden",
        `Cannot make token "${request.name}": the credential it is made with is over`,
      );
    }
    const expiresAt = earliest(
      standing?.expiresAt,
      request.expiresInMs === undefined ? undefined : now + request.expiresInMs,
    );
    const id = makeId("tok", now);
    const { budget = {} } = request;
    const isBudgeted = Object.keys(budget).length > 0;
    return {
      sha256: hashToken(given.token),
      id,
      name: request.name,
      ...narrowed({
        ...request,
        kind,
        ...(isBudgeted ? { purse: { key: id, ...budget } } : {}),
      }, {
        by,
        what: `token "${request.name}"`,
      }),
      kind,
      revision: 0,
      createdAt: now,
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(by === undefined ? {} : { mintedBy: by.credential }),
    };
  }

  async #retire(which: (row: TokenRow) => boolean): Promise<void> {
    const rows = await this.#store.tokens.list();
    for (const row of rows) {
      // A revoked one stays: its text must not be adopted again.
      if (!row.fromEnvironment || row.revokedAt !== undefined) continue;
      if (!which(row)) continue;
      this.#end(row.id);
      await this.#commitFirst(
        this.#store.tokens.deleteRows(row),
        told("token.retire", row),
      );
    }
  }

  #end(id: string): void {
    this.#ended.add(id);
    this.#endings++;
    this.#listeners.tell(id);
  }

  /** Stores rows with their audit row, or without it if that is what fails. */
  async #commitFirst(
    rows: ReturnType<Store["tokens"]["deleteRows"]>,
    entry: AuditEntry,
  ): Promise<void> {
    try {
      await this.#store.journal.commit([
        ...rows,
        this.#store.audit.row(entry),
      ]);
    } catch (error) {
      this.#log("error", "auth.audit.failed", {
        event: entry.event,
        reason: errorText(error),
      });
      await this.#store.journal.commit(rows);
    }
  }
}

function earliest(
  a: number | undefined,
  b: number | undefined,
): number | undefined {
  if (a === undefined) return b;
  return b === undefined ? a : Math.min(a, b);
}

function told(event: string, row: TokenRow, by?: Authority): AuditEntry {
  const { usdPerDay, tokensPerDay } = leastOf(row.purses ?? []);
  return {
    event,
    fields: {
      token: row.id,
      kind: row.kind,
      scopes: [...row.scopes],
      integrity: row.integrity,
      ...(usdPerDay === undefined ? {} : { usdPerDay }),
      ...(tokensPerDay === undefined ? {} : { tokensPerDay }),
      by: by?.credential ?? "local",
    },
  };
}

function checkAdopted(token: string): void {
  const refuse = (why: string) => {
    throw new AppError("bad_input", `Cannot use CARAPACE_TOKEN: ${why}`, {
      hint: "`openssl rand -base64 32` makes a good one",
    });
  };
  if (token.length < ADOPTED_CHARS_MIN) {
    refuse(
      `it has ${token.length} characters and needs ${ADOPTED_CHARS_MIN}, or it can be guessed`,
    );
  }
  if (token.length > ADOPTED_CHARS_MAX) {
    refuse(`it has more than ${ADOPTED_CHARS_MAX} characters`);
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    refuse("it holds white space or something that is not plain ASCII");
  }
  if (new Set(token).size < ADOPTED_DISTINCT_MIN) {
    refuse("it repeats a few characters, so it can be guessed");
  }
}
