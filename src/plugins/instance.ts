/**
 * One plugin that runs: its manifest, what it may do, its worker, its functions
 * and its log.
 *
 * Never: a call that is not for an export its manifest names.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Label } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { PluginManifest, PluginTool } from "../core/plugin.ts";
import type { Clock } from "../core/time.ts";
import { type Tool, tool } from "../core/tool.ts";
import {
  type Capabilities,
  impliedEffect,
  importListOf,
  userFunctions,
} from "./capabilities.ts";
import type { PluginLimits } from "./config.ts";
import { markOf, type PluginCall } from "./context.ts";
import { type FunctionDeps, HostFunctions } from "./host_functions.ts";
import { exportsOf, toolName } from "./package.ts";
import { type MarkedResult, Runner, type RunnerResult } from "./runner.ts";
import { toInputSchema } from "./schema.ts";

/** Lines of a plugin's log that are kept. */
const LOG_LINES_MAX = 1_000;

/** A line a plugin wrote, or the host wrote about it. */
export interface PluginLogLine {
  at: number;
  level: string;
  text: string;
}

/** What an instance is made of. */
export interface InstanceOptions
  extends Omit<FunctionDeps, "id" | "onTimer" | "emit"> {
  manifest: PluginManifest;
  limits: PluginLimits;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  emit: FunctionDeps["emit"];
  onTimer(): void;
  onTrap(why: string): void;
  /** A call is over. Must not throw. */
  onCall?(outcome: "done" | "failed"): void;
  clock: Clock;
  log: Log;
}

/** One call of an export. */
export interface InstanceCall {
  export: string;
  /** `tool "encode"`, for messages. */
  what: string;
  input: string;
  context: PluginCall;
  signal?: AbortSignal;
}

/** A plugin's own words: nobody's who is trusted. */
export function guestLabel(id: string, at: number): Label {
  return {
    integrity: "untrusted",
    secrecy: [],
    origins: [{ kind: "plugin", ref: id, at }],
  };
}

/** How a tool is run outside of a turn. */
export interface CallOptions {
  label: Label;
  signal?: AbortSignal;
  /** By the name the tool has for policies. @default all */
  mayUse?(name: string): boolean;
}

/** A running plugin. Dispose it to end its worker. */
export class Instance implements Disposable {
  readonly id: string;
  readonly manifest: PluginManifest;
  readonly can: Capabilities;
  readonly logs: PluginLogLine[] = [];
  readonly #runner: Runner;
  readonly #clock: Clock;
  readonly #onCall: InstanceOptions["onCall"];

  constructor(options: InstanceOptions) {
    const { manifest, can, limits, log, clock } = options;
    const { id } = manifest;
    this.id = id;
    this.manifest = manifest;
    this.can = can;
    this.#clock = clock;
    this.#onCall = options.onCall;
    const functions = new HostFunctions({ ...options, id });
    this.#runner = new Runner({
      id,
      bytes: options.bytes,
      imports: importListOf(manifest, can),
      functions: userFunctions(can),
      exports: exportsOf(manifest),
      wasi: can.wasi,
      config: can.config,
      limits,
      ask: (name, text, call) =>
        functions.ask(name, text, {
          ...call,
          context: call.context as PluginCall,
        }),
      onLog: (level, text) => {
        this.note(level, text);
        log("debug", "plugin.log", { plugin: id, level, chars: text.length });
      },
      onTrap: (why) => {
        this.note("error", why);
        options.onTrap(why);
      },
      log,
    });
  }

  /** Whether its worker is up now. */
  get isLoaded(): boolean {
    return this.#runner.isLoaded;
  }

  /** Loads the module, so that what is wrong with it shows now. */
  async load(): Promise<void> {
    await this.#runner.load();
  }

  /** Calls an export. @throws {AppError} with the cause */
  async call(call: InstanceCall): Promise<MarkedResult> {
    let outcome: "done" | "failed" = "failed";
    try {
      const result = await this.#runner.call({
        ...call,
        mark: markOf(call.context),
      });
      outcome = "done";
      return result;
    } finally {
      this.#onCall?.(outcome);
    }
  }

  /** Writes a line into its log. */
  note(level: string, text: string): void {
    if (this.logs.length >= LOG_LINES_MAX) this.logs.shift();
    this.logs.push({ at: this.#clock.now(), level, text });
  }

  /** Its tools, as the registry takes them. */
  tools(): Tool[] {
    return this.manifest.tools.map((offered) => this.#tool(offered));
  }

  #tool(offered: PluginTool): Tool {
    const { id } = this;
    const { name, description, effect, destinations } = offered;
    const implied = impliedEffect(this.can);
    return tool({
      name: toolName(id, name),
      about: description,
      input: toInputSchema(offered.input, `tool "${name}"`),
      scope: "chat",
      effect,
      ...implied === "none" ? {} : { implied },
      // Whatever the manifest says: a guest's words are nobody's we trust.
      result: { integrity: "untrusted", secrecy: offered.result.secrecy },
      destinations,
      run: async (input, context) => {
        const { output, mark } = await this.call({
          export: offered.export,
          what: `tool "${name}"`,
          input: JSON.stringify(input),
          context: { kind: "tool", label: context.label },
          signal: context.signal,
        });
        // What the conversation holds its results hold in any case.
        const secrecy = mark.label.secrecy.filter((of) =>
          !context.label.secrecy.includes(of)
        );
        const label = guestLabel(id, context.now());
        return { text: output, label: { ...label, secrecy } };
      },
    });
  }

  /** Runs one of its tools outside of a turn. @throws {AppError} */
  async callTool(
    name: string,
    args: unknown,
    options: CallOptions,
  ): Promise<RunnerResult> {
    const offered = this.manifest.tools.find((one) =>
      one.name === name || toolName(this.id, one.name) === name
    );
    if (offered === undefined) {
      const names = this.manifest.tools.map((one) => one.name).join(", ");
      throw new AppError(
        "not_found",
        `Plugin "${this.id}" has no tool "${name}"`,
        { hint: `Its tools: ${names || "none"}` },
      );
    }
    const full = toolName(this.id, offered.name);
    if (options.mayUse?.(full) === false) {
      throw new AppError(
        "forbidden",
        `This credential may not use the tool "${full}"`,
      );
    }
    const what = `tool "${offered.name}"`;
    const parsed = toInputSchema(offered.input, what).safeParse(args);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      const path = issue?.path.map(String).join(".") ?? "";
      throw new AppError(
        "bad_input",
        `Cannot call ${what}: ${path === "" ? "" : `${path}: `}${
          issue?.message ?? "its arguments do not fit"
        }`,
      );
    }
    const { output, fuel, ms } = await this.call({
      export: offered.export,
      what,
      input: JSON.stringify(parsed.data),
      context: { kind: "owner", label: options.label },
      ...options.signal === undefined ? {} : { signal: options.signal },
    });
    return { output, fuel, ms };
  }

  [Symbol.dispose](): void {
    this.#runner[Symbol.dispose]();
  }
}
