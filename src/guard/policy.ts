/**
 * The owner's policy lines: which of them speak about a call, and what an
 * owner's line says of a tool's effect.
 *
 * @module
 */
import type { Destination, Effect } from "../core/tool.ts";
import type { ArgRule, EffectLine, PolicyLine } from "./config.ts";
import { normalPlace, valuesAt } from "./destinations.ts";

/** What `group:…` stands for in a policy line: names, and effects. */
export const TOOL_GROUPS: Readonly<
  Record<string, { tools: readonly string[]; effects?: readonly Effect[] }>
> = {
  "group:fs": { tools: ["file_*"] },
  "group:web": { tools: ["web_*"], effects: ["fetch"] },
  "group:memory": { tools: ["memory_*"] },
  "group:sessions": { tools: ["session_*"] },
  "group:messaging": {
    tools: ["message_*", "channel_*"],
    effects: ["message"],
  },
  "group:automation": {
    tools: ["cron_*", "exec", "exec_*"],
    effects: ["schedule", "exec"],
  },
};

const compiled = new Map<string, RegExp>();
const COMPILED_MAX = 1000;

/** Whether a name fits a pattern with `*`. */
function globMatches(glob: string, name: string): boolean {
  if (glob === "*" || glob === name) return true;
  if (!glob.includes("*")) return false;
  let expression = compiled.get(glob);
  if (expression === undefined) {
    const parts = glob.split(/\*+/).map((part) =>
      part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&")
    );
    expression = new RegExp(`^${parts.join(".*")}$`, "s");
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    compiled.set(glob, expression);
  }
  return expression.test(name);
}

/** Whether a tool pattern (name, glob or group) means this tool. */
export function namesTool(
  pattern: string,
  tool: string,
  effect?: Effect,
): boolean {
  const group = TOOL_GROUPS[pattern];
  if (group === undefined) return globMatches(pattern, tool);
  return group.tools.some((glob) => globMatches(glob, tool)) ||
    effect !== undefined && (group.effects?.includes(effect) ?? false);
}

/** The host of a URL, or of a mail address. */
function hostOf(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  const url = URL.parse(value.trim());
  const isHosted = url !== null && url.hostname !== "";
  const host = isHosted
    ? url.hostname
    : /^(?:mailto:)?[^\s@]+@([^\s@]+)$/i.exec(value.trim())?.[1];
  return host?.toLowerCase().replace(/\.$/, "");
}

function hostIn(host: string | undefined, list: readonly string[]): boolean {
  return host !== undefined &&
    list.some((raw) => {
      const entry = raw.toLowerCase();
      return entry.startsWith("*.")
        ? host.endsWith(entry.slice(1)) && host.length > entry.length - 1
        : host === entry;
    });
}

/** Whether who may bless a place typed this; a number by what it says. */
function isNamed(
  value: unknown,
  kind: Destination["kind"] | undefined,
  facts: PolicyFacts,
): boolean {
  if (typeof value === "number") return facts.namesNumber?.(value) ?? false;
  if (typeof value !== "string" || value.trim() === "") return false;
  const { names, namesText } = facts;
  if (kind !== undefined || value.includes("@")) {
    return names?.(normalPlace(kind ?? "address", value)) ?? false;
  }
  // An amount or a date is no telephone number: 100.000 is not 100000.
  return namesText?.(value.trim()) ?? false;
}

function valueFits(
  rule: ArgRule,
  value: unknown,
  options: { kind: Destination["kind"] | undefined; facts: PolicyFacts },
): boolean {
  const { kind, facts } = options;
  if (rule.named === true) return isNamed(value, kind, facts);
  if (rule.equals !== undefined) return value === rule.equals;
  if (rule.in !== undefined) return rule.in.includes(String(value));
  if (rule.hostIn !== undefined) return hostIn(hostOf(value), rule.hostIn);
  if (typeof value !== "string") return false;
  const text = kind === "path" ? normalPlace(kind, value) : value;
  return text.startsWith(rule.prefix ?? "");
}

/**
 * Whether a rule holds. An allowing line needs every value to fit; for a line
 * that refuses or asks, one is enough.
 */
function argHolds(
  rule: ArgRule,
  facts: PolicyFacts,
  isAllow: boolean,
): boolean {
  const values = valuesAt(facts.args, rule.path)
    .flatMap((value) => Array.isArray(value) ? value : [value]);
  if (values.length === 0) return false;
  const kind = facts.destinations?.find(({ path }) => path === rule.path)?.kind;
  const fits = (value: unknown) => {
    if (rule.min !== undefined || rule.max !== undefined) {
      // What is no number is within no bounds, and beyond all of them.
      if (typeof value !== "number" || !Number.isFinite(value)) return !isAllow;
      const isWithin = value >= (rule.min ?? -Infinity) &&
        value <= (rule.max ?? Infinity);
      return isWithin !== (rule.not ?? false);
    }
    return valueFits(rule, value, { kind, facts }) !== (rule.not ?? false);
  };
  return isAllow ? values.every(fits) : values.some(fits);
}

/** What a line is matched against. */
export interface PolicyFacts {
  tool: string;
  effect?: Effect;
  args: unknown;
  agent: string;
  channel: string;
  sender: string;
  destinations?: readonly Destination[];
  /** Whether who may bless a place typed this, normal, as a whole token. */
  names?(value: string): boolean;
  namesText?(text: string): boolean;
  namesNumber?(value: number): boolean;
}

/** Whether a call states nothing beside these arguments. */
function statesOnly(args: unknown, names: readonly string[]): boolean {
  if (typeof args !== "object" || args === null || Array.isArray(args)) {
    return false;
  }
  return Object.entries(args).every(([name, value]) =>
    value === undefined || names.includes(name)
  );
}

/** Whether a line speaks about this call. */
export function lineSpeaks(line: PolicyLine, facts: PolicyFacts): boolean {
  const isAllow = line.verdict === "allow";
  return namesTool(line.tool, facts.tool, facts.effect) &&
    (line.agent === undefined || globMatches(line.agent, facts.agent)) &&
    (line.channel === undefined || globMatches(line.channel, facts.channel)) &&
    (line.sender === undefined || globMatches(line.sender, facts.sender)) &&
    (line.only === undefined || statesOnly(facts.args, line.only)) &&
    line.args.every((rule) => argHolds(rule, facts, isAllow));
}

/** Whether a tool is denied whatever its arguments: then it is not shown. */
export function isHidden(
  policy: readonly PolicyLine[],
  facts: Omit<PolicyFacts, "args">,
): boolean {
  return policy.some((line) =>
    line.verdict === "deny" && line.args.length === 0 &&
    line.only === undefined &&
    lineSpeaks(line, { ...facts, args: {} })
  );
}

/** What the owner's line says of a tool; the first that names it. */
export function effectLine(
  lines: readonly EffectLine[],
  tool: string,
): EffectLine | undefined {
  return lines.find((line) => globMatches(line.tool, tool));
}
