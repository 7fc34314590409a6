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
  /** Only what is typed after the question was shown answers it. */
  isFresh?: boolean;
}

/** Lines of one paste that are kept. */
const AHEAD_MAX = 1000;

/** What comes sooner after a question was typed before it: nobody reads so fast. */
const TYPED_AHEAD_MS = 200;

/**
 * A terminal that can be asked for lines. Between two questions the terminal is
 * its own again: what is typed then is shown, and read by the next question.
 */
export class Prompt {
  readonly #input: Readable & { isTTY?: boolean; setRawMode?: unknown };
  readonly #output: Writable & { isTTY?: boolean; columns?: number };
  readonly #io: Io;
  /** Lines that came in one piece with the first one (a paste), */
  readonly #ahead: string[] = [];
  /** and what came after the last of them. */
  #begun = "";
  /** What is typed ahead is echoed when it is asked for. */
  #isMuted = false;

  constructor(io: Io) {
    this.#io = io;
    this.#input = Readable.from(io.stdin);
    this.#input.isTTY = true;
    this.#input.setRawMode = (on: boolean) => io.setRaw?.(on);
    const muted = () => this.#isMuted;
    this.#output = new Writable({
      write(chunk, _encoding, done) {
        if (!muted()) io.out(chunk.toString());
        done();
      },
    });
    this.#output.isTTY = true;
  }

  /** Shows the question and waits for a line. */
  ask(question: string, options: AskOptions = {}): Promise<Answer> {
    const { history = [], signal, isFresh = false } = options;
    const ahead = isFresh ? undefined : this.#ahead.shift();
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
    const shownAt = this.#io.clock.now();
    const finish = (given: Answer) => {
      answer = given;
      editor.close();
    };
    const onAbort = () => finish({ kind: "end" });
    editor.on("line", (text) => {
      const isAhead = isFresh &&
        this.#io.clock.now() - shownAt < TYPED_AHEAD_MS;
      if (answer.kind === "line" || isAhead) {
        if (this.#ahead.length < AHEAD_MAX) this.#ahead.push(text);
        if (isAhead) editor.prompt();
        return;
      }
      answer = { kind: "line", text };
      this.#isMuted = true;
      // The rest of the same piece would be lost with the editor.
      queueMicrotask(() => {
        this.#begun = editor.line;
        editor.close();
        this.#isMuted = false;
      });
    });
    editor.on("SIGINT", () => {
      if (answer.kind === "line") return;
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
      if (this.#begun !== "" && !isFresh) {
        editor.write(this.#begun);
        this.#begun = "";
      }
    }
    return promise;
  }

  /** Lets go of the input, so that the program can end. */
  close(): void {
    this.#input.destroy();
  }
}
