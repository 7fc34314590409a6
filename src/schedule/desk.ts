/**
 * The schedule as the house sees it: opens with the jobs that are stored, runs
 * them when they are due, and answers what doors and tools ask of it.
 *
 * Two things wake it: a timer for the next due time, while the process lives,
 * and the house's ticks. Without jobs and heartbeat neither does anything.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import {
  jobOfInbound,
  parseScheduleText,
  type ScheduleActor,
  scheduleText,
  timeIn,
  toSchedule,
} from "../core/schedule.ts";
import type {
  ScheduleBus,
  ScheduleInputOf,
  ScheduleMethod,
  ScheduleOutputOf,
} from "../core/methods/schedule.ts";
import type { StandingGrant } from "../guard/decide.ts";
import { fireAt, JobBook, maySee, SCHEDULE_LIMITS, tickView } from "./book.ts";
import { Alone, type ScheduleDeps } from "./deps.ts";
import { Heart } from "./heartbeat.ts";
import { Follower } from "./follower.ts";
import { Runner, scheduleInbound } from "./runner.ts";
import { timesOf } from "./times.ts";

/** The longest sleep: a clock that was set, or a machine that slept, is noticed. */
const SLEEP_MS_MAX = 60_000;
/** What is due and cannot be done must not keep the processor. */
const SLEEP_MS_MIN = 10;
const WAKE_TEXT = "Wake up: look whether there is something to do now.";

type Acts = {
  readonly [M in ScheduleMethod]: (
    params: ScheduleInputOf<M>,
    actor: ScheduleActor,
  ) => ScheduleOutputOf<M> | Promise<ScheduleOutputOf<M>>;
};

function idOf(params: { id?: string | undefined; jobId?: string | undefined }) {
  return params.id ?? params.jobId ?? "";
}

/** The schedule. Dispose it before the turns it started are drained. */
export class ScheduleDesk implements ScheduleBus, AsyncDisposable {
  readonly #deps: ScheduleDeps;
  readonly #book: JobBook;
  readonly #alone = new Alone();
  readonly #follower: Follower;
  readonly #runner: Runner;
  readonly #heart: Heart;
  readonly #acts: Acts;
  readonly #ending = new AbortController();
  readonly #revoking: Disposable;
  #waking = Promise.withResolvers<void>();
  #loop: Promise<void> | undefined;

  constructor(deps: ScheduleDeps) {
    this.#deps = deps;
    this.#book = new JobBook(deps);
    this.#follower = new Follower(deps);
    const room = {
      alone: this.#alone,
      follower: this.#follower,
      book: this.#book,
      changed: () => this.#changed(),
    };
    this.#runner = new Runner(deps, room);
    this.#heart = new Heart(deps, room);
    this.#acts = this.#makeActs();
    this.#revoking = deps.onRevoked((credential) => this.#revoked(credential));
  }

  /** Reads what is stored. Nothing runs before {@linkcode start}. */
  async open(): Promise<void> {
    for (const job of await this.#deps.store.jobs.list()) this.#book.keep(job);
    await this.#heart.open();
  }

  /** What a run of the schedule may do unasked, by the id of its event. */
  grantsOf(inboundId: string): readonly StandingGrant[] {
    const job = jobOfInbound(inboundId);
    return job === undefined ? [] : this.#book.grantsOf(job);
  }

  /** Begins to run what is due; takes up what the last process left. */
  start(): void {
    this.#loop ??= this.#run().catch((error) =>
      this.#deps.log("error", "schedule.ended", { error: errorText(error) })
    );
  }

  /** A tick of the house: looks whether something is due. */
  tick(): void {
    this.#changed();
  }

  /** Starts nothing more; what it started goes on, here or after a restart. */
  stop(): void {
    this.#follower.isStopping = true;
    this.#ending.abort();
    this.#changed();
  }

  /** Whether something it began is not over: a run, a delivery, a commit. */
  get isBusy(): boolean {
    return this.#follower.count > 0 || this.#alone.count > 0;
  }

