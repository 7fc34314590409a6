/**
 * The guard's slice of the configuration: policy lines, what the owner says of
 * tools' effects, trusted places, standing grants, the screens.
 *
 * @module
 */
import { z } from "zod";
import { Effect } from "../core/tool.ts";
import { Verdict } from "../core/turn.ts";

/** A rule on one argument: its dotted path and what it must be. */
export const ArgRule = z.strictObject({
  path: z.string().min(1).max(128),
  equals: z.union([z.string(), z.number(), z.boolean()]).optional(),
  in: z.array(z.string()).min(1).max(256).optional(),
  hostIn: z.array(z.string().min(1).max(253)).min(1).max(256).optional()
    .describe(
      "Hosts of URLs and mail addresses; *.example.com is any below it",
    ),
  prefix: z.string().max(1024).optional(),
  min: z.number().optional().describe("A number, and at least this"),
  max: z.number().optional().describe("A number, and at most this"),
  named: z.literal(true).optional().describe(
    "Who owns the conversation typed it there: the whole word, place or number",
  ),
  not: z.boolean().optional().describe("The value must not be so"),
}).refine(
  (rule) =>
    [rule.equals, rule.in, rule.hostIn, rule.prefix, rule.named]
          .filter((test) => test !== undefined).length +
        Number(rule.min !== undefined || rule.max !== undefined) === 1,
  "an argument rule states exactly one of equals, in, hostIn, prefix, named, min and max",
);
export type ArgRule = z.infer<typeof ArgRule>;

/** One owner's rule. What it does not name, it does not ask about. */
export const PolicyLine = z.strictObject({
  verdict: Verdict,
  tool: z.string().min(1).max(128).describe(
    "A tool's name, a glob (memory_*), or a group (group:web)",
  ),
  args: z.array(ArgRule).max(16).default([]),
  only: z.array(z.string().min(1).max(128)).max(32).optional().describe(
    "It speaks only of calls that state no other argument than these",
  ),
  agent: z.string().max(40).optional(),
  channel: z.string().max(32).optional(),
  sender: z.string().max(256).optional().describe(
    "A principal's id, or a glob (peer:*)",
  ),
}).refine(
  (line) => !line.tool.startsWith("group:") || GROUPS.includes(line.tool),
  {
    path: ["tool"],
    message:
      "the groups are group:fs, group:web, group:memory, group:sessions, group:messaging and group:automation",
  },
);
export type PolicyLine = z.infer<typeof PolicyLine>;

const GROUPS: readonly string[] = [
  "group:fs",
  "group:web",
  "group:memory",
  "group:sessions",
  "group:messaging",
  "group:automation",
];

/** What the owner says of a tool, whatever it says of itself. */
export const EffectLine = z.strictObject({
  tool: z.string().min(1).max(128).describe("A tool's name or a glob"),
  effect: Effect.optional(),
  destinations: z.array(z.strictObject({
    path: z.string().min(1).max(128),
    kind: z.enum(["url", "address", "path"]),
  })).max(16).optional().describe("The arguments that say where it acts"),
  result: z.strictObject({
    integrity: z.enum(["inherit", "untrusted"]).optional(),
    secrecy: z.enum(["inherit", "private"]).optional(),
  }).optional().describe("How its results are labelled"),
});
export type EffectLine = z.infer<typeof EffectLine>;

/** One thing that may be done with nobody to ask. */
export const GrantLine = z.strictObject({
  tool: z.string().min(1).max(128),
  places: z.array(z.string().min(1).max(512)).max(64).default([]).describe(
    "Exact addresses, or *.example.com for URLs; none for a tool without",
  ),
  agent: z.string().max(40).optional(),
  to: z.string().max(256).optional().describe(
    "The principal it is for; lets a paired sender use a tool of the owner's",
  ),
  session: z.string().max(300).optional(),
});
export type GrantLine = z.infer<typeof GrantLine>;

export const GuardConfig = z.strictObject({
  policy: z.array(PolicyLine).max(1000).default([]).describe(
    "Rules by tool, argument, agent, channel or sender; deny wins, then ask",
  ),
  effects: z.array(EffectLine).max(500).default([]).describe(
    "What you say of tools' effects; the only way to lower one",
  ),
  trusted: z.array(z.string().min(1).max(512)).max(256).default([]).describe(
    "Addresses and URLs that count as if the owner had typed them",
  ),
  grants: z.array(GrantLine).max(256).default([]).describe(
    "Standing grants: what may be done with nobody to ask",
  ),
  fetch: z.enum(["plain", "known"]).default("plain").describe(
    "What may be fetched unasked after untrusted text was read: addresses that carry nothing private, or only those that were named or linked on their own site",
  ),
  screen: z.boolean().default(true).describe(
    "Look for instructions in untrusted text and mark it for the model",
  ),
  classifier: z.strictObject({
    model: z.string().min(1).max(256).describe("provider:model"),
    timeoutMs: z.int().min(100).max(30_000).default(3_000),
  }).optional().describe(
    "Ask a model whether untrusted text gives orders; off without it",
  ),
}).prefault({});
export type GuardConfig = z.infer<typeof GuardConfig>;
