/**
 * One plugin's worker from the outside: started when it is needed, one call at
 * a time, replaced after a trap, given up when nobody calls.
 *
 * A worker that is busy cannot be stopped on this platform, so the time limit
 * here only gives up on it; what ends it is its fuel.
 *
 * Never: a call without an end; a guest that trapped is called again; a guest is
 * called that was shown something more private than the call.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import type { PluginMark } from "../store/plugins.ts";
import { NULL_DEVICE, type PluginLimits } from "./config.ts";
import { isWithin } from "./context.ts";
import type { MeterImport } from "./imports.ts";
import {
  after,
  Live,
  type LiveOptions,
  RUNNER_LIMITS,
  type RunnerCall,
} from "./live.ts";
import type { FromWorker, LoadOrder } from "./wire.ts";

/** What a plugin is run with. */
export interface RunnerOptions extends LiveOptions {
  /** The module as it was installed. Asked for when there is none in memory. */
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  imports: readonly MeterImport[];
  functions: readonly string[];
  exports: readonly string[];
  config: Readonly<Record<string, string>>;
  limits: PluginLimits;
  /** Called for each trap, timeout or protocol error. */
  onTrap(why: string): void;
}

/** How a call came out. */
export interface RunnerResult {
  output: string;
  fuel: number;
  ms: number;
}

/** With what the guest had been shown when it answered. */
export interface MarkedResult extends RunnerResult {
  mark: PluginMark;
}

/** What a call failed with, for its caller. `fuel` is what it had used. */
function callFailure(
  why: string,
  options: {
    fuel?: number;
    code?: "bad_input" | "timeout" | "upstream";
    /** The guest itself says that it failed. */
    said?: true;
  } = {},
): AppError {
  const { fuel, code = "upstream", said } = options;
  const details = {
    ...fuel === undefined ? {} : { fuel },
    ...said === undefined ? {} : { said },
  };
  return new AppError(code, why, { details });
}

/** A plugin's worker. Dispose it to end it. */
export class Runner implements Disposable {
  readonly #options: RunnerOptions;
  readonly #waiting: (() => void)[] = [];
  #worker: Live | undefined;
  #module: WebAssembly.Module | undefined;
  #isBusy = false;
  #idle: ReturnType<typeof setTimeout> | undefined;
  #isEnded = false;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** Calls that wait. */
  get queued(): number {
    return this.#waiting.length;
  }

  /** Whether there is a worker now. */
  get isLoaded(): boolean {
    return this.#worker !== undefined;
  }

  /**
   * Meters and compiles the module and runs nothing of it.
   *
   * @throws {AppError} what is wrong with it
   */
  async check(): Promise<void> {
    using _turn = await this.#enter(undefined);
    const live = new Live({ ...this.#options, wasi: false });
    try {
      await live.load(await this.#order({ checkOnly: true }));
    } catch (error) {
      throw this.#refusal(error);
    } finally {
      live.end();
    }
  }

  /** Loads the module now, so that what is wrong with it shows. */
  async load(): Promise<void> {
    using _turn = await this.#enter(undefined);
    await this.#live();
  }

  /**
   * Calls an export and waits for its end.
   *
   * @throws {AppError} with the cause: `rate_limited` when the queue is full,
   * `timeout`, `upstream` for a trap or the guest's own error
   */
  async call(call: RunnerCall): Promise<MarkedResult> {
    using _turn = await this.#enter(call.signal);
    // Its memory would bring what it was shown into a call that may say it.
    const before = this.#worker;
    if (before !== undefined && !isWithin(before.mark, call.mark)) {
      this.#drop(before);
    }
    const live = await this.#live();
    call.signal?.throwIfAborted();
    const { callMs, fuel } = this.#options.limits;
    const begun = performance.now();
    const over = new AbortController();
    const gone = call.signal === undefined
      ? undefined
      : onAbort(call.signal, over.signal);
    const timeout = after(callMs, over.signal);
    try {
      const first = await Promise.race([
        live.call(call, { fuel, signal: over.signal }),
        timeout.then(() => "timeout" as const),
        ...gone === undefined ? [] : [gone.then(() => "gone" as const)],
      ]);
      const ms = performance.now() - begun;
      if (first === "gone") {
        // Nobody waits for it any more; a fresh guest serves the next call.
        this.#drop(live);
        call.signal?.throwIfAborted();
      }
      if (first === "timeout" || first === "gone") {
        const why = `${call.what} took longer than ${callMs} ms`;
        this.#trapped(live, why);
        throw callFailure(why, { code: "timeout" });
      }
      return this.#settle(live, first, { call, ms });
    } finally {
      over.abort();
    }
  }

  #settle(
    live: Live,
    done: FromWorker & { kind: "done" | "failed" },
    { call, ms }: { call: RunnerCall; ms: number },
  ): MarkedResult {
    if (done.kind === "done") {
      return { output: done.output, fuel: done.fuel, ms, mark: live.mark };
    }
    const { failure, fuel } = done;
    const message = this.#wordsOf(done.message, live.mark, call.mark);
    const { limits } = this.#options;
    switch (failure) {
      case "error":
        throw callFailure(`${call.what} failed: ${message}`, {
          fuel,
          said: true,
        });
      case "output":
        throw callFailure(`${call.what}: ${message}`, { fuel });
      case "fuel": {
        const why = `fuel exhausted after ${
          unitsText(limits.fuel)
        } units in ${call.what}`;
        this.#trapped(live, why);
        throw callFailure(why, { fuel: limits.fuel });
      }
      default: {
        const why = `${call.what} trapped: ${message}`;
        this.#trapped(live, why);
        throw callFailure(why, { fuel });
      }
    }
  }

  /** A failure has no label of its own: it says nothing its caller may not know. */
  #wordsOf(message: string, seen: PluginMark, asked: PluginMark): string {
    if (isWithin(seen, asked)) return message;
    this.#options.onLog("error", message);
    const isUnknown = message.startsWith("unknown:");
    return `${isUnknown ? "unknown: " : ""}why is in its log`;
  }

  #trapped(live: Live, why: string): void {
    this.#drop(live);
    this.#options.onTrap(why);
  }

