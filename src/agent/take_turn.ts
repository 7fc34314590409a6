/**
 * The one inbox: takes an inbound message through admission, lane, storage and
 * the loop to its end, as a stream of events.
 *
 * Never: an event before the turn is stored, a turn without an `end`.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError, errorText } from "../core/errors.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import { NO_USAGE, type Part, type StoredMessage } from "../core/message.ts";
import { ModelError } from "../core/model.ts";
import type { EndReason, RunState, TurnEventBody } from "../core/turn.ts";
import type { Row } from "../store/journal.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import { abandonedResults } from "./calls.ts";
import { charsOfWindow, pendingCalls } from "./context.ts";
import type { Deadline } from "./deadline.ts";
import type { AgentDeps, AgentSettings } from "./deps.ts";
import type { Lanes, Slots } from "./lanes.ts";
import { type LoopEnd, runLoop } from "./loop.ts";
import type { Past, Pasts } from "./pasts.ts";
import { gatherSections, isPrivateTo } from "./sections.ts";
import { type Seat, Turn } from "./turn.ts";
import type { TurnRequest } from "./turns.ts";

/** A run that was interrupted this often is not tried again. */
const RESUMES_MAX = 3;

/** What the desk hands in. */
export interface Desk {
  deps: AgentDeps;
  lanes: Lanes;
  slots: Slots;
  pasts: Pasts;
}

/** A turn to take: a new one, or a stored run at boot. */
export interface Taken {
  run: Run;
  session: Session;
  isNewSession: boolean;
  authority: Authority;
  settings: AgentSettings;
  deadline: Deadline;
  /** Rows that belong to the first commit of a new turn (its dedupe row). */
  acceptRows: readonly Row[];
  /** Absent when a stored run is resumed. */
  request?: TurnRequest;
  /** Told, before `accepted`, that the turn has to wait. */
  onQueued?(): void;
}

/** The parts of a new turn's user message. */
export function inputParts(request: TurnRequest): Part[] {
  const { inbound, preamble } = request;
  const { label } = inbound;
  const parts: Part[] = [];
  if (preamble !== undefined && preamble !== "") {
    const text =
      `The application this comes through says:\n${preamble}\n(End of what the application says)\n`;
    parts.push({ kind: "text", text, label });
  }
  if (inbound.text !== "") {
    parts.push({ kind: "text", text: inbound.text, label });
  }
  parts.push(...inbound.images);
  return parts;
}

/** Waits in a line and says where it stands. */
async function* waitIn(
  enter: (onMove: (position: number) => void) => Promise<Disposable>,
  behind: "session" | "global",
): AsyncGenerator<TurnEventBody, Disposable> {
  let moved = Promise.withResolvers<void>();
  let position = -1;
  let shown = -1;
  const entered = enter((next) => {
    position = next;
    moved.resolve();
  });
  while (true) {
    // Ends when the place is granted or the wait is aborted.
    const place = await Promise.race([entered, moved.promise]);
    if (place !== undefined) return place;
    moved = Promise.withResolvers<void>();
    if (position !== shown) yield { kind: "queued", position, behind };
    shown = position;
  }
}

/** A turn's place in the house: its lane and its running slot. */
class Place implements Seat, Disposable {
  lane: Disposable | undefined;
  slot: Disposable | undefined;
  readonly #desk: Desk;
  readonly #signal: AbortSignal;

  constructor(desk: Desk, signal: AbortSignal) {
    this.#desk = desk;
    this.#signal = signal;
  }

  tryTake(sessionKey: string): boolean {
    this.lane = this.#desk.lanes.tryEnter(sessionKey);
    if (this.lane !== undefined) this.slot = this.#desk.slots.tryEnter();
    return this.slot !== undefined;
  }

