/**
 * When a schedule is due: the instants after another, and those that passed.
 * Pure but for loading the cron library when the first expression is met.
 *
 * In a zone's gap (clocks go forward) a fixed time of day runs when the gap
 * ends; where a time comes twice it runs at the first. Expressions with a
 * wildcard in the hour follow the clocks: they skip the gap and run in both.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import { sha256HexSync } from "../store/keys.ts";
import type { Schedule } from "../core/schedule.ts";

/** The due times of one schedule. All numbers are milliseconds since the epoch. */
export interface Times {
  /** The first strictly after an instant. */
  after(at: number): number | undefined;
  /** The latest up to and with an instant, at most so many, oldest first. */
  latest(until: number, countMax: number): number[];
}

type CronClass = typeof import("croner").Cron;
let loading: Promise<CronClass> | undefined;

/**
 * The due times of a schedule.
 *
 * @throws {AppError} `bad_input` for an expression that is none
 */
export async function timesOf(schedule: Schedule): Promise<Times> {
  switch (schedule.kind) {
    case "at": {
      const { atMs } = schedule;
      return {
        after: (at) => atMs > at ? atMs : undefined,
        latest: (until, max) => atMs <= until && max > 0 ? [atMs] : [],
      };
    }
    case "every":
      return everyTimes(schedule);
    case "cron": {
      loading ??= import("croner").then(({ Cron }) => Cron);
      return cronTimes(schedule, await loading);
    }
  }
}

function everyTimes(
  { everyMs, anchorMs }: Schedule & { kind: "every" },
): Times {
  // Counted from the anchor, so that no rounding adds up.
  return {
    after: (at) =>
      at < anchorMs
        ? anchorMs
        : anchorMs + (Math.floor((at - anchorMs) / everyMs) + 1) * everyMs,
    latest: (until, max) => {
      const last = Math.floor((until - anchorMs) / everyMs);
      const times: number[] = [];
      for (let n = Math.max(0, last - max + 1); n <= last; n++) {
        times.push(anchorMs + n * everyMs);
      }
      return times;
    },
  };
}

function cronTimes(
  { expr, tz }: Schedule & { kind: "cron" },
  Cron: CronClass,
): Times {
  try {
    const cron = new Cron(expr, {
      paused: true,
      timezone: tz,
      mode: "5-or-6-parts",
    });
    return {
      after: (at) => cron.nextRun(new Date(at))?.getTime(),
      latest: (until, max) =>
        // A run at the very instant is one that passed.
        max <= 0 ? [] : cron.previousRuns(max, new Date(until + 1))
          .map((date) => date.getTime()).reverse(),
    };
  } catch (error) {
    throw new AppError(
      "bad_input",
      `Cannot use schedule.expr: ${errorText(error).replace(/^Cron\w+: /, "")}`,
      {
        cause: error,
        hint:
          'Five fields: minute, hour, day, month, weekday, such as "0 9 * * 1-5"',
      },
    );
  }
}

/** How much later than due a job runs: the same for a job every time. */
export function jitterOf(jobId: string, jitterMs: number): number {
  if (jitterMs <= 0) return 0;
  const head = Number.parseInt(sha256HexSync(jobId).slice(0, 12), 16);
  return head % (jitterMs + 1);
}

/** A run that begins this late is still on time. */
export const GRACE_MS = 60_000;
/** Of the due times that were missed, `run_all` makes up for so many. */
export const RUN_ALL_MAX = 24;
/** Missed due times are counted up to here. */
export const MISSED_COUNTED_MAX = 1_000;

/** What is to be done about a job now. */
export interface Plan {
  /** The due time to run now. */
  fire?: number;
  /** Due times that are given up, and why; `at` is the latest of them. */
  missed?: { at: number; count: number; reason: string };
  /** The due time after that. */
  nextAt: number | undefined;
}

/**
 * What to do about a job whose due time has come. Nothing, while it is not due.
 */
export function planDue(
  job: {
    nextAt: number | undefined;
    /** Its jitter, already drawn. */
    offsetMs: number;
    missed: "run_once" | "skip" | "run_all";
    isRunning: boolean;
  },
  times: Times,
  now: number,
): Plan | undefined {
  const { nextAt, offsetMs, missed, isRunning } = job;
  const until = now - offsetMs;
  if (nextAt === undefined || nextAt > until) return undefined;
  const second = times.after(nextAt);
  const due = second === undefined || second > until ? [nextAt] : [
    nextAt,
    ...times.latest(until, MISSED_COUNTED_MAX).filter((at) => at > nextAt),
  ];
  const last = due.at(-1) ?? nextAt;
  const following = times.after(until);
  const isOnTime = until - last <= GRACE_MS;
  const giveUp = (list: readonly number[], reason: string) => {
    const at = list.at(-1);
    return at === undefined ? {} : {
      missed: { at, count: list.length, reason },
    };
  };
  if (isRunning) {
    // What is made up for waits for its turn; the rest does not pile up.
    if (missed === "run_all") return undefined;
    return {
      ...giveUp(due, "the run before was still going on"),
      nextAt: following,
    };
  }
  if (due.length === 1 && isOnTime) return { fire: last, nextAt: following };
  switch (missed) {
    case "skip":
      return isOnTime
        ? {
          fire: last,
          ...giveUp(due.slice(0, -1), "nothing ran then"),
          nextAt: following,
        }
        : { ...giveUp(due, "nothing ran then"), nextAt: following };
    case "run_once":
      return {
        fire: last,
        ...giveUp(due.slice(0, -1), "made up for by one run"),
        nextAt: following,
      };
    case "run_all": {
      const kept = due.slice(-RUN_ALL_MAX);
      const [fire = last, second] = kept;
      return {
        fire,
        ...giveUp(
          due.slice(0, due.length - kept.length),
          `only the last ${RUN_ALL_MAX} are made up for`,
        ),
        nextAt: second ?? following,
      };
    }
  }
}

/** Minutes since midnight of a time of day. */
function minutesOf(text: string): number {
  const [hours = 0, minutes = 0] = text.split(":").map(Number);
  return hours * 60 + minutes;
}

/** The day and the minute of an instant on a zone's clocks. */
export function clockIn(
  at: number,
  zone: string,
): { day: string; minutes: number } {
  const there = Temporal.Instant.fromEpochMilliseconds(at)
    .toZonedDateTimeISO(zone);
  return {
    day: there.toPlainDate().toString(),
    minutes: there.hour * 60 + there.minute,
  };
}

/** Whether an instant is in quiet hours; they may go past midnight. */
export function isQuiet(
  at: number,
  quiet: { from: string; to: string },
  zone: string,
): boolean {
  const { minutes } = clockIn(at, zone);
  const from = minutesOf(quiet.from);
  const to = minutesOf(quiet.to);
  return from <= to
    ? minutes >= from && minutes < to
    : minutes >= from || minutes < to;
}
