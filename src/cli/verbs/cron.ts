/**
 * `carapace cron`: adds, lists, changes, runs and removes jobs of a running
 * gateway, and shows what became of them.
 *
 * @module
 */
import { parseScheduleText } from "../../core/schedule.ts";
import {
  JobDelivery,
  type JobRunView,
  type JobView,
  MissedPolicy,
} from "../../core/methods/schedule.ts";
import type { MethodInput } from "../../core/methods.ts";
import { parseDuration, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { agoText, durationText, makePaint, table, timeText } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const cron: Verb = {
  name: "cron",
  about: "Add, list, change, run and remove scheduled jobs",
  usage: [
    "carapace cron list [--json]",
    "carapace cron add SCHEDULE TEXT [--name NAME] [--zone ZONE] [--agent ID] [--event] [--model MODEL] [--missed run_once|skip|run_all] [--jitter 5m] [--timeout 10m] [--deliver owner|ADDRESS] [--once] [--off] [--json]",
    "carapace cron update ID [--schedule SCHEDULE] [--text TEXT] [--on|--off] [the options of add] [--json]",
    "carapace cron remove ID [--json]",
    "carapace cron run ID [--json]",
    "carapace cron runs ID [--limit N] [--json]",
    "carapace cron status [--json]",
  ],
  examples: [
    'carapace cron add "every 2h" "check the build"',
    'carapace cron add "0 9 * * 1-5" "what is in my calendar today?" --zone Europe/Berlin --deliver owner',
    'carapace cron add "at 2026-12-24T18:00" "wish me a merry Christmas" --deliver owner',
    'carapace cron add "in 20m" "the tea is ready" --event --once',
    "carapace cron update job_01jabc --off",
    "carapace cron runs job_01jabc --json | jq '.entries[] | select(.status != \"ok\")'",
  ],
  needs: "gateway",
  run: runCron,
};

const OPTIONS = {
  name: { type: "string" },
  zone: { type: "string" },
  agent: { type: "string" },
  event: { type: "boolean" },
  model: { type: "string" },
  missed: { type: "string" },
  jitter: { type: "string" },
  timeout: { type: "string" },
  deliver: { type: "string" },
  once: { type: "boolean" },
  on: { type: "boolean" },
  off: { type: "boolean" },
  schedule: { type: "string" },
  text: { type: "string" },
  limit: { type: "string" },
} as const;

type Options = ReturnType<typeof readArgs<typeof OPTIONS>>["values"];
type Patch = MethodInput<"cron.update">["patch"];

async function runCron(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, OPTIONS);
  const [action = "list", ...rest] = positionals;
  const work = actOf(io, { action, rest, values });
  using client = await openGateway(io, { roof });
  await work(client);
  return EXIT.ok;
}

type Client = Awaited<ReturnType<typeof openGateway>>;

/** What was asked for, read before a gateway is. */
function actOf(
  io: Io,
  asked: { action: string; rest: string[]; values: Options },
): (client: Client) => Promise<void> {
  const { action, rest, values } = asked;
  const json = values.json === true;
  const say = (value: object, text: () => string) =>
    io.out(json ? jsonLine(value) : text());
  const [first, second, extra] = rest;
  const takesMax = action === "add" ? 2 : action === "list" ? 0 : 1;
  if (rest.length > takesMax) {
    throw usageError(
      `Cannot take the argument "${
        takesMax === 2 ? extra : takesMax === 1 ? second : first
      }": it is one too many`,
      action === "add" ? "Put the schedule and the text in quotes" : undefined,
    );
  }
  const now = io.clock.now();
  switch (action) {
    case "list":
      return async (client) => {
        const said = await client.call("cron.list", {});
        say(said, () => jobsText(io, said.jobs));
      };
    case "status":
      return async (client) => {
        const said = await client.call("cron.status", {});
        say(said, () => {
          const { jobs, running, nextWakeAtMs: next, heartbeat, zone } = said;
          const when = next === undefined ? "" : `, next ${agoText(next, now)}`;
          const heart = heartbeat.enabled
            ? "on"
            : `off${
              heartbeat.stoppedBecause === undefined
                ? ""
                : `: ${heartbeat.stoppedBecause}`
            }`;
          return printableLine(
            `${jobs} ${
              jobs === 1 ? "job" : "jobs"
            }, ${running} running${when}; zone ${zone}; heartbeat ${heart}`,
          ) + "\n";
        });
      };
    case "add": {
      const job = {
        ...patchOf(values),
        schedule: parseScheduleText(required(first, "SCHEDULE"), {
          now,
          zone: values.zone,
        }),
        payload: payloadOf(required(second, "TEXT"), values),
      };
      return async (client) => {
        const said = await client.call("cron.add", job);
        say(said, () => `added ${jobText(said, now)}\n`);
      };
    }
    case "update": {
      const id = required(first, "ID");
      const patch = {
        ...patchOf(values),
        ...values.schedule === undefined ? {} : {
          schedule: parseScheduleText(values.schedule, {
            now,
            zone: values.zone,
          }),
        },
        ...values.text === undefined
          ? {}
          : { payload: payloadOf(values.text, values) },
      };
      if (Object.keys(patch).length === 0) {
        throw usageError("Say what to change, such as --text or --off");
      }
      return async (client) => {
        const said = await client.call("cron.update", { id, patch });
        say(said, () => `changed ${jobText(said, now)}\n`);
      };
    }
    case "remove":
    case "run": {
      const id = required(first, "ID");
      if (action === "remove") {
        return async (client) => {
          const said = await client.call("cron.remove", { id });
          say(said, () => `removed ${printableLine(id)}\n`);
        };
      }
      const idempotencyKey = crypto.randomUUID();
      return async (client) => {
        const said = await client.call("cron.run", { id, idempotencyKey });
        say(
          said,
          () =>
            said.ran
              ? `started ${said.runId}\n`
              : `not started: ${printableLine(said.reason ?? "")}\n`,
        );
      };
    }
    case "runs": {
      const id = required(first, "ID");
      const limit = values.limit === undefined ? 20 : Number(values.limit);
      if (!Number.isInteger(limit) || limit < 1 || limit > 500) {
        throw usageError("The value of --limit is a number from 1 to 500");
      }
      return async (client) => {
        const said = await client.call("cron.runs", { id, limit });
        say(said, () => runsText(io, said.entries));
      };
    }
    default:
      throw usageError(
        `Unknown form "${action.slice(0, 40)}"`,
        "Say list, add, update, remove, run, runs or status",
      );
  }
}

