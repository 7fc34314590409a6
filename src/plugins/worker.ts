/**
 * One plugin's worker: meters and links the module, calls it, and carries what
 * it asks for to the host. A root of its own, started without any permission.
 *
 * Never: it reaches a file, the network, the environment or another plugin; a
 * module runs here that was not metered; a flood reaches the host.
 *
 * @module
 */
import createPlugin, {
  type CurrentPlugin,
  type ExtismPluginOptions,
  type Plugin,
} from "@extism/extism";
import process from "node:process";
import { scanJson } from "../core/bounded.ts";
import { AppError, errorText } from "../core/errors.ts";
import { EXTISM_ENV, EXTISM_USER } from "./imports.ts";
import { isOutOfFuel, meter, readFuel, setFuel } from "./meter/meter.ts";
import type { FromWorker, LoadOrder, ToWorker } from "./wire.ts";

/** Of the worker's scope, what is used here. */
interface Scope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker): void;
}

const scope = globalThis as unknown as Scope;

const PAGE_BYTES = 65_536;
const LOG_CHARS_MAX = 8_192;
const MINUTE_MS = 60_000;
const JSON_LIMITS = { depthMax: 32, nodesMax: 10_000 };
const LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** The plugin in this worker. */
class Guest {
  readonly #order: LoadOrder;
  readonly #asks = new Map<number, (text: string) => void>();
  #plugin: Plugin | undefined;
  #exports: WebAssembly.Exports = {};
  #askId = 0;
  #asked = 0;
  #allocated = 0;
  #logWindow = 0;
  #logged = 0;
  #dropped = 0;

  constructor(order: LoadOrder) {
    this.#order = order;
  }

