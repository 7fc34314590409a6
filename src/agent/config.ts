/**
 * The agents' slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { AgentId } from "../core/ids.ts";

export const AgentConfig = z.strictObject({
  name: z.string().min(1).max(80).optional().describe(
    "How the agent calls itself",
  ),
  model: z.string().min(1).max(256).optional().describe(
    "provider:model; without it the first provider with a key is used",
  ),
  prompt: z.string().max(32_768).optional().describe(
    "Added to the system prompt",
  ),
  tools: z.union([z.literal("any"), z.array(z.string().max(64))]).default("any")
    .describe("The tools this agent may use"),
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
    "History shown to the model, by estimate",
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
