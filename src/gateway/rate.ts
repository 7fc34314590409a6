/**
 * Token buckets by identity, and how they stand as answers say it. Time is an
 * argument.
 *
 * The header fields are those of the IETF draft "RateLimit header fields for
 * HTTP" (draft-ietf-httpapi-ratelimit-headers, from revision 08 on): two
 * structured fields, `RateLimit-Policy` and `RateLimit`. The three fields of
 * older revisions (`RateLimit-Limit`, `-Remaining`, `-Reset`) cannot say which
 * of several buckets they speak of, so they are not sent.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";

interface Bucket {
  left: number;
  at: number;
}

/** How a bucket stood when something was taken out of it. */
export interface Standing {
  /** The policy as an item of `RateLimit-Policy`. */
  policy: string;
  name: string;
  /** Whole units left. */
  left: number;
  /** Seconds: until it is full again or, when it is empty, until there is one. */
  resetS: number;
}

/** One kind of work, bounded for each identity. */
export class Rate {
  readonly #buckets = new Map<string, Bucket>();
  readonly #perMs: number;
  readonly #burst: number;
  readonly #identitiesMax: number;
  readonly #name: string;
  readonly #policy: string;

  constructor(
    options: {
      name: string;
      perSecond: number;
      burst: number;
      identitiesMax: number;
    },
  ) {
    const { name, perSecond, burst } = options;
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#identitiesMax = options.identitiesMax;
    this.#name = name;
    // The window is the time in which an empty bucket fills.
    this.#policy = `"${name}";q=${burst};w=${
      Math.max(1, Math.ceil(burst / perSecond))
    }`;
  }

  /**
   * Takes one.
   *
   * @param told Is given how the bucket stands after it, also when it is empty
   * @throws {AppError} `rate_limited` with the time until there is one again
   */
  take(identity: string, now: number, told?: Standing[]): void {
    let bucket = this.#buckets.get(identity);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#identitiesMax) this.#forgetFullest(now);
      bucket = { left: this.#burst, at: now };
      this.#buckets.set(identity, bucket);
    }
    const gained = Math.max(0, now - bucket.at) * this.#perMs;
    bucket.left = Math.min(this.#burst, bucket.left + gained);
    bucket.at = now;
    const isEmpty = bucket.left < 1;
    const waitMs = isEmpty ? Math.ceil((1 - bucket.left) / this.#perMs) : 0;
    if (!isEmpty) bucket.left--;
    if (told !== undefined) {
      const fullMs = (this.#burst - bucket.left) / this.#perMs;
      told.push({
        policy: this.#policy,
        name: this.#name,
        left: Math.floor(bucket.left),
        resetS: Math.max(1, Math.ceil((isEmpty ? waitMs : fullMs) / 1000)),
      });
    }
    if (!isEmpty) return;
    throw new AppError("rate_limited", "Cannot do more: too many requests", {
      retryAfterMs: waitMs,
      hint: "Wait a moment",
    });
  }

  /**
   * Makes room by forgetting a bucket that is as good as new; only when all are
   * in use the one that stood there longest goes.
   */
  #forgetFullest(now: number): void {
    let first: string | undefined;
    for (const [identity, { left, at }] of this.#buckets) {
      first ??= identity;
      if (left + (now - at) * this.#perMs < this.#burst) continue;
      this.#buckets.delete(identity);
      return;
    }
    if (first !== undefined) this.#buckets.delete(first);
  }
}

/**
 * One kind of work by principal. The owner's own credentials have a wider
 * bucket: what their turns spend is bounded by budgets and by how many run at
 * once.
 */
export class RateByKind {
  readonly #owner: Rate;
  readonly #others: Rate;

  constructor(owner: Rate, others: Rate) {
    this.#owner = owner;
    this.#others = others;
  }

  /** Takes one. @throws `rate_limited` */
  take(
    { id, kind }: Pick<Principal, "id" | "kind">,
    now: number,
    told?: Standing[],
  ): void {
    (kind === "owner" ? this.#owner : this.#others).take(id, now, told);
  }
}

/** Writes how the buckets stand that a request was charged to. */
export function tellRates(
  headers: Headers,
  standings: readonly Standing[],
): void {
  if (standings.length === 0) return;
  let policies = "";
  let limits = "";
  for (const { policy, name, left, resetS } of standings) {
    const comma = policies === "" ? "" : ", ";
    policies += comma + policy;
    limits += `${comma}"${name}";r=${left};t=${resetS}`;
  }
  headers.set("ratelimit-policy", policies);
  headers.set("ratelimit", limits);
}
