/**
 * Promise 11: a schedule fires once; a missed run is caught up or recorded by
 * the job's stated policy, also when the process is killed around the firing.
 */
import assert from "node:assert/strict";
import { crashSchedule } from "../process/schedule_crash.ts";

Deno.test("a schedule fires once", async () => {
  const outcome = await crashSchedule(5);
  for (const [policy, { ran, missed }] of Object.entries(outcome)) {
    assert.ok(ran > 0, `${policy}: nothing ran`);
    // The gateway was away for whole seconds, five times.
    assert.equal(
      missed > 0,
      policy !== "run_all",
      `${policy}: ${missed} missed`,
    );
  }
});
