/**
 * A run in this process: its events, kept for whoever follows from the first, and
 * what its desk must know of it until it is over.
 *
 * Never: who reads its events holds it up.
 *
 * @module
 */
import type { TurnEvent } from "../core/turn.ts";
import type { Run } from "../store/runs.ts";
import type { Deadline } from "./deadline.ts";
import { senderOf } from "./queue.ts";
import type { RunOutcome, RunView, StartedRun } from "./turns.ts";

/** Each resume of a run numbers its events from a fresh range. */
const SEQ_PER_RESUME = 1_000_000;

/** A run in this process, with all its events. */
export class ActiveRun {
  readonly view: RunView;
  readonly deadline: Deadline;
  readonly sessionId: string;
  readonly startedAt: number;
  readonly isTransient: boolean;
  readonly log: TurnEvent[] = [];
  readonly done = Promise.withResolvers<RunOutcome>();
  status: StartedRun["status"] = "started";
  /** Whose turn it is, for the queue modes. */
  readonly sender: string | undefined;
  /** The approval it waits for. */
  asks: string | undefined;
  /** A chat command: nothing runs that could be stopped. */
  isCommand = false;
  seq: number;
  reply = "";
  isOver = false;
  #changed: PromiseWithResolvers<void> | undefined;

  constructor(run: Run, deadline: Deadline) {
    const { id: runId, sessionKey, agentId, authority } = run;
    const { principal, credential } = authority;
    this.view = { runId, sessionKey, agentId, principal, credential };
    this.deadline = deadline;
    this.sessionId = run.sessionId;
    this.sender = senderOf(run);
    this.startedAt = run.createdAt;
    this.isTransient = run.transient;
    this.seq = run.resumes * SEQ_PER_RESUME;
    this.done.promise.catch(() => {});
  }

  add(event: TurnEvent): void {
    this.log.push(event);
    if (event.kind === "reply") this.reply = event.text;
    if (event.kind === "ask") this.asks = event.approvalId;
    else if (event.kind === "decision") this.asks = undefined;
    this.#changed?.resolve();
    this.#changed = undefined;
  }

  over(): void {
    this.isOver = true;
    this.#changed?.resolve();
  }

  async *follow(): AsyncGenerator<TurnEvent, void, undefined> {
    for (let n = 0;;) {
      // Ends with the run.
      const event = this.log[n];
      if (event !== undefined) {
        n++;
        yield event;
      } else if (this.isOver) return;
      else {
        this.#changed ??= Promise.withResolvers<void>();
        await this.#changed.promise;
      }
    }
  }
}
