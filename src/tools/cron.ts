/**
 * `cron_add`, `cron_list`, `cron_remove`: the agent's own hand on the schedule.
 * A job it adds has the label of all that was read here, and no more than the
 * authority of this run; neither grows when the job runs.
 *
 * Never: a standing grant from a model.
 *
 * @module
 */
import { z } from "zod";
import { joinAll, type Label } from "../core/label.ts";
import { parseScheduleText, type ScheduleActor } from "../core/schedule.ts";
import type { JobView, ScheduleBus } from "../core/methods/schedule.ts";
import { type Tool, tool, type ToolContext } from "../core/tool.ts";

const OWN = { scope: "write", reach: "owner", destinations: [] } as const;

const AddInput = z.strictObject({
  schedule: z.string().min(1).max(128).describe(
    '"every 2h", "in 20m", "at 2026-12-24T18:00" or a cron expression',
  ),
  zone: z.string().max(64).optional().describe("IANA time zone"),
  text: z.string().min(1).max(16_000).describe("The task, in full"),
  name: z.string().min(1).max(80).optional(),
  tellOwner: z.boolean().optional().describe("Send the owner its answer"),
});

function actorOf({ authority, label }: ToolContext): ScheduleActor {
  return { authority, label };
}

function line({ id, name, when, enabled, state, payload }: JobView): string {
  const next = state.nextRunAtMs === undefined
    ? "not due"
    : `next ${new Date(state.nextRunAtMs).toISOString()}`;
  const text = payload.kind === "systemEvent" ? payload.text : payload.message;
  const brief = text.replaceAll(/\s+/g, " ").slice(0, 200);
  return `${id} ${JSON.stringify(name)}: ${when}; ${
    enabled ? next : "off"
  }; ${brief}`;
}

/** The label of texts that others may have written. */
function labelOf(jobs: readonly JobView[], now: number): Label {
  return joinAll(jobs.map(({ id, integrity }): Label => ({
    integrity: integrity === "owner" || integrity === "peer"
      ? integrity
      : "untrusted",
    secrecy: [],
    origins: [{ kind: "schedule", ref: id, at: now }],
  })));
}

/** The tools over one schedule. */
export function cronTools(schedule: ScheduleBus): Tool[] {
  return [
    tool({
      ...OWN,
      name: "cron_add",
      about:
        "Add a job: a task that you will be given later, once or again and again",
      input: AddInput,
      effect: "schedule",
      result: { integrity: "inherit", secrecy: "inherit" },
      plan: async ({ schedule: text, zone }) => {
        const [when, ...next] = await schedule.words(text, zone);
        return {
          binding: JSON.stringify([text, zone ?? ""]),
          card: [`when: ${when}`, ...next.map((at) => `  then: ${at}`)],
        };
      },
      run: async ({ schedule: text, zone, name, ...input }, context) => {
        const job = await schedule.run("cron.add", {
          schedule: parseScheduleText(text, { now: context.now(), zone }),
          payload: { kind: "agentTurn", message: input.text },
          agentId: context.agentId,
          sessionTarget: "isolated",
          ...(name === undefined ? {} : { name }),
          ...(input.tellOwner === true
            ? { delivery: { mode: "announce", to: "owner" } }
            : {}),
        }, actorOf(context));
        return `Added ${line(job)}`;
      },
    }),
    tool({
      ...OWN,
      name: "cron_list",
      about: "List the jobs there are",
      input: z.strictObject({}),
      effect: "read_private",
      result: { integrity: "inherit", secrecy: "private" },
      run: async (_, context) => {
        const { jobs } = await schedule.run("cron.list", {}, actorOf(context));
        if (jobs.length === 0) return "There are no jobs";
        return {
          text: jobs.map(line).join("\n"),
          label: labelOf(jobs, context.now()),
        };
      },
    }),
    tool({
      ...OWN,
      name: "cron_remove",
      about: "Remove a job",
      input: z.strictObject({ id: z.string().min(1).max(64) }),
      effect: "schedule",
      result: { integrity: "inherit", secrecy: "inherit" },
      run: async ({ id }, context) => {
        await schedule.run("cron.remove", { id }, actorOf(context));
        return `Removed ${id}`;
      },
    }),
  ];
}
