/**
 * One worker of a plugin from the outside: its thread, what is said to it and
 * what it asks for.
 *
 * Never: a worker has a permission but the two names it looks at, and for WASI
 * the empty device; what it was shown is forgotten before it is.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import { joinMarks, type PluginMark } from "../store/plugins.ts";
import { NULL_DEVICE } from "./config.ts";
import type { FromWorker, LoadOrder, ToWorker } from "./wire.ts";

/** What a worker is started with. */
export interface LiveOptions {
  id: string;
  wasi: boolean;
  /** Answers an ask; what it throws is the answer too. */
  ask(name: string, text: string, call: CallInfo): Promise<unknown>;
  onLog(level: string, text: string): void;
  log: Log;
}

/** Which call an ask belongs to. */
export interface CallInfo {
  /** `tool "encode"`, for people. */
  what: string;
  /** Handed in by the caller of the plugin, handed back to the host's functions. */
  context: unknown;
  signal: AbortSignal;
  /** What the guest was shown since it was made, this call's own with it. */
  mark(): PluginMark;
  /** The guest is shown something more. Before it is handed over. */
  show(mark: PluginMark): void;
}

/** One call. */
export interface RunnerCall {
  export: string;
  what: string;
  input: string;
  /** What this call shows the guest. */
  mark: PluginMark;
  context?: unknown;
  signal?: AbortSignal;
}

/** Bounds that no configuration changes. */
export const RUNNER_LIMITS = {
  /** How long a plugin may take to load; then it is stopped. */
  loadMs: 20_000,
  /** Asks of the host in one call. */
  asksMax: 1_000,
  askBytesMax: 262_144,
} as const;

/** The names the guest's library looks at; with `--ignore-env` they need no grant. */
const ENV_NAMES = [
  "EXTISM_ENABLE_WASI_OUTPUT",
  "__MINIMATCH_TESTING_PLATFORM__",
];

/** The worker's permissions: nothing, and for WASI the empty device. */
function permissionsOf(wasi: boolean): Deno.PermissionOptionsObject {
  // Tests run without --ignore-env, where unlisted names throw.
  const isListed = ENV_NAMES.every((variable) =>
    Deno.permissions.querySync({ name: "env", variable }).state === "granted"
  );
  const files = wasi ? [NULL_DEVICE] : false;
  return {
    env: isListed ? ENV_NAMES : false,
    ffi: false,
    import: false,
    net: false,
    read: files,
    run: false,
    sys: false,
    write: files,
  };
}

/** Resolves when so much time is over; never when `over` comes first. */
export async function after(ms: number, over: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  over.addEventListener("abort", () => clearTimeout(timer), { once: true });
  await promise;
}

/** One worker process of a plugin. */
export class Live {
  readonly #worker: Worker;
  readonly #options: LiveOptions;
  #loaded = Promise.withResolvers<WebAssembly.Module>();
  #current:
    | {
      id: number;
      info: CallInfo;
      done: PromiseWithResolvers<FromWorker & { kind: "done" | "failed" }>;
    }
    | undefined;
  #ids = 0;
  #isEnded = false;
  // A guest keeps its memory between calls: this only ever rises.
  #mark: PluginMark = { label: PUBLIC_OWNER, withheld: [] };

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#loaded.promise.catch(() => {});
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), {
      type: "module",
      name: `plugin ${options.id}`,
      deno: { permissions: permissionsOf(options.wasi) },
    });
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) =>
      this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(`its worker failed: ${event.message.slice(0, 300)}`);
    };
    this.#worker.onmessageerror = () => this.#fail("its worker was not heard");
  }

  /** What this guest was shown since it was made. */
  get mark(): PluginMark {
    return this.#mark;
  }

  async load(order: LoadOrder): Promise<WebAssembly.Module> {
    const over = new AbortController();
    this.#send(order);
    const { loadMs } = RUNNER_LIMITS;
    try {
      return await Promise.race([
        this.#loaded.promise,
        after(loadMs, over.signal).then(() => {
          throw new AppError("timeout", `it took longer than ${loadMs} ms`);
        }),
      ]);
    } finally {
      over.abort();
    }
  }

  async call(
    call: RunnerCall,
    { fuel, signal }: { fuel: number; signal: AbortSignal },
  ): Promise<FromWorker & { kind: "done" | "failed" }> {
    const id = ++this.#ids;
    const done = Promise.withResolvers<
      FromWorker & { kind: "done" | "failed" }
    >();
    const { what, context, input } = call;
    const show = (mark: PluginMark) => {
      this.#mark = joinMarks(this.#mark, mark);
    };
    show(call.mark);
    const mark = () => this.#mark;
    this.#current = { id, info: { what, context, signal, mark, show }, done };
    this.#send({ kind: "call", id, export: call.export, input, fuel });
    return await done.promise;
  }

  end(): void {
    this.#isEnded = true;
    this.#worker.onmessage = null;
    this.#worker.terminate();
  }

  #send(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #fail(message: string): void {
    this.#loaded.reject(new AppError("bad_input", message));
    const { id, done } = this.#current ?? {};
    if (id === undefined) return;
    done?.resolve({ kind: "failed", id, failure: "trap", message, fuel: 0 });
  }

  #hear(message: FromWorker): void {
    switch (message.kind) {
      case "loaded":
        return this.#loaded.resolve(message.module);
      case "refused": {
        const { code, hint } = message;
        return this.#loaded.reject(
          new AppError(
            code,
            message.message,
            hint === undefined ? {} : { hint },
          ),
        );
      }
      case "log":
        if (message.dropped > 0) {
          this.#options.onLog("warn", `${message.dropped} lines were dropped`);
        }
        return this.#options.onLog(message.level, message.text);
      case "ask":
        return void this.#answer(message);
      default:
        if (message.id === this.#current?.id) {
          this.#current.done.resolve(message);
        }
    }
  }

  async #answer(message: FromWorker & { kind: "ask" }): Promise<void> {
    const info = this.#current?.info;
    if (info === undefined) return;
    let answer: unknown;
    try {
      answer = await this.#options.ask(message.name, message.text, info);
    } catch (error) {
      answer = toAnswer(error, this.#options.log);
    }
    if (this.#isEnded) return;
    this.#send({
      kind: "answer",
      ask: message.ask,
      text: JSON.stringify(answer),
    });
  }
}

/** A failure as the guest is told of it. */
function toAnswer(error: unknown, log: Log): unknown {
  if (error instanceof AppError) {
    const { code, message } = error;
    return { ok: false, code, error: message };
  }
  log("error", "plugin.ask_failed", { error: errorText(error) });
  return { ok: false, code: "internal", error: "the host failed" };
}
