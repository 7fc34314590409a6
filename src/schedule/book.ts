/**
 * The jobs: who may make, see, change and run which, within which bounds.
 *
 * Never: a job with more authority than who made it; a job's text that gains
 * integrity by being edited; a job that somebody else changed.
 *
 * @module
 */
import type { AuthorityRecord } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import { join, type Label } from "../core/label.ts";
import {
  ownZone,
  type Schedule,
  type ScheduleActor,
  scheduleText,
  toSchedule,
} from "../core/schedule.ts";
import type {
  JobRunView,
  JobView,
  ScheduleInputOf,
} from "../core/methods/schedule.ts";
import type { StandingGrant } from "../guard/decide.ts";
import { grantPlaces } from "../guard/rules.ts";
import type { Job, Tick } from "../store/jobs.ts";
import type { ScheduleDeps } from "./deps.ts";
import { jitterOf, timesOf } from "./times.ts";

/** Bounds of the schedule. */
export const SCHEDULE_LIMITS = {
  /** Jobs in all; a further one is refused unless a finished one makes room. */
  jobsMax: 500,
  /** Jobs of one principal that is not the owner; a further one is refused. */
  jobsEachMax: 50,
  /** Words that wait for a heartbeat; a further one is refused. */
  wakeWordsMax: 50,
} as const;

/** Nobody is there to use the others. */
const SCOPES = ["read", "chat", "tools", "write"] as const;

type Fields = ScheduleInputOf<"cron.update">["patch"];

/** The conversation a job's runs are in. */
export function sessionKeyOf(
  { agentId, sessionTarget, id }: Pick<Job, "agentId" | "sessionTarget" | "id">,
): string {
  return sessionTarget === "main"
    ? `agent:${agentId}:main`
    : `agent:${agentId}:cron:${id}`;
}

/** When a job's due time is acted on. */
export function fireAt(job: Job): number | undefined {
  return job.nextAt === undefined
    ? undefined
    : job.nextAt + jitterOf(job.id, job.jitterMs);
}

function textOf({ payload }: Pick<Job, "payload">): string {
  return payload.kind === "systemEvent" ? payload.text : payload.message;
}

