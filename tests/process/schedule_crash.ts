/**
 * A real gateway with jobs every second, killed with -9 around their due times
 * again and again. Afterwards every due time was run exactly once, or is
 * recorded as missed by its job's policy.
 *
 * By hand, for longer: `deno run -A tests/process/schedule_crash.ts 50`.
 */
import assert from "node:assert/strict";
import type { GatewayClient } from "../../src/remote/client.ts";
import type { JobRunView, JobView } from "../../src/core/methods/schedule.ts";
import { systemClock } from "../../src/core/time.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import {
  client,
  type Gateway,
  providedBy,
  servicePid,
  start,
} from "./gateways.ts";
import { freePort, scratch, until } from "./processes.ts";

const POLICIES = ["run_all", "run_once", "skip"] as const;
const SECOND = 1_000;

/** Waits for a moment near a firing, and kills the service in it. */
async function killAround(
  gateway: Gateway,
  one: GatewayClient,
  n: number,
): Promise<void> {
  const pid = await servicePid(one);
  const { nextWakeAtMs = 0 } = await one.call("cron.status", {});
  if (n % 3 === 2) {
    // While the model is being asked, or the end is being stored.
    const heard = Promise.withResolvers<void>();
    using _listening = one.listen((notice) => {
      if (notice.kind !== "event" || notice.event !== "cron") return;
      const { action } = notice.payload as { action: string };
      if (action === (n % 2 === 0 ? "started" : "finished")) heard.resolve();
    });
    await heard.promise;
  } else {
    // From a little before the claim to a little after it.
    const wait = nextWakeAtMs - systemClock.now() + (n * 7) % 24 - 4;
    await systemClock.sleep(Math.max(0, wait));
  }
  Deno.kill(pid, "SIGKILL");
  await gateway.proc.status;
}

async function allRuns(one: GatewayClient, id: string): Promise<JobRunView[]> {
  const { entries } = await one.call("cron.runs", { id, limit: 500 });
  return entries.reverse();
}

/** How many times each due time of an event stands in the main conversation. */
async function saidInMain(one: GatewayClient): Promise<Map<string, number>> {
  const { messages } = await one.call("chat.history", {
    sessionKey: "main",
    limit: 1000,
  });
  const said = new Map<string, number>();
  for (const { role, content } of messages) {
    if (role !== "user") continue;
    const text = JSON.stringify(content);
    const [, job = "", due = ""] =
      /Event of the job \\"(\w+)\\", due ([\d: -]+) /.exec(text) ?? [];
    const key = `${job} ${due}`;
    said.set(key, (said.get(key) ?? 0) + 1);
  }
  return said;
}

function dueText(at: number): string {
  return new Date(at).toISOString().slice(0, 19).replace("T", " ")
    .replace(/:00$/, "");
}

/** Every due time once, or recorded as missed; what ran is said exactly once. */
function check(
  job: JobView,
  runs: readonly JobRunView[],
  said: ReadonlyMap<string, number>,
): { ran: number; missed: number } {
  const { schedule } = job;
  const anchor = schedule.kind === "every" ? schedule.anchorMs : 0;
  let at = anchor;
  let missed = 0;
  for (const run of runs) {
    const count = run.missed ?? 1;
    at += count * SECOND;
    assert.equal(
      run.dueAtMs,
      at,
      `${job.name}: a due time is not accounted for`,
    );
    const times = said.get(`${job.name} ${dueText(run.dueAtMs)}`) ?? 0;
    if (run.missed === undefined) {
      // A run that was cut off again and again is given up, and says so.
      const isGivenUp = run.status === "error" &&
        run.error === "The gateway stopped 3 times in a row";
      assert.ok(
        run.status === "ok" || isGivenUp,
        `${job.name}: ${JSON.stringify(run)}`,
      );
      assert.equal(
        times,
        1,
        `${job.name} at ${dueText(at)}: said ${times} times`,
      );
    } else {
      missed += count;
      assert.equal(times, 0, `${job.name}: missed, and said`);
    }
  }
  return { ran: runs.length, missed };
}

/** Kills so many times; what came of it, by job. */
export async function crashSchedule(
  kills: number,
): Promise<Record<string, { ran: number; missed: number }>> {
  await using dir = await scratch();
  await using fake = await fakeOpenai({
    script: () => ({
      text: ["no", "ted"],
      before: async () => await systemClock.sleep(10),
    }),
  });
  const options = {
    dir: dir.path,
    port: freePort(),
    env: {
      ...providedBy(fake),
      CARAPACE_CONFIG_JSON: JSON.stringify({
        schedule: { intervalSeconds: 1, zone: "UTC" },
        budgets: { unpricedTokensPerDay: "off" },
        gateway: {},
      }),
    },
  };
  const jobs: JobView[] = [];
  for (let n = 0; n < kills; n++) {
    await using gateway = await start(options);
    using one = await client(gateway);
    if (n === 0) {
      for (const missed of POLICIES) {
        jobs.push(
          await one.call("cron.add", {
            name: missed,
            schedule: { kind: "every", everyMs: SECOND },
            payload: { kind: "systemEvent", text: "tick" },
            missed,
          }),
        );
      }
    }
    await killAround(gateway, one, n);
  }
  await using gateway = await start(options);
  using one = await client(gateway);
  const outcome: Record<string, { ran: number; missed: number }> = {};
  for (const { id } of jobs) {
    await one.call("cron.update", { id, patch: { enabled: false } });
  }
  await until("the end of every run", async () => {
    const { running } = await one.call("cron.status", {});
    return running === 0;
  });
  const said = await saidInMain(one);
  for (const job of jobs) {
    outcome[job.name] = check(job, await allRuns(one, job.id), said);
  }
  return outcome;
}

if (import.meta.main) {
  // deno-lint-ignore no-top-level-await
  console.log(await crashSchedule(Number(Deno.args[0] ?? 20)));
}
