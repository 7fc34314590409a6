/**
 * Numbers for Prometheus: counted from the events of turns, from settled calls
 * and the door's own counts; the library is loaded when they are first asked
 * for.
 *
 * Never: a label whose values a stranger can make more of without end.
 *
 * @module
 */
import type { RunView } from "../agent/turns.ts";
import { NANO } from "../core/cost.ts";
import { ignoredCounts } from "../core/errors.ts";
import type { BudgetStanding } from "../core/methods.ts";
import type { TurnEvent } from "../core/turn.ts";
import type { RuleCount } from "../guard/counts.ts";
import type { EgressCount } from "../egress/egress.ts";
import type { UsageCall } from "../store/usage.ts";
import { LAG_BOUNDS, type LoopLag } from "./loop_lag.ts";

/** Label values of one series; what comes after is counted as `other`. */
const VALUES_MAX = 500;

type Labels = Readonly<Record<string, string>>;

/** Where the numbers come from. */
export interface MetricsSources {
  /** The events of every turn. */
  watchTurns(listener: (event: TurnEvent, run: RunView) => void): Disposable;
  /** Every model call that was settled. */
  watchCalls(listener: (call: UsageCall) => void): Disposable;
  runs(): { running: number; queued: number };
  /** Every call of a plugin that is over. */
  watchPlugins(
    listener: (call: { id: string; outcome: string }) => void,
  ): Disposable;
  gateway(): {
    sockets: number;
    preAuth: number;
    inFlight: number;
    refused: ReadonlyMap<string, number>;
  };
  egress(): readonly EgressCount[];
  /** How askings of tailscaled came out. */
  whois(): ReadonlyMap<string, number>;
  budgets(): readonly BudgetStanding[];
  guard(): { rules: readonly RuleCount[]; promptsPer100Tasks: number };
  /** Addresses whose failed tries are remembered. */
  failingAddresses(): number;
  rssBytes(): number;
  /** Messages on their way out. */
  outbox(): {
    pending: number;
    oldestDueMs: number;
    counts: ReadonlyMap<string, number>;
  };
  lag: Pick<LoopLag, "histogram">;
}

/** The names, kinds and meanings of all series. */
export const SERIES = {
  carapace_turns_total: {
    kind: "counter",
    help: "Turns that ended, by agent and reason",
    labels: ["agent", "reason"],
  },
  carapace_steps_total: {
    kind: "counter",
    help: "Model calls of turns that were begun",
    labels: ["agent", "model"],
  },
  carapace_tool_calls_total: {
    kind: "counter",
    help: "Decisions on tool calls, by tool and verdict",
    labels: ["tool", "verdict"],
  },
  carapace_decisions_total: {
    kind: "counter",
    help:
      "Decisions by rule and verdict; answers are the rules approval, expired and superseded",
    labels: ["rule", "verdict"],
  },
  carapace_prompts_per_100_turns: {
    kind: "gauge",
    help: "How often the owner was asked, for every hundred turns",
    labels: [],
  },
  carapace_model_calls_total: {
    kind: "counter",
    help: "Settled model calls; agent is - for those past the agents",
    labels: ["agent", "model"],
  },
  carapace_tokens_total: {
    kind: "counter",
    help: "Tokens; cached and cache_write are parts of input",
    labels: ["agent", "model", "kind"],
  },
  carapace_cost_usd_total: {
    kind: "counter",
    help: "What model calls with a known price cost",
    labels: ["agent", "model"],
  },
  carapace_egress_requests_total: {
    kind: "counter",
    help: "Requests at the one door out, by caller, rule and how they came out",
    labels: ["caller", "rule", "verdict"],
  },
  carapace_whois_total: {
    kind: "counter",
    help: "Questions to tailscaled about who is calling, by how they came out",
    labels: ["outcome"],
  },
  carapace_outbox_changes_total: {
    kind: "counter",
    help: "States that messages on their way out have reached",
    labels: ["state"],
  },
  carapace_outbox_pending: {
    kind: "gauge",
    help: "Messages that are not at their end",
    labels: [],
  },
  carapace_outbox_oldest_due_seconds: {
    kind: "gauge",
    help: "How long the message that waits longest is past its time",
    labels: [],
  },
  carapace_turns_running: {
    kind: "gauge",
    help: "Turns that run now",
    labels: [],
  },
  carapace_turns_queued: {
    kind: "gauge",
    help: "Turns that wait for a place",
    labels: [],
  },
  carapace_sockets: {
    kind: "gauge",
    help: "WebSockets, by whether they said who they are",
    labels: ["state"],
  },
  carapace_requests_refused_total: {
    kind: "counter",
    help: "Requests that were refused or failed, by the code of their error",
    labels: ["code"],
  },
  carapace_ignored_errors_total: {
    kind: "counter",
    help: "Errors the program went past on purpose, by the reason it gives",
    labels: ["reason"],
  },
  carapace_failing_addresses: {
    kind: "gauge",
    help: "Addresses the limiter remembers for credentials that were wrong",
    labels: [],
  },
  carapace_plugin_calls_total: {
    kind: "counter",
    help: "Calls of plugins, by plugin and whether they came to an end",
    labels: ["plugin", "outcome"],
  },
  carapace_approvals_asked_total: {
    kind: "counter",
    help: "Approvals that turns asked for",
    labels: ["agent"],
  },
  carapace_requests_in_flight: {
    kind: "gauge",
    help: "Requests being answered",
    labels: [],
  },
  carapace_budget_spent_ratio: {
    kind: "gauge",
    help: "The share of each limit that today has used",
    labels: ["scope", "name", "meter"],
  },
  carapace_event_loop_lag_seconds: {
    kind: "histogram",
    help: "How late a timer came, looked at twice a second",
    labels: [],
  },
  carapace_resident_bytes: {
    kind: "gauge",
    help: "Memory of the process",
    labels: [],
  },
} as const satisfies Record<
  string,
  {
    kind: "counter" | "gauge" | "histogram";
    help: string;
    labels: readonly string[];
  }
