/**
 * The schedule over this house's store, turns and tokens.
 *
 * Never: a job is begun here, or given more authority than its maker has.
 *
 * @module
 */
import type { AgentDesk } from "../agent/desk.ts";
import type { Identity } from "../auth/open.ts";
import { authorityFromRun, configAuthority } from "../auth/principal.ts";
import type { Gateway } from "../gateway/gateway.ts";
import type { Spending } from "../guard/spending.ts";
import { ScheduleDesk } from "../schedule/desk.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { HouseOptions } from "./options.ts";

/** The schedule over this house's store, turns and tokens. */
export async function openSchedule(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    desk: AgentDesk;
    identity: Identity;
    spending: Spending;
    settings(): Settings;
    publish: Gateway["publish"];
  },
): Promise<ScheduleDesk> {
  const { store, desk, identity, spending, settings, publish } = rooms;
  const schedule = new ScheduleDesk({
    store,
    turns: desk,
    config: () => settings().schedule,
    hasAgent: (id) => Object.hasOwn(settings().agents, id),
    authorityOf: authorityFromRun,
    configAuthority,
    isLive: (record) => identity.credentials.isLive(record),
    onRevoked: (listener) => identity.credentials.onEnded(listener),
    watchCalls: (listener) => spending.watch(listener),
    publish: (event, payload, principal) =>
      publish(
        event,
        payload,
        (caller) => caller.isOwner || caller.principal.id === principal,
      ),
    clock,
    log,
  });
  await schedule.open();
  return schedule;
}

/** Hands the house's ticks to whoever keeps time, until they end. */
export async function follow(
  ticks: AsyncIterable<Date> | undefined,
  schedule: ScheduleDesk,
): Promise<void> {
  for await (const _ of ticks ?? []) schedule.tick();
}
