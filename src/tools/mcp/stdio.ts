/**
 * MCP over the standard streams of a program that the launcher runs: one JSON
 * message a line.
 *
 * @module
 */
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import { AppError } from "../../core/errors.ts";
import type { OpenProgram, Runner } from "../runner.ts";

const LINE_CHARS_MAX = 8_388_608;

/** A transport over a program. */
export class ProgramTransport implements Transport {
  onmessage?: (message: JSONRPCMessage) => void;
  onclose?: () => void;
  onerror?: (error: Error) => void;
  readonly #open: () => Promise<OpenProgram>;
  #program: OpenProgram | undefined;
  #rest = "";
  #isClosed = false;

  constructor(
    runner: Runner,
    options: {
      server: string;
      secrets: Record<string, string>;
      /** What it says beside, for the log. */
      onErr(text: string): void;
    },
  ) {
    const { server, secrets, onErr } = options;
    this.#open = () =>
      runner.open(server, {
        secrets,
        onOut: (text) => this.#take(text),
        onErr,
      });
  }

  async start(): Promise<void> {
    this.#program = await this.#open();
    void this.#program.ended.then(() => this.#closed());
  }

  send(message: JSONRPCMessage): Promise<void> {
    if (this.#program === undefined || this.#isClosed) {
      throw new AppError("unavailable", "The program has ended");
    }
    this.#program.write(`${JSON.stringify(message)}\n`);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#program?.kill();
    this.#closed();
    return Promise.resolve();
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > LINE_CHARS_MAX) {
      this.onerror?.(new AppError("too_large", "A message without end"));
      void this.close();
      return;
    }
    for (const line of lines) {
      if (line.trim() === "") continue;
      try {
        this.onmessage?.(JSON.parse(line));
      } catch (error) {
        this.onerror?.(
          error instanceof Error ? error : new AppError("upstream", "Bad line"),
        );
      }
    }
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.onclose?.();
  }
}
