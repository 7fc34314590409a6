/**
 * Calls a plugin asked for: stored, and made once their time has come.
 *
 * Never: a timer is called before its row is gone; after a crash in between it
 * was called at most once.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { Journal } from "../store/journal.ts";
import type { Plugins } from "../store/plugins.ts";
import { guestLabel, type Instance } from "./instance.ts";

/** Longest sleep at once: timers of the platform end at 24 days. */
const SLEEP_MS_MAX = 86_400_000;

/** What timers work with. */
export interface TimerDeps {
  rows: Plugins;
  journal: Journal;
  clock: Clock;
  log: Log;
}

/** The timers of one plugin. Dispose to stop waiting; the rows stay. */
export class Timers implements Disposable {
  readonly #instance: Instance;
  readonly #deps: TimerDeps;
  readonly #ending = new AbortController();
  #waking = new AbortController();

  constructor(instance: Instance, deps: TimerDeps) {
    this.#instance = instance;
    this.#deps = deps;
  }

  /** Begins to wait, if the plugin may ask for that at all. */
  start(): void {
    if (this.#instance.can.schedule === undefined) return;
    void this.#run().catch((error) =>
      this.#deps.log("error", "plugin.timers_failed", {
        plugin: this.#instance.id,
        error: errorText(error),
      })
    );
  }

  /** A timer was set or taken back. */
  changed(): void {
    this.#waking.abort();
  }

  async #run(): Promise<void> {
    const { rows, clock } = this.#deps;
    const { signal } = this.#ending;
    while (!signal.aborted) {
      // Ends when the plugin does.
      this.#waking = new AbortController();
      const [next] = await rows.timers(this.#instance.id);
      const wait = next === undefined
        ? SLEEP_MS_MAX
        : Math.min(next.due - clock.now(), SLEEP_MS_MAX);
      if (next !== undefined && wait <= 0) {
        await this.#fire(next);
        continue;
      }
      const both = AbortSignal.any([signal, this.#waking.signal]);
      await clock.sleep(wait, both).catch(() => {}); // woken, or ended
    }
  }

  async #fire(
    timer: Awaited<ReturnType<Plugins["timers"]>>[number],
  ): Promise<void> {
    const { rows, journal, clock, log } = this.#deps;
    const { id, can } = this.#instance;
    if (can.schedule === undefined) return;
    await journal.commit([rows.timerDeletion(timer)]);
    const { name, due, payload, mark: asked } = timer;
    try {
      await this.#instance.call({
        export: can.schedule.export,
        what: `timer "${name}"`,
        input: JSON.stringify({ name, due, payload }),
        context: { kind: "timer", label: guestLabel(id, clock.now()), asked },
        signal: this.#ending.signal,
      });
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      log("warn", "plugin.timer_failed", {
        plugin: id,
        error: errorText(error),
      });
    }
  }

  [Symbol.dispose](): void {
    this.#ending.abort();
  }
}
