/**
 * The guard's slice of the configuration: policy lines and trusted places.
 *
 * @module
 */
import { z } from "zod";
import { Verdict } from "../core/turn.ts";

/** A rule on one argument: its dotted path and what it must be. */
export const ArgRule = z.strictObject({
  path: z.string().min(1).max(128),
  equals: z.union([z.string(), z.number(), z.boolean()]).optional(),
  in: z.array(z.string()).min(1).max(256).optional(),
  hostIn: z.array(z.string().min(1).max(253)).min(1).max(256).optional(),
  prefix: z.string().max(1024).optional(),
}).refine(
  (rule) =>
    [rule.equals, rule.in, rule.hostIn, rule.prefix]
      .filter((test) => test !== undefined).length === 1,
  "an argument rule states exactly one of equals, in, hostIn, prefix",
);
export type ArgRule = z.infer<typeof ArgRule>;

/** One owner's rule. What it does not name, it does not ask about. */
export const PolicyLine = z.strictObject({
  verdict: Verdict,
  tool: z.string().min(1).max(128).describe(
    "A tool's name, a glob (memory_*), or a group (group:web)",
  ),
  args: z.array(ArgRule).max(16).default([]),
  agent: z.string().max(40).optional(),
  channel: z.string().max(32).optional(),
  sender: z.string().max(256).optional().describe("A principal's id"),
});
export type PolicyLine = z.infer<typeof PolicyLine>;

export const GuardConfig = z.strictObject({
  policy: z.array(PolicyLine).max(1000).default([]).describe(
    "Rules by tool, argument, agent, channel or sender; deny wins, then ask",
  ),
  trusted: z.array(z.string().min(1).max(512)).max(256).default([]).describe(
    "Addresses and URLs that count as if the owner had typed them",
  ),
}).prefault({});
export type GuardConfig = z.infer<typeof GuardConfig>;
