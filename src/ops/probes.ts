/**
 * The checks of readiness, one function each. They act, and throw why not; none
 * waits for another machine.
 *
 * @module
 */
import { statfs } from "node:fs/promises";
import { AppError, errorText } from "../core/errors.ts";
import { type Clock, limitSignal } from "../core/time.ts";
import type { HealthConfig } from "./config.ts";
import type { LoopLag } from "./loop_lag.ts";
import type { Probe } from "./ready.ts";

const MB = 1_048_576;
/** Providers are asked at most so often, and only when somebody asks us. */
const PROVIDERS_MS = 60_000;
const PROVIDER_MS = 5_000;
/** How long a message may wait past its time before readiness says so. */
const OUTBOX_LATE_MS = 300_000;

function mb(bytes: number): string {
  return `${Math.round(bytes / MB)} MB`;
}

/** A row is written and read back. */
export function storeProbe(store: { probe(): Promise<unknown> }): Probe {
  return {
    name: "store",
    fix: "Look at the disk of the state directory, and at the log",
    run: async () => void await store.probe(),
  };
}

/** The sandbox refused what it must. */
export function postureProbe(
  posture: { tried: number; refused: number; sandboxOff: boolean },
): Probe {
  return {
    name: "posture",
    fix: 'Start it with "deno task start", without --unsafe-sandbox-off',
    run: () => {
      if (posture.refused === posture.tried || posture.sandboxOff) return;
      const { refused, tried } = posture;
      throw new AppError(
        "forbidden",
        `the sandbox is open: only ${refused} of ${tried} forbidden acts refused`,
      );
    },
  };
}

/** The configuration is in force. */
export function configurationProbe(safeMode: string | undefined): Probe {
  return {
    name: "configuration",
    fix: 'Run "carapace config validate"; the gateway reads it again by itself',
    run: () => {
      if (safeMode !== undefined) throw new AppError("bad_input", safeMode);
    },
  };
}

/** Every channel that is configured is connected. */
export function channelsProbe(
  states: () => readonly { channel: string; state: string }[],
): Probe {
  return {
    name: "channels",
    fix: 'Run "carapace channel list"; the log says why',
    run: () => {
      const bad = states().filter(({ state }) => state !== "ready");
      if (bad.length === 0) return;
      const names = bad.map(({ channel }) => channel).join(", ");
      throw new AppError("upstream", `failing: ${names}`);
    },
  };
}

/** The tailnet's own program on this machine answers. */
export function tailnetProbe(whois: { probe(): Promise<void> }): Probe {
  return {
    name: "tailscale",
    fix:
      'Start tailscaled ("tailscale status" says how it is), or correct gateway.tailscale.socket',
    run: () => whois.probe(),
  };
}

/** What is on its way out gets out. */
export function outboxProbe(oldestDueMs: () => number): Probe {
  return {
    name: "outbox",
    fix: "Look at the channel it is for; the log says why",
    run: () => {
      const lateMs = oldestDueMs();
      if (lateMs < OUTBOX_LATE_MS) return;
      const late = Math.round(lateMs / 1000);
      throw new AppError("upstream", `a message is ${late} s late`);
    },
  };
}

/** Timers come in time. */
export function lagProbe(
  lag: Pick<LoopLag, "recentMs">,
  config: () => HealthConfig,
): Probe {
  return {
    name: "event_loop",
    fix: "Give the machine less to do, or raise health.loopLagMs",
    run: () => {
      const lagMs = lag.recentMs();
      if (lagMs <= config().loopLagMs) return;
      throw new AppError(
        "unavailable",
        `timers come ${Math.round(lagMs)} ms late`,
      );
    },
  };
}

/**
 * There is room on a directory's disk. A system that cannot be asked is not
 * held against it.
 */
export function diskProbe(
  dir: string,
  config: () => HealthConfig,
  free: (dir: string) => Promise<number> = freeBytes,
): Probe {
  return {
    name: "disk",
    fix: `Make room on the disk of ${dir}, or lower health.diskFreeMb`,
    run: async () => {
      let left: number;
      try {
        left = await free(dir);
      } catch (error) {
        if (isUnaskable(error)) return;
        throw error;
      }
      if (left >= config().diskFreeMb * MB) return;
      throw new AppError("unavailable", `only ${mb(left)} free`);
    },
  };
}

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return Number(bavail) * Number(bsize);
}

function isUnaskable(error: unknown): boolean {
  return error instanceof Deno.errors.NotCapable ||
    error instanceof Deno.errors.NotSupported ||
    (error as { code?: unknown } | null)?.code === "ENOSYS";
}

/** This process is not too large, and the machine has some memory left. */
export function memoryProbe(
  config: () => HealthConfig,
  ask: {
    rssBytes(): number;
    availableBytes(): number | undefined;
  } = { rssBytes: () => Deno.memoryUsage().rss, availableBytes },
): Probe {
  return {
    name: "memory",
    fix: "Restart it, give the machine more memory, or see health.memoryMb",
    run: () => {
      const { memoryMb, memoryFreeMb } = config();
      const rss = ask.rssBytes();
      if (rss > memoryMb * MB) {
        throw new AppError(
          "unavailable",
          `this process has ${mb(rss)}, more than ${memoryMb} MB`,
        );
      }
      const available = ask.availableBytes();
      if (available === undefined || available >= memoryFreeMb * MB) return;
      throw new AppError(
        "unavailable",
        `the machine has only ${mb(available)} left`,
      );
    },
  };
}

function availableBytes(): number | undefined {
  try {
    return Deno.systemMemoryInfo().available;
  } catch (error) {
    if (isUnaskable(error)) return undefined;
    throw error;
  }
}

/** Somebody far away who can be asked something cheap. */
export interface Reachable {
  name: string;
  ask(signal: AbortSignal): Promise<unknown>;
}

/**
 * Whether providers answer, as it was found at most a minute ago. Asking is
 * done behind the answer; until it was done once nothing is known, and that is
 * not held against them. Disposing ends what is being asked.
 */
export class ProvidersProbe implements Probe, Disposable {
  readonly name = "providers";
  readonly fix = "Check the provider's key, its address and the network";
  readonly #list: () => readonly Reachable[];
  readonly #clock: Clock;
  readonly #ending = new AbortController();
  #askedAt = -Infinity;
  #asking: Promise<void> | undefined;
  #failures: readonly string[] = [];

  constructor(list: () => readonly Reachable[], clock: Clock) {
    this.#list = list;
    this.#clock = clock;
  }

  /** Resolves when nothing is being asked. */
  async settled(): Promise<void> {
    await this.#asking;
  }

  run(): void {
    const now = this.#clock.now();
    if (this.#asking === undefined && now - this.#askedAt >= PROVIDERS_MS) {
      this.#askedAt = now;
      this.#asking = this.#ask().finally(() => this.#asking = undefined);
    }
    if (this.#failures.length === 0) return;
    throw new AppError("upstream", this.#failures.join("; "));
  }

  async #ask(): Promise<void> {
    const failures = await Promise.all(
      this.#list().map(async ({ name, ask }) => {
        using limit = limitSignal(this.#ending.signal, PROVIDER_MS);
        try {
          await ask(limit.signal);
          return [];
        } catch (error) {
          return [`${name}: ${errorText(error)}`];
        }
      }),
    );
    if (!this.#ending.signal.aborted) this.#failures = failures.flat();
  }

  [Symbol.dispose](): void {
    this.#ending.abort(new AppError("cancelled", "The house closes"));
  }
}
