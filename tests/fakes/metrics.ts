/** Numbers of a house in which nothing happens. */
import type { MetricsSources } from "../../src/ops/metrics.ts";

const nothing = () => ({ [Symbol.dispose]: () => {} });

export const EMPTY_SOURCES: MetricsSources = {
  watchTurns: nothing,
  watchCalls: nothing,
  watchPlugins: nothing,
  runs: () => ({ running: 0, queued: 0 }),
  gateway: () => ({ sockets: 0, preAuth: 0, inFlight: 0, refused: new Map() }),
  egress: () => [],
  whois: () => new Map(),
  budgets: () => [],
  guard: () => ({ rules: [], promptsPer100Tasks: 0 }),
  failingAddresses: () => 0,
  rssBytes: () => 0,
  outbox: () => ({ pending: 0, oldestDueMs: 0, counts: new Map() }),
  lag: { histogram: () => ({ counts: [], count: 0, sumS: 0 }) },
};
