/**
 * Who pays for model calls, and who knows what they came to.
 *
 * Never: a call is made or priced here.
 *
 * @module
 */
import type { Gateway } from "../gateway/gateway.ts";
import { openSpending, type Spending } from "../guard/spending.ts";
import { noticePayload, UsageDesk } from "../guard/usage_desk.ts";
import { priceOf } from "../providers/prices.ts";
import type { Router } from "../providers/route.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import { findModel } from "./engine.ts";
import type { HouseOptions } from "./options.ts";

/** Who pays for model calls, and who knows what they came to. */
export async function openPurse(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    router: Router;
    settings(): Settings;
    publish: Gateway["publish"];
  },
): Promise<{ spending: Spending & AsyncDisposable; usage: UsageDesk }> {
  const { store, router, settings, publish } = rooms;
  const config = () => settings().budgets;
  const spending = await openSpending({
    rows: store.usage,
    journal: store.journal,
    priceOf: (name) => {
      const found = findModel(router, name);
      if (found === undefined) return undefined;
      const { provider: { id, kind }, model } = found;
      return priceOf(`${id}:${model}`, { kind, config: settings().prices });
    },
    config,
    clock,
    log,
    onNotice: (notice) => {
      const { scope, name } = notice.limit;
      publish(
        "usage.budget",
        noticePayload(notice),
        (caller) =>
          caller.isOwner ||
          scope === "sender" && name === caller.principal.id ||
          scope === "key" && name === caller.authority.credential,
      );
    },
  });
  const rows = store.usage;
  return { spending, usage: new UsageDesk({ rows, spending, config, clock }) };
}
