/**
 * Runs jobs: claims a due time and starts its turn as one unit, follows the run
 * to its end, says what became of it, sends its answer where the job says.
 *
 * Never: a due time that is run twice; a run with more than the job's
 * authority, or words with more integrity than the job's label.
 *
 * @module
 */
import type { StartedRun } from "../agent/turns.ts";
import { AppError, errorText } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import { join, label } from "../core/label.ts";
import type { Inbound } from "../core/message.ts";
import { jobInbound, SCHEDULE_CHANNEL, timeIn } from "../core/schedule.ts";
import type { Job, Tick } from "../store/jobs.ts";
import type { Row } from "../store/journal.ts";
import { fireAt, type JobBook, sessionKeyOf, tickView } from "./book.ts";
import type { Alone, ScheduleDeps } from "./deps.ts";
import type { Follower, RunEnd } from "./follower.ts";
import { jitterOf, type Plan, planDue, timesOf } from "./times.ts";

/** A store that failed, or a gateway about to stop, is tried again after this. */
const RETRY_MS = 5_000;
/** Bounds of what `tick` and `job` rows keep of texts. */
const REPLY_CHARS_MAX = 400;
const REASON_CHARS_MAX = 500;

/** Answers that are for nobody. */
export function isSilent(reply: string): boolean {
  const bare = reply.replaceAll(/^[\s*_`"'.]+|[\s*_`"'.!]+$/g, "");
  return bare === "" || bare === "NO_REPLY" || bare === "HEARTBEAT_OK";
}

/** An event of the schedule, as turns take them. */
export function scheduleInbound(
  event: Pick<Inbound, "id" | "text" | "label"> & {
    /** What it is an event of; no person, so no one's other turns are touched. */
    from: string;
    now: number;
    replyTo?: string | undefined;
  },
): Inbound {
  const { id, text, label, from, now, replyTo } = event;
  return {
    id,
    channel: SCHEDULE_CHANNEL,
    account: "local",
    sender: { id: from, name: "schedule" },
    chat: { kind: "direct", id: from },
    kind: "message",
    text,
    images: [],
    label,
    ...(replyTo === undefined ? {} : { replyTo }),
    receivedAt: now,
  };
}

function cut(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax - 1)}…`;
}

/** Runs the jobs of a book. */
export class Runner {
  readonly #deps: ScheduleDeps;
  readonly #book: JobBook;
  readonly #alone: Alone;
  readonly #follower: Follower;
  readonly #retryAt = new Map<string, number>();
  /** Something may be due earlier than was thought. */
  readonly #changed: () => void;

  constructor(
    deps: ScheduleDeps,
    room: {
      book: JobBook;
      alone: Alone;
      follower: Follower;
      changed(): void;
    },
  ) {
    this.#deps = deps;
    this.#book = room.book;
    this.#alone = room.alone;
    this.#follower = room.follower;
    this.#changed = room.changed;
  }

  /** When something is to be done next. */
  nextAt(): number | undefined {
    let next: number | undefined;
    for (const job of this.#book.all()) {
      const at = this.#dueAt(job);
      if (at !== undefined && (next === undefined || at < next)) next = at;
    }
    return next;
  }

  #dueAt(job: Job): number | undefined {
    const retryAt = this.#retryAt.get(job.id);
    if (job.delivering !== undefined && retryAt !== undefined) return retryAt;
    if (!job.enabled) return undefined;
    // Its end says when to go on.
    const isBusy = job.running !== undefined || job.delivering !== undefined;
    if (isBusy && job.missed === "run_all") return undefined;
    const at = fireAt(job);
    return at === undefined ? undefined : Math.max(at, retryAt ?? 0);
  }

  /** Does what is due. */
  async runDue(): Promise<void> {
    for (const { id } of this.#book.all()) {
      const job = this.#book.get(id);
      const at = job === undefined ? undefined : this.#dueAt(job);
      if (at === undefined || at > this.#deps.clock.now()) continue;
      try {
        await this.#alone.run(() => this.#runOne(id));
      } catch (error) {
        this.#later(id, error);
      }
    }
  }

  #later(id: string, error: unknown): void {
    this.#retryAt.set(id, this.#deps.clock.now() + RETRY_MS);
    this.#deps.log("warn", "schedule.not_run", {
      job: id,
      error: errorText(error),
    });
  }

  async #runOne(id: string): Promise<void> {
    const job = this.#book.get(id);
    const { clock } = this.#deps;
    const at = job === undefined ? undefined : this.#dueAt(job);
    if (job === undefined || at === undefined || at > clock.now()) return;
    if (job.delivering !== undefined && this.#retryAt.delete(id)) {
      return await this.#deliverAgain(id);
    }
    if (!await this.#deps.isLive(job.authority)) {
      return await this.disable(job, "the credential that made it was revoked");
    }
    const plan = planDue(
      {
        nextAt: job.nextAt,
        offsetMs: jitterOf(job.id, job.jitterMs),
        missed: job.missed,
        isRunning: job.running !== undefined || job.delivering !== undefined,
      },
      await timesOf(job.schedule),
      clock.now(),
    );
    if (plan === undefined) return;
    if (plan.fire === undefined) return await this.#giveUp(job, plan);
    await this.#fire(job, plan, plan.fire);
    this.#retryAt.delete(id);
  }

  // --- one due time -------------------------------------------------------

  /** The job after a due time, and a row for what was missed before it. */
  #after(job: Job, plan: Plan): { next: Job; rows: Row[] } {
    const { nextAt: _, ...rest } = job;
    const next: Job = {
      ...rest,
      ...(plan.nextAt === undefined ? {} : { nextAt: plan.nextAt }),
      enabled: job.schedule.kind === "at" ? false : job.enabled,
    };
    const { missed } = plan;
    if (missed === undefined) return { next, rows: [] };
    const now = this.#deps.clock.now();
    return {
      next,
      rows: [
        this.#deps.store.jobs.tickRow({
          jobId: job.id,
          dueAt: missed.at,
          at: now,
          lateMs: now - missed.at,
          outcome: "missed",
          manual: false,
          reason: missed.reason,
          missed: missed.count,
        }),
      ],
    };
  }

  async #giveUp(job: Job, plan: Plan): Promise<void> {
    const { next, rows } = this.#after(job, plan);
    const last: Job = {
      ...next,
      lastOutcome: "missed",
      lastError: cut(plan.missed?.reason ?? "", REASON_CHARS_MAX),
    };
    await this.#commit(last, rows);
    this.#tell(last, "finished", { status: "missed" });
  }

  async #commit(job: Job, rows: readonly Row[]): Promise<void> {
    const { jobs, journal } = this.#deps.store;
    await journal.commit([...rows, jobs.row(job)]);
    this.#book.keep(job);
  }

  async #fire(job: Job, plan: Plan, dueAt: number): Promise<void> {
    const { next, rows } = this.#after(job, plan);
    if (job.wakeMode === "next-heartbeat") {
      return await this.#leaveWord(next, { rows, dueAt });
    }
    const inboundId = jobInbound(job.id, dueAt);
    try {
      const started = await this.#start(next, { rows, dueAt, inboundId });
      // Its claim was lost, its event was not: the run is there.
      if (started.status === "duplicate") await this.#commit(next, rows);
    } catch (error) {
      if (!(error instanceof AppError) || error.code === "unavailable") {
        throw error;
      }
      const taken = await this.#deps.store.jobs.findTick(job.id, dueAt);
      if (taken !== undefined) return await this.#commit(next, rows);
      await this.#refused(next, { rows, dueAt, error });
    }
  }

  /** A turn that was not even accepted: said so, and the job goes on. */
  async #refused(
    job: Job,
    { rows, dueAt, error }: {
      rows: readonly Row[];
      dueAt: number;
      error: AppError;
    },
  ): Promise<void> {
    const reason = cut(errorText(error), REASON_CHARS_MAX);
    const now = this.#deps.clock.now();
    const tick = this.#tick(job, dueAt, { outcome: "error", reason });
    const last: Job = {
      ...job,
      lastRunAt: now,
      lastOutcome: "error",
      lastError: reason,
      failures: job.failures + 1,
    };
    await this.#commit(last, [...rows, this.#deps.store.jobs.claim(tick)]);
    this.#tell(last, "finished", { status: "error", error: reason });
  }

  #tick(job: Job, dueAt: number, more: Partial<Tick>): Tick {
    const now = this.#deps.clock.now();
    return {
      jobId: job.id,
      dueAt,
      at: now,
      lateMs: Math.max(0, now - dueAt - jitterOf(job.id, job.jitterMs)),
      outcome: "running",
      manual: false,
      ...more,
    };
  }

  /** An event that waits for the next heartbeat instead of starting a turn. */
  async #leaveWord(
    job: Job,
    { rows, dueAt }: { rows: readonly Row[]; dueAt: number },
  ): Promise<void> {
    const { jobs } = this.#deps.store;
    const now = this.#deps.clock.now();
    const reason = "left for the next heartbeat";
    const tick = this.#tick(job, dueAt, { outcome: "ok", reason });
    const { principal: by } = job.authority;
    const word = jobs.wakeRow({
      id: makeId("wake", now),
      text: this.#textOf(job, dueAt),
      // Such a job is the owner's: book.ts lets nobody else's go to "main".
      label: this.#labelOf(job),
      by,
      authority: job.authority,
      at: now,
    });
    const last: Job = { ...job, lastRunAt: now, lastOutcome: "ok" };
    await this.#commit(last, [...rows, jobs.claim(tick), word]);
    this.#tell(last, "finished", { status: "ok" });
  }

  #labelOf(job: Job) {
    const { integrity, secrecy } = job.label;
    return join(
      job.label,
      label(integrity, secrecy, {
        kind: "schedule",
        ref: job.id,
        at: job.createdAt,
      }),
    );
  }

  #textOf({ name, payload }: Job, dueAt: number): string {
    const due = timeIn(dueAt, this.#book.zone);
    return payload.kind === "systemEvent"
      ? `[Event of the job ${
        JSON.stringify(name)
      }, due ${due}]\n${payload.text}`
      : `[Job ${
        JSON.stringify(name)
      }, due ${due}. Nobody waits for an answer; say NO_REPLY when there is nothing to tell]\n${payload.message}`;
  }

  /** Claims the due time, stores the event, the run and the job: one unit. */
  async #start(
    job: Job,
    { rows, dueAt, inboundId, manual = false }: {
      rows: readonly Row[];
      dueAt: number;
      inboundId: string;
      manual?: boolean;
    },
  ): Promise<StartedRun> {
    const { turns, clock, authorityOf, store: { jobs, audit } } = this.#deps;
    const now = clock.now();
    const { payload, agentId } = job;
    const sessionKey = sessionKeyOf(job);
    let running: Job | undefined;
    const claim = (runId: string): Row[] => {
      running = { ...job, running: { runId, dueAt, at: now }, lastRunAt: now };
      // Before the commit: its first events come with it.
      this.#follow(job.id, runId);
      const tick = this.#tick(job, dueAt, { runId, sessionKey, manual });
      const fields = { job: job.id, runId, dueAt, manual };
      return [
        ...rows,
        jobs.claim(tick),
        jobs.row(running),
        audit.row({ event: "job.run", fields }),
      ];
    };
    const turn = payload.kind === "agentTurn" ? payload : undefined;
    const runId = () => running?.running?.runId;
    try {
      const started = await turns.start({
        inbound: scheduleInbound({
          id: inboundId,
          text: this.#textOf(job, dueAt),
          label: this.#labelOf(job),
          from: job.id,
          now,
        }),
        authority: authorityOf(job.authority),
        sessionKey,
        agentId,
        attended: false,
        isPlain: true,
        alsoStore: claim,
        ...(job.sessionTarget === "isolated" ? { isFresh: true } : {}),
        ...(turn?.model === undefined ? {} : { model: turn.model }),
        ...(turn?.thinkingTokens === undefined
          ? {}
          : { thinkingTokens: turn.thinkingTokens }),
        ...(turn?.timeoutSeconds === undefined
          ? {}
          : { limitMs: turn.timeoutSeconds * 1_000 }),
      });
      if (started.status !== "duplicate" && running !== undefined) {
        this.#book.keep(running);
        this.#tell(running, "started", { runId: started.runId, sessionKey });
      }
      return started;
    } catch (error) {
      this.#follower.drop(runId() ?? "");
      throw error;
    }
  }

  // --- its end ------------------------------------------------------------

  #follow(jobId: string, runId: string): void {
    this.#follower.add(
      runId,
      (end, nano) =>
        this.#alone.run(() => this.#settle(jobId, runId, end, nano)),
    );
  }

  /** Takes up what the last process left: runs, and answers on their way. */
  async resume(): Promise<void> {
    for (const { id, running, delivering } of this.#book.all()) {
      if (running !== undefined) {
        const { runId } = running;
        await this.#follower.again(
          runId,
          (end, nano) =>
            this.#alone.run(() => this.#settle(id, runId, end, nano)),
        );
      }
      if (delivering !== undefined) await this.#deliverAgain(id);
    }
  }

  async #settle(
    jobId: string,
    runId: string,
    end: RunEnd,
    nano: number,
  ): Promise<void> {
    const job = this.#book.get(jobId);
    const { jobs, journal } = this.#deps.store;
    const open = job?.running;
    if (job === undefined || open?.runId !== runId) return;
    const { running: _, lastError: __, ...rest } = job;
    const before = await jobs.findTick(jobId, open.dueAt);
    const outcome = end.isOk ? "ok" as const : "error" as const;
    const reason = end.isOk
      ? undefined
      : cut(end.reason ?? "", REASON_CHARS_MAX);
    const tick: Tick = {
      ...before ?? this.#tick(job, open.dueAt, { runId, at: open.at }),
      outcome,
      endedAt: end.at,
      ...(reason === undefined ? {} : { reason }),
      ...(end.reply === "" ? {} : { reply: cut(end.reply, REPLY_CHARS_MAX) }),
      ...(end.usage === undefined ? {} : { usage: end.usage }),
      ...(nano === 0 ? {} : { nano }),
    };
    const isToSend = end.isOk && job.delivery.mode === "announce" &&
      !isSilent(end.reply);
    const isOver = end.isOk && job.deleteAfterRun && job.nextAt === undefined &&
      !isToSend;
    const last: Job = {
      ...rest,
      lastOutcome: outcome,
      lastDurationMs: end.at - open.at,
      failures: end.isOk ? 0 : job.failures + 1,
      ...(reason === undefined ? {} : { lastError: reason }),
      ...(isToSend ? { delivering: open } : {}),
    };
    await journal.commit([
      jobs.tickRow(tick),
      isOver ? jobs.deletion(jobId) : jobs.row(last),
    ]);
    if (isOver) this.#book.forget(jobId);
    else this.#book.keep(last);
    const { status, durationMs, error, summary, usd } = tickView(tick);
    this.#tell(last, "finished", {
      ...{ runId, status, durationMs, error, summary, usd },
    });
    this.#changed();
    if (isToSend) await this.#deliver(last, end.reply);
  }

  // --- its answer ---------------------------------------------------------

  async #deliverAgain(jobId: string): Promise<void> {
    const job = this.#book.get(jobId);
    if (job?.delivering === undefined) return;
    const run = await this.#deps.store.runs.find(job.delivering.runId);
    await this.#deliver(job, run?.reply ?? "");
  }

  /**
   * Sends an answer where the job says, as a call of `message_send` in the
   * job's own conversation: decided like any other, and never twice, because
   * its event has an id of its own.
   */
  async #deliver(job: Job, reply: string): Promise<void> {
    const { turns, clock, authorityOf, isLive } = this.#deps;
    const { delivering, delivery: { to = "owner" } } = job;
    if (delivering === undefined) return;
    const done = (said: string) => this.#delivered(job.id, delivering, said);
    if (!await isLive(job.authority)) {
      return await done("not sent: the credential that made it was revoked");
    }
    if (reply === "") return await done("not sent: the answer is gone");
    // Where the owner said it goes is a reply address; others' word is not.
    const isOwners = job.label.integrity === "owner" &&
      (to === "owner" || to.startsWith("agent:"));
    let follows = "";
    try {
      const { runId, status, events } = await turns.start({
        inbound: scheduleInbound({
          id: jobInbound(job.id, `${delivering.dueAt}:deliver`),
          text: "",
          label: this.#labelOf(job),
          from: job.id,
          now: clock.now(),
          ...(isOwners ? { replyTo: to } : {}),
        }),
        authority: authorityOf(job.authority),
        sessionKey: sessionKeyOf(job),
        agentId: job.agentId,
        attended: false,
        isPlain: true,
        call: { name: "message_send", args: { to, text: reply } },
        alsoStore: (id) => {
          follows = id;
          this.#follower.add(
            id,
            (end) => this.#alone.run(() => done(howSent(end, to))),
          );
          return [];
        },
      });
      if (status !== "duplicate") return;
      // A call that was cut off is not made again: it may have been sent.
      void events;
      await this.#follower.again(
        runId,
        (end) => done(howSent(end, to)),
      );
    } catch (error) {
      this.#follower.drop(follows);
      if (error instanceof AppError && error.code === "unavailable") {
        return this.#later(job.id, error);
      }
      await done(`not sent: ${errorText(error)}`);
    }
  }

  async #delivered(
    jobId: string,
    of: NonNullable<Job["delivering"]>,
    said: string,
  ): Promise<void> {
    const job = this.#book.get(jobId);
    if (job?.delivering?.runId !== of.runId) return;
    const { jobs, journal } = this.#deps.store;
    const { delivering: _, ...rest } = job;
    const before = await jobs.findTick(jobId, of.dueAt);
    const delivered = cut(said, REASON_CHARS_MAX);
    const isOver = job.deleteAfterRun && job.nextAt === undefined &&
      job.running === undefined;
    await journal.commit([
      ...before === undefined ? [] : [jobs.tickRow({ ...before, delivered })],
      isOver ? jobs.deletion(jobId) : jobs.row(rest),
    ]);
    if (isOver) this.#book.forget(jobId);
    else this.#book.keep(rest);
    this.#changed();
  }

  // --- by hand ------------------------------------------------------------

  /** Runs a job now, once for a key. Call it alone. */
  async runNow(
    job: Job,
    key: string,
  ): Promise<{ ran: boolean; runId?: string; reason?: string }> {
    const { clock, isLive } = this.#deps;
    if (!await isLive(job.authority)) {
      const why = "the credential that made it was revoked";
      await this.disable(job, why);
      throw new AppError("conflict", `Cannot run job "${job.id}": ${why}`);
    }
    const inboundId = jobInbound(job.id, `run:${key}`);
    if (job.running !== undefined) {
      const { runId } = job.running;
      return { ran: false, runId, reason: "it is running" };
    }
    const now = clock.now();
    // Not the key of a due time that is still to come.
    const dueAt = now === job.nextAt ? now + 1 : now;
    const { runId, status } = await this.#start(job, {
      rows: [],
      dueAt,
      inboundId,
      manual: true,
    });
    return status === "duplicate"
      ? { ran: false, runId, reason: "it was run for this key" }
      : { ran: true, runId };
  }

  /** Turns a job off and says why. Call it alone. */
  async disable(job: Job, why: string): Promise<void> {
    const off: Job = {
      ...job,
      enabled: false,
      disabledBecause: why,
      updatedAt: this.#deps.clock.now(),
    };
    const fields = { job: job.id, credential: job.authority.credential };
    await this.#commit(off, [
      this.#deps.store.audit.row({ event: "job.disabled", fields }),
    ]);
    this.#deps.log("warn", "schedule.disabled", { job: job.id, why });
    this.#tell(off, "updated", { error: why });
  }

  #tell(
    job: Job,
    action: string,
    more: Record<string, unknown>,
  ): void {
    this.#deps.publish("cron", {
      jobId: job.id,
      action,
      ...(job.enabled && job.nextAt !== undefined
        ? { nextRunAtMs: fireAt(job) }
        : {}),
      ...more,
    }, job.authority.principal);
  }
}

/** What an invoked call's run says when the call did not come out well. */
const CALL_FAILED = "The call failed";

function howSent({ isOk, reply, reason }: RunEnd, to: string): string {
  return isOk && reason !== CALL_FAILED
    ? `sent to ${to}`
    : `not sent: ${reply || reason}`;
}