function nameOf(job: Pick<Job, "payload">): string {
  const line = textOf(job).trim().split("\n", 1)[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59)}…` : line || "job";
}

/** Leaves out what is not there. */
function given<T extends object>(values: T): {
  [K in keyof T]: Exclude<T[K], undefined>;
} {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as { [K in keyof T]: Exclude<T[K], undefined> };
}

/** The jobs in memory, as they are stored. */
export class JobBook {
  readonly #deps: Pick<
    ScheduleDeps,
    "config" | "hasAgent" | "clock" | "authorityOf"
  >;
  readonly #jobs = new Map<string, Job>();

  constructor(
    deps: Pick<ScheduleDeps, "config" | "hasAgent" | "clock" | "authorityOf">,
  ) {
    this.#deps = deps;
  }

  // --- what there is ------------------------------------------------------

  all(): Job[] {
    return [...this.#jobs.values()];
  }

  get size(): number {
    return this.#jobs.size;
  }

  get(id: string): Job | undefined {
    return this.#jobs.get(id);
  }

  /** What was just stored. */
  keep(job: Job): void {
    this.#jobs.set(job.id, job);
  }

  forget(id: string): void {
    this.#jobs.delete(id);
  }

  /** A job an actor may see. @throws {AppError} `not_found`, also for another's */
  find(id: string, actor: ScheduleActor): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined && maySee(job, actor)) return job;
    throw new AppError("not_found", `There is no job "${id.slice(0, 64)}"`, {
      hint: "carapace cron list shows them",
    });
  }

  /** A job of an actor's own. @throws {AppError} `forbidden`, `not_found` */
  findOwn(id: string, actor: ScheduleActor): Job {
    const job = this.find(id, actor);
    if (job.authority.principal === actor.authority.principal) return job;
    throw new AppError(
      "forbidden",
      `Cannot change job "${id}": it is ${job.authority.principal}'s, and would act as them`,
      { hint: "Turn it off (enabled: false) or remove it, and add your own" },
    );
  }

  /** The grants a job's own runs have, by the job. */
  grantsOf(id: string): StandingGrant[] {
    const job = this.#jobs.get(id);
    if (job === undefined) return [];
    return job.grants.map(({ tool, places }, n) => ({
      id: `${id}.grants[${n}]`,
      tool,
      places: places.flatMap(grantPlaces),
      agent: job.agentId,
      to: job.authority.principal,
      sessionKey: sessionKeyOf(job),
    }));
  }

  get zone(): string {
    return this.#deps.config().zone ?? ownZone();
  }

  // --- making and changing ------------------------------------------------

  /** A new job, not stored yet. */
  async make(
    fields: ScheduleInputOf<"cron.add">,
    actor: ScheduleActor,
  ): Promise<Job> {
    const { config, clock } = this.#deps;
    const now = clock.now();
    this.#checkRoom(actor);
    const id = makeId("job", now);
    const schedule = toSchedule(fields.schedule, { now, zone: this.zone });
    const isTurn = fields.payload.kind === "agentTurn";
    const job: Job = {
      id,
      name: fields.name ?? nameOf(fields),
      enabled: fields.enabled ?? true,
      authority: authorityFor(actor, fields),
      label: actor.label,
      agentId: fields.agentId ?? "main",
      schedule,
      sessionTarget: fields.sessionTarget ??
        (isTurn || actor.authority.kind !== "owner" ? "isolated" : "main"),
      wakeMode: fields.wakeMode ?? "now",
      payload: fields.payload,
      delivery: fields.delivery ?? { mode: "none" },
      missed: fields.missed ?? config().missed,
      jitterMs: fields.jitterMs ?? 0,
      deleteAfterRun: fields.deleteAfterRun ?? false,
      grants: fields.grants ?? [],
      createdAt: now,
      updatedAt: now,
      failures: 0,
    };
    this.#check(job, actor);
    return { ...job, ...given({ nextAt: await this.#first(job, now) }) };
  }

  /**
   * A job with something changed, not stored yet. Whoever changes what it does
   * takes it over: it acts with their authority, within what it had.
   */
  async change(id: string, patch: Fields, actor: ScheduleActor): Promise<Job> {
    const now = this.#deps.clock.now();
    const keys = Object.keys(patch);
    if (keys.length === 1 && patch.enabled === false) {
      const job = this.find(id, actor);
      return { ...job, enabled: false, updatedAt: now };
    }
    const {
      disabledBecause: _,
      nextAt: before,
      ...old
    } = this.findOwn(id, actor);
    const { schedule: input, tools: __, ...rest } = patch;
    const schedule = input === undefined
      ? old.schedule
      : toSchedule(input, { now, zone: this.zone });
    const job: Job = {
      ...old,
      ...given(rest),
      schedule,
      label: join(old.label, actor.label),
      authority: authorityFor(actor, { ...patch, before: old.authority }),
      // What was let be done unasked was for what the job was then.
      grants: patch.grants ??
        (patch.payload === undefined && patch.sessionTarget === undefined
          ? old.grants
          : []),
      updatedAt: now,
    };
    this.#check(job, actor, patch.grants !== undefined);
    const isAnew = input !== undefined || !old.enabled && job.enabled;
    const nextAt = isAnew ? await this.#first(job, now) : before;
    return { ...job, ...given({ nextAt }) };
  }

  #checkRoom({ authority }: ScheduleActor): void {
    const { jobsMax, jobsEachMax } = SCHEDULE_LIMITS;
    const own =
      this.all().filter((job) =>
        job.authority.principal === authority.principal
      ).length;
    const max = authority.kind === "owner" ? jobsMax : jobsEachMax;
    if (own < max && (this.size < jobsMax || this.finished() !== undefined)) {
      return;
    }
    throw new AppError(
      "rate_limited",
      own >= max
        ? `Cannot add a job: ${max} are allowed, and there are ${own}`
        : `Cannot add a job: there are ${jobsMax}, which is all there may be`,
      { hint: "Remove some: carapace cron list" },
    );
  }

  /** The oldest job that has nothing more to do, for when there is no room. */
  finished(): Job | undefined {
    return this.all().find(({ schedule, nextAt, running, delivering }) =>
      schedule.kind === "at" && nextAt === undefined &&
      running === undefined && delivering === undefined
    );
  }

  #check(job: Job, actor: ScheduleActor, areGrantsNew = true): void {
    const { authority } = actor;
    if (!authority.scopes.has("write")) {
      throw new AppError("forbidden", 'A job needs the scope "write"');
    }
    if (!this.#deps.hasAgent(job.agentId)) {
      throw new AppError(
        "not_found",
        `Cannot use agentId: there is no agent "${job.agentId}"`,
      );
    }
    if (!authority.allowsAgent(job.agentId)) {
      throw new AppError(
        "forbidden",
        `Cannot use agentId "${job.agentId}": this credential may not`,
      );
    }
    const { payload } = job;
    const model = payload.kind === "agentTurn" ? payload.model : undefined;
    if (model !== undefined && !authority.allowsModel(model)) {
      throw new AppError(
        "forbidden",
        `Cannot use payload.model "${model}": this credential may not`,
      );
    }
    if (job.sessionTarget === "main" && authority.kind !== "owner") {
      throw new AppError(
        "forbidden",
        'Cannot use sessionTarget "main": that conversation is the owner\'s',
        { hint: 'Use "isolated"' },
      );
    }
    if (job.wakeMode === "next-heartbeat" && job.sessionTarget !== "main") {
      throw new AppError(
        "bad_input",
        'Cannot use wakeMode "next-heartbeat": it is for sessionTarget "main"',
      );
    }
    if (areGrantsNew && job.grants.length > 0) checkGrants(job, actor);
  }

  /** The first due time. @throws {AppError} `bad_input`, naming the field */
  async #first(job: Job, now: number): Promise<number | undefined> {
    const { schedule } = job;
    const times = await timesOf(schedule);
    const first = times.after(now);
    if (first === undefined) {
      if (!job.enabled) return undefined;
      throw new AppError(
        "bad_input",
        schedule.kind === "at"
          ? "Cannot use schedule.at: that time has passed"
          : "Cannot use schedule: it is never due",
      );
    }
    if (schedule.kind !== "at") this.#checkInterval(schedule, times, first);
    return first;
  }

  #checkInterval(
    schedule: Schedule,
    times: Awaited<ReturnType<typeof timesOf>>,
    first: number,
  ): void {
    const intervalMs = this.#deps.config().intervalSeconds * 1_000;
    let at = first;
    for (let n = 0; n < 5; n++) {
      const next = times.after(at);
      if (next === undefined) return;
      if (next - at < intervalMs) {
        const field = schedule.kind === "every" ? "everyMs" : "expr";
        throw new AppError(
          "bad_input",
          `Cannot use schedule.${field}: runs would be ${
            (next - at) / 1000
          } s apart, and ${intervalMs / 1000} s is the least`,
          { hint: "schedule.intervalSeconds in the configuration allows less" },
        );
      }
      at = next;
    }
  }

  // --- showing ------------------------------------------------------------

  view(job: Job): JobView {
    const { authority, label, running } = job;
    return {
      id: job.id,
      name: job.name,
      enabled: job.enabled,
      by: authority.principal,
      integrity: label.integrity,
      agentId: job.agentId,
      sessionKey: sessionKeyOf(job),
      sessionTarget: job.sessionTarget,
      wakeMode: job.wakeMode,
      schedule: job.schedule,
      when: scheduleText(job.schedule, this.zone),
      payload: job.payload,
      delivery: job.delivery,
      missed: job.missed,
      jitterMs: job.jitterMs,
      deleteAfterRun: job.deleteAfterRun,
      tools: authority.tools,
      grants: job.grants,
      createdAtMs: job.createdAt,
      updatedAtMs: job.updatedAt,
      ...given({ disabledBecause: job.disabledBecause }),
      state: {
        consecutiveErrors: job.failures,
        ...given({
          nextRunAtMs: job.enabled ? fireAt(job) : undefined,
          runningAtMs: running?.at,
          lastRunAtMs: job.lastRunAt,
          lastStatus: job.lastOutcome,
          lastError: job.lastError,
          lastDurationMs: job.lastDurationMs,
        }),
      },
    };
  }
}