  #changed(): void {
    this.#waking.resolve();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    await this.#runner.resume();
    await this.#heart.resume();
    while (!signal.aborted) {
      // Ends when the desk does.
      this.#waking = Promise.withResolvers<void>();
      try {
        await this.#runner.runDue();
        await this.#alone.run(() => this.#heart.beatIfDue());
      } catch (error) {
        this.#deps.log("error", "schedule.failed", { error: errorText(error) });
      }
      await this.#sleep();
    }
  }

  #nextAt(): number | undefined {
    const times = [this.#runner.nextAt(), this.#heart.nextAt()]
      .filter((at) => at !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  async #sleep(): Promise<void> {
    const { clock } = this.#deps;
    const at = this.#nextAt();
    // Nothing is due and nothing will be: no timer.
    if (at === undefined) return await this.#waking.promise;
    const ms = Math.min(Math.max(at - clock.now(), SLEEP_MS_MIN), SLEEP_MS_MAX);
    const awake = new AbortController();
    const slept = clock.sleep(
      ms,
      AbortSignal.any([awake.signal, this.#ending.signal]),
    ).catch(() => {}); // woken, or ended
    await Promise.race([slept, this.#waking.promise]);
    awake.abort();
  }

  #revoked(credential: string): void {
    const why = "the credential that made it was revoked";
    for (const { id, authority } of this.#book.all()) {
      if (authority.credential !== credential) continue;
      this.#alone.run(async () => {
        const job = this.#book.get(id);
        if (job?.enabled !== true) return;
        await this.#runner.disable(job, why);
      }).catch((error) =>
        // It is asked again before every run.
        this.#deps.log("warn", "schedule.not_disabled", {
          job: id,
          error: errorText(error),
        })
      );
    }
  }

  // --- acts ---------------------------------------------------------------

  async run<M extends ScheduleMethod>(
    method: M,
    params: ScheduleInputOf<M>,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<M>> {
    return await this.#acts[method](params, actor);
  }

  #makeActs(): Acts {
    return {
      "cron.status": (_, actor) => this.#status(actor),
      "cron.list": ({ includeDisabled = true }, actor) => ({
        jobs: this.#book.all()
          .filter((job) => maySee(job, actor))
          .filter(({ enabled }) => enabled || includeDisabled)
          .map((job) => this.#book.view(job)),
      }),
      "cron.preview": (params) => this.#preview(params),
      "cron.add": (params, actor) =>
        this.#alone.run(() => this.#add(params, actor)),
      "cron.update": (params, actor) =>
        this.#alone.run(() => this.#update(params, actor)),
      "cron.remove": (params, actor) =>
        this.#alone.run(() => this.#remove(idOf(params), actor)),
      "cron.run": (params, actor) =>
        this.#alone.run(() => this.#runNow(params, actor)),
      "cron.runs": (params, actor) => this.#runs(params, actor),
      wake: (params, actor) => this.#wake(params, actor),
      "last-heartbeat": (_, { authority }) =>
        authority.kind === "owner" ? this.#heart.last ?? null : null,
      "set-heartbeats": ({ enabled }, actor) =>
        this.#alone.run(() => this.#setHeart(enabled, actor)),
    };
  }

  async words(text: string, zone?: string): Promise<string[]> {
    const now = this.#deps.clock.now();
    const schedule = parseScheduleText(text, { now, zone });
    const { when, text: next } = await this.#preview({ schedule });
    return [when, ...next];
  }

  #status(actor: ScheduleActor): ScheduleOutputOf<"cron.status"> {
    const own = this.#book.all().filter((job) => maySee(job, actor));
    const next = own.filter(({ enabled }) => enabled).map(fireAt)
      .filter((at) => at !== undefined);
    const heartAt = this.#heart.nextAt();
    const { stoppedBecause } = this.#heart;
    return {
      enabled: true,
      jobs: own.length,
      running: own.filter(({ running }) => running !== undefined).length,
      jobsMax: SCHEDULE_LIMITS.jobsMax,
      zone: this.#book.zone,
      ...(next.length === 0 ? {} : { nextWakeAtMs: Math.min(...next) }),
      heartbeat: {
        enabled: this.#heart.isOn,
        ...(heartAt === undefined ? {} : { nextAtMs: heartAt }),
        ...(stoppedBecause === undefined ? {} : { stoppedBecause }),
      },
    };
  }

  async #preview(
    { schedule: input, count = 3 }: ScheduleInputOf<"cron.preview">,
  ): Promise<ScheduleOutputOf<"cron.preview">> {
    const now = this.#deps.clock.now();
    const zone = this.#book.zone;
    const schedule = toSchedule(input, { now, zone });
    const times = await timesOf(schedule);
    const next: number[] = [];
    for (let at = times.after(now); at !== undefined && next.length < count;) {
      next.push(at);
      at = times.after(at);
    }
    const there = schedule.kind === "cron" ? schedule.tz : zone;
    return {
      schedule,
      when: scheduleText(schedule, zone),
      next,
      text: next.map((at) => timeIn(at, there)),
    };
  }

  async #add(
    params: ScheduleInputOf<"cron.add">,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<"cron.add">> {
    const { jobs, journal } = this.#deps.store;
    const job = await this.#book.make(params, actor);
    const full = this.#book.size >= SCHEDULE_LIMITS.jobsMax;
    const old = full ? this.#book.finished() : undefined;
    await journal.commit([
      jobs.row(job),
      ...old === undefined ? [] : [jobs.deletion(old.id)],
      this.#note("job.add", job.id, actor),
    ]);
    if (old !== undefined) this.#book.forget(old.id);
    this.#book.keep(job);
    return this.#told(job.id, "added");
  }

  #note(event: string, job: string, { authority, label }: ScheduleActor) {
    const { principal, credential } = authority;
    const { integrity } = label;
    const fields = { job, principal, credential, integrity };
    return this.#deps.store.audit.row({ event, fields });
  }

  #told(id: string, action: "added" | "updated") {
    const job = this.#book.get(id);
    if (job === undefined) throw new AppError("internal", "The job is gone");
    const view = this.#book.view(job);
    const { nextRunAtMs } = view.state;
    this.#deps.publish("cron", {
      jobId: id,
      action,
      ...(nextRunAtMs === undefined ? {} : { nextRunAtMs }),
    }, job.authority.principal);
    this.#changed();
    return view;
  }

  async #update(
    params: ScheduleInputOf<"cron.update">,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<"cron.update">> {
    const { jobs, journal } = this.#deps.store;
    const job = await this.#book.change(idOf(params), params.patch, actor);
    await journal.commit([
      jobs.row(job),
      this.#note("job.update", job.id, actor),
    ]);
    this.#book.keep(job);
    return this.#told(job.id, "updated");
  }

  async #remove(
    id: string,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<"cron.remove">> {
    const { jobs, journal } = this.#deps.store;
    const job = this.#book.find(id, actor);
    await journal.commit([
      jobs.deletion(id),
      this.#note("job.remove", id, actor),
    ]);
    this.#book.forget(id);
    const { principal } = job.authority;
    this.#deps.publish("cron", { jobId: id, action: "removed" }, principal);
    return { ok: true, removed: true };
  }

  async #runNow(
    params: ScheduleInputOf<"cron.run">,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<"cron.run">> {
    const job = this.#book.find(idOf(params), actor);
    const now = this.#deps.clock.now();
    if (params.mode === "due" && (fireAt(job) ?? Infinity) > now) {
      return { ok: true, ran: false, reason: "it is not due" };
    }
    const key = params.idempotencyKey ?? makeId("key", now);
    return { ok: true, ...await this.#runner.runNow(job, key) };
  }

  async #runs(
    params: ScheduleInputOf<"cron.runs">,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<"cron.runs">> {
    const { limit = 50, before } = params;
    const job = this.#book.find(idOf(params), actor);
    const ticks = await this.#deps.store.jobs.ticks(job.id, {
      limit: limit + 1,
      ...(before === undefined ? {} : { before }),
    });
    const entries = ticks.slice(0, limit).map(tickView);
    const last = entries.at(-1);
    return {
      entries,
      ...(ticks.length > limit && last !== undefined
        ? { nextBefore: last.dueAtMs }
        : {}),
    };
  }

  async #wake(
    { mode, text, idempotencyKey }: ScheduleInputOf<"wake">,
    actor: ScheduleActor,
  ): Promise<ScheduleOutputOf<"wake">> {
    const { authority, label } = actor;
    const heartbeats = this.#heart.isOn;
    if (mode === "next-heartbeat") {
      await this.#alone.run(() =>
        this.#heart.leave({
          text: text ?? WAKE_TEXT,
          label,
          authority: authority.toRecord(),
        })
      );
      return { ok: true, queued: this.#heart.waiting, heartbeats };
    }
    const now = this.#deps.clock.now();
    const key = idempotencyKey ?? makeId("key", now);
    if (actor.mainKey === undefined) {
      throw new AppError("bad_input", "Cannot wake: no conversation is named");
    }
    const { runId } = await this.#deps.turns.start({
      inbound: scheduleInbound({
        id: `wake:${authority.principal}:${key}`,
        text: `[Event]\n${text ?? WAKE_TEXT}`,
        label,
        from: "wake",
        now,
      }),
      authority,
      sessionKey: actor.mainKey,
      attended: false,
      isPlain: true,
    });
    return { ok: true, runId, heartbeats };
  }

  async #setHeart(
    enabled: boolean,
    { authority }: ScheduleActor,
  ): Promise<ScheduleOutputOf<"set-heartbeats">> {
    if (authority.kind !== "owner" || authority.integrity !== "owner") {
      throw new AppError(
        "forbidden",
        "Cannot set heartbeats: they act as the owner, so only the owner does",
      );
    }
    await this.#heart.set(enabled, authority);
    this.#changed();
    const at = this.#heart.nextAt();
    return {
      ok: true,
      enabled: this.#heart.isOn,
      ...(at === undefined ? {} : { nextAtMs: at }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    this.#revoking[Symbol.dispose]();
    await this.#loop;
    await this.#alone.idle();
    await this.#follower[Symbol.asyncDispose]();
  }
}
