/**
 * Counts failures before every credential check: by address, by the identity
 * that is claimed where there is one, and in all. It charges before anything is
 * awaited, so a thousand tries at once are a thousand failures, and it gives
 * back what turned out right.
 *
 * Never: an address is exempt, loopback neither; a right credential waits.
 *
 * @module
 */
import ipaddr from "ipaddr.js";
import type { Clock } from "../core/time.ts";
import { tailnetAddress } from "./tailnet.ts";

/** Bounds of the limiter. */
export const FAILURES = {
  /** Failures of one address before it is told to wait. */
  free: 5,
  /** The first wait; each further failure doubles it. */
  firstMs: 1000,
  /** The longest wait; an address that was quiet so long starts anew. */
  delayMsMax: 900_000,
  /** Addresses remembered; the one quiet for longest goes first. */
  addressesMax: 10_000,
  /** Claimed identities remembered, in the same way. */
  claimsMax: 1_000,
  /** Failures of all addresses together before everybody's failures wait. */
  allFree: 100,
  /** How fast the sum is forgotten. */
  allPerSecond: 1,
} as const;

/**
 * One name for one place: `::ffff:1.2.3.4` is `1.2.3.4`, an IPv6 host is its
 * /64 (whoever has one address there has them all), anything unreadable is one.
 * A tailnet gives each device one address of a range that all share: there it is
 * that address.
 */
export function canonicalAddress(address: string): string {
  const bare = address.trim().replace(/^\[(.*)\]$/, "$1").replace(/%.*$/, "");
  // The parser takes 0177.1 and 2130706433 for IPv4; a socket never says that.
  if (!bare.includes(":") && !ipaddr.IPv4.isValidFourPartDecimal(bare)) {
    return "unknown";
  }
  if (!ipaddr.isValid(bare)) return "unknown";
  const parsed = ipaddr.process(bare);
  if (parsed.kind() === "ipv4") return parsed.toString();
  const device = tailnetAddress(bare);
  if (device !== undefined) return device;
  const bytes = parsed.toByteArray().slice(0, 8);
  return `${new Uint8Array(bytes).toHex()}/64`;
}

/** A failure that is assumed until it is known better. */
export interface Charge {
  /** How long the caller is to wait if it did fail; 0 when it need not. */
  readonly delayMs: number;
  /** It did not fail. */
  refund(): void;
}

/** Failures by name, bounded, in the order of the last one. */
class Counts {
  readonly #byName = new Map<string, { failures: number; at: number }>();
  readonly #namesMax: number;

  constructor(namesMax: number) {
    this.#namesMax = namesMax;
  }

  get size(): number {
    return this.#byName.size;
  }

  /** One more; how many that makes. */
  add(name: string, now: number): number {
    const before = this.#byName.get(name);
    const isStale = before === undefined ||
      now - before.at > FAILURES.delayMsMax;
    const entry = { failures: (isStale ? 0 : before.failures) + 1, at: now };
    this.#byName.delete(name);
    this.#byName.set(name, entry);
    if (this.#byName.size > this.#namesMax) {
      for (const oldest of this.#byName.keys()) {
        this.#byName.delete(oldest);
        break;
      }
    }
    return entry.failures;
  }

  takeBack(name: string): void {
    const current = this.#byName.get(name);
    if (current === undefined) return;
    current.failures--;
    if (current.failures <= 0) this.#byName.delete(name);
  }

  /** How long a name still has to wait. */
  waitMs(name: string, now: number): number {
    const entry = this.#byName.get(name);
    if (entry === undefined) return 0;
    return Math.max(0, entry.at + addressDelay(entry.failures) - now);
  }
}

/** The one limiter. */
export class FailureLimiter {
  readonly #clock: Clock;
  readonly #addresses = new Counts(FAILURES.addressesMax);
  readonly #claims = new Counts(FAILURES.claimsMax);
  #all = 0;
  #allAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Addresses remembered now. */
  get size(): number {
    return this.#addresses.size;
  }

  /**
   * Counts a failure at once; say `refund()` when it was none.
   *
   * @param claimed The identity that is claimed: one that is guessed from many
   * addresses waits as a whole
   */
  charge(address: string, claimed?: string): Charge {
    const now = this.#clock.now();
    const key = canonicalAddress(address);
    const failures = Math.max(
      this.#addresses.add(key, now),
      claimed === undefined ? 0 : this.#claims.add(claimed, now),
    );
    this.#all = this.#sum(now) + 1;
    this.#allAt = now;
    let isOpen = true;
    return {
      delayMs: Math.max(addressDelay(failures), allDelay(this.#all)),
      refund: () => {
        if (!isOpen) return;
        isOpen = false;
        this.#all = Math.max(0, this.#sum(this.#clock.now()) - 1);
        this.#allAt = this.#clock.now();
        this.#addresses.takeBack(key);
        if (claimed !== undefined) this.#claims.takeBack(claimed);
      },
    };
  }

  /**
   * How long a guess of this identity from this address has to wait. For what
   * can be guessed: such a try is refused before anything is computed, even if
   * it would be right.
   */
  waitMs(address: string, claimed: string): number {
    const now = this.#clock.now();
    return Math.max(
      this.#addresses.waitMs(canonicalAddress(address), now),
      this.#claims.waitMs(claimed, now),
    );
  }

  #sum(now: number): number {
    const forgotten = (now - this.#allAt) / 1000 * FAILURES.allPerSecond;
    return Math.max(0, this.#all - Math.max(0, forgotten));
  }
}

function addressDelay(failures: number): number {
  const over = failures - FAILURES.free;
  if (over <= 0) return 0;
  return Math.min(FAILURES.delayMsMax, FAILURES.firstMs * 2 ** (over - 1));
}

function allDelay(sum: number): number {
  const over = sum - FAILURES.allFree;
  if (over <= 0) return 0;
  const ms = Math.ceil(over / FAILURES.allPerSecond) * 1000;
  return Math.min(FAILURES.delayMsMax, ms);
}
