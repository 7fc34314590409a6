/**
 * The agent as the entrances see it: starts turns, drives each to its end
 * whoever listens, keeps their events for a while, stops them, resumes them at
 * boot.
 *
 * Never: a run whose progress depends on somebody reading its events.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError, errorText } from "../core/errors.ts";
import { agentOf, makeId } from "../core/ids.ts";
import { NO_USAGE } from "../core/message.ts";
import type { MethodOutput } from "../core/methods.ts";
import type { ToolSpec } from "../core/model.ts";
import type { TurnEvent, TurnEventBody } from "../core/turn.ts";
import { admit, checkModel } from "../guard/admission.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import { toolsFor, type ToolUser } from "./calls.ts";
import { toGroups } from "./catalog.ts";
import { CommandTurns } from "./command_turn.ts";
import { findCommand } from "./commands.ts";
import { ActiveRun } from "./active_run.ts";
import {
  askedOf,
  checkSame,
  lostSession,
  replayed,
  toOutcome,
  toRun,
} from "./run_forms.ts";
import { Deadline } from "./deadline.ts";
import type { AgentDeps } from "./deps.ts";
import { hookMessage } from "./hooking.ts";
import { Lanes, Slots } from "./lanes.ts";
import { Openings } from "./sessions/openings.ts";
import { Operations } from "./sessions/operations.ts";
import { Pasts } from "./context/pasts.ts";
import { Holders, isPlain, Waiting } from "./queue.ts";
import { payerOf } from "./metered.ts";
import { resumeOrder } from "./resuming.ts";
import { Rings } from "./ring.ts";
import { agentFor, sessionKeyFor, type Whence } from "./route.ts";
import { TranscriptSearch } from "./sessions/search.ts";
import { SessionDesk } from "./sessions/session_desk.ts";
import { type Desk, type Taken, takeTurn } from "./take_turn.ts";
import type {
  RunOutcome,
  RunView,
  StartedRun,
  TurnRequest,
  Turns,
} from "./turns.ts";

/** Outcomes kept in memory for `wait`; older ones are read from the store. */
const OUTCOMES_MAX = 1_000;

/** How long a restart waits for a command that turns wait for. */
const RESUMED_MS = 10_000;

/** The one implementation of {@linkcode Turns}. */
export class AgentDesk implements Turns {
  readonly #deps: AgentDeps;
  readonly #lanes: Lanes;
  readonly #slots: Slots;
  readonly #pasts: Pasts;
  readonly #waiting = new Waiting();
  readonly #holders = new Holders();
  readonly #openings: Openings;
  readonly #commands: CommandTurns;
  /** The acts on sessions as a whole, by their methods' names. */
  readonly operations: Operations;
  readonly #rings = new Rings();
  readonly #active = new Map<string, ActiveRun>();
  readonly #outcomes = new Map<
    string,
    { outcome: RunOutcome; view: RunView }
  >();
  readonly #accepting = new Map<
    string,
    { started: Promise<StartedRun>; asked: string | undefined }
  >();
  readonly #listeners = new Set<(event: TurnEvent, run: RunView) => void>();
  readonly #refusals = new Map<string, string>();
  /** Turns on their way to be stored, which a revocation must find too. */
  readonly #starting = new Map<Deadline, string>();
  /** Runs of the last process being taken up; new turns come after them. */
  #resuming: Promise<number> | undefined;
  #isStopping = false;