/** Whether a job is somebody's to see: the owner sees all. */
export function maySee(job: Job, { authority }: ScheduleActor): boolean {
  return authority.kind === "owner" ||
    job.authority.principal === authority.principal;
}

/** A due time as it is shown. */
export function tickView(tick: Tick): JobRunView {
  const { usage, nano, endedAt } = tick;
  return {
    jobId: tick.jobId,
    dueAtMs: tick.dueAt,
    ts: tick.at,
    lateMs: tick.lateMs,
    status: tick.outcome,
    manual: tick.manual,
    ...given({
      runId: tick.runId,
      sessionKey: tick.sessionKey,
      durationMs: endedAt === undefined ? undefined : endedAt - tick.at,
      error: tick.outcome === "ok" ? undefined : tick.reason,
      summary: tick.reply,
      inputTokens: usage?.inputTokens,
      outputTokens: usage?.outputTokens,
      usd: nano === undefined ? undefined : nano / 1_000_000_000,
      missed: tick.missed,
      delivered: tick.delivered,
    }),
  };
}

/** Asker ∩ what a job needs ∩ what it had. */
function authorityFor(
  { authority, label }: ScheduleActor,
  asked: {
    tools?: readonly string[] | undefined;
    before?: AuthorityRecord | undefined;
  },
): AuthorityRecord {
  const { before, tools } = asked;
  const own = authority.narrow({
    scopes: SCOPES,
    integrity: label.integrity,
    ...(tools === undefined ? {} : { tools: [...tools] }),
  });
  if (before === undefined) return own.toRecord();
  const { scopes, agents, models, tools: had, integrity } = before;
  return own.narrow({ scopes, agents, models, tools: had, integrity })
    .toRecord();
}

/** A grant lets something be done unasked, so it takes who may answer asks. */
function checkGrants(job: Job, { authority, label }: ScheduleActor): void {
  const isOwners = authority.kind === "owner" &&
    authority.scopes.has("approvals") && isOwnersWord(label);
  if (!isOwners) {
    throw new AppError(
      "forbidden",
      "Cannot use grants: only the owner lets a job do something unasked",
      { hint: 'Use an owner\'s credential with the scope "approvals"' },
    );
  }
  if (job.sessionTarget === "main") {
    throw new AppError(
      "bad_input",
      'Cannot use grants: they are for jobs with sessionTarget "isolated"',
    );
  }
}

function isOwnersWord({ integrity }: Label): boolean {
  return integrity === "owner";
}