>;
type SeriesName = keyof typeof SERIES;

/** Counts and shows. Disposing ends the listening. */
export class Metrics implements Disposable {
  readonly #sources: MetricsSources;
  readonly #counts = new Map<
    SeriesName,
    Map<string, { labels: Labels; value: number }>
  >();
  readonly #stack = new DisposableStack();
  #registry: Promise<{ type: string; text(): Promise<string> }> | undefined;

  constructor(sources: MetricsSources) {
    this.#sources = sources;
    this.#stack.use(sources.watchTurns((event, run) => this.#turn(event, run)));
    this.#stack.use(sources.watchCalls((call) => this.#call(call)));
    this.#stack.use(
      sources.watchPlugins(({ id: plugin, outcome }) =>
        this.#count("carapace_plugin_calls_total", { plugin, outcome })
      ),
    );
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #count(name: SeriesName, labels: Labels, by = 1): void {
    let series = this.#counts.get(name);
    if (series === undefined) this.#counts.set(name, series = new Map());
    const key = JSON.stringify(labels);
    let row = series.get(key);
    if (row === undefined) {
      const isFull = series.size >= VALUES_MAX;
      const own = isFull
        ? Object.fromEntries(Object.keys(labels).map((one) => [one, "other"]))
        : labels;
      const place = isFull ? JSON.stringify(own) : key;
      row = series.get(place) ?? { labels: own, value: 0 };
      series.set(place, row);
    }
    row.value += by;
  }

  #turn(event: TurnEvent, { agentId: agent }: RunView): void {
    switch (event.kind) {
      case "step":
        this.#count("carapace_steps_total", { agent, model: event.model });
        break;
      case "decision": {
        // An unknown name is the model's word: it must not make a series.
        const { verdict } = event;
        const isKnown = /^[a-z][a-z0-9_]{0,63}$/.test(event.name);
        const tool = isKnown ? event.name : "other";
        this.#count("carapace_tool_calls_total", { tool, verdict });
        break;
      }
      case "ask":
        this.#count("carapace_approvals_asked_total", { agent });
        break;
      case "end":
        this.#count("carapace_turns_total", { agent, reason: event.reason });
    }
  }

  #call({ agent, model, usage, nano }: UsageCall): void {
    this.#count("carapace_model_calls_total", { agent, model });
    const tokens = {
      input: usage.inputTokens,
      output: usage.outputTokens,
      cached: usage.cachedTokens,
      cache_write: usage.cacheWriteTokens,
    };
    for (const [kind, count] of Object.entries(tokens)) {
      this.#count("carapace_tokens_total", { agent, model, kind }, count);
    }
    this.#count("carapace_cost_usd_total", { agent, model }, nano / NANO);
  }

  /** What the gauges and the door say now. */
  #now(name: SeriesName): { labels: Labels; value: number }[] | undefined {
    const { runs, gateway, egress, budgets, guard, rssBytes, outbox } =
      this.#sources;
    const one = (value: number) => [{ labels: {}, value }];
    switch (name) {
      case "carapace_turns_running":
        return one(runs().running);
      case "carapace_turns_queued":
        return one(runs().queued);
      case "carapace_sockets": {
        const { sockets, preAuth } = gateway();
        return [
          { labels: { state: "ready" }, value: sockets - preAuth },
          { labels: { state: "handshake" }, value: preAuth },
        ];
      }
      case "carapace_requests_refused_total":
        return [...gateway().refused].map(([code, value]) => ({
          labels: { code },
          value,
        }));
      case "carapace_requests_in_flight":
        return one(gateway().inFlight);
      case "carapace_egress_requests_total":
        return egress().map(({ caller, rule, verdict, count }) => ({
          labels: { caller, rule, verdict },
          value: count,
        }));
      case "carapace_whois_total":
        return [...this.#sources.whois()].map(([outcome, value]) => ({
          labels: { outcome },
          value,
        }));
      case "carapace_decisions_total":
        return guard().rules.map(({ rule, verdict, count }) => ({
          labels: { rule, verdict },
          value: count,
        }));
      case "carapace_prompts_per_100_turns":
        return one(guard().promptsPer100Tasks);
      case "carapace_budget_spent_ratio":
        return budgets().slice(0, VALUES_MAX).map((row) => ({
          labels: { scope: row.scope, name: row.name ?? "", meter: row.meter },
          value: row.share,
        }));
      case "carapace_outbox_changes_total":
        return [...outbox().counts].map(([state, value]) => ({
          labels: { state },
          value,
        }));
      case "carapace_outbox_pending":
        return one(outbox().pending);
      case "carapace_outbox_oldest_due_seconds":
        return one(outbox().oldestDueMs / 1000);
      case "carapace_ignored_errors_total":
        return [...ignoredCounts()].map(([reason, value]) => ({
          labels: { reason },
          value,
        }));
      case "carapace_failing_addresses":
        return one(this.#sources.failingAddresses());
      case "carapace_resident_bytes":
        return one(rssBytes());
      default:
        return undefined;
    }
  }

  async #open(): Promise<{ type: string; text(): Promise<string> }> {
    const { Counter, Gauge, Registry } = await import("prom-client");
    const registry = new Registry();
    for (const [name, { kind, help, labels }] of Object.entries(SERIES)) {
      const read = () =>
        this.#now(name as SeriesName) ??
          [...this.#counts.get(name as SeriesName)?.values() ?? []];
      const common = {
        name,
        help,
        labelNames: [...labels],
        registers: [registry],
      };
      if (kind === "histogram") continue;
      if (kind === "counter") {
        new Counter({
          ...common,
          collect() {
            this.reset();
            for (const row of read()) this.inc(row.labels, row.value);
          },
        });
      } else {
        new Gauge({
          ...common,
          collect() {
            this.reset();
            for (const row of read()) this.set(row.labels, row.value);
          },
        });
      }
    }
    return { type: registry.contentType, text: () => registry.metrics() };
  }

  /** Everything, in Prometheus's text format. */
  async text(): Promise<{ type: string; text: string }> {
    this.#registry ??= this.#open();
    const { type, text } = await this.#registry;
    const lines = histogramLines("carapace_event_loop_lag_seconds", {
      bounds: LAG_BOUNDS,
      ...this.#sources.lag.histogram(),
    });
    return { type, text: await text() + lines };
  }
}

/** A histogram that is counted elsewhere, in Prometheus's text format. */
function histogramLines(
  name: SeriesName,
  { bounds, counts, count, sumS }: {
    bounds: readonly number[];
    counts: readonly number[];
    count: number;
    sumS: number;
  },
): string {
  let below = 0;
  const buckets = bounds.map((bound, n) => {
    below += counts[n] ?? 0;
    return `${name}_bucket{le="${bound}"} ${below}\n`;
  });
  return `\n# HELP ${name} ${SERIES[name].help}\n# TYPE ${name} histogram\n` +
    `${buckets.join("")}${name}_bucket{le="+Inf"} ${count}\n` +
    `${name}_sum ${sumS}\n${name}_count ${count}\n`;
}
