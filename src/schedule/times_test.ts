import assert from "node:assert/strict";
import fc from "fast-check";
import type { Schedule } from "../core/schedule.ts";
import { isQuiet, jitterOf, planDue, RUN_ALL_MAX, timesOf } from "./times.ts";

const HOUR = 3_600_000;
const at = (text: string) => Date.parse(text);
const cron = (expr: string, tz = "Europe/Berlin"): Schedule => ({
  kind: "cron",
  expr,
  tz,
});

async function next(
  schedule: Schedule,
  from: string,
  count: number,
): Promise<string[]> {
  const times = await timesOf(schedule);
  const list: string[] = [];
  for (let n = times.after(at(from)); n !== undefined && list.length < count;) {
    list.push(new Date(n).toISOString().slice(0, 16));
    n = times.after(n);
  }
  return list;
}

Deno.test("A time in the gap of a zone runs once, when the gap ends", async () => {
  assert.deepEqual(
    await next(cron("30 2 * * *"), "2026-03-28T12:00:00Z", 3),
    ["2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"],
  );
});

Deno.test("A time that comes twice runs at the first", async () => {
  assert.deepEqual(
    await next(cron("30 2 * * *"), "2026-10-24T12:00:00Z", 3),
    ["2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"],
  );
});

Deno.test("An hourly job follows the clocks through gap and overlap", async () => {
  assert.deepEqual(
    await next(cron("0 * * * *"), "2026-10-24T23:30:00Z", 3),
    ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
  );
  assert.deepEqual(
    await next(cron("0 * * * *"), "2026-03-28T23:30:00Z", 3),
    ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"],
  );
});

const Instant = fc.integer({
  min: at("2025-01-01T00:00:00Z"),
  max: at("2030-01-01T00:00:00Z"),
});
const Minute = fc.integer({ min: 0, max: 59 });
const Expr = fc.oneof(
  fc.tuple(Minute, fc.integer({ min: 0, max: 23 }))
    .map(([m, h]) => `${m} ${h} * * *`),
  Minute.map((m) => `${m} * * * *`),
  fc.integer({ min: 2, max: 30 }).map((n) => `*/${n} * * * *`),
  fc.tuple(Minute, fc.integer({ min: 1, max: 28 }))
    .map(([m, d]) => `${m} 2 ${d} * *`),
  fc.constantFrom("0 9 * * 1-5", "15 2,14 * * 0", "30 3 1 */3 *"),
);
const Tz = fc.constantFrom(
  "Europe/Berlin",
  "America/New_York",
  "Australia/Lord_Howe",
  "Asia/Kathmandu",
  "UTC",
);
const AnySchedule: fc.Arbitrary<Schedule> = fc.oneof(
  fc.record({ kind: fc.constant("at" as const), atMs: Instant }),
  fc.record({
    kind: fc.constant("every" as const),
    everyMs: fc.integer({ min: 1_000, max: 40 * 86_400_000 }),
    anchorMs: Instant,
  }),
  fc.record({ kind: fc.constant("cron" as const), expr: Expr, tz: Tz }),
);

Deno.test("The next time is after now, and later for a later now", async () => {
  await fc.assert(
    fc.asyncProperty(AnySchedule, Instant, Instant, async (schedule, a, b) => {
      const times = await timesOf(schedule);
      const [from, to] = a <= b ? [a, b] : [b, a];
      const first = times.after(from);
      const second = times.after(to);
      if (first === undefined) return assert.equal(second, undefined);
      assert.ok(first > from);
      if (second !== undefined) assert.ok(second >= first && second > to);
      // Nothing lies between an instant and the time after it.
      assert.equal(times.after(first - 1), first);
    }),
    { numRuns: 300 },
  );
});

Deno.test("What passed is what would have come", async () => {
  await fc.assert(
    fc.asyncProperty(AnySchedule, Instant, async (schedule, from) => {
      const times = await timesOf(schedule);
      const forward: number[] = [];
      for (let t = times.after(from); t !== undefined && forward.length < 6;) {
        forward.push(t);
        t = times.after(t);
      }
      const last = forward.at(-1);
      if (last === undefined) return;
      assert.deepEqual(times.latest(last, forward.length), forward);
    }),
    { numRuns: 300 },
  );
});

