/**
 * What readiness is made of, and what is counted.
 *
 * Never: anything is mended here: it is only looked at.
 *
 * @module
 */
import type { AgentDesk } from "../agent/desk.ts";
import type { Identity } from "../auth/open.ts";
import type { Courier } from "../channels/courier.ts";
import type { Egress } from "../egress/egress.ts";
import type { Gateway } from "../gateway/gateway.ts";
import type { Guarding } from "../guard/guarding.ts";
import type { Spending } from "../guard/spending.ts";
import type { UsageDesk } from "../guard/usage_desk.ts";
import { Metrics, type MetricsSources } from "../ops/metrics.ts";
import type { LoopLag } from "../ops/loop_lag.ts";
import {
  channelsProbe,
  configurationProbe,
  diskProbe,
  lagProbe,
  memoryProbe,
  outboxProbe,
  postureProbe,
  type ProvidersProbe,
  storeProbe,
  tailnetProbe,
} from "../ops/probes.ts";
import type { Probe } from "../ops/ready.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { ChannelRooms } from "./channels.ts";
import type { HouseOptions } from "./options.ts";

/** What readiness is made of: a room with more to say adds a row. */
export function probes(
  { safeMode, posture, stateDir }: HouseOptions,
  rooms: {
    store: Store;
    lag: LoopLag;
    providers: ProvidersProbe;
    channels: ChannelRooms;
    identity: Pick<Identity, "whois">;
    settings(): Settings;
  },
): Probe[] {
  const { store, lag, providers, settings, identity } = rooms;
  const { channels, courier } = rooms.channels;
  const config = () => settings().health;
  return [
    storeProbe(store),
    postureProbe(posture),
    configurationProbe(safeMode),
    providers,
    channelsProbe(() => channels.states()),
    ...settings().gateway.tailscale === undefined
      ? []
      : [tailnetProbe(identity.whois)],
    ...safeMode === undefined ? [outboxProbe(() => courier.oldestDueMs())] : [],
    lagProbe(lag, config),
    diskProbe(stateDir, config),
    memoryProbe(config),
  ];
}

/** The figures a scraper is given. */
export function openMetrics(
  rooms: {
    store: Store;
    egress: Egress;
    desk: AgentDesk;
    courier: Courier;
    guard: Guarding["guard"];
    spending: Spending;
    usage: UsageDesk;
    identity: Pick<Identity, "limiter" | "whois">;
    lag: LoopLag;
    gateway(): ReturnType<Gateway["counts"]> | undefined;
    watchPlugins: MetricsSources["watchPlugins"];
  },
): Metrics {
  const { store, egress, desk, courier, spending, usage, identity } = rooms;
  return new Metrics({
    watchTurns: (listener) => desk.watch(listener),
    watchCalls: (listener) => spending.watch(listener),
    watchPlugins: rooms.watchPlugins,
    runs: () => desk.counts(),
    gateway: () =>
      rooms.gateway() ??
        { sockets: 0, preAuth: 0, inFlight: 0, refused: new Map() },
    egress: () => egress.counts(),
    whois: () => identity.whois.counts(),
    budgets: () => usage.budgets(),
    outbox: () => ({
      pending: store.outbox.pending,
      oldestDueMs: courier.oldestDueMs(),
      counts: courier.counts(),
    }),
    guard: () => rooms.guard.meter,
    failingAddresses: () => identity.limiter.size,
    rssBytes: () => Deno.memoryUsage().rss,
    lag: rooms.lag,
  });
}
