/**
 * The owner's policy lines: which of them speak about a call.
 *
 * @module
 */
import type { ArgRule, PolicyLine } from "./config.ts";
import { valuesAt } from "./destinations.ts";

/** What `group:…` stands for in a policy line. */
export const TOOL_GROUPS: Readonly<Record<string, readonly string[]>> = {
  "group:fs": ["file_*"],
  "group:web": ["web_*"],
  "group:memory": ["memory_*"],
  "group:sessions": ["session_*"],
  "group:messaging": ["message_*", "channel_*"],
  "group:automation": ["cron_*", "exec", "exec_*"],
};

const compiled = new Map<string, RegExp>();
const COMPILED_MAX = 1000;

function globMatches(glob: string, name: string): boolean {
  if (glob === "*" || glob === name) return true;
  if (!glob.includes("*")) return false;
  let expression = compiled.get(glob);
  if (expression === undefined) {
    const parts = glob.split("*").map((part) =>
      part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&")
    );
    expression = new RegExp(`^${parts.join(".*")}$`, "s");
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    compiled.set(glob, expression);
  }
  return expression.test(name);
}

/** Whether a tool pattern (name, glob or group) means this tool. */
export function namesTool(pattern: string, tool: string): boolean {
  const globs = TOOL_GROUPS[pattern] ?? [pattern];
  return globs.some((glob) => globMatches(glob, tool));
}

function hostOf(value: unknown): string | undefined {
  return typeof value === "string" && URL.canParse(value)
    ? new URL(value).hostname.replace(/\.$/, "")
    : undefined;
}

function hostIn(host: string | undefined, list: readonly string[]): boolean {
  return host !== undefined &&
    list.some((entry) =>
      entry.startsWith("*.")
        ? host.endsWith(entry.slice(1)) && host.length > entry.length - 1
        : host === entry
    );
}

function argHolds(rule: ArgRule, args: unknown): boolean {
  const values = valuesAt(args, rule.path);
  if (values.length === 0) return false;
  return values.every((value) => {
    if (rule.equals !== undefined) return value === rule.equals;
    if (rule.in !== undefined) return rule.in.includes(String(value));
    if (rule.hostIn !== undefined) return hostIn(hostOf(value), rule.hostIn);
    return typeof value === "string" && value.startsWith(rule.prefix ?? "");
  });
}

/** What a line is matched against. */
export interface PolicyFacts {
  tool: string;
  args: unknown;
  agent: string;
  channel: string;
  sender: string;
}

/** Whether a line speaks about this call. */
export function lineSpeaks(line: PolicyLine, facts: PolicyFacts): boolean {
  return namesTool(line.tool, facts.tool) &&
    (line.agent === undefined || line.agent === facts.agent) &&
    (line.channel === undefined || line.channel === facts.channel) &&
    (line.sender === undefined || line.sender === facts.sender) &&
    line.args.every((rule) => argHolds(rule, facts.args));
}

/** Whether a tool is denied whatever its arguments: then it is not shown. */
export function isHidden(
  policy: readonly PolicyLine[],
  facts: Omit<PolicyFacts, "args">,
): boolean {
  return policy.some((line) =>
    line.verdict === "deny" && line.args.length === 0 &&
    lineSpeaks(line, { ...facts, args: {} })
  );
}
