/**
 * Asks for a line at a terminal, with editing and history.
 *
 * @module
 */
import { createInterface } from "node:readline";
import { Readable, Writable } from "node:stream";
import type { Io } from "./verb.ts";

/** What came of asking. */
export type Answer =
  | { kind: "line"; text: string }
  /** Ctrl-C; `wasEmpty` says whether there was something to discard. */
  | { kind: "interrupt"; wasEmpty: boolean }
  /** Ctrl-D, or the input ended. */
  | { kind: "end" };

export interface AskOptions {
  /** Earlier lines for the arrow keys, the newest first. */
  history?: readonly string[];
  /** Takes the question back; the answer is then `end`. */
  signal?: AbortSignal;
}

/**
 * A terminal that can be asked for lines. Between two questions the terminal is
 * its own again: what is typed then is shown, and read by the next question.
 */
export class Prompt {
  readonly #input: Readable & { isTTY?: boolean; setRawMode?: unknown };
  readonly #output: Writable & { isTTY?: boolean; columns?: number };
  readonly #io: Io;
  /** Lines that came in one piece with the first one (a paste). */
  readonly #ahead: string[] = [];

  constructor(io: Io) {
    this.#io = io;
    this.#input = Readable.from(io.stdin);
    this.#input.isTTY = true;
    this.#input.setRawMode = (on: boolean) => io.setRaw?.(on);
    this.#output = new Writable({
      write(chunk, _encoding, done) {
        io.out(chunk.toString());
        done();
      },
    });
    this.#output.isTTY = true;
  }

  /** Shows the question and waits for a line. */
  ask(question: string, options: AskOptions = {}): Promise<Answer> {
    const { history = [], signal } = options;
    const ahead = this.#ahead.shift();
    if (ahead !== undefined) {
      this.#io.out(`${question}${ahead}\n`);
      return Promise.resolve({ kind: "line", text: ahead });
    }
    this.#output.columns = this.#io.columns?.() ?? 80;
    const editor = createInterface({
      input: this.#input,
      output: this.#output,
      terminal: true,
      history: [...history],
      historySize: Math.max(1, history.length + 1),
      removeHistoryDuplicates: false,
      prompt: question,
    });
    const { promise, resolve } = Promise.withResolvers<Answer>();
    let answer: Answer = { kind: "end" };
    const finish = (given: Answer) => {
      answer = given;
      editor.close();
    };
    const onAbort = () => finish({ kind: "end" });
    editor.on("line", (text) => {
      if (answer.kind === "line") this.#ahead.push(text);
      else finish({ kind: "line", text });
    });
    editor.on("SIGINT", () => {
      const wasEmpty = editor.line === "";
      this.#io.out("\n");
      finish({ kind: "interrupt", wasEmpty });
    });
    editor.on("close", () => {
      signal?.removeEventListener("abort", onAbort);
      resolve(answer);
    });
    if (signal?.aborted === true) onAbort();
    else {
      signal?.addEventListener("abort", onAbort, { once: true });
      editor.prompt();
    }
    return promise;
  }

  /** Lets go of the input, so that the program can end. */
  close(): void {
    this.#input.destroy();
  }
}
