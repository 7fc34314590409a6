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
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { TokenRow } from "../store/tokens.ts";
import { FailureLimiter } from "./limiter.ts";
import { principalOf } from "./principal.ts";
import { hashToken, type Tokens } from "./tokens.ts";

/** Looked-up tokens that are kept. */
const CACHED_MAX = 1000;
const TOKEN_CHARS_MAX = 512;
const LOOKUPS_MAX = 4;
/** A token's last use is stored this often at most. */
const TOUCH_MS = 60_000;

const HINT =
  "Send `Authorization: Bearer TOKEN`; `carapace token create NAME` makes one";

interface Cached {
  row: TokenRow;
  principal: Principal;
  /** The tokens' revision it was read at. */
  revision: number;
  touchedAt: number;
}

/** The one check of credentials. */
export class Authenticator {
  readonly #tokens: Tokens;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limiter: FailureLimiter;
  /** By the token's text, so that a known one costs no hash. */
  readonly #cache = new Map<string, Cached>();

  constructor(
    deps: {
      tokens: Tokens;
      clock: Clock;
      log: Log;
      limiter?: FailureLimiter;
    },
  ) {
    this.#tokens = deps.tokens;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#limiter = deps.limiter ?? new FailureLimiter(deps.clock);
  }

  /**
   * The principal behind a token.
   *
   * @throws {AppError} `unauthorized`; `rate_limited` instead when the address,
   * or all of them, failed too often
   */
  async authenticate(
    presented: { token?: string },
    from: { address: string },
  ): Promise<Principal> {
    const text = presented.token;
    if (text === undefined || text === "") {
      throw new AppError("unauthorized", "Cannot authenticate: no token", {
        hint: HINT,
      });
    }
    const cached = this.#cache.get(text);
    if (cached !== undefined && this.#isFresh(cached)) {
      this.#touch(cached);
      return cached.principal;
    }
    // Before the first await: tries that run together must all be counted.
    const charge = this.#limiter.charge(from.address);
    let found: Cached | undefined;
    try {
      if (text.length <= TOKEN_CHARS_MAX) found = await this.#lookUp(text);
    } catch (error) {
      charge.refund(); // our failure, not the caller's
      throw error;
    }
    if (found === undefined) {
      this.#cache.delete(text);
      this.#log("warn", "auth.refused", {
        address: from.address,
        delayMs: charge.delayMs,
      });
      throw refusal(charge.delayMs);
    }
    charge.refund();
    this.#keep(text, found);
    this.#touch(found);
    return found.principal;
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

/** One refusal for every reason, so that it tells nothing of the token. */
function refusal(delayMs: number): AppError {
  return delayMs > 0
    ? new AppError("rate_limited", "Cannot authenticate: too many failures", {
      retryAfterMs: delayMs,
      hint: HINT,
    })
    : new AppError(
      "unauthorized",
      "Cannot authenticate: the token is not valid",
      {
        hint: HINT,
      },
    );
}