  async *take(sessionKey: string): AsyncGenerator<TurnEventBody, void> {
    const { lanes, slots } = this.#desk;
    this.lane ??= yield* waitIn(
      (onMove) => lanes.enter(sessionKey, this.#signal, onMove),
      "session",
    );
    this.slot ??= yield* waitIn(
      (onMove) => slots.enter(this.#signal, { onMove }),
      "global",
    );
  }

  async away<T>(wait: () => Promise<T>): Promise<T> {
    this.slot?.[Symbol.dispose]();
    this.slot = undefined;
    const answer = await wait();
    this.slot = await this.#desk.slots.enter(this.#signal, { front: true });
    return answer;
  }

  [Symbol.dispose](): void {
    this.slot?.[Symbol.dispose]();
    this.lane?.[Symbol.dispose]();
  }
}

/** Gathers what is shown beside the conversation. */
async function addSections(turn: Turn, model: string): Promise<void> {
  const { deps, agent, session, authority, run: { agentId } } = turn;
  turn.sections = await gatherSections(agent, {
    query: {
      agentId,
      sessionKey: session.key,
      authority,
      isPrivate: isPrivateTo(session, authority),
    },
    sources: deps.context ?? {},
    charsMax: charsOfWindow(deps.models.windowOf(model).tokens),
    log: deps.log,
  });
}

function makeTurn(
  taken: Taken,
  deps: AgentDeps,
  stored: Past & { session: Session; saved?: Run },
): Turn {
  const { run, authority, settings, request } = taken;
  const agent = settings.agents[run.agentId] ?? settings.agents.main;
  return new Turn({
    deps,
    settings,
    agent,
    authority,
    run,
    session: stored.session,
    history: stored.history,
    summary: stored.summary,
    unread: stored.unread,
    isNew: taken.isNewSession,
    clientTools: request?.clientTools ?? [],
    channel: run.channel,
    replyTo: run.replyTo,
  }, stored.saved);
}

/** Puts a turn's input into the history: what a caller sent along, then itself. */
function appendInput(turn: Turn, taken: Taken): void {
  if (turn.session.seq === 0) {
    for (const { role, parts } of taken.request?.history ?? []) {
      turn.append(role, parts);
    }
  }
  const input = turn.run.input;
  if (input === undefined) return;
  if (input.parts.length > 0) {
    turn.append("user", input.parts, { sender: input.sender });
  }
  const { input: _, ...run } = turn.run;
  turn.run = run;
}

/**
 * Takes one turn. The first event is `accepted`, and comes after the turn is
 * stored; the last is `end`.
 */
export async function* takeTurn(
  taken: Taken,
  desk: Desk,
): AsyncGenerator<TurnEventBody, void, undefined> {
  const { run, session, deadline } = taken;
  const { deps, lanes } = desk;
  const { store, clock } = deps;
  const isResumed = taken.request === undefined;
  const accepted: TurnEventBody = {
    kind: "accepted",
    sessionKey: session.key,
    sessionId: session.id,
    agentId: run.agentId,
  };
  using place = new Place(desk, deadline.signal);
  using _deadline = deadline;
  const isFree = place.tryTake(session.key);
  let saved: Run | undefined = isResumed ? run : undefined;
  if (!isFree) {
    taken.onQueued?.();
    if (!isResumed) {
      if (place.lane === undefined) lanes.assertRoom(session.key);
      const rows = taken.isNewSession ? store.sessions.rows(session) : [];
      await store.journal.commit([
        ...taken.acceptRows,
        ...rows,
        ...store.runs.rows(run),
      ]);
      saved = run;
    }
    yield accepted;
  }
  let turn: Turn | undefined;
  try {
    if (!isFree) yield* place.take(session.key);
    const isStored = !taken.isNewSession || saved !== undefined;
    const current = isStored
      ? await store.sessions.find(session.key) ?? session
      : session;
    const past = await desk.pasts.read(current);
    turn = makeTurn(
      { ...taken, isNewSession: !isStored },
      deps,
      { ...past, session: current, ...(saved === undefined ? {} : { saved }) },
    );
    appendInput(turn, taken);
    const startedAt = turn.run.startedAt ?? clock.now();
    const rows = saved === undefined ? taken.acceptRows : [];
    await turn.save({ state: "running", startedAt }, rows);
  } catch (error) {
    if (isFree) throw error;
    yield* finish(deps, turn, { run, error, deadline });
    return;
  }
  if (isFree) yield accepted;
  deadline.resume();
  try {
    if (isResumed) await assertResumable(turn);
    const named = turn.run.model ?? turn.session.model ?? turn.agent.model ??
      (await deps.models.chosen()).model;
    const model = await deps.models.settle(named, deadline.signal);
    await addSections(turn, model);
    const end = yield* runLoop({ turn, deadline, seat: place }, model);
    yield* finish(deps, turn, { run: turn.run, end, deadline, model });
    if (!turn.hasUnsaved) desk.pasts.hold(turn.session, turn);
  } catch (error) {
    yield* finish(deps, turn, { run: turn.run, error, deadline });
  }
}

/** @throws {AppError} `internal`, saying what may have happened */
async function assertResumable(turn: Turn): Promise<void> {
  if (!await turn.deps.isLive(turn.run.authority)) {
    throw new AppError("cancelled", "The credential was revoked meanwhile");
  }
  const { inFlight, options, resumes } = turn.run;
  const open = inFlight.map((call) => call.name).join(", ");
  const why = inFlight.length > 0
    ? `while ${open} ran: it may or may not have happened`
    : options?.clientTools === true
    ? "and its caller is gone"
    : resumes > RESUMES_MAX
    ? `${RESUMES_MAX} times in a row`
    : undefined;
  if (why === undefined) return;
  throw new AppError("internal", `The gateway stopped ${why}`, {
    details: { interrupted: true },
    hint: "Check what happened, then ask again",
  });
}

interface Finish {
  run: Run;
  end?: LoopEnd;
  error?: unknown;
  deadline: Deadline;
  model?: string;
}

function reasonOf(error: unknown, signal: AbortSignal): EndReason {
  const cause = signal.aborted ? signal.reason : error;
  if (cause instanceof DOMException && cause.name === "TimeoutError") {
    return signal.aborted ? "time" : "error";
  }
  if (!(cause instanceof AppError)) return "error";
  if (cause.details?.["interrupted"] === true) return "interrupted";
  if (cause.code === "cancelled") return "cancelled";
  if (signal.aborted && cause.code === "unavailable") return "interrupted";
  return cause.code === "budget" ? "budget" : "error";
}

const STATE: Readonly<Record<EndReason, RunState>> = {
  done: "done",
  loop_detected: "done",
  steps: "done",
  tokens: "done",
  denied: "done",
  cancelled: "cancelled",
  error: "failed",
  time: "failed",
  budget: "failed",
  interrupted: "failed",
};

function toEnd(
  error: unknown,
  signal: AbortSignal,
): NonNullable<Run["end"]> {
  const reason = reasonOf(error, signal);
  const cause = signal.aborted ? signal.reason : error;
  if (reason === "time") {
    return {
      reason,
      message: "The turn took too long and was stopped",
      hint: "Ask for less at once, or raise limits.turnMs",
    };
  }
  const isOurs = cause instanceof AppError;
  return {
    reason,
    message: isOurs ? errorText(cause) : "Something went wrong in the gateway",
    ...(isOurs && cause.hint !== undefined
      ? { hint: cause.hint }
      : isOurs
      ? {}
      : { hint: "The log says what: carapace logs" }),
    ...(cause instanceof ModelError ? { errorClass: cause.class } : {}),
  };
}

/** Stores how it ended, then says so. A suspended run is left for the next start. */
async function* finish(
  deps: AgentDeps,
  turn: Turn | undefined,
  { run, end, error, deadline, model }: Finish,
): AsyncGenerator<TurnEventBody, void, undefined> {
  const { signal } = deadline;
  const stored: NonNullable<Run["end"]> = end === undefined
    ? toEnd(error, signal)
    : {
      reason: end.reason,
      ...(end.message === undefined ? {} : { message: end.message }),
      ...(end.hint === undefined ? {} : { hint: end.hint }),
    };
  if (end === undefined && stored.reason === "error") {
    const isKnown = error instanceof AppError;
    deps.log(isKnown ? "warn" : "error", "turn.failed", {
      runId: run.id,
      error: errorText(error),
      ...(isKnown ? { code: error.code } : {
        stack: error instanceof Error ? error.stack?.slice(0, 2000) : undefined,
      }),
    });
  }
  const isSuspended = stored.reason === "interrupted" && signal.aborted;
  const reply = end?.reply ?? "";
  if (!isSuspended) {
    try {
      await storeEnd(deps, turn, { run, end: stored, reply });
    } catch (failure) {
      deps.log("error", "turn.end_not_stored", {
        runId: run.id,
        error: errorText(failure),
      });
    }
  }
  if (end !== undefined && (reply !== "" || end.reason === "done")) {
    const answered = end.model ?? model ?? "carapace";
    const insteadOf = model !== undefined && answered !== model
      ? { insteadOf: model }
      : {};
    yield { kind: "reply", text: reply, model: answered, ...insteadOf };
  }
  yield { kind: "end", ...stored, usage: turn?.run.usage ?? NO_USAGE };
}

async function storeEnd(
  deps: AgentDeps,
  turn: Turn | undefined,
  { run, end, reply }: {
    run: Run;
    end: NonNullable<Run["end"]>;
    reply: string;
  },
): Promise<void> {
  const endedAt = deps.clock.now();
  const change = { state: STATE[end.reason], end, endedAt, inFlight: [] };
  if (turn === undefined) {
    const { input: _, ...rest } = run;
    const next: Run = { ...rest, ...change, updatedAt: endedAt };
    await deps.store.journal.commit(deps.store.runs.rows(next, run));
    return;
  }
  const open = pendingCalls(turn.history);
  const isClients = end.reason === "done";
  if (open.length > 0 && !isClients) {
    turn.append(
      "tool",
      abandonedResults(open, {
        text: `Not finished: ${end.message ?? end.reason}`,
        label: { ...turn.joined, origins: PUBLIC_OWNER.origins },
      }),
    );
  }
  await turn.save({ ...change, ...(reply === "" ? {} : { reply }) });
}
