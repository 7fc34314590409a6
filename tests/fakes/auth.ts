/** What a door needs beside its tokens, where a test looks at nothing of it. */
import { FailureLimiter } from "../../src/auth/limiter.ts";
import type { RefusedKind } from "../../src/auth/refusals.ts";
import type { Whois } from "../../src/auth/whois.ts";
import { AppError } from "../../src/core/errors.ts";
import type { Clock } from "../../src/core/time.ts";

/** A limiter of its own, an account that is only counted, and no tailnet. */
export function quietDoor(clock: Clock): {
  limiter: FailureLimiter;
  refusals: { note(kind: RefusedKind, address: string): void };
  refused: { kind: RefusedKind; address: string }[];
  whois: Pick<Whois, "authenticate">;
} {
  const refused: { kind: RefusedKind; address: string }[] = [];
  return {
    limiter: new FailureLimiter(clock),
    refusals: { note: (kind, address) => refused.push({ kind, address }) },
    refused,
    whois: {
      authenticate: () =>
        Promise.reject(new AppError("unauthorized", "There is no tailnet")),
    },
  };
}
