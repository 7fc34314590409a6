/**
 * Whether the gateway works: liveness, readiness, and the brief answer of the
 * `health` method. What costs anything is asked at most once a second.
 *
 * @module
 */
import type { MethodOutput } from "../core/methods.ts";
import { errorText } from "../core/errors.ts";
import { channelsOf } from "./methods/channels.ts";
import type { GatewayDeps, ReadyCheck } from "./deps.ts";
import type { GatewayLimits } from "./limits.ts";

/** Readiness as it was found. */
export interface Readiness {
  ok: boolean;
  checks: readonly ReadyCheck[];
}

/** Keeps the last answers. */
export class Health {
  readonly #deps: GatewayDeps;
  readonly #limits: GatewayLimits;
  readonly #connections: () => number;
  readonly #onChange: () => void;
  #ready: Readiness | undefined;
  #readyAt = -Infinity;
  #readyRun: Promise<Readiness> | undefined;
  #sessions = 0;
  #sessionsAt = -Infinity;

  constructor(
    deps: GatewayDeps,
    options: {
      limits: GatewayLimits;
      connections(): number;
      /** Told when readiness is another than it was. */
      onChange(): void;
    },
  ) {
    this.#deps = deps;
    this.#limits = options.limits;
    this.#connections = options.connections;
    this.#onChange = options.onChange;
  }

  /** Fresh to `readyMs`; callers at the same time share one asking. */
  async ready(): Promise<Readiness> {
    const now = this.#deps.clock.now();
    if (
      this.#ready !== undefined && now - this.#readyAt < this.#limits.readyMs
    ) {
      return this.#ready;
    }
    this.#readyRun ??= this.#ask().finally(() => this.#readyRun = undefined);
    return await this.#readyRun;
  }

  async #ask(): Promise<Readiness> {
    let found: Readiness;
    try {
      found = await this.#deps.ready();
    } catch (error) {
      const why = errorText(error);
      found = { ok: false, checks: [{ name: "ready", ok: false, why }] };
    }
    const { safeMode } = this.#deps;
    if (safeMode !== undefined && found.ok) {
      const check = { name: "config", ok: false, why: safeMode };
      found = { ok: false, checks: [...found.checks, check] };
    }
    // Until something was asked, all was said to be well.
    const before = this.#ready ?? { ...found, ok: true };
    this.#ready = found;
    this.#readyAt = this.#deps.clock.now();
    if (stateOf(before) !== stateOf(found)) this.#onChange();
    return found;
  }

  /** The `health` payload from what is known; nothing is awaited. */
  brief(): MethodOutput<"health"> {
    const now = this.#deps.clock.now();
    if (now - this.#sessionsAt >= this.#limits.countMs) {
      this.#sessionsAt = now;
      void this.#count();
      if (now - this.#readyAt >= 10 * this.#limits.readyMs) void this.ready();
    }
    return {
      ts: now,
      status: this.#deps.safeMode !== undefined
        ? "safe_mode"
        : this.#ready?.ok === false
        ? "degraded"
        : "ok",
      channels: channelsOf(this.#deps.channels),
      sessions: { count: this.#sessions },
      ws: { connections: this.#connections() },
    };
  }

  /** Learns what `brief` says, so that the first answer is already true. */
  async prime(): Promise<void> {
    await this.#count();
    this.#sessionsAt = this.#deps.clock.now();
  }

  async #count(): Promise<void> {
    try {
      this.#sessions = await this.#deps.store.sessions.count();
    } catch (error) {
      this.#deps.log("warn", "gateway.count_failed", {
        error: errorText(error),
      });
    }
  }
}

/** Which checks pass; why one does not may be said in other words each time. */
function stateOf({ ok, checks }: Readiness): string {
  return JSON.stringify([ok, checks.map((check) => [check.name, check.ok])]);
}
