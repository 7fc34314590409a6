/**
 * Models that answer by script, in process: for tests of the agent that need no
 * wire. A step is a list of events, or a function of the request.
 */
import { AppError } from "../../src/core/errors.ts";
import type { ModelEvent, ModelRequest } from "../../src/core/model.ts";
import type { Models } from "../../src/agent/deps.ts";

type Request = Omit<ModelRequest, "model">;
/** What one model call yields; a thrown error ends it. */
export type Step =
  | readonly (ModelEvent | Error)[]
  | ((
    request: Request,
    signal: AbortSignal,
  ) => AsyncIterable<ModelEvent> | readonly (ModelEvent | Error)[]);

/** An answer in words. */
export function says(...texts: string[]): ModelEvent[] {
  return [
    ...texts.map((text): ModelEvent => ({ kind: "text", text })),
    {
      kind: "usage",
      usage: {
        inputTokens: 10,
        outputTokens: texts.length,
        cachedTokens: 0,
        cacheWriteTokens: 0,
      },
    },
    { kind: "end", reason: "stop" },
  ];
}

/** An answer in tool calls. */
export function calls(
  ...wanted: [name: string, args: unknown][]
): ModelEvent[] {
  return [
    ...wanted.map(([name, args], n): ModelEvent => ({
      kind: "tool_call",
      id: `call_${n}_${crypto.randomUUID().slice(0, 8)}`,
      name,
      args,
    })),
    { kind: "end", reason: "tool_calls" },
  ];
}

/** Waits until it is let go, or aborted; counts who waits. */
export class Gate {
  #open = Promise.withResolvers<void>();
  #arrived = Promise.withResolvers<void>();
  waiting = 0;

  async pass(signal: AbortSignal): Promise<void> {
    this.waiting++;
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await Promise.race([this.#open.promise, aborted.promise]);
    } finally {
      this.waiting--;
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Resolves when the `n`th waits. */
  async arrivals(n: number): Promise<void> {
    while (this.waiting < n) await this.#arrived.promise;
  }

  open(): void {
    this.#open.resolve();
  }
}

/** Scripted models; records every request. */
export class FakeModels implements Models {
  readonly requests: Request[] = [];
  /** The model each request was for. */
  readonly names: string[] = [];
  windowTokens = 200_000;
  /** From when it is set, answers every call. */
  override: Step | undefined;
  readonly #steps: Step[];
  readonly #forever: Step | undefined;

  constructor(steps: readonly Step[], forever?: Step) {
    this.#steps = [...steps];
    this.#forever = forever;
  }

  resolve(name: string): { provider: { id: string }; model: string } {
    if (!name.startsWith("fake:")) {
      throw new AppError("not_found", `There is no provider of "${name}"`);
    }
    return { provider: { id: "fake" }, model: name.slice(5) };
  }

  settle(name: string): Promise<string> {
    return Promise.resolve(name);
  }

  windowOf(_name: string): { tokens: number; because: string } {
    return { tokens: this.windowTokens, because: "a test" };
  }

  chosen(): Promise<{ model: string; because: string }> {
    return Promise.resolve({ model: "fake:1", because: "a test" });
  }

  async *stream(
    name: string,
    request: Request,
    signal: AbortSignal,
  ): AsyncGenerator<ModelEvent, void, undefined> {
    this.requests.push(structuredClone(request));
    this.names.push(name);
    const step = this.override ?? this.#steps.shift() ?? this.#forever ??
      says("(no script)");
    const events = typeof step === "function" ? step(request, signal) : step;
    for await (const event of events) {
      signal.throwIfAborted();
      if (event instanceof Error) throw event;
      yield event;
    }
  }
}
