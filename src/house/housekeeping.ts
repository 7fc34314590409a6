/**
 * What is done now and then: what is past its time goes.
 *
 * Never: anything the owner did not set a time for goes.
 *
 * @module
 */
import type { Identity } from "../auth/open.ts";
import { errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { repeat } from "../core/time.ts";
import type { Spending } from "../guard/spending.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { HouseOptions } from "./options.ts";

const HOUSEKEEPING_MS = 600_000;

/** Sessions past their time go, by what the owner keeps them for. */
async function purgeOld(
  { sessions }: Store,
  { kept, now, log }: { kept: Settings["store"]; now: number; log: Log },
): Promise<void> {
  const days = (count: number) => now - count * 86_400_000;
  const purged = {
    transient: await sessions.purgeTransient(
      now - kept.transientHours * 3_600_000,
    ),
    archived: await sessions.purgeUnused(
      "session_archived",
      days(kept.archivedDays),
    ),
    unused: kept.sessionDays === undefined
      ? 0
      : await sessions.purgeUnused("session_by_time", days(kept.sessionDays)),
  };
  if (Object.values(purged).some((count) => count > 0)) {
    log("info", "store.sessions_purged", purged);
  }
}

/** What is done now and then: tokens and transient sessions past their time go. */
export function keepHouse(
  { clock, log }: HouseOptions,
  { store, identity, spending, settings, trim }: {
    store: Store;
    identity: Pick<Identity, "keep">;
    spending: Spending;
    settings(): Settings;
    /** Lets go of memory nobody asked for lately. */
    trim(): void;
  },
): AsyncDisposable {
  const ending = new AbortController();
  const keeping = repeat(async () => {
    await identity.keep();
    await spending.flush();
    await purgeOld(store, { kept: settings().store, now: clock.now(), log });
    trim();
  }, {
    everyMs: HOUSEKEEPING_MS,
    clock,
    signal: ending.signal,
    onError: (error) =>
      log("error", "store.housekeeping_failed", { error: errorText(error) }),
  });
  return {
    [Symbol.asyncDispose]: async () => {
      ending.abort();
      await keeping;
    },
  };
}
