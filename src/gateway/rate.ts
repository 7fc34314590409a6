/**
 * Token buckets by identity. Time is an argument.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";

interface Bucket {
  left: number;
  at: number;
}

/** One kind of work, bounded for each identity. */
export class Rate {
  readonly #buckets = new Map<string, Bucket>();
  readonly #perMs: number;
  readonly #burst: number;
  readonly #identitiesMax: number;

  constructor(
    options: { perSecond: number; burst: number; identitiesMax: number },
  ) {
    this.#perMs = options.perSecond / 1000;
    this.#burst = options.burst;
    this.#identitiesMax = options.identitiesMax;
  }

  /** Takes one. @throws `rate_limited` with the time until there is one again */
  take(identity: string, now: number): void {
    let bucket = this.#buckets.get(identity);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#identitiesMax) this.#forgetOldest();
      bucket = { left: this.#burst, at: now };
      this.#buckets.set(identity, bucket);
    }
    const gained = Math.max(0, now - bucket.at) * this.#perMs;
    bucket.left = Math.min(this.#burst, bucket.left + gained);
    bucket.at = now;
    if (bucket.left < 1) {
      throw new AppError("rate_limited", "Cannot do more: too many requests", {
        retryAfterMs: Math.ceil((1 - bucket.left) / this.#perMs),
        hint: "Wait a moment",
      });
    }
    bucket.left--;
  }

  #forgetOldest(): void {
    for (const identity of this.#buckets.keys()) {
      this.#buckets.delete(identity);
      return;
    }
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
  take({ id, kind }: Pick<Principal, "id" | "kind">, now: number): void {
    (kind === "owner" ? this.#owner : this.#others).take(id, now);
  }
}
