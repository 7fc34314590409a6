/**
 * The schedule's slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { AgentId } from "../core/ids.ts";
import { isZone } from "../core/schedule.ts";
import { MissedPolicy } from "../core/methods/schedule.ts";

const Zone = z.string().max(64).refine(
  isZone,
  "this is no time zone of the IANA, such as Europe/Berlin",
);
const TimeOfDay = z.string().regex(
  /^([01]\d|2[0-3]):[0-5]\d$/,
  "a time of day looks like 07:30",
);

export const HeartbeatConfig = z.strictObject({
  enabled: z.boolean().default(false).describe(
    "Wake an agent now and then, to look for what needs doing",
  ),
  everyMinutes: z.int().min(1).max(10_080).default(30),
  agent: AgentId.default("main"),
  model: z.string().min(1).max(256).optional().describe(
    "A cheap model for this; without it the agent's own",
  ),
  prompt: z.string().min(1).max(8_000).optional().describe(
    "What the agent is told, instead of looking at HEARTBEAT.md",
  ),
  quiet: z.strictObject({ from: TimeOfDay, to: TimeOfDay }).optional()
    .describe("No beats between these times of day"),
  zone: Zone.optional().describe("The time zone of quiet; else schedule.zone"),
  perDayMax: z.int().min(1).max(1_440).default(24).describe("Beats a day"),
  deliver: z.string().min(1).max(300).optional().describe(
    "Where to send what a beat has to say: owner, or another address that message_send takes",
  ),
}).prefault({});
export type HeartbeatConfig = z.infer<typeof HeartbeatConfig>;

export const ScheduleConfig = z.strictObject({
  zone: Zone.optional().describe(
    "The time zone of jobs that name none; without it the machine's",
  ),
  missed: MissedPolicy.default("run_once").describe(
    "What a job that does not say does about due times that passed while nothing ran",
  ),
  intervalSeconds: z.int().min(1).max(86_400).default(60).describe(
    "The shortest time between two runs of a job",
  ),
  heartbeat: HeartbeatConfig,
}).prefault({});
export type ScheduleConfig = z.infer<typeof ScheduleConfig>;