Deno.test("Every so often does not drift from its anchor", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1_000, max: 1e9 }),
      Instant,
      Instant,
      async (everyMs, anchorMs, now) => {
        const times = await timesOf({ kind: "every", everyMs, anchorMs });
        const next = times.after(now) ?? 0;
        assert.equal((next - anchorMs) % everyMs, 0);
        assert.ok(next >= anchorMs);
        assert.ok(now < anchorMs || next - now <= everyMs);
      },
    ),
  );
});

Deno.test("Whatever was missed, a plan fires at most one due time that passed, gives up the rest once, and moves on", async () => {
  const Policy = fc.constantFrom(
    "run_once" as const,
    "skip" as const,
    "run_all" as const,
  );
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(
        AnySchedule,
        Instant,
        fc.integer({ min: 0, max: 90 * 86_400_000 }),
      ),
      fc.record({ missed: Policy, isRunning: fc.boolean() }),
      async ([schedule, from, away], { missed, isRunning }) => {
        const times = await timesOf(schedule);
        const nextAt = times.after(from);
        if (nextAt === undefined) return;
        const now = nextAt + away;
        const job = { nextAt, offsetMs: 0, missed, isRunning };
        const plan = planDue(job, times, now);
        if (plan === undefined) {
          return assert.ok(isRunning && missed === "run_all");
        }
        const { fire, nextAt: following } = plan;
        if (isRunning) assert.equal(fire, undefined);
        if (fire !== undefined) {
          assert.ok(fire >= nextAt && fire <= now);
          assert.ok(following === undefined || following > fire);
          if (plan.missed !== undefined) assert.ok(plan.missed.at < fire);
        }
        assert.ok(fire !== undefined || plan.missed !== undefined);
        assert.ok(following === undefined || following > nextAt);
        if (missed !== "run_all") {
          assert.ok(following === undefined || following > now);
        }
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("run_all makes up for the last few, each once and in order", async () => {
  const times = await timesOf({ kind: "every", everyMs: HOUR, anchorMs: 0 });
  const now = 1000 * HOUR;
  const fired: number[] = [];
  let nextAt: number | undefined = 900 * HOUR;
  let given = 0;
  for (let n = 0; n < 200; n++) {
    const plan = planDue(
      { nextAt, offsetMs: 0, missed: "run_all", isRunning: false },
      times,
      now,
    );
    if (plan === undefined) break;
    if (plan.fire !== undefined) fired.push(plan.fire / HOUR);
    given += plan.missed?.count ?? 0;
    nextAt = plan.nextAt;
  }
  assert.equal(fired.length, RUN_ALL_MAX);
  assert.equal(fired.length + given, 101);
  assert.deepEqual(fired, Array.from({ length: 24 }, (_, n) => 977 + n));
  assert.equal(nextAt, 1001 * HOUR);
});

Deno.test("A job's jitter is its own, the same every time, and within bounds", () => {
  assert.equal(jitterOf("job_a", 0), 0);
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: HOUR }), (id, max) => {
      const jitter = jitterOf(id, max);
      assert.ok(jitter >= 0 && jitter <= max);
      assert.equal(jitterOf(id, max), jitter);
    }),
  );
});

Deno.test("Quiet hours go past midnight, by their zone's clocks", () => {
  const quiet = { from: "22:00", to: "07:00" };
  const is = (text: string) => isQuiet(at(text), quiet, "Europe/Berlin");
  assert.equal(is("2026-01-10T20:59:00Z"), false);
  assert.equal(is("2026-01-10T21:00:00Z"), true);
  assert.equal(is("2026-01-11T05:59:00Z"), true);
  assert.equal(is("2026-01-11T06:00:00Z"), false);
  assert.equal(
    isQuiet(at("2026-01-10T12:30:00Z"), { from: "12:00", to: "13:00" }, "UTC"),
    true,
  );
});

Deno.test("An expression that is none is refused, naming the field", async () => {
  await assert.rejects(timesOf(cron("61 * * * *")), /schedule\.expr/);
  await assert.rejects(timesOf(cron("* * * *")), /schedule\.expr/);
});
