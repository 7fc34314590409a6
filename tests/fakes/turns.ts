/**
 * A small working `Turns`: runs follow a script, keep their events, can be
 * watched, waited for, stopped and replayed. No model, no store.
 */
import type {
  RunOutcome,
  RunView,
  StartedRun,
  TurnRequest,
  Turns,
} from "../../src/agent/turns.ts";
import type { AppError } from "../../src/core/errors.ts";
import { makeId } from "../../src/core/ids.ts";
import { NO_USAGE } from "../../src/core/message.ts";
import type { TurnEvent, TurnEventBody } from "../../src/core/turn.ts";

/** Plays a run; `accepted` comes before it and `end` after it by themselves. */
export type RunScript = (
  request: TurnRequest,
  signal: AbortSignal,
) => AsyncIterable<TurnEventBody>;

/** Says the message back, word by word. */
export async function* echo(
  request: TurnRequest,
): AsyncGenerator<TurnEventBody> {
  const text = `echo: ${request.inbound.text}`;
  yield { kind: "step", step: 1, model: "fake:echo" };
  for (const word of text.match(/\S+\s*/g) ?? []) {
    yield await Promise.resolve({ kind: "text" as const, text: word });
  }
  const usage = { ...NO_USAGE, inputTokens: 7, outputTokens: 3 };
  yield { kind: "usage", usage };
  yield { kind: "reply", text, model: "fake:echo" };
  yield { kind: "end", reason: "done", usage };
}

/** Never says anything until it is stopped. */
export async function* silence(
  _: TurnRequest,
  signal: AbortSignal,
): AsyncGenerator<TurnEventBody> {
  yield { kind: "step", step: 1, model: "fake:silence" };
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

class Run {
  readonly view: RunView;
  readonly events: TurnEvent[] = [];
  readonly controller = new AbortController();
  readonly startedAt = Date.now();
  readonly ended = Promise.withResolvers<void>();
  #wake = Promise.withResolvers<void>();
  isOver = false;

  constructor(view: RunView) {
    this.view = view;
  }

  add(body: TurnEventBody): TurnEvent {
    const { runId } = this.view;
    const seq = this.events.length + 1;
    const event = { ...body, runId, seq, at: Date.now() } as TurnEvent;
    this.events.push(event);
    this.isOver = event.kind === "end";
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
    if (this.isOver) this.ended.resolve();
    return event;
  }

  async *read(): AsyncGenerator<TurnEvent, void, undefined> {
    for (let n = 0;;) {
      const event = this.events[n];
      if (event === undefined) {
        await this.#wake.promise;
        continue;
      }
      n++;
      yield event;
      if (event.kind === "end") return;
    }
  }
}

/** A `Turns` that records what it was asked. */
export class FakeTurns implements Turns {
  readonly requests: TurnRequest[] = [];
  readonly runs = new Map<string, Run>();
  readonly #byInbound = new Map<string, Run>();
  readonly #listeners = new Set<(event: TurnEvent, run: RunView) => void>();
  script: RunScript = echo;
  /** When set, `start` refuses with it. */
  refusal: AppError | undefined;

  start(request: TurnRequest): Promise<StartedRun> {
    if (this.refusal !== undefined) return Promise.reject(this.refusal);
    this.requests.push(request);
    const { inbound, authority } = request;
    const dedupe = `${inbound.channel}/${inbound.account}/${inbound.id}`;
    const known = this.#byInbound.get(dedupe);
    if (known !== undefined) {
      return Promise.resolve(this.#started(known, "duplicate"));
    }
    const agentId = request.agentId ?? "main";
    const runId = makeId("run", Date.now());
    const run = new Run({
      runId,
      sessionKey: request.sessionKey ??
        `agent:${agentId}:transient:${runId}`,
      agentId,
      principal: authority.principal,
      credential: authority.credential,
    });
    this.runs.set(runId, run);
    this.#byInbound.set(dedupe, run);
    request.signal?.addEventListener(
      "abort",
      () => run.controller.abort(request.signal?.reason),
    );
    void this.#play(run, request);
    return Promise.resolve(this.#started(run, "started"));
  }

  #started(run: Run, status: StartedRun["status"]): StartedRun {
    const { runId, sessionKey, agentId } = run.view;
    return {
      runId,
      sessionKey,
      agentId,
      status,
      sessionId: `ses_${runId.slice(4)}`,
      events: run.read(),
    };
  }

  #add(run: Run, body: TurnEventBody): void {
    const event = run.add(body);
    for (const listener of this.#listeners) listener(event, run.view);
  }

  async #play(run: Run, request: TurnRequest): Promise<void> {
    const { sessionKey, agentId, runId } = run.view;
    const { signal } = run.controller;
    // As the real one: `start` is answered before the first event.
    await Promise.resolve();
    this.#add(run, {
      kind: "accepted",
      sessionKey,
      agentId,
      sessionId: `ses_${runId.slice(4)}`,
    });
    for await (const body of this.script(request, signal)) {
      if (signal.aborted) break;
      this.#add(run, body);
    }
    if (run.isOver) return;
    this.#add(run, {
      kind: "end",
      reason: signal.aborted ? "cancelled" : "done",
      usage: NO_USAGE,
    });
  }

  abort(sessionKey: string, runId?: string): string[] {
    return this.#stop((run) =>
      run.view.sessionKey === sessionKey &&
      (runId === undefined || run.view.runId === runId)
    );
  }

  abortCredential(credential: string): string[] {
    return this.#stop((run) => run.view.credential === credential);
  }

  #stop(picks: (run: Run) => boolean): string[] {
    const stopped = [...this.runs.values()].filter((run) =>
      !run.isOver && picks(run)
    );
    for (const run of stopped) run.controller.abort();
    return stopped.map((run) => run.view.runId);
  }

  async wait(
    runId: string,
    options: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<RunOutcome | undefined> {
    const run = this.runs.get(runId);
    if (run === undefined) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, options.timeoutMs);
    options.signal?.addEventListener("abort", () => resolve());
    await Promise.race([run.ended.promise, promise]);
    clearTimeout(timer);
    const end = run.events.at(-1);
    if (end?.kind !== "end") return undefined;
    const reply = run.events.find((event) => event.kind === "reply");
    return {
      runId,
      sessionKey: run.view.sessionKey,
      reason: end.reason,
      startedAt: run.startedAt,
      endedAt: end.at,
      reply: reply?.text ?? "",
      usage: end.usage,
      ...(end.message === undefined ? {} : { message: end.message }),
    };
  }

  watch(listener: (event: TurnEvent, run: RunView) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  replay(sessionKey: string, runId: string, seq: number): TurnEvent[] {
    const run = this.runs.get(runId);
    return run?.view.sessionKey === sessionKey
      ? run.events.filter((event) => event.seq > seq)
      : [];
  }

  find(runId: string): Promise<RunView | undefined> {
    return Promise.resolve(this.runs.get(runId)?.view);
  }

  counts(): { running: number; queued: number } {
    const running = [...this.runs.values()].filter((run) => !run.isOver);
    return { running: running.length, queued: 0 };
  }
}
