/**
 * Programs run by the launcher, as calls and streams of the service.
 *
 * Never: this process starts one; an answer is waited for after the pipe said
 * that there is none.
 *
 * @module
 */
import type {
  CommandTemplate,
  ProgramEvent,
  ProgramPlan,
  ProgramRequest,
} from "../core/command.ts";
import { templateHash } from "../core/command.ts";
import { AppError } from "../core/errors.ts";

/** What the roof hands in: the way to the launcher. */
export interface ProgramPipe {
  send(request: ProgramRequest): void;
  onEvent(listener: (event: ProgramEvent) => void): Disposable;
}

/** How a command came out. */
export interface RunResult {
  out: string;
  err: string;
  code: number;
  why: (ProgramEvent & { op: "ended" })["why"];
}

/** A program that goes on running. */
export interface OpenProgram {
  write(text: string): void;
  kill(): void;
  /** Resolves when it has ended. */
  readonly ended: Promise<number>;
}

/** The launcher is asked for nothing that takes longer to begin than this. */
const START_MS = 10_000;
/** What a killed program says of its end is waited for this long. */
const END_MS = 5_000;

type Listener = (event: ProgramEvent) => void;

/** Asks the launcher to run what the configuration names. */
export class Runner implements Disposable {
  readonly #pipe: ProgramPipe;
  readonly #watch: Disposable;
  readonly #listeners = new Map<number, Listener>();
  #next = 1;

  constructor(pipe: ProgramPipe) {
    this.#pipe = pipe;
    this.#watch = pipe.onEvent((event) => {
      this.#listeners.get(event.id)?.(event);
    });
  }

  /**
   * Runs a named command to its end.
   *
   * @throws {AppError} what the launcher refuses; the signal's reason
   */
  async run(
    command: string,
    template: CommandTemplate,
    options: {
      values: Record<string, unknown>;
      signal: AbortSignal;
      /** What was approved: anything else is refused. */
      plan?: ProgramPlan | undefined;
    },
  ): Promise<RunResult> {
    const { values, signal, plan } = options;
    signal.throwIfAborted();
    const hash = await templateHash(template);
    const id = this.#next++;
    const result: RunResult = { out: "", err: "", code: -1, why: "exit" };
    const done = Promise.withResolvers<RunResult>();
    this.#listeners.set(id, (event) => {
      if (event.op === "out" || event.op === "err") {
        result[event.op] += event.text;
      } else if (event.op === "refused") {
        done.reject(new AppError("forbidden", event.why));
      } else if (event.op === "ended") {
        done.resolve({ ...result, code: event.code, why: event.why });
      }
    });
    const onAbort = () => this.#pipe.send({ op: "kill", id });
    signal.addEventListener("abort", onAbort, { once: true });
    const limit = setTimeout(
      () => done.reject(silent()),
      template.timeoutMs + START_MS + END_MS,
    );
    try {
      this.#pipe.send({ op: "run", id, command, hash, values, plan });
      const ended = await done.promise;
      signal.throwIfAborted();
      return ended;
    } finally {
      clearTimeout(limit);
      signal.removeEventListener("abort", onAbort);
      this.#listeners.delete(id);
    }
  }

  /** What a run would be as things stand now. @throws what is refused */
  async plan(
    command: string,
    template: CommandTemplate,
    options: { values: Record<string, unknown>; signal: AbortSignal },
  ): Promise<ProgramPlan> {
    const { values, signal } = options;
    signal.throwIfAborted();
    const hash = await templateHash(template);
    const id = this.#next++;
    const done = Promise.withResolvers<ProgramPlan>();
    this.#listeners.set(id, (event) => {
      if (event.op === "planned") done.resolve(event.plan);
      else if (event.op === "refused") {
        done.reject(new AppError("forbidden", event.why));
      }
    });
    const onAbort = () => done.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    const limit = setTimeout(() => done.reject(silent()), START_MS);
    try {
      this.#pipe.send({ op: "plan", id, command, hash, values });
      return await done.promise;
    } finally {
      clearTimeout(limit);
      signal.removeEventListener("abort", onAbort);
      this.#listeners.delete(id);
    }
  }

  /** Starts a configured MCP server's program. @throws what is refused */
  async open(
    server: string,
    options: {
      secrets: Record<string, string>;
      onOut(text: string): void;
      onErr(text: string): void;
    },
  ): Promise<OpenProgram> {
    const id = this.#next++;
    const started = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<number>();
    this.#listeners.set(id, (event) => {
      if (event.op === "started") started.resolve();
      else if (event.op === "out") options.onOut(event.text);
      else if (event.op === "err") options.onErr(event.text);
      else if (event.op === "refused") {
        started.reject(new AppError("forbidden", event.why));
      } else if (event.op === "ended") {
        this.#listeners.delete(id);
        ended.resolve(event.code);
      }
    });
    const limit = setTimeout(() => started.reject(silent()), START_MS);
    try {
      this.#pipe.send({ op: "open", id, server, secrets: options.secrets });
      await started.promise;
    } catch (error) {
      this.#listeners.delete(id);
      throw error;
    } finally {
      clearTimeout(limit);
    }
    return {
      write: (text) => this.#pipe.send({ op: "write", id, text }),
      kill: () => this.#pipe.send({ op: "kill", id }),
      ended: ended.promise,
    };
  }

  [Symbol.dispose](): void {
    for (const id of this.#listeners.keys()) {
      this.#pipe.send({ op: "kill", id });
    }
    this.#watch[Symbol.dispose]();
  }
}

function silent(): AppError {
  return new AppError("timeout", "The launcher does not answer", {
    hint: "Restart the gateway",
  });
}
