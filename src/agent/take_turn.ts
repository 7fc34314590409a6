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
import { unlessAborted } from "../core/time.ts";
import { checkModel } from "../guard/admission.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import {
  type Message,
  NO_USAGE,
  type Part,
  type ToolResultPart,
} from "../core/message.ts";
import { ModelError } from "../core/model.ts";
import type { EndReason, RunState, TurnEventBody } from "../core/turn.ts";
import type { Row } from "../store/journal.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import { abandonedResults } from "./calls.ts";
import { charsOfWindow, pendingCalls } from "./context/context.ts";
import type { Deadline } from "./deadline.ts";
import { deliveryRows, noticeOf } from "./delivery.ts";
import type { AgentDeps, AgentSettings } from "./deps.ts";
import { runInvoked, toCallPart } from "./invoke.ts";
import type { Lanes, Slots } from "./lanes.ts";
import { hookReply, hookSteering, hookTurn } from "./hooking.ts";
import { type LoopEnd, replyFilter, runLoop } from "./loop.ts";
import type { Past, Pasts } from "./context/pasts.ts";
import { gatherSections, isPrivateTo } from "./context/sections.ts";
import { Place } from "./place.ts";
import {
  type Holders,
  isPlain,
  Joined,
  type QueueMode,
  senderOf,
  type Waiting,
} from "./queue.ts";
import { runRemote } from "./remote.ts";
import { type Running, Turn } from "./turn.ts";
import type { TurnRequest } from "./turns.ts";

/** A run that was interrupted this often is not tried again. */
const RESUMES_MAX = 3;

