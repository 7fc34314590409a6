/**
 * Readiness by doing: each check acts, is bounded, and is named when it fails.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";

/** One thing readiness depends on. */
export interface ReadyCheck {
  name: string;
  ok: boolean;
  why?: string;
  /** What repairs it. */
  fix?: string;
}

/**
 * A check as it is given: resolves, or throws why not. A room that has
 * something to be ready about (a queue, a connection) gives the house a row.
 */
export interface Probe {
  /** A word in `snake_case`: it is read by programs. */
  readonly name: string;
  /** What repairs it, when it failed. */
  readonly fix?: string;
  run(): Promise<void> | void;
}

/** A probe that takes longer has failed. */
const PROBE_MS = 2_000;
/** An answer is good for this long; a health poller must not load the store. */
const KEPT_MS = 1_000;

/** Runs the probes together, at most once a second. */
export class Readiness {
  readonly #probes: readonly Probe[];
  readonly #clock: Clock;
  #last: { at: number; checks: Promise<ReadyCheck[]> } | undefined;

  constructor(probes: readonly Probe[], clock: Clock) {
    this.#probes = probes;
    this.#clock = clock;
  }

  async check(): Promise<{ ok: boolean; checks: ReadyCheck[] }> {
    const now = this.#clock.now();
    if (this.#last === undefined || now - this.#last.at >= KEPT_MS) {
      const checks = Promise.all(this.#probes.map((p) => this.#run(p)));
      this.#last = { at: now, checks };
    }
    const checks = await this.#last.checks;
    return { ok: checks.every((check) => check.ok), checks };
  }

  async #run(probe: Probe): Promise<ReadyCheck> {
    const { name, fix } = probe;
    const done = new AbortController();
    const late = this.#clock.sleep(PROBE_MS, done.signal).then(() => {
      throw new DOMException(`no answer in ${PROBE_MS} ms`, "TimeoutError");
    });
    late.catch(() => {});
    try {
      await Promise.race([Promise.resolve().then(() => probe.run()), late]);
      return { name, ok: true };
    } catch (error) {
      const why = errorText(error);
      return { name, ok: false, why, ...(fix === undefined ? {} : { fix }) };
    } finally {
      done.abort();
    }
  }
}
