/**
 * Says who is calling, from what they present and nothing else.
 *
 * Never: an address is a credential; a refusal says whether a token exists,
 * existed or expired; a right token is refused because others failed.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";
import type { TokenRow } from "../store/tokens.ts";
import type { FailureLimiter } from "./limiter.ts";
import { principalOf } from "./principal.ts";
import { refusal, type Refusals, REFUSED_HINT } from "./refusals.ts";
import type { TailnetPeer } from "./tailnet.ts";
import { hashToken, type Tokens } from "./tokens.ts";
import type { Whois } from "./whois.ts";

/** Looked-up tokens that are kept. */
const CACHED_MAX = 1000;
const TOKEN_CHARS_MAX = 512;
const LOOKUPS_MAX = 4;
/** A token's last use is stored this often at most. */
const TOUCH_MS = 60_000;

interface Cached {
  row: TokenRow;
  principal: Principal;
  /** The tokens' revision it was read at. */
  revision: number;
  touchedAt: number;
}

/** The one check of tokens; `connect.ts` checks what else a socket may show. */
export class Authenticator {
  readonly #tokens: Tokens;
  readonly #clock: Clock;
  readonly #refusals: Pick<Refusals, "note">;
  readonly #limiter: FailureLimiter;
  readonly #whois: Pick<Whois, "authenticate">;
  /** By the token's text, so that a known one costs no hash. */
  readonly #cache = new Map<string, Cached>();

  constructor(
    deps: {
      tokens: Tokens;
      clock: Clock;
      limiter: FailureLimiter;
      refusals: Pick<Refusals, "note">;
      whois: Pick<Whois, "authenticate">;
    },
  ) {
    this.#tokens = deps.tokens;
    this.#clock = deps.clock;
    this.#refusals = deps.refusals;
    this.#limiter = deps.limiter;
    this.#whois = deps.whois;
  }

  /**
   * The principal behind a token or, where nothing is shown at all, behind a
   * connection from the tailnet.
   *
   * @throws {AppError} `unauthorized`; `rate_limited` instead when the address,
   * or all of them, failed too often
   */
  async authenticate(
    presented: { token?: string; tailnet?: TailnetPeer | undefined },
    from: { address: string },
  ): Promise<Principal> {
    const { token: text, tailnet } = presented;
    // Only without a token: a wrong one is refused, whoever sends it.
    if (text === undefined && tailnet !== undefined) {
      return await this.#whois.authenticate(tailnet);
    }
    if (text === undefined || text === "") {
      throw new AppError("unauthorized", "Cannot authenticate: no token", {
        hint: REFUSED_HINT,
      });
    }
    const known = this.#known(text);
    if (known !== undefined) return known;
    // Before the first await: tries that run together must all be counted.
    const charge = this.#limiter.charge(from.address);
    let found: Principal | undefined;
    try {
      found = await this.find(text);
    } catch (error) {
      charge.refund(); // our failure, not the caller's
      throw error;
    }
    if (found === undefined) {
      this.#refusals.note("token", from.address);
      throw refusal(charge.delayMs);
    }
    charge.refund();
    return found;
  }

  /**
   * The principal behind a token's text, if it is one. Charges nothing: whoever
   * calls this has charged before.
   */
  async find(text: string): Promise<Principal | undefined> {
    const known = this.#known(text);
    if (known !== undefined) return known;
    const found = text.length <= TOKEN_CHARS_MAX
      ? await this.#lookUp(text)
      : undefined;
    if (found === undefined) {
      this.#cache.delete(text);
      return undefined;
    }
    this.#keep(text, found);
    this.#touch(found);
    return found.principal;
  }

  #known(text: string): Principal | undefined {
    const cached = this.#cache.get(text);
    if (cached === undefined || !this.#isFresh(cached)) return undefined;
    this.#touch(cached);
    return cached.principal;
  }

  #isFresh(cached: Cached): boolean {
    const { row, revision } = cached;
    return revision === this.#tokens.revision &&
      (row.expiresAt === undefined || row.expiresAt > this.#clock.now());
  }

  async #lookUp(text: string): Promise<Cached | undefined> {
    const sha256 = hashToken(text);
    for (let attempt = 0; attempt < LOOKUPS_MAX; attempt++) {
      const revision = this.#tokens.revision;
      const row = await this.#tokens.find(sha256);
      // A revocation during the read would otherwise be missed by this caller.
      if (revision !== this.#tokens.revision) continue;
      if (row === undefined) return undefined;
      const touchedAt = this.#cache.get(text)?.touchedAt ?? 0;
      return { row, principal: principalOf(row), revision, touchedAt };
    }
    throw new AppError(
      "unavailable",
      "Cannot authenticate: tokens are changing too fast",
      { retryAfterMs: 100 },
    );
  }

  #keep(text: string, found: Cached): void {
    this.#cache.delete(text);
    if (this.#cache.size >= CACHED_MAX) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    this.#cache.set(text, found);
  }

  #touch(cached: Cached): void {
    const now = this.#clock.now();
    if (now - cached.touchedAt < TOUCH_MS) return;
    cached.touchedAt = now;
    this.#tokens.touch(cached.row.id, now);
  }
}
