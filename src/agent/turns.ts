/**
 * What every entrance is given of the agent: start a turn, watch, stop, wait.
 * An entrance makes an `Inbound` and calls `start`; there is no other way in.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import type { Destination } from "../core/channel.ts";
import type { Inbound, Message, Usage } from "../core/message.ts";
import type { ToolSpec } from "../core/model.ts";
import type { EndReason, TurnEvent } from "../core/turn.ts";
import type { Row } from "../store/journal.ts";

/** A tool call that somebody makes by name, without a model. */
export interface NamedCall {
  name: string;
  /** Whatever JSON was sent; the tool's own schema checks it. */
  args: unknown;
}

/** One message and how it is to be answered. */
export interface TurnRequest {
  inbound: Inbound;
  authority: Authority;
  /** The session; without it the request runs in a transient one. */
  sessionKey?: string;
  agentId?: string;
  /** `provider:model` for this turn only. */
  model?: string;
  thinkingTokens?: number;
  /** Text of a caller that wants to steer: becomes a labelled user part, never system. */
  preamble?: string;
  /**
   * Earlier messages a stateless caller sends along. They are stored in its
   * session if that is empty; of a session that is not, only results of the
   * caller's own tools that it waits for are taken.
   */
  history?: readonly Message[];
  /** Tools of the caller: offered to the model, returned to the caller to run. */
  clientTools?: readonly ToolSpec[];
  /** Instead of asking a model: judge and run just this. See `invokeTool`. */
  call?: NamedCall;
  /** Where the answer goes by the outbox, stored with the run's end. */
  deliver?: Destination;
  outputTokensMax?: number;
  temperature?: number;
  /** Whether the owner can answer an ask now. */
  attended: boolean;
  /** End the run when this aborts (an HTTP caller that left). */
  signal?: AbortSignal;
  limitMs?: number;
  /**
   * Its id is the caller's own choice: another request under the same id is a
   * `conflict`, and never answered with what the first one came to.
   */
  isKeyed?: true;
  /** Nobody typed its text, so it is never a command. */
  isPlain?: true;
  /** The session begins anew with this turn, and keeps nothing of before. */
  isFresh?: true;
  /**
   * Rows that are stored together with the turn, or not at all: a claim that
   * somebody took before makes the whole of it a `conflict`.
   */
  alsoStore?(runId: string): readonly Row[];
}

/** A run that was accepted: it is stored, and will end with an `end` event. */
export interface StartedRun {
  runId: string;
  sessionKey: string;
  sessionId: string;
  agentId: string;
  status: "started" | "queued" | "duplicate";
  /** Its events from the first one on; a duplicate's are those still kept. */
  events: AsyncIterable<TurnEvent>;
}

/** How a run ended. */
export interface RunOutcome {
  runId: string;
  sessionKey: string;
  reason: EndReason;
  startedAt: number;
  endedAt: number;
  reply: string;
  usage: Usage;
  message?: string;
}

/** Whose run an event belongs to, for who may see it. */
export interface RunView {
  runId: string;
  sessionKey: string;
  agentId: string;
  /** The principal whose turn it is. */
  principal: string;
  credential: string;
}

/** The agent, as an entrance sees it. */
export interface Turns {
  /**
   * Admits and stores a turn. When this resolves, a crash does not lose it.
   *
   * @throws {AppError} `forbidden`, `not_found` (agent or model),
   * `unavailable` (stopping), `rate_limited` (the session's queue is full)
   */
  start(request: TurnRequest): Promise<StartedRun>;
  /** Stops a session's runs, or one; says which were stopped. */
  abort(sessionKey: string, runId?: string): string[];
  /** Stops every run made with a credential (it was revoked). */
  abortCredential(credential: string): string[];
  /** The outcome of a run, or `undefined` when it did not end in time. */
  wait(
    runId: string,
    options: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<RunOutcome | undefined>;
  /** Calls for every event of every run until disposed. Must not throw. */
  watch(listener: (event: TurnEvent, run: RunView) => void): Disposable;
  /** The kept events of a run after `seq` (the ring: 1,000 a session, 5 minutes). */
  replay(sessionKey: string, runId: string, seq: number): TurnEvent[];
  /** Whether a run is known, and whose it is. */
  find(runId: string): Promise<RunView | undefined>;
  counts(): { running: number; queued: number };
}
