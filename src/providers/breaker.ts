/**
 * A model that keeps failing is left alone for a while, so that nobody waits
 * for what does not come: closed, open, and half open for one call that finds
 * out.
 *
 * Never: a failure that speaks of the request counts; a probe that was given up
 * decides anything.
 *
 * @module
 */
import type { Log } from "../core/log.ts";
import { ModelError } from "../core/model.ts";
import type { Clock } from "../core/time.ts";

/** When a breaker opens, and for how long. */
export interface BreakerLimits {
  /** Failures in a row that open it. */
  failuresMax: number;
  /** A failure this old is forgotten. */
  windowMs: number;
  /** How long it stays open at first; each failed probe doubles it. */
  openMs: number;
  openMsMax: number;
}

const LIMITS: BreakerLimits = {
  /** Failures in the window after which a provider is left alone. */
  failuresMax: 5,
  /** How far back failures count. */
  windowMs: 120_000,
  /** How long a provider is left alone at first. */
  openMs: 15_000,
  /** How long at most, after failing again and again. */
  openMsMax: 300_000,
};

/** Models that fail at once; more than that is a broken network. */
const MODELS_MAX = 512;

/** What is remembered of a model that failed. */
interface Trouble {
  state: "closed" | "open" | "half_open";
  failures: number;
  failedAt: number;
  last: ModelError;
  /** How long it was open last; 0 when it never was. */
  openMs: number;
  openUntil: number;
}

/** One call that was let through. The first of the last three counts. */
export interface Pass {
  /** The first word is there: others need not wait for this call's end. */
  hear(): void;
  /** The answer is whole. */
  succeed(): void;
  /** Whether another try makes sense. */
  fail(error: unknown): boolean;
  /** The caller gave up: nothing is known. */
  leave(): void;
}

/** The breakers of all models. */
export class Breakers {
  readonly #troubles = new Map<string, Trouble>();
  readonly #deps: { clock: Clock; log: Log };
  readonly #limits: BreakerLimits;

  constructor(
    deps: { clock: Clock; log: Log },
    limits: Partial<BreakerLimits> = {},
  ) {
    this.#deps = deps;
    this.#limits = { ...LIMITS, ...limits };
  }

  /**
   * Lets a call through.
   *
   * @throws {ModelError} of the last failure's class, while it is open
   */
  enter(model: string): Pass {
    const trouble = this.#troubles.get(model);
    const isProbe = trouble !== undefined && trouble.state !== "closed";
    if (isProbe) {
      const leftMs = trouble.openUntil - this.#deps.clock.now();
      if (leftMs > 0 || trouble.state === "half_open") {
        throw toOpenError(model, trouble, Math.max(leftMs, 1000));
      }
      trouble.state = "half_open";
      this.#deps.log("info", "provider.breaker_half_open", { model });
    }
    let isOver = false;
    const settle = <T>(run: () => T, otherwise: T): T => {
      if (isOver) return otherwise;
      isOver = true;
      return run();
    };
    return {
      hear: () => {
        if (isProbe && trouble.state === "half_open") trouble.state = "closed";
      },
      succeed: () => settle(() => this.#forget(model), undefined),
      fail: (error) => settle(() => this.#fail(model, error, isProbe), false),
      leave: () =>
        settle(() => {
          if (isProbe && trouble.state === "half_open") trouble.state = "open";
        }, undefined),
    };
  }

  #forget(model: string): void {
    const trouble = this.#troubles.get(model);
    if (trouble === undefined) return;
    this.#troubles.delete(model);
    if (trouble.openMs > 0) {
      this.#deps.log("info", "provider.breaker_closed", { model });
    }
  }

  #fail(model: string, error: unknown, isProbe: boolean): boolean {
    if (!(error instanceof ModelError) || !error.isRetryable) {
      this.#forget(model); // it is there, it only said no
      return true;
    }
    const { failuresMax, windowMs } = this.#limits;
    const now = this.#deps.clock.now();
    let trouble = this.#troubles.get(model);
    if (
      trouble === undefined ||
      trouble.state === "closed" && now - trouble.failedAt > windowMs
    ) {
      trouble = {
        state: "closed",
        failures: 0,
        failedAt: now,
        last: error,
        openMs: 0,
        openUntil: 0,
      };
    }
    trouble.failures++;
    trouble.failedAt = now;
    trouble.last = error;
    this.#remember(model, trouble);
    // Calls that were under way when it opened say nothing new.
    if (trouble.state !== "closed" && !isProbe) return false;
    if (!isProbe && trouble.failures < failuresMax) return true;
    this.#open(model, trouble);
    return false;
  }

  #open(model: string, trouble: Trouble): void {
    const { openMs, openMsMax } = this.#limits;
    const { failures, last } = trouble;
    trouble.openMs = trouble.openMs === 0
      ? openMs
      : Math.min(trouble.openMs * 2, openMsMax);
    const waitMs = Math.min(
      Math.max(trouble.openMs, last.retryAfterMs ?? 0),
      openMsMax,
    );
    trouble.state = "open";
    trouble.openUntil = this.#deps.clock.now() + waitMs;
    this.#deps.log("warn", "provider.breaker_open", {
      model,
      failures,
      class: last.class,
      waitMs,
    });
  }

  #remember(model: string, trouble: Trouble): void {
    this.#troubles.delete(model);
    this.#troubles.set(model, trouble);
    if (this.#troubles.size <= MODELS_MAX) return;
    for (const oldest of this.#troubles.keys()) {
      this.#troubles.delete(oldest);
      return;
    }
  }
}

function toOpenError(
  model: string,
  trouble: Trouble,
  leftMs: number,
): ModelError {
  const { failures, last } = trouble;
  const seconds = Math.ceil(leftMs / 1000);
  return new ModelError(
    last.class,
    `"${model}" is left alone for ${seconds} s more, after ${failures} failures in a row: ${last.message}`,
    {
      hint: last.hint ?? "Try again later, or choose another model",
      retryAfterMs: leftMs,
      details: { ...last.details, breaker: "open" },
      cause: last,
    },
  );
}
