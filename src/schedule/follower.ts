/**
 * Follows the schedule's runs to their ends, whether this process started them or
 * took them up again, and counts what they cost.
 *
 * Never: an end that is told twice, or told of a run that is only suspended.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import type { Usage } from "../core/message.ts";
import type { TurnEvent } from "../core/turn.ts";
import type { ScheduleDeps } from "./deps.ts";

/** How a run ended, from its events or from its stored row. */
export interface RunEnd {
  isOk: boolean;
  reply: string;
  reason?: string | undefined;
  errorClass?: string | undefined;
  usage?: Usage | undefined;
  at: number;
}

/** A run of the schedule that is under way. */
interface Open {
  reply: string;
  nano: number;
  ended(end: RunEnd, nano: number): Promise<void>;
}

/** Follows runs by their id, whether this process started or resumed them. */
export class Follower implements AsyncDisposable {
  readonly #deps: ScheduleDeps;
  readonly #open = new Map<string, Open>();
  readonly #ending = new Set<Promise<void>>();
  readonly #watching: Disposable[];
  /** A run that is cut off now is not at its end: the next start goes on. */
  isStopping = false;

  constructor(deps: ScheduleDeps) {
    this.#deps = deps;
    this.#watching = [
      deps.turns.watch((event) => this.#take(event)),
      deps.watchCalls(({ runId, nano }) => {
        const open = this.#open.get(runId);
        if (open !== undefined) open.nano += nano;
      }),
    ];
  }

  get count(): number {
    return this.#open.size;
  }

  add(runId: string, ended: Open["ended"]): void {
    this.#open.set(runId, { reply: "", nano: 0, ended });
  }

  drop(runId: string): void {
    this.#open.delete(runId);
  }

  /** Follows a run of before the start; one that is over ends at once. */
  async again(runId: string, ended: Open["ended"]): Promise<void> {
    const run = await this.#deps.store.runs.find(runId);
    if (run !== undefined && run.end === undefined) {
      return this.add(runId, ended);
    }
    const at = run?.endedAt ?? this.#deps.clock.now();
    const { end } = run ?? {};
    await ended(
      end === undefined
        ? { isOk: false, reply: "", reason: "the run is not to be found", at }
        : {
          isOk: end.reason === "done",
          reply: run?.reply ?? "",
          reason: end.message ?? end.reason,
          errorClass: end.errorClass,
          usage: run?.usage,
          at,
        },
      0,
    );
  }

  #take(event: TurnEvent): void {
    const open = this.#open.get(event.runId);
    if (open === undefined) return;
    if (event.kind === "reply") open.reply = event.text;
    if (event.kind !== "end") return;
    if (this.isStopping && event.reason === "interrupted") return;
    this.#open.delete(event.runId);
    const { reason, message, errorClass, usage, at } = event;
    const isOk = reason === "done";
    const end = {
      isOk,
      reply: open.reply,
      reason: message ?? reason,
      errorClass,
      usage,
      at,
    };
    const ending = open.ended(end, open.nano).catch((error) =>
      this.#deps.log("error", "schedule.not_settled", {
        runId: event.runId,
        error: errorText(error),
      })
    ).finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isStopping = true;
    for (const watching of this.#watching) watching[Symbol.dispose]();
    // Ends: an ending waits for the disk and for a turn that is accepted.
    while (this.#ending.size > 0) await Promise.all(this.#ending);
  }
}