  constructor(deps: AgentDeps) {
    const limits = () => deps.settings().limits;
    this.#deps = deps;
    this.#pasts = new Pasts(deps.store);
    this.#lanes = new Lanes(() => limits().queuedMax);
    this.#slots = new Slots({
      house: () => limits().runningMax,
      agent: (id) => deps.settings().agents[id]?.runningMax,
    });
    const sessions = new SessionDesk(deps, {
      ...this.#rooms,
      stop: (key) => void this.#abortOthers(key),
    });
    this.#openings = new Openings(deps, this.#rooms, sessions);
    this.#commands = new CommandTurns(deps, {
      operate: (method, params, actor) =>
        this.operations.run(method, params, actor),
      abort: (key, by) =>
        this.#abortOthers(key, by).map((runId) => ({
          runId,
          done: this.#active.get(runId)?.done.promise ?? Promise.resolve(),
        })),
      describe: (session) => this.#describe(session),
      why: (key) => this.#refusals.get(key),
    });
    this.operations = new Operations(sessions, {
      search: new TranscriptSearch(deps.store, deps.clock),
      store: deps.store,
    });
  }

  /**
   * Which agent answers a message from a chat network, and in which session: by
   * the owner's bindings.
   */
  async route(
    inbound: Whence,
    authority: Authority,
  ): Promise<{ agentId: string; sessionKey: string }> {
    const agentId = agentFor(this.#deps.settings().bindings, inbound);
    const sessionKey = await sessionKeyFor(agentId, { inbound, authority });
    return { agentId, sessionKey };
  }

  /** What a turn is taken with. */
  get #rooms(): Desk {
    return {
      deps: this.#deps,
      lanes: this.#lanes,
      slots: this.#slots,
      pasts: this.#pasts,
      waiting: this.#waiting,
      holders: this.#holders,
    };
  }

  // --- starting -----------------------------------------------------------

  async start(request: TurnRequest): Promise<StartedRun> {
    // What was stored before the start has its place in its lane first.
    if (this.#resuming !== undefined) await this.#resuming;
    if (this.#isStopping) {
      throw new AppError("unavailable", "The gateway is stopping", {
        retryAfterMs: 5_000,
        hint: "Send it again in a few seconds",
      });
    }
    const agentId = request.agentId ??
      (request.sessionKey === undefined
        ? agentFor(this.#deps.settings().bindings, request.inbound)
        : agentOf(request.sessionKey));
    if (this.#deps.settings().agents[agentId] === undefined) {
      const known = Object.keys(this.#deps.settings().agents).join(", ");
      throw new AppError("not_found", `There is no agent "${agentId}"`, {
        hint: `Configured agents: ${known}`,
      });
    }
    const { authority, model, inbound } = request;
    admit({ authority, agentId, model });
    if (model !== undefined) this.#deps.models.resolve(model);
    this.#checkNames(request.clientTools ?? []);
    const dedupe = JSON.stringify([
      inbound.channel,
      inbound.account,
      inbound.id,
    ]);
    const before = this.#accepting.get(dedupe);
    const asked = askedOf(request, agentId);
    if (before !== undefined) {
      checkSame(asked, before.asked);
      return asDuplicate(await before.started);
    }
    const { turnMs } = this.#deps.settings().limits;
    const deadline = new Deadline(request.limitMs ?? turnMs);
    this.#starting.set(deadline, authority.credential);
    const started = this.#startOnce(request, { agentId, deadline, asked });
    this.#accepting.set(dedupe, { started, asked });
    try {
      return await started;
    } finally {
      this.#accepting.delete(dedupe);
      this.#starting.delete(deadline);
    }
  }

  /** A call must say whose tool it is. @throws {AppError} `bad_input` */
  #checkNames(clientTools: readonly ToolSpec[]): void {
    const { tools } = this.#deps;
    const taken = clientTools.find(({ name }) =>
      tools.find(name) !== undefined
    );
    if (taken === undefined) return;
    throw new AppError(
      "bad_input",
      `Cannot offer "${taken.name}": the agent has a tool of that name`,
      {
        hint: "Call yours by another name",
        details: { param: "tools", code: "invalid_value" },
      },
    );
  }

  async #startOnce(
    came: TurnRequest,
    { agentId, deadline, asked }: {
      agentId: string;
      deadline: Deadline;
      asked: string | undefined;
    },
  ): Promise<StartedRun> {
    const { inbound } = came;
    const { store, clock } = this.#deps;
    const seen = await store.inbound.find(
      inbound.channel,
      inbound.account,
      inbound.id,
    );
    if (seen !== undefined) {
      checkSame(asked, seen.asked);
      return await this.#duplicateOf(seen.runId);
    }
    const now = clock.now();
    const runId = makeId("run", now);
    const isTransient = came.sessionKey === undefined;
    const key = came.sessionKey ?? `agent:${agentId}:transient:${runId}`;
    const command = came.isPlain === true
      ? undefined
      : findCommand(inbound.text);
    // A command is for the gateway itself: no hook stands before /stop.
    const request = command === undefined
      ? await hookMessage(this.#deps, came)
      : came;
    const { session, isNew } = isTransient
      ? {
        session: this.#openings.draft(request, { key, agentId }),
        isNew: true,
      }
      : {
        session: await this.#openings.open(request, {
          key,
          agentId,
          mayRenew: command === undefined,
        }),
        isNew: false,
      };
    const run = toRun(request, { runId, now, agentId, session });
    const asksModel = command === undefined && request.call === undefined;
    if (asksModel) await this.#checkModel(run, session, request.authority);
    const acceptRows = [
      store.inbound.row(inbound.channel, inbound.account, inbound.id, {
        runId,
        at: now,
        ...(asked === undefined ? {} : { asked }),
      }),
      ...request.alsoStore?.(runId) ?? [],
    ];
    const active = new ActiveRun(run, deadline);
    active.isCommand = command !== undefined;
    const events = command === undefined
      ? takeTurn({
        run,
        session,
        isNewSession: isNew,
        authority: request.authority,
        settings: this.#deps.settings(),
        deadline,
        acceptRows,
        request,
        onQueued: () => void (active.status = "queued"),
      }, this.#rooms)
      : this.#commands.take(command, {
        run: { ...run, options: { ...run.options, command: true } },
        session,
        authority: request.authority,
        acceptRows: isNew
          ? [...acceptRows, ...store.sessions.rows(session)]
          : acceptRows,
      });
    const others = command === undefined
      ? [...this.#active.values()].filter((one) =>
        one.view.sessionKey === session.key
      )
      : [];
    const started = await this.#launch(active, events, request.signal);
    await this.#displace(others, { by: active, run, session, request });
    return started;
  }

  /**
   * What a new message does to turns that were there: an ask that waits is
   * answered with no, and in `replace` mode the sender's own turns stop.
   */
  async #displace(
    others: readonly ActiveRun[],
    { by, run, session, request }: {
      by: ActiveRun;
      run: Run;
      session: Session;
      request: TurnRequest;
    },
  ): Promise<void> {
    const { authority } = request;
    // An event is no answer to an ask, and nobody's second thought.
    if (request.isPlain === true) return;
    for (const other of others) {
      const isOwn = other.view.principal === authority.principal;
      if (
        other.asks !== undefined &&
        (isOwn || authority.scopes.has("approvals"))
      ) {
        await this.#deps.approvals.supersede(other.asks, authority.principal);
      }
      const isReplaced = session.queueMode === "replace" && isPlain(run) &&
        by.sender !== undefined && other.sender === by.sender;
      if (isReplaced) other.deadline.cancel("Replaced by a newer message");
    }
  }

  /**
   * @throws {AppError} `forbidden` for a model the caller may not use; `budget`
   * when nothing is left for this turn's
   */
  async #checkModel(
    run: Run,
    session: Session,
    authority: Authority,
  ): Promise<void> {
    const { settings, models, spending } = this.#deps;
    const model = run.model ?? session.model ??
      settings().agents[run.agentId]?.model ?? (await models.chosen()).model;
    const isElsewhere = settings().agents[run.agentId]?.remote !== undefined;
    // What stands for another is checked when it is known what it stands for.
    if (!isElsewhere && !/(^|:)auto$/.test(model)) {
      checkModel(authority, model);
    }
    spending.check(payerOf(run, model));
  }

  /** Runs a generator to its first event, then drives it on its own. */
  async #launch(
    active: ActiveRun,
    events: AsyncGenerator<TurnEventBody, void, undefined>,
    signal?: AbortSignal,
  ): Promise<StartedRun> {
    const { view } = active;
    const onAbort = () => active.deadline.cancel("The caller left");
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    this.#active.set(view.runId, active);
    try {
      const first = await events.next();
      if (!first.done) this.#publish(active, first.value);
    } catch (error) {
      this.#active.delete(view.runId);
      signal?.removeEventListener("abort", onAbort);
      throw error;
    }
    void this.#drive(active, events).finally(() =>
      signal?.removeEventListener("abort", onAbort)
    );
    const { runId, sessionKey, agentId } = view;
    const { sessionId, status } = active;
    const follow = { [Symbol.asyncIterator]: () => active.follow() };
    return { runId, sessionKey, sessionId, agentId, status, events: follow };
  }

  async #drive(
    active: ActiveRun,
    events: AsyncGenerator<TurnEventBody, void, undefined>,
  ): Promise<void> {
    let last: TurnEvent | undefined = active.log.at(-1);
    try {
      for await (const body of events) last = this.#publish(active, body);
    } catch (error) {
      this.#deps.log("error", "turn.crashed", {
        runId: active.view.runId,
        error: errorText(error),
      });
    }
    if (last?.kind !== "end") {
      last = this.#publish(active, {
        kind: "end",
        reason: "error",
        message: "Something went wrong in the gateway",
        hint: "The log says what: carapace logs",
        usage: NO_USAGE,
      });
    }
    this.#close(active, last as TurnEvent & { kind: "end" });
  }

  #close(active: ActiveRun, end: TurnEvent & { kind: "end" }): void {
    const { runId, sessionKey } = active.view;
    const outcome: RunOutcome = {
      runId,
      sessionKey,
      reason: end.reason,
      startedAt: active.startedAt,
      endedAt: end.at,
      reply: active.reply,
      usage: end.usage,
      ...(end.message === undefined ? {} : { message: end.message }),
    };
    this.#active.delete(runId);
    if (!active.isTransient) {
      this.#outcomes.set(runId, { outcome, view: active.view });
      if (this.#outcomes.size > OUTCOMES_MAX) {
        const oldest = this.#outcomes.keys().next().value;
        if (oldest !== undefined) this.#outcomes.delete(oldest);
      }
    }
    active.over();
    active.done.resolve(outcome);
  }

  #publish(active: ActiveRun, body: TurnEventBody): TurnEvent {
    const event = {
      runId: active.view.runId,
      seq: ++active.seq,
      at: this.#deps.clock.now(),
      ...body,
    } as TurnEvent;
    active.add(event);
    if (!active.isTransient) this.#rings.add(active.view.sessionKey, event);
    if (event.kind === "decision" && event.verdict === "deny") {
      this.#refuse(active.view.sessionKey, `${event.name}: ${event.reason}`);
    }
    for (const listener of this.#listeners) {
      try {
        listener(event, active.view);
      } catch (error) {
        // Who watches a turn must not be able to cut it.
        this.#deps.log("error", "turn.listener_failed", {
          runId: event.runId,
          error: errorText(error),
        });
      }
    }
    return event;
  }

  #refuse(sessionKey: string, why: string): void {
    this.#refusals.delete(sessionKey);
    this.#refusals.set(sessionKey, why);
    if (this.#refusals.size > OUTCOMES_MAX) {
      const oldest = this.#refusals.keys().next().value;
      if (oldest !== undefined) this.#refusals.delete(oldest);
    }
  }

  // --- said by commands ---------------------------------------------------

  async #describe(session: Session): Promise<string> {
    const { running, queued } = this.counts();
    const { usage } = session;
    const model = session.model ??
      this.#deps.settings().agents[session.agentId]?.model ??
      (await this.#deps.models.chosen()).model;
    const { context, queueMode } = session;
    const window = context === undefined
      ? ""
      : ` Last shown: ${context.tokens} of ${context.windowTokens} tokens (/context).`;
    return [
      `Session ${session.key}, ${session.seq} messages, model ${model}, ${queueMode} mode.`,
      `Tokens here: ${usage.inputTokens} in, ${usage.outputTokens} out.${window}`,
      `Turns in the house: ${running} running, ${queued} waiting.`,
    ].join("\n");
  }

  // --- duplicates, watching, stopping -------------------------------------

  async #duplicateOf(runId: string): Promise<StartedRun> {
    const active = this.#active.get(runId);
    if (active !== undefined) {
      const { sessionKey, agentId } = active.view;
      return {
        runId,
        sessionKey,
        agentId,
        sessionId: active.sessionId,
        status: "duplicate",
        events: { [Symbol.asyncIterator]: () => active.follow() },
      };
    }
    const run = await this.#deps.store.runs.find(runId);
    const sessionKey = run?.sessionKey ?? "agent:main:main";
    const events = replayed(
      run,
      this.#rings.replay(sessionKey, {
        runId,
        seq: 0,
        now: this.#deps.clock.now(),
      }),
    );
    return {
      runId,
      sessionKey,
      sessionId: run?.sessionId ?? "",
      agentId: run?.agentId ?? "main",
      status: "duplicate",
      events,
    };
  }

  #abortOthers(sessionKey: string, except?: string): string[] {
    const stopped: string[] = [];
    for (const [runId, active] of this.#active) {
      if (runId === except || active.view.sessionKey !== sessionKey) continue;
      if (active.isCommand) continue;
      active.deadline.cancel("Stopped on request");
      stopped.push(runId);
    }
    return stopped;
  }

  abort(sessionKey: string, runId?: string): string[] {
    if (runId === undefined) return this.#abortOthers(sessionKey);
    const active = this.#active.get(runId);
    if (active?.view.sessionKey !== sessionKey) return [];
    active.deadline.cancel("Stopped on request");
    return [runId];
  }

  abortCredential(credential: string): string[] {
    const stopped: string[] = [];
    for (const [runId, active] of this.#active) {
      if (active.view.credential !== credential) continue;
      active.deadline.cancel("The credential was revoked");
      stopped.push(runId);
    }
    for (const [deadline, one] of this.#starting) {
      if (one === credential) deadline.cancel("The credential was revoked");
    }
    return stopped;
  }

  async wait(
    runId: string,
    options: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<RunOutcome | undefined> {
    const known = this.#outcomes.get(runId);
    if (known !== undefined) return known.outcome;
    const active = this.#active.get(runId);
    if (active === undefined) {
      const run = await this.#deps.store.runs.find(runId);
      return run === undefined ? undefined : toOutcome(run);
    }
    const done = new AbortController();
    const signal = options.signal === undefined
      ? done.signal
      : AbortSignal.any([done.signal, options.signal]);
    const timeout = this.#deps.clock.sleep(options.timeoutMs, signal)
      .catch(() => {});
    try {
      return await Promise.race([
        active.done.promise,
        timeout.then(() => undefined),
      ]);
    } finally {
      done.abort();
    }
  }

  watch(listener: (event: TurnEvent, run: RunView) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  replay(sessionKey: string, runId: string, seq: number): TurnEvent[] {
    const now = this.#deps.clock.now();
    return this.#rings.replay(sessionKey, { runId, seq, now });
  }

  async find(runId: string): Promise<RunView | undefined> {
    // A command's run is kept here only.
    const known = this.#active.get(runId) ?? this.#outcomes.get(runId);
    if (known !== undefined) return known.view;
    const run = await this.#deps.store.runs.find(runId);
    if (run === undefined) return undefined;
    const { sessionKey, agentId, authority } = run;
    const { principal, credential } = authority;
    return { runId, sessionKey, agentId, principal, credential };
  }

  /** The tools somebody may use by name, as a model would be shown them. */
  toolsOf(user: Omit<ToolUser, "settings">): ToolSpec[] {
    const { tools, settings } = this.#deps;
    return toolsFor(tools, { settings: settings(), ...user })
      .map((tool) => tools.spec(tool));
  }

  /** The same tools with what they state about themselves, by group. */
  catalogOf(
    user: Omit<ToolUser, "settings">,
  ): MethodOutput<"tools.catalog">["groups"] {
    const { tools, settings } = this.#deps;
    return toGroups(
      tools,
      toolsFor(tools, { settings: settings(), ...user }),
      settings().rules.effects,
    );
  }

  counts(): { running: number; queued: number } {
    const running = this.#slots.taken;
    return { running, queued: this.#lanes.waiting + this.#slots.waiting };
  }

  // --- boot and end -------------------------------------------------------

  /**
   * Goes on with every stored run that is open. How many there were. Turns that
   * start meanwhile wait until these have their places.
   */
  async resume(): Promise<number> {
    this.#resuming = this.#resumeAll();
    this.#resuming.catch(() => {}); // the caller hears it below
    try {
      return await this.#resuming;
    } finally {
      this.#resuming = undefined;
    }
  }

  async #resumeAll(): Promise<number> {
    const open = await this.#deps.store.runs.open();
    // Each session by itself: what one waits for is never another's.
    const bySession = Map.groupBy(open, ({ sessionKey }) => sessionKey);
    await Promise.all(
      [...bySession.values()].map((runs) => this.#resumeSession(runs)),
    );
    return open.length;
  }

  async #resumeSession(runs: readonly Run[]): Promise<void> {
    let held = Promise.withResolvers<void>();
    for (const { run, as } of resumeOrder(runs)) {
      if (this.#isStopping) return; // the rest is stored: the next start's
      try {
        const active = await this.#resumeOne(
          run,
          as === "held" ? held.promise : undefined,
        );
        if (as === "first") await this.#settled(active);
      } catch (error) {
        // It stays open. One that cannot be taken up must not keep the others.
        this.#deps.log("error", "turn.not_resumed", {
          runId: run.id,
          error: errorText(error),
        });
      }
      if (as !== "first") continue;
      // What it did not end goes on.
      held.resolve();
      held = Promise.withResolvers();
    }
    held.resolve();
  }

  /** Waits for a run's end, but not for ever: others wait behind it. */
  async #settled(active: ActiveRun): Promise<void> {
    const done = new AbortController();
    const late = this.#deps.clock.sleep(RESUMED_MS, done.signal)
      .catch(() => {});
    await Promise.race([active.done.promise, late]);
    done.abort();
  }

  async #resumeOne(stored: Run, held?: Promise<void>): Promise<ActiveRun> {
    const session = await this.#deps.store.sessions.find(stored.sessionKey);
    const run: Run = { ...stored, resumes: stored.resumes + 1 };
    const { turnMs } = this.#deps.settings().limits;
    const deadline = new Deadline(run.options?.limitMs ?? turnMs);
    const active = new ActiveRun(run, deadline);
    if (run.options?.command === true) {
      active.isCommand = true;
      const of = session ??
        { ...lostSession(run), owner: active.view.principal };
      await this.#launch(active, this.#commands.retake(run, of));
      return active;
    }
    const taken: Taken = {
      run,
      session: session ??
        { ...lostSession(run), owner: active.view.principal },
      isNewSession: session === undefined,
      authority: this.#deps.authorityOf(run.authority),
      settings: this.#deps.settings(),
      deadline,
      acceptRows: [],
      ...(held === undefined ? {} : { held }),
    };
    await this.#launch(active, takeTurn(taken, this.#rooms));
    return active;
  }

  /** No new turns from here on. */
  stopAdmitting(): void {
    this.#isStopping = true;
  }

  /** Waits for running turns; what is left then is suspended, not lost. */
  async drain(limitMs: number): Promise<void> {
    this.stopAdmitting();
    await this.#resuming?.catch(() => {});
    const all = () =>
      Promise.all([...this.#active.values()].map((run) => run.done.promise));
    const done = new AbortController();
    await Promise.race([
      all(),
      this.#deps.clock.sleep(limitMs, done.signal).catch(() => {}),
    ]);
    done.abort();
    for (const active of this.#active.values()) active.deadline.suspend();
    await all();
  }
}

function asDuplicate(started: StartedRun): StartedRun {
  return { ...started, status: "duplicate" };
}
