/**
 * One refusal for every reason, and its account: a line in the log and a row in
 * the audit log for a minute's worth, so that a flood does not fill the disk.
 *
 * @module
 */
import { AppError, ignore } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { Store } from "../store/store.ts";
import { canonicalAddress } from "./limiter.ts";

/** What was shown and refused. */
export type RefusedKind =
  | "token"
  | "device"
  | "device_token"
  | "bootstrap"
  | "password"
  | "tailnet"
  | "network";

const MINUTE_MS = 60_000;
/** Addresses told apart in one row. */
const ADDRESSES_MAX = 16;

export const REFUSED_HINT =
  "Send `Authorization: Bearer TOKEN`; `carapace token create NAME` makes one";

/** One refusal for every reason, so that it tells nothing of the credential. */
export function refusal(delayMs: number): AppError {
  return delayMs > 0
    ? new AppError("rate_limited", "Cannot authenticate: too many failures", {
      retryAfterMs: delayMs,
      hint: REFUSED_HINT,
    })
    : new AppError(
      "unauthorized",
      "Cannot authenticate: the credential is not valid",
      { hint: REFUSED_HINT },
    );
}

/** Counts refusals and tells of them once a minute at most. */
export class Refusals {
  readonly #on: {
    store: Pick<Store, "journal" | "audit">;
    clock: Clock;
    log: Log;
  };
  #toldAt = 0;
  #count = 0;
  readonly #kinds = new Map<RefusedKind, number>();
  readonly #addresses = new Set<string>();

  constructor(
    deps: { store: Pick<Store, "journal" | "audit">; clock: Clock; log: Log },
  ) {
    this.#on = deps;
  }

  /** One was refused. Does not wait, does not throw. */
  note(kind: RefusedKind, address: string): void {
    this.#count++;
    this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
    if (this.#addresses.size < ADDRESSES_MAX) {
      this.#addresses.add(canonicalAddress(address));
    }
    this.flush();
  }

  /** Tells of what was counted, unless it did within the minute. */
  flush(): void {
    const { store, clock, log } = this.#on;
    const now = clock.now();
    if (this.#count === 0 || now - this.#toldAt < MINUTE_MS) return;
    const fields = {
      count: this.#count,
      kinds: [...this.#kinds].map(([kind, count]) => `${kind} ${count}`),
      addresses: [...this.#addresses],
    };
    this.#toldAt = now;
    this.#count = 0;
    this.#kinds.clear();
    this.#addresses.clear();
    log("warn", "auth.refused", fields);
    store.journal.commit([store.audit.row({ event: "auth.refused", fields })])
      .catch(ignore("refusals were not audited"));
  }
}
