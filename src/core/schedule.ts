/**
 * When a job is due, as it is stored, written and said. Pure; the arithmetic of
 * cron expressions is the schedule room's.
 *
 * @module
 */
import { z } from "zod";
import type { Authority } from "./authority.ts";
import { AppError } from "./errors.ts";
import type { Label } from "./label.ts";

/** Whether the runtime knows a time zone by this name. */
export function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** The machine's own time zone. */
export function ownZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

const Zone = z.string().max(64).refine(
  isZone,
  "this is no time zone of the IANA, such as Europe/Berlin",
);
/** The last instant a date can say. */
const TIME_MAX = 8_640_000_000_000_000;
const Instant = z.int().min(0).max(TIME_MAX);
/** The longest pause of an `every` schedule, ten years; a longer one is refused. */
export const EVERY_MS_MAX = 315_576_000_000;

/** A job's schedule, whole: nothing in it depends on where it is read. */
export const Schedule = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("at"), atMs: Instant }),
  z.strictObject({
    kind: z.literal("every"),
    everyMs: z.int().min(1_000).max(EVERY_MS_MAX),
    /** Due at this instant and whole multiples of `everyMs` after it. */
    anchorMs: Instant,
  }),
  z.strictObject({
    kind: z.literal("cron"),
    /** Five fields, or six with seconds first. */
    expr: z.string().min(1).max(128),
    tz: Zone,
  }),
]);
export type Schedule = z.infer<typeof Schedule>;

/** The same as clients write it; what is left out is filled in when it is made. */
export const ScheduleInput = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("at"),
    /** An ISO time (local to `tz` without an offset), or milliseconds. */
    at: z.union([z.string().min(1).max(64), Instant]).optional(),
    atMs: Instant.optional(),
    tz: Zone.optional(),
  }),
  z.strictObject({
    kind: z.literal("every"),
    everyMs: z.int().min(1_000).max(EVERY_MS_MAX),
    anchorMs: Instant.optional(),
  }),
  z.strictObject({
    kind: z.literal("cron"),
    expr: z.string().min(1).max(128),
    tz: Zone.optional(),
  }),
]);
export type ScheduleInput = z.infer<typeof ScheduleInput>;

function isoTime(text: string, zone: string): number | undefined {
  try {
    return Temporal.Instant.from(text).epochMilliseconds;
  } catch {
    // No offset: it is a time on the clocks of the zone.
  }
  try {
    return Temporal.PlainDateTime.from(text).toZonedDateTime(zone)
      .epochMilliseconds;
  } catch {
    return undefined;
  }
}

/**
 * A schedule with everything it needs.
 *
 * @throws {AppError} `bad_input`, naming the field
 */
export function toSchedule(
  input: ScheduleInput,
  given: { now: number; zone: string },
): Schedule {
  switch (input.kind) {
    case "at": {
      const { at, atMs = typeof at === "number" ? at : undefined } = input;
      const instant = atMs ??
        (typeof at === "string"
          ? isoTime(at, input.tz ?? given.zone)
          : undefined);
      if (instant === undefined || instant < 0) {
        throw new AppError(
          "bad_input",
          `Cannot use schedule.at: ${JSON.stringify(at ?? null)} is no time`,
          { hint: "Write it like 2026-12-24T18:00 or 2026-12-24T18:00:00Z" },
        );
      }
      return { kind: "at", atMs: instant };
    }
    case "every":
      return {
        kind: "every",
        everyMs: input.everyMs,
        anchorMs: input.anchorMs ?? given.now,
      };
    case "cron":
      return {
        kind: "cron",
        expr: input.expr.trim().replaceAll(/\s+/g, " "),
        tz: input.tz ?? given.zone,
      };
  }
}

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

function spanMs(text: string): number | undefined {
  const match = /^(\d{1,6})\s*(s|m|min|h|d|w)$/.exec(text.trim());
  const ms = Number(match?.[1] ?? 0) * (UNIT_MS[match?.[2] ?? ""] ?? 0);
  return ms > 0 && ms <= EVERY_MS_MAX ? ms : undefined;
}

