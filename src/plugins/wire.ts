/**
 * What the host and a plugin's worker say to each other. Types only: the worker
 * loads nothing of this.
 *
 * @module
 */
import type { ErrorCode } from "../core/errors.ts";
import type { MeterImport } from "./imports.ts";

/** How a module is made ready, once a worker. */
export interface LoadOrder {
  kind: "load";
  /** Only look: meter and compile, and run nothing of it. */
  checkOnly: boolean;
  /** The module as it was installed; or what an earlier worker made of it. */
  source: Uint8Array<ArrayBuffer> | WebAssembly.Module;
  imports: readonly MeterImport[];
  /** Functions of `extism:host/user` that are linked. */
  functions: readonly string[];
  /** Exports that must be there. */
  exports: readonly string[];
  fuel: number;
  memoryBytes: number;
  outputBytesMax: number;
  logsPerMinute: number;
  /** Asks of one call, and bytes of one. */
  asksMax: number;
  askBytesMax: number;
  wasi: boolean;
  config: Readonly<Record<string, string>>;
}

/** To the worker. */
export type ToWorker =
  | LoadOrder
  | { kind: "call"; id: number; export: string; input: string; fuel: number }
  | { kind: "answer"; ask: number; text: string };

/** Why a call did not end well; after all but the first two the guest is replaced. */
export type Failure = "error" | "output" | "fuel" | "trap";

/** From the worker. */
export type FromWorker =
  | { kind: "loaded"; module: WebAssembly.Module; fuel: number }
  | { kind: "refused"; code: ErrorCode; message: string; hint?: string }
  | { kind: "done"; id: number; output: string; fuel: number }
  | {
    kind: "failed";
    id: number;
    failure: Failure;
    message: string;
    fuel: number;
  }
  | { kind: "ask"; ask: number; name: string; text: string }
  | { kind: "log"; level: string; text: string; dropped: number };