/** What the desk hands in. */
export interface Desk {
  deps: AgentDeps;
  lanes: Lanes;
  slots: Slots;
  pasts: Pasts;
  waiting: Waiting;
  holders: Holders;
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
  /** A resumed turn goes on when this is over, or ends with its deadline. */
  held?: Promise<unknown>;
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

/**
 * Results of the caller's own tools that the session waits for. What the tool
 * was called is known here; everything else a caller sent along is not news.
 */
function awaitedResults(
  turn: Turn,
  history: readonly Message[],
): ToolResultPart[] {
  const open = new Map(
    pendingCalls(turn.history).map(({ id, name }) => [id, name]),
  );
  const results: ToolResultPart[] = [];
  for (const { parts } of open.size === 0 ? [] : history) {
    for (const part of parts) {
      const name = part.kind === "tool_result"
        ? open.get(part.callId)
        : undefined;
      if (part.kind !== "tool_result" || name === undefined) continue;
      open.delete(part.callId);
      results.push({ ...part, name });
    }
  }
  return results;
}

/** Puts a turn's input into the history: what a caller sent along, then itself. */
function appendInput(turn: Turn, taken: Taken): void {
  const { history = [], call, inbound } = taken.request ?? {};
  if (turn.session.seq === 0) {
    for (const { role, parts } of history) turn.append(role, parts);
  } else {
    const results = awaitedResults(turn, history);
    if (results.length > 0) turn.append("tool", results);
  }
  if (call !== undefined && inbound !== undefined) {
    turn.append("assistant", [toCallPart(call, inbound.label)]);
  }
  const input = turn.run.input;
  if (input === undefined) return;
  if (input.parts.length > 0) {
    turn.append("user", input.parts, { sender: input.sender });
  }
  const { input: _, ...run } = turn.run;
  turn.run = run;
}

/** Stores a turn that has to wait. */
async function storeAccepted(
  taken: Taken,
  { deps: { store }, lanes }: Desk,
  hasLane: boolean,
): Promise<void> {
  const { run, session } = taken;
  if (!hasLane) lanes.assertRoom(session.key);
  const rows = taken.isNewSession ? store.sessions.rows(session) : [];
  await store.journal.commit([
    ...taken.acceptRows,
    ...rows,
    ...store.runs.rows(run),
  ]);
}

/** Waits for the turn's place. Another turn may take it along meanwhile. */
async function* waitForPlace(
  taken: Taken,
  { place, desk }: { place: Place; desk: Desk },
): AsyncGenerator<TurnEventBody, void> {
  const { run, session, deadline: { signal }, request } = taken;
  const joined = new AbortController();
  const mode: QueueMode = isPlain(run) && request?.history === undefined
    ? session.queueMode
    : "queue";
  {
    using _waiting = desk.waiting.add({
      run,
      mode,
      join: (runId) => joined.abort(new Joined(runId)),
    });
    yield* place.takeLane(AbortSignal.any([signal, joined.signal]));
  }
  yield* place.takeSlots();
}

/** The stored rows of a turn that became part of another one. */
function joinRows(
  { store, clock }: AgentDeps,
  run: Run,
  into: string,
): Row[] {
  const { input: _, ...rest } = run;
  const at = clock.now();
  const ended: Run = {
    ...rest,
    state: "done",
    updatedAt: at,
    endedAt: at,
    end: { reason: "done", message: `Answered together with ${into}` },
  };
  return store.runs.rows(ended, run);
}

/**
 * Puts what this sender said meanwhile into the turn's history, as one atomic
 * with the end of the turns it came in. How many there were.
 */
async function takeAlong(
  turn: Turn,
  options: { desk: Desk; sender: string | undefined; mode: QueueMode },
): Promise<number> {
  const { desk, sender, mode } = options;
  const waiters = desk.waiting.find(turn.session.key, sender, mode);
  const rows: Row[] = [];
  for (const { run } of waiters) {
    const { parts = [], sender } = run.input ?? {};
    if (parts.length > 0) {
      turn.append("user", parts, sender === undefined ? {} : { sender });
    }
    rows.push(...joinRows(desk.deps, run, turn.run.id));
  }
  if (waiters.length === 0) return 0;
  // They cannot go on by themselves meanwhile: this turn holds their lane.
  await turn.save({}, rows);
  for (const waiter of waiters) waiter.join(turn.run.id);
  return waiters.length;
}

/** Makes the turn from what is stored, puts its input in, and stores that. */
async function beginTurn(
  taken: Taken,
  options: { desk: Desk; saved: Run | undefined },
): Promise<Turn> {
  const { desk, saved } = options;
  const { store, clock } = desk.deps;
  const isStored = !taken.isNewSession || saved !== undefined;
  const { session } = taken;
  const current = isStored
    ? await store.sessions.find(session.key) ?? session
    : session;
  const past = await desk.pasts.read(current);
  const isMoved = current.id !== taken.run.sessionId;
  const run = isMoved ? { ...taken.run, sessionId: current.id } : taken.run;
  const turn = makeTurn({ ...taken, run, isNewSession: !isStored }, desk.deps, {
    ...past,
    session: current,
    // The session began anew meanwhile: the run is stored under the new one.
    ...(saved === undefined || isMoved ? {} : { saved }),
  });
  appendInput(turn, taken);
  const startedAt = turn.run.startedAt ?? clock.now();
  const rows = saved === undefined ? taken.acceptRows : [];
  await turn.save({ state: "running", startedAt }, rows);
  return turn;
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
  const { deps } = desk;
  const { agentId } = run;
  const { key: sessionKey, id: sessionId } = session;
  const accepted: TurnEventBody = {
    kind: "accepted",
    sessionKey,
    sessionId,
    agentId,
  };
  const of = { sessionKey, agentId };
  using place = new Place(desk, of, deadline.signal);
  using _deadline = deadline;
  const isFree = place.tryTake();
  let saved = taken.request === undefined ? run : undefined;
  if (!isFree) {
    taken.onQueued?.();
    if (saved === undefined) await storeAccepted(taken, desk, place.hasLane);
    saved = run;
    yield accepted;
  }
  let turn: Turn | undefined;
  try {
    if (!isFree) yield* waitForPlace(taken, { place, desk });
    turn = await beginTurn(taken, { desk, saved });
    place.holder?.begin(turn);
  } catch (error) {
    if (error instanceof Joined) {
      yield {
        kind: "end",
        reason: "done",
        message: `Answered together with ${error.runId}`,
        usage: NO_USAGE,
      };
      return;
    }
    // Nobody waits for the answer to a run that goes on: it ends, saying why.
    if (isFree && taken.request !== undefined) throw error;
    if (isFree) yield accepted;
    yield* finish(deps, turn, { run, error, deadline });
    return;
  }
  if (isFree) yield accepted;
  deadline.resume();
  yield* runTurn(turn, { taken, desk, place });
}

/** Runs a turn that has its place, to its end. */
async function* runTurn(
  turn: Turn,
  { taken, desk, place }: { taken: Taken; desk: Desk; place: Place },
): AsyncGenerator<TurnEventBody, void, undefined> {
  const { deadline } = taken;
  const { deps } = desk;
  const sender = senderOf(taken.run);
  try {
    if (taken.request === undefined) await assertResumable(turn);
    if (taken.held !== undefined) {
      await unlessAborted(taken.held, deadline.signal);
    }
    await takeAlong(turn, { desk, sender, mode: "collect" });
    const running = {
      turn,
      deadline,
      seat: place,
      takeAlong: async () => {
        const after = turn.session.seq;
        const count = await takeAlong(turn, { desk, sender, mode: "steer" });
        if (count > 0) {
          await hookSteering(turn, { after, signal: deadline.signal });
        }
        return count;
      },
    };
    if (turn.run.options?.invoked === true) {
      const end = yield* runInvoked(running);
      place.holder?.close();
      yield* finish(deps, turn, { run: turn.run, end, deadline });
      return;
    }
    if (turn.agent.remote !== undefined) {
      yield* runElsewhere(running, place);
      return;
    }
    const named = turn.run.model ?? turn.session.model ?? turn.agent.model ??
      (await deps.models.chosen()).model;
    const model = await deps.models.settle(named, deadline.signal);
    checkModel(turn.authority, model);
    await addSections(turn, model);
    const before = await hookTurn(turn, deadline.signal);
    const looped = before ?? (yield* runLoop(running, model));
    const end = yield* hookReply(turn, looped, {
      signal: deadline.signal,
      filter: () => replyFilter(turn, true),
    });
    place.holder?.close();
    yield* finish(deps, turn, { run: turn.run, end, deadline, model });
    if (!turn.hasUnsaved) desk.pasts.hold(turn.session, turn);
  } catch (error) {
    place.holder?.close();
    yield* finish(deps, turn, { run: turn.run, error, deadline });
  }
}

/** Lets another gateway take the turn; hooks look on as they do at ours. */
async function* runElsewhere(
  running: Running,
  place: Place,
): AsyncGenerator<TurnEventBody, void, undefined> {
  const { turn, deadline } = running;
  const before = await hookTurn(turn, deadline.signal);
  const looped = before ?? (yield* runRemote(running));
  const end = yield* hookReply(turn, looped, {
    signal: deadline.signal,
    filter: () => replyFilter(turn, true),
  });
  place.holder?.close();
  yield* finish(turn.deps, turn, { run: turn.run, end, deadline });
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
    : options?.clientTools === true || options?.invoked === true
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
  let stored: NonNullable<Run["end"]> = end === undefined
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
  let isStored = true;
  if (!isSuspended) {
    try {
      await storeEnd(deps, turn, { run, end: stored, reply });
    } catch (failure) {
      isStored = false;
      stored = notStored(failure);
      deps.log("error", "turn.end_not_stored", {
        runId: run.id,
        error: errorText(failure),
      });
    }
  }
  if (
    isStored && end !== undefined && (reply !== "" || end.reason === "done")
  ) {
    const answered = end.model ?? model ?? "carapace";
    const insteadOf = model !== undefined && answered !== model
      ? { insteadOf: model }
      : {};
    yield { kind: "reply", text: reply, model: answered, ...insteadOf };
  }
  yield { kind: "end", ...stored, usage: turn?.run.usage ?? NO_USAGE };
}

/** What is said of a turn whose end is not in the store. */
function notStored(failure: unknown): NonNullable<Run["end"]> {
  const why = failure instanceof AppError ? `: ${errorText(failure)}` : "";
  return {
    reason: "error",
    message: `The end of this turn could not be stored${why}`,
    hint: "The turn is taken up again at the next start",
  };
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
  const said = reply === ""
    ? { text: end.reason === "done" ? "" : noticeOf(end), label: PUBLIC_OWNER }
    : { text: reply, label: turn?.joined ?? PUBLIC_OWNER };
  const delivery = deliveryRows(deps, run, said);
  if (turn === undefined) {
    const { input: _, ...rest } = run;
    const next: Run = { ...rest, ...change, updatedAt: endedAt };
    await deps.store.journal.commit([
      ...delivery,
      ...deps.store.runs.rows(next, run),
    ]);
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
  await turn.save({ ...change, ...(reply === "" ? {} : { reply }) }, delivery);
}
