/**
 * What a verb of the command line is: its row in the table, what it is given,
 * what it answers.
 *
 * Never: a verb reads the environment, a file or the console on its own; what it
 * may touch is handed in.
 *
 * @module
 */
import type { z } from "zod";
import type { Clock } from "../core/time.ts";
import type { Env } from "../config/env.ts";
import type { Loaded } from "../config/load.ts";
import type { MethodInput, MethodName, MethodOutput } from "../core/methods.ts";
import type { Target } from "./target.ts";

export { EXIT } from "../core/exit.ts";

/** The terminal, or whatever stands in for it. */
export interface Io {
  /** What follows the verb. */
  readonly args: readonly string[];
  /** Which gateway the command line names; the configured one without it. */
  readonly target?: Target;
  readonly env: Env;
  readonly clock: Clock;
  /** Writes to standard output as it is. */
  out(text: string): void;
  /** Writes to standard error as it is. */
  err(text: string): void;
  /** Whether standard output is a terminal. */
  readonly isTerminal: boolean;
  /** Whether to colour: a terminal, and NO_COLOR is unset. */
  readonly color: boolean;
  readonly stdin: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly stdinIsTerminal: boolean;
  /** Turns the terminal's own line editing off or on; absent without one. */
  setRaw?(on: boolean): void;
  /** The terminal's width; absent without one. */
  columns?(): number;
  /** Calls back on Ctrl-C until disposed. */
  onInterrupt(listener: () => void): Disposable;
}

/** One line of the computed sandbox, with the configuration line behind it. */
export interface Grant {
  flag: string;
  value: string;
  because: string;
}

type PluginMethod = Extract<MethodName, `plugins.${string}`>;

/** Plugins over the store itself, while no gateway runs. */
export interface OfflinePlugins extends AsyncDisposable {
  call<M extends PluginMethod>(
    method: M,
    params: MethodInput<M>,
  ): Promise<MethodOutput<M>>;
  /** Takes the configuration that was just written. */
  reload(): Promise<void>;
}

/** What verbs need of the roof; each loads on first use. */
export interface Roof {
  /** The whole configuration's schema, and the loaded value. */
  schema(): Promise<z.ZodType>;
  load(): Promise<Loaded<unknown>>;
  /** The service's Deno flags as an argv array, and each entry's reason. */
  permissions(): Promise<{ flags: string[]; grants: Grant[] }>;
  /** Plugins without a gateway. @throws {AppError} `locked` while one runs */
  plugins?(): Promise<OfflinePlugins>;
  /** Runs the gateway until it is told to stop; the exit code. */
  start(args: readonly string[]): Promise<number>;
}

/** One verb. Its module loads only when it is called. */
export interface Verb {
  name: string;
  about: string;
  /** One line a form: `carapace token create NAME [--scopes LIST]`. */
  usage: readonly string[];
  examples: readonly string[];
  /** What it works on: a running gateway, the store, or files only. */
  needs: "gateway" | "store" | "files";
  /** It talks to a gateway too, though it works without one. */
  takesTarget?: boolean;
  run(io: Io, roof: Roof): Promise<number>;
}