  /** Meters, compiles and links. The module's start function runs here. */
  async load(): Promise<WebAssembly.Module> {
    const { source, imports, fuel, memoryBytes, exports } = this.#order;
    const pages = Math.floor(memoryBytes / PAGE_BYTES);
    const module = source instanceof WebAssembly.Module
      ? source
      : await WebAssembly.compile(
        meter(source, { imports, fuel, memoryPagesMax: pages }),
      );
    if (this.#order.checkOnly) {
      const offered = WebAssembly.Module.exports(module);
      assertExports(
        exports,
        (name) =>
          offered.some((one) => one.name === name && one.kind === "function"),
      );
      return module;
    }
    // The platform calls its WASI experimental, on every start of a worker.
    if (this.#order.wasi) process.removeAllListeners("warning");
    this.#plugin = await createPlugin({ wasm: [{ module, name: "main" }] }, {
      useWasi: this.#order.wasi,
      enableWasiOutput: false,
      runInWorker: false,
      logLevel: "trace",
      logger: this.#logger(),
      memory: { maxPages: pages, maxHttpResponseBytes: 0, maxVarBytes: 0 },
      allowedHosts: [],
      allowedPaths: {},
      // Without a prototype: a guest may ask for any name.
      config: Object.assign(Object.create(null), this.#order.config),
      functions: this.#functions(),
    });
    ({ exports: this.#exports } = await this.#plugin.getInstance());
    assertExports(exports, (name) => typeof this.#exports[name] === "function");
    return module;
  }

  /** What is left of the budget, for what the start function took. */
  get fuel(): number {
    if (this.#order.checkOnly) return 0;
    return this.#order.fuel - readFuel(this.#exports);
  }

  async call(
    order: ToWorker & { kind: "call" },
  ): Promise<FromWorker> {
    const { id, fuel } = order;
    this.#asked = 0;
    this.#allocated = 0;
    setFuel(this.#exports, fuel);
    const spent = () => fuel - readFuel(this.#exports);
    try {
      const output = await this.#plugin?.call(order.export, order.input);
      const bytes = output?.bytes() ?? new Uint8Array();
      const { outputBytesMax } = this.#order;
      if (bytes.byteLength > outputBytesMax) {
        const message =
          `its output of ${bytes.byteLength} bytes is larger than ${outputBytesMax}`;
        return {
          kind: "failed",
          id,
          failure: "output",
          message,
          fuel: spent(),
        };
      }
      const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      return { kind: "done", id, output: text, fuel: spent() };
    } catch (error) {
      return { kind: "failed", id, ...this.#why(error), fuel: spent() };
    }
  }

  #why(
    error: unknown,
  ): { failure: "error" | "fuel" | "trap" | "output"; message: string } {
    const message = errorText(error);
    if (isOutOfFuel(this.#exports)) return { failure: "fuel", message };
    const exit = exitCodeOf(error);
    if (exit !== undefined) {
      return { failure: "trap", message: `it ended itself with code ${exit}` };
    }
    const own = /^Plugin-originated error: (.*)$/s.exec(message);
    if (own !== null) return { failure: "error", message: own[1] ?? "" };
    if (error instanceof TypeError && /decod|encoded data/i.test(message)) {
      return { failure: "output", message: "its output is not UTF-8" };
    }
    return { failure: "trap", message };
  }

  /** The host's answer to an ask. */
  answer(ask: number, text: string): void {
    this.#asks.get(ask)?.(text);
    this.#asks.delete(ask);
  }

  #functions(): NonNullable<ExtismPluginOptions["functions"]> {
    const user = Object.fromEntries(
      this.#order.functions.map((name) => [
        name,
        // Async functions suspend the guest; the platform tells them by kind.
        async (context: CurrentPlugin, at: bigint): Promise<bigint> =>
          context.store(await this.#ask(name, context, at)),
      ]),
    );
    const alloc = (context: CurrentPlugin, size: bigint): bigint => {
      const bytes = Number(size);
      this.#allocated += bytes;
      if (bytes < 0 || this.#allocated > this.#order.memoryBytes) {
        throw new RangeError(
          `it asked for more than ${this.#order.memoryBytes} bytes in one call`,
        );
      }
      return context.alloc(size);
    };
    return { [EXTISM_USER]: user, [EXTISM_ENV]: { alloc } };
  }

  async #ask(
    name: string,
    context: CurrentPlugin,
    at: bigint,
  ): Promise<string> {
    const { asksMax, askBytesMax } = this.#order;
    if (++this.#asked > asksMax) {
      throw new RangeError(`it asked the host more than ${asksMax} times`);
    }
    const refuse = (error: string) =>
      JSON.stringify({ ok: false, code: "bad_input", error });
    if (context.length(at) > BigInt(askBytesMax)) {
      return refuse(`the request is larger than ${askBytesMax} bytes`);
    }
    let text: string;
    try {
      const bytes = context.read(at)?.bytes() ?? new Uint8Array();
      text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      scanJson(text, JSON_LIMITS);
    } catch (error) {
      return refuse(
        error instanceof AppError ? error.message : "the request is not UTF-8",
      );
    }
    const ask = ++this.#askId;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.#asks.set(ask, resolve);
    scope.postMessage({ kind: "ask", ask, name, text });
    return await promise;
  }

  #logger(): NonNullable<ExtismPluginOptions["logger"]> {
    const write = (level: string) => (text: unknown) => this.#log(level, text);
    return Object.fromEntries(
      LEVELS.map((level) => [level, write(level)]),
    ) as unknown as NonNullable<ExtismPluginOptions["logger"]>;
  }

  #log(level: string, text: unknown): void {
    const now = performance.now();
    if (now - this.#logWindow > MINUTE_MS) {
      this.#logWindow = now;
      this.#logged = 0;
    }
    if (++this.#logged > this.#order.logsPerMinute) {
      this.#dropped++;
      return;
    }
    const dropped = this.#dropped;
    this.#dropped = 0;
    const cut = String(text).slice(0, LOG_CHARS_MAX);
    scope.postMessage({ kind: "log", level, text: cut, dropped });
  }
}

/** What `proc_exit` was called with: the platform throws it, and it is no error. */
function exitCodeOf(thrown: unknown): number | undefined {
  if (thrown instanceof Error || typeof thrown !== "object") return undefined;
  return thrown !== null && "code" in thrown && typeof thrown.code === "number"
    ? thrown.code
    : undefined;
}

function assertExports(
  names: readonly string[],
  has: (name: string) => boolean,
): void {
  const missing = names.find((name) => !has(name));
  if (missing === undefined) return;
  throw new AppError(
    "bad_input",
    `the module has no function "${missing}", which the manifest names`,
  );
}

async function load(order: LoadOrder): Promise<Guest | undefined> {
  const guest = new Guest(order);
  try {
    const module = await guest.load();
    scope.postMessage({ kind: "loaded", module, fuel: guest.fuel });
    return guest;
  } catch (error) {
    scope.postMessage({
      kind: "refused",
      code: error instanceof AppError ? error.code : "bad_input",
      message: error instanceof WebAssembly.RuntimeError
        ? `its start function trapped or used up its fuel: ${errorText(error)}`
        : errorText(error),
      ...error instanceof AppError && error.hint !== undefined
        ? { hint: error.hint }
        : {},
    });
    return undefined;
  }
}

function serve(): void {
  let guest: Promise<Guest | undefined> | undefined;
  scope.onmessage = async ({ data }) => {
    if (data.kind === "load") {
      guest ??= load(data);
      return;
    }
    const loaded = await guest;
    if (loaded === undefined) return;
    if (data.kind === "answer") loaded.answer(data.ask, data.text);
    else scope.postMessage(await loaded.call(data));
  };
}

// Only a worker has no window: importing this elsewhere does nothing.
if ("WorkerGlobalScope" in globalThis) serve();
