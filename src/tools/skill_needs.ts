/**
 * What a skill says it needs (`metadata.openclaw.requires`, in older ones
 * `metadata.clawdbot`), and which of it is not there. Only what is known without
 * running anything is looked at.
 *
 * Never: a program is looked for, started or installed.
 *
 * @module
 */
import { parse, type ParseError } from "jsonc-parser";
import { z } from "zod";

/** What the house knows of itself. */
export interface SkillFacts {
  /** As `Deno.build.os` says it. */
  os: string;
  /** Whether a variable is granted and set. */
  hasEnv(name: string): boolean;
  /** Whether a configuration key is there and neither empty nor off. */
  isSet(key: string): boolean;
  /** The programs that commands of the configuration run, by name. */
  programs(): ReadonlySet<string>;
}

const List = z.array(z.string().min(1).max(128)).max(32);
const Requires = z.looseObject({
  bins: List.default([]),
  anyBins: List.default([]),
  env: List.default([]),
  config: List.default([]),
  os: List.default([]),
});
const Needs = z.looseObject({
  os: List.default([]),
  requires: Requires.prefault({}),
});
const Metadata = z.looseObject({
  openclaw: Needs.optional(),
  clawdbot: Needs.optional(),
});

/** A skill's needs. */
export interface SkillNeeds {
  bins: readonly string[];
  /** One of them is enough. */
  anyBins: readonly string[];
  env: readonly string[];
  config: readonly string[];
  /** The systems it is for; any without one. */
  os: readonly string[];
  /** It names needs in a form that is not read. */
  isUnread: boolean;
}

const CHARS_MAX = 8_192;
const DEPTH_MAX = 16;

const NONE: SkillNeeds = {
  ...{ bins: [], anyBins: [], env: [], config: [], os: [] },
  isUnread: false,
};

/** Reads them from the head's `metadata`: JSON, commas at ends forgiven. */
export function needsOf(metadata: string | undefined): SkillNeeds {
  if (metadata === undefined || metadata.trim() === "") return NONE;
  // What cannot be read may need anything, if it speaks of needs at all.
  const unread = { ...NONE, isUnread: /requires|\bos\b/.test(metadata) };
  const depth = metadata.match(/[[{]/g)?.length ?? 0;
  if (metadata.length > CHARS_MAX || depth > DEPTH_MAX * 8) return unread;
  const errors: ParseError[] = [];
  const value = parse(metadata, errors, { allowTrailingComma: true });
  const parsed = Metadata.safeParse(value);
  if (errors.length > 0 || !parsed.success) return unread;
  const { openclaw, clawdbot } = parsed.data;
  const { requires, os } = openclaw ?? clawdbot ?? Needs.parse({});
  const { bins, anyBins, env, config } = requires;
  return {
    ...{ bins, anyBins, env, config },
    os: [...os, ...requires.os],
    isUnread: false,
  };
}

/** All of them in words, for the owner. */
export function needsText(needs: SkillNeeds): string[] {
  const { bins, anyBins, env, config, os, isUnread } = needs;
  return [
    ...bins,
    ...anyBins.length === 0 ? [] : [anyBins.join(" or ")],
    ...env,
    ...config,
    ...os.length === 0 ? [] : [`on ${os.join(" or ")}`],
    ...isUnread ? [UNREAD] : [],
  ];
}

const UNREAD = "what its metadata says in a form that is not read";

/** How a skill writes an operating system. */
const SYSTEMS: Readonly<Record<string, string>> = {
  win32: "windows",
  macos: "darwin",
};

/** What is not there, with where it would be written; nothing when it is all. */
export function missingOf(needs: SkillNeeds, facts: SkillFacts): string[] {
  const { bins, anyBins, env, config, os, isUnread } = needs;
  const programs = facts.programs();
  const has = (name: string) => programs.has(name.toLowerCase());
  const isHere = os.length === 0 ||
    os.some((name) =>
      (SYSTEMS[name.toLowerCase()] ?? name.toLowerCase()) === facts.os
    );
  return [
    ...isHere ? [] : [`the system: it is for ${os.join(", ")}`],
    ...bins.filter((name) => !has(name))
      .map((name) => `the program ${name}, as a command of tools.exec`),
    ...anyBins.length === 0 || anyBins.some(has) ? [] : [
      `one of the programs ${anyBins.join(", ")}, as a command of tools.exec`,
    ],
    ...env.filter((name) => !facts.hasEnv(name))
      .map((name) => `the variable ${name}`),
    ...config.filter((key) => !facts.isSet(key))
      .map((key) => `the configuration key ${key}`),
    ...isUnread ? [UNREAD] : [],
  ];
}

/** Whether a dotted key of a configuration is there and on. */
export function isSetIn(value: unknown, key: string): boolean {
  let at = value;
  for (const part of key.split(".")) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, part)) {
      return false;
    }
    at = (at as Record<string, unknown>)[part];
  }
  return at !== undefined && at !== null && at !== false && at !== "";
}
