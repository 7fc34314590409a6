/**
 * The agents' slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { AgentId } from "../core/ids.ts";
import { type Need, need } from "../core/needs.ts";
import { isZone } from "../core/schedule.ts";

export const AgentConfig = z.strictObject({
  name: z.string().min(1).max(80).optional().describe(
    "How the agent calls itself",
  ),
  model: z.string().min(1).max(256).optional().describe(
    "provider:model; without it the first provider with a key is used",
  ),
  fallbacks: z.array(z.string().min(1).max(256)).max(8).default([]).describe(
    "Models to try in order when one cannot be reached before its first word",
  ),
  workspace: z.string().min(1).max(1024).optional().describe(
    "A folder whose AGENTS.md, SOUL.md, USER.md, IDENTITY.md, TOOLS.md and MEMORY.md are shown to the model as your words",
  ),
  runningMax: z.int().min(1).max(1024).optional().describe(
    "Turns of this agent that run at once; without it only the common limit",
  ),
  prompt: z.string().max(32_768).optional().describe(
    "Added to the system prompt",
  ),
  tools: z.union([z.literal("any"), z.array(z.string().max(64))]).default("any")
    .describe("The tools this agent may use"),
  remote: z.string().max(40).optional().describe(
    "The gateway its turns are taken on, one of remotes; its model, tools and memory are that gateway's",
  ),
  remoteAgent: AgentId.optional().describe(
    "The agent over there; without it main",
  ),
  thinkingTokens: z.int().min(0).max(200_000).default(0).describe(
    "Tokens the model may think with",
  ),
});
export type AgentConfig = z.infer<typeof AgentConfig>;

/** Bounds of a turn. */
export const AgentLimits = z.strictObject({
  stepsMax: z.int().min(1).max(200).default(25).describe(
    "Model calls in one turn",
  ),
  turnMs: z.int().min(1000).max(86_400_000).default(600_000).describe(
    "One turn, without the time it waits for an approval",
  ),
  toolMs: z.int().min(100).max(3_600_000).default(60_000).describe(
    "One tool call",
  ),
  toolOutputBytesMax: z.int().min(1024).max(4_194_304).default(262_144)
    .describe("Text of one tool result"),
  runningMax: z.int().min(1).max(1024).default(8).describe(
    "Turns that run at once; more wait and say so",
  ),
  queuedMax: z.int().min(1).max(1024).default(64).describe(
    "Turns that wait in one session",
  ),
  historyTokensMax: z.int().min(1000).max(4_000_000).default(100_000).describe(
    "History shown to the model at most, whatever its window holds",
  ),
  outputTokensMax: z.int().min(16).max(1_000_000).default(8192).describe(
    "One answer of the model",
  ),
  approvalMs: z.int().min(1000).max(86_400_000).default(600_000).describe(
    "How long an approval can be answered",
  ),
}).prefault({});
export type AgentLimits = z.infer<typeof AgentLimits>;

export const AgentsConfig = z.record(AgentId, AgentConfig.prefault({}))
  .prefault({ main: {} }).transform((agents) => {
    const main = agents["main"] ?? AgentConfig.parse({});
    return { ...agents, main };
  });
export type AgentsConfig = Readonly<Record<string, AgentConfig>> & {
  main: AgentConfig;
};

/** One rule of who is answered by which agent; what it does not name, it does not ask about. */
export const Binding = z.strictObject({
  agent: AgentId,
  channel: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/).optional(),
  account: z.string().min(1).max(128).optional(),
  peer: z.string().min(1).max(256).optional().describe(
    "The sender's id, or the group's",
  ),
}).refine(
  (row) => row.channel ?? row.account ?? row.peer,
  "a binding names a channel, an account or a peer",
).refine(
  (row) => row.channel !== undefined || row.account === undefined,
  "an account belongs to a channel: name that too",
);
export type Binding = z.infer<typeof Binding>;

export const BindingsConfig = z.array(Binding).max(256).default([]).describe(
  "Which agent answers where; the one that names most wins, then the first",
);

/** When a conversation begins anew by itself. */
export const SessionsConfig = z.strictObject({
  idleMinutes: z.int().min(1).max(525_600).optional().describe(
    "Begin anew when nothing was said for so long",
  ),
  dailyAt: z.string().regex(
    /^([01]\d|2[0-3]):[0-5]\d$/,
    "a time of day looks like 04:00",
  ).optional().describe("Begin anew once a day, at this time"),
  zone: z.string().max(64).refine(
    isZone,
    "this is no time zone of the IANA, such as Europe/Berlin",
  )
    .optional().describe("The time zone of dailyAt; without it the machine's"),
}).prefault({});
export type SessionsConfig = z.infer<typeof SessionsConfig>;

/** What the agents' own folders need of the sandbox. */
export function agentNeeds(agents: AgentsConfig): Need[] {
  return Object.entries(agents).flatMap(([id, { workspace }]) =>
    workspace === undefined
      ? []
      : [need("read", workspace, `agents.${id}.workspace`)]
  );
}