const HINT =
  'Write "every 2h", "in 20m", "at 2026-12-24T18:00" or a cron expression such as "0 9 * * 1-5"';

/**
 * A schedule as people write it: `every 2h`, `in 20m`, `at 2026-12-24T18:00`, a
 * cron expression of five or six fields, or `@daily` and its like.
 *
 * @throws {AppError} `bad_input`, saying what can be written
 */
export function parseScheduleText(
  text: string,
  given: { now: number; zone?: string | undefined },
): ScheduleInput {
  const said = text.trim();
  const tz = given.zone === undefined ? {} : { tz: given.zone };
  if (given.zone !== undefined && !isZone(given.zone)) {
    throw new AppError(
      "bad_input",
      `Cannot use zone: "${given.zone}" is no time zone of the IANA`,
      { hint: "Write it like Europe/Berlin" },
    );
  }
  const [, word = "", rest = ""] = /^(every|in|at)\s+(.+)$/i.exec(said) ?? [];
  switch (word.toLowerCase()) {
    case "every": {
      const everyMs = spanMs(rest);
      if (everyMs === undefined) break;
      return { kind: "every", everyMs };
    }
    case "in": {
      const ms = spanMs(rest);
      if (ms === undefined) break;
      return { kind: "at", atMs: given.now + ms };
    }
    case "at":
      return { kind: "at", at: rest.trim(), ...tz };
  }
  const fields = said.split(/\s+/).length;
  if (word === "" && (fields === 5 || fields === 6 || /^@\w+$/.test(said))) {
    return { kind: "cron", expr: said, ...tz };
  }
  throw new AppError(
    "bad_input",
    `Cannot read schedule: "${said.slice(0, 80)}"`,
    { hint: HINT },
  );
}

/** Milliseconds in the largest units that are whole. */
function spanText(ms: number): string {
  const found = Object.entries(UNIT_MS).toReversed().find(([unit, size]) =>
    unit !== "min" && ms % size === 0
  );
  return found === undefined ? `${ms} ms` : `${ms / found[1]} ${found[0]}`;
}

/** A time on the clocks of a zone, to the minute (to the second where it has one). */
export function timeIn(at: number, zone: string): string {
  const there = Temporal.Instant.fromEpochMilliseconds(at)
    .toZonedDateTimeISO(zone);
  const text = there.toPlainDateTime().toString({ smallestUnit: "second" })
    .replace("T", " ").replace(/:00$/, "");
  return `${text} ${zone}`;
}

/** A schedule in words. */
export function scheduleText(schedule: Schedule, zone: string): string {
  switch (schedule.kind) {
    case "at":
      return `once at ${timeIn(schedule.atMs, zone)}`;
    case "every":
      return `every ${spanText(schedule.everyMs)}`;
    case "cron":
      return `${schedule.expr} (${schedule.tz})`;
  }
}

/** Who asks something of the schedule: what they may do, and whose words it is. */
export interface ScheduleActor {
  authority: Authority;
  /** Of what they ask to be stored. */
  label: Label;
  /** A session key of theirs, made their own. */
  mainKey?: string;
}

/** The channel of everything the schedule starts; no other entrance has it. */
export const SCHEDULE_CHANNEL = "schedule";

/** The id of the event that a job's due time is. */
export function jobInbound(jobId: string, due: number | string): string {
  return `job:${jobId}:${due}`;
}

/** The job that an event of the schedule belongs to, if it is one's. */
export function jobOfInbound(id: string): string | undefined {
  return /^job:(job_[0-9a-z]+):/.exec(id)?.[1];
}

/** The session of an agent's heartbeat. */
export function heartbeatKey(agentId: string): string {
  return `agent:${agentId}:heartbeat`;
}

/** Whether a session is a heartbeat's. */
export function isHeartbeatKey(sessionKey: string): boolean {
  return /^agent:[^:]+:heartbeat$/.test(sessionKey);
}