function required(value: string | undefined, name: string): string {
  if (value !== undefined && value !== "") return value;
  throw usageError(`The argument ${name} is missing`);
}

function payloadOf(
  text: string,
  { event, model, timeout }: Options,
): MethodInput<"cron.add">["payload"] {
  if (event === true) {
    if (model !== undefined || timeout !== undefined) {
      throw usageError("--model and --timeout are not for an --event");
    }
    return { kind: "systemEvent", text };
  }
  return {
    kind: "agentTurn",
    message: text,
    ...(model === undefined ? {} : { model }),
    ...(timeout === undefined
      ? {}
      : { timeoutSeconds: Math.ceil(parseDuration(timeout) / 1_000) }),
  };
}

/** The options that `add` and `update` share. */
function patchOf(values: Options): Patch {
  const { name, agent, missed, jitter, deliver, once, on, off } = values;
  if (on === true && off === true) throw usageError("Say --on or --off");
  if (missed !== undefined && !MissedPolicy.safeParse(missed).success) {
    throw usageError(
      `The value of --missed is ${MissedPolicy.options.join(", ")}`,
    );
  }
  return {
    ...(name === undefined ? {} : { name }),
    ...(agent === undefined ? {} : { agentId: agent }),
    ...(missed === undefined ? {} : { missed: MissedPolicy.parse(missed) }),
    ...(jitter === undefined ? {} : { jitterMs: parseDuration(jitter) }),
    ...(deliver === undefined ? {} : {
      delivery: JobDelivery.parse(
        deliver === "none"
          ? { mode: "none" }
          : { mode: "announce", to: deliver },
      ),
    }),
    ...(once === true ? { deleteAfterRun: true } : {}),
    ...(on === true ? { enabled: true } : {}),
    ...(off === true ? { enabled: false } : {}),
  };
}

function nextText({ enabled, disabledBecause, state }: JobView, now: number) {
  if (!enabled) return disabledBecause ?? "off";
  return state.nextRunAtMs === undefined
    ? "not due"
    : agoText(state.nextRunAtMs, now);
}

function jobText(job: JobView, now: number): string {
  return printableLine(
    `${job.id} "${job.name}": ${job.when}, next ${nextText(job, now)}`,
  );
}

function jobsText(io: Io, jobs: readonly JobView[]): string {
  if (jobs.length === 0) return "There are no jobs\n";
  const now = io.clock.now();
  const rows = jobs.map((job) => [
    job.id,
    job.name,
    job.when,
    nextText(job, now),
    job.state.runningAtMs === undefined
      ? job.state.lastStatus ?? ""
      : "running",
    job.state.lastError ?? "",
    job.by,
  ]);
  const heading = ["ID", "NAME", "WHEN", "NEXT", "LAST", "WHY", "BY"];
  return table(heading, rows, makePaint(io));
}

function runsText(io: Io, runs: readonly JobRunView[]): string {
  if (runs.length === 0) return "It did not run in the last 7 days\n";
  const rows = runs.map((run) => [
    timeText(run.dueAtMs),
    run.missed === undefined ? run.status : `${run.missed} ${run.status}`,
    run.lateMs < 1_000 ? "" : durationText(run.lateMs),
    run.durationMs === undefined ? "" : durationText(run.durationMs),
    run.usd === undefined ? "" : `$${run.usd.toFixed(4)}`,
    run.error ?? run.summary ?? "",
    run.delivered ?? "",
  ]);
  const heading = ["DUE", "STATUS", "LATE", "TOOK", "COST", "SAID", "SENT"];
  return table(heading, rows, makePaint(io));
}