  #drop(live: Live): void {
    live.end();
    if (this.#worker === live) this.#worker = undefined;
  }

  /** Waits for this call's turn. */
  async #enter(signal: AbortSignal | undefined): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#isEnded) {
      throw new AppError("unavailable", `Plugin "${this.#options.id}" is off`);
    }
    clearTimeout(this.#idle);
    const { queuedMax, idleMs } = this.#options.limits;
    if (this.#isBusy) {
      if (this.#waiting.length >= queuedMax) {
        throw new AppError(
          "rate_limited",
          `Plugin "${this.#options.id}" is busy: ${queuedMax} calls wait already`,
          { retryAfterMs: 1_000 },
        );
      }
      await this.#wait(signal);
    }
    this.#isBusy = true;
    return {
      [Symbol.dispose]: () => {
        const next = this.#waiting.shift();
        if (next !== undefined) return next();
        this.#isBusy = false;
        this.#idle = setTimeout(() => {
          if (!this.#isBusy) this.#worker?.end();
          if (!this.#isBusy) this.#worker = undefined;
        }, idleMs);
        Deno.unrefTimer(this.#idle as unknown as number);
      },
    };
  }

  async #wait(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const go = () => resolve();
    this.#waiting.push(go);
    const onGone = () => {
      const at = this.#waiting.indexOf(go);
      if (at >= 0) this.#waiting.splice(at, 1);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", onGone, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", onGone);
    }
  }

  /** The worker, with the module in it. @throws what is wrong with the module */
  async #live(): Promise<Live> {
    if (this.#isEnded) {
      throw new AppError("unavailable", `Plugin "${this.#options.id}" is off`);
    }
    if (this.#worker !== undefined) return this.#worker;
    const live = this.#spawn();
    try {
      this.#module = await live.load(await this.#order({ checkOnly: false }));
    } catch (error) {
      live.end();
      throw this.#refusal(error);
    }
    this.#worker = live;
    return live;
  }

  #spawn(): Live {
    try {
      return new Live(this.#options);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotCapable)) throw error;
      throw new AppError(
        "forbidden",
        `Cannot load plugin "${this.#options.id}": this process may not give it ${NULL_DEVICE}`,
        { cause: error, hint: "It may at its next start" },
      );
    }
  }

  async #order({ checkOnly }: { checkOnly: boolean }): Promise<LoadOrder> {
    const { imports, functions, exports, wasi, config, limits, bytes } =
      this.#options;
    return {
      kind: "load",
      checkOnly,
      source: this.#module ?? await bytes(),
      imports,
      functions,
      exports,
      wasi,
      config,
      fuel: limits.fuel,
      memoryBytes: limits.memoryMiB * 1_048_576,
      outputBytesMax: limits.outputBytesMax,
      logsPerMinute: limits.logsPerMinute,
      asksMax: RUNNER_LIMITS.asksMax,
      askBytesMax: RUNNER_LIMITS.askBytesMax,
    };
  }

  #refusal(error: unknown): AppError {
    const why = errorText(error).replace(/^Cannot meter the module: /, "");
    const hint = error instanceof AppError ? error.hint : undefined;
    return new AppError(
      error instanceof AppError ? error.code : "internal",
      `Cannot load plugin "${this.#options.id}": ${why}`,
      hint === undefined ? { cause: error } : { cause: error, hint },
    );
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
    clearTimeout(this.#idle);
    this.#worker?.end();
    this.#worker = undefined;
    this.#module = undefined;
  }
}

/** `1.0e9` */
function unitsText(units: number): string {
  const [mantissa = "", exponent = ""] = units.toExponential(1).split("e");
  return `${mantissa}e${exponent.replace("+", "")}`;
}

async function onAbort(signal: AbortSignal, over: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), {
    once: true,
    signal: over,
  });
  await promise;
}
