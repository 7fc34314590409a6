/**
 * `carapace plugin grant`, `revoke`, `enable` and `disable`. Grants are lines of
 * the configuration: they are written there, and the gateway follows.
 *
 * Never: a capability is granted whose words were not shown.
 *
 * @module
 */
import { editConfig } from "../../../config/edit.ts";
import { formatProblem } from "../../../config/problem.ts";
import { openSecrets } from "../../../config/secrets.ts";
import { AppError } from "../../../core/errors.ts";
import type { PluginManifest } from "../../../core/plugin.ts";
import type { Secret } from "../../../core/secret.ts";
import {
  grantAll,
  secretNames,
  wantHashes,
  wantsOf,
} from "../../../plugins/capabilities.ts";
import {
  type PluginGrant,
  type PluginsConfig,
  pluginsHash,
} from "../../../plugins/config.ts";
import { usageError } from "../../args.ts";
import { findStateDir } from "../../gateway.ts";
import { readLine } from "../../line.ts";
import { manifestOf, type PluginAsked, pluginsConfig } from "./asked.ts";
import { openLink, type PluginLink } from "./link.ts";
import { show } from "./look.ts";
import { printable } from "../../printable.ts";
import { EXIT, type Io } from "../../verb.ts";

/** What `grant` was told beside the id. */
export interface GrantOptions {
  /** `NAME=SEALED`, or `NAME` for its usual one. */
  secrets: readonly string[];
  /** `NAME=VALUE` */
  settings: readonly string[];
  /** `ACCOUNT/ID` */
  senders: readonly string[];
}

/** Nothing but what it wants. */
export const NO_OPTIONS: GrantOptions = {
  secrets: [],
  settings: [],
  senders: [],
};

/** How long a change of the configuration may take to hold. */
const HOLDS_MS = 40_000;

/** Shows what a plugin wants and asks; without a terminal only `--yes` is yes. */
export async function askGrant(
  { io, yes }: PluginAsked,
  manifest: PluginManifest,
): Promise<"yes" | "no" | "later"> {
  const wants = wantsOf(manifest);
  if (wants.length === 0) {
    io.err("It wants nothing but to be called\n");
    return "yes";
  }
  io.err("It wants to:\n");
  for (const { words } of wants) io.err(`  - ${printable(words)}\n`);
  if (yes) return "yes";
  if (!io.stdinIsTerminal) return "later";
  io.err("Grant this? [y/N] ");
  return /^y(es)?$/i.test((await readLine(io)).trim()) ? "yes" : "no";
}

/** Grants a plugin what it wants. */
export async function grant(
  asked: PluginAsked,
  id: string,
  options: GrantOptions,
): Promise<number> {
  const { io, roof } = asked;
  await using link = await openLink(io, roof);
  const manifest = await manifestOf(link, id);
  const answer = await askGrant(asked, manifest);
  if (answer !== "yes") {
    if (answer === "later") throw usageError("Say --yes to grant this");
    io.err("Nothing was granted\n");
    return EXIT.failed;
  }
  return await writeGrant(asked, { link, manifest, options });
}

/** `NAME=VALUE` as a pair. */
function pair(text: string, what: string): [name: string, value: string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw usageError(`Cannot read "${text}": write ${what}`);
}

/** The sealed secret a plugin's secret is called by, unless it is said. */
function sealedName(id: string, name: string): string {
  return `${id}_${name}`.replaceAll("-", "_").toUpperCase();
}

/** How a configuration refers to a secret it has. */
function reference({ source }: Secret): string {
  const sealed = /^secret (.+)$/.exec(source)?.[1];
  if (sealed !== undefined) return `\${secret:${sealed}}`;
  return `\${${source.replace(/^env /, "")}}`;
}

/** Which of its secrets can be granted: said, granted before, or sealed. */
async function secretsOf(
  io: Io,
  manifest: PluginManifest,
  { before, said }: {
    before: PluginGrant | undefined;
    said: readonly string[];
  },
): Promise<Record<string, string>> {
  const stateDir = await findStateDir(io);
  const sealed = await openSecrets({ dir: stateDir, env: io.env }).list();
  const named = new Map(
    said.map((text) =>
      text.includes("=")
        ? pair(text, "--secret NAME=SEALED")
        : [text, sealedName(manifest.id, text)] as const
    ),
  );
  const secrets: Record<string, string> = {};
  for (const name of secretNames(manifest)) {
    const usual = sealedName(manifest.id, name);
    const had = before?.secrets[name];
    const chosen = named.get(name);
    if (chosen !== undefined) secrets[name] = `\${secret:${chosen}}`;
    else if (had !== undefined) secrets[name] = reference(had);
    else if (sealed.includes(usual)) secrets[name] = `\${secret:${usual}}`;
    else {
      io.err(
        `The secret "${name}" is not set: run "carapace secret set ${usual}", then "carapace plugin grant ${manifest.id}"\n`,
      );
    }
    named.delete(name);
  }
  const [unknown] = named.keys();
  if (unknown !== undefined) {
    throw usageError(`"${manifest.id}" has no secret "${unknown}"`);
  }
  return secrets;
}

function settingsOf(
  manifest: PluginManifest,
  before: PluginGrant | undefined,
  said: readonly string[],
): Record<string, string> {
  const settings = { ...before?.config };
  for (const text of said) {
    const [name, value] = pair(text, "--set NAME=VALUE");
    if (!manifest.wants.config.includes(name)) {
      throw usageError(
        `"${manifest.id}" has no setting "${name}"`,
        `It reads: ${manifest.wants.config.join(", ") || "none"}`,
      );
    }
    settings[name] = value;
  }
  return settings;
}

function sendersOf(
  before: PluginGrant | undefined,
  said: readonly string[],
): PluginGrant["senders"] {
  const senders = [...before?.senders ?? []];
  for (const text of said) {
    const at = text.indexOf("/");
    if (at <= 0) throw usageError(`Write --sender ACCOUNT/ID, not "${text}"`);
    const account = text.slice(0, at);
    const id = text.slice(at + 1);
    if (!senders.some((one) => one.account === account && one.id === id)) {
      senders.push({ account, id });
    }
  }
  return senders;
}

/** A grant as it is written: only what says something. */
function written(grant: PluginGrant, more: object): Record<string, unknown> {
  const all: Record<string, unknown> = { ...grant, ...more };
  const isSaid = (value: unknown): boolean => {
    if (value === undefined || value === false) return false;
    if (Array.isArray(value)) return value.length > 0;
    if (typeof value === "object" && value !== null) {
      return Object.keys(value).length > 0;
    }
    return true;
  };
  return Object.fromEntries(
    Object.entries(all).filter(([name, value]) =>
      name === "enabled" || name === "reviewed" || isSaid(value)
    ),
  );
}

/** Writes what a plugin wants as granted, and shows how it stands then. */
export async function writeGrant(
  asked: PluginAsked,
  { link, manifest, options }: {
    link: PluginLink;
    manifest: PluginManifest;
    options: GrantOptions;
  },
): Promise<number> {
  const { io, roof } = asked;
  const { id } = manifest;
  const before = (await pluginsConfig(roof)).granted[id];
  const secrets = await secretsOf(io, manifest, {
    before,
    said: options.secrets,
  });
  const value = written(grantAll(manifest, {}), {
    enabled: true,
    reviewed: await wantHashes(manifest),
    secrets,
    config: settingsOf(manifest, before, options.settings),
    senders: sendersOf(before, options.senders),
    limits: before?.limits,
    ...before === undefined ? {} : { policy: before.policy },
  });
  await edit(asked, { link, id, value });
  return await show(asked, link, id);
}

/** Writes a plugin's lines and waits until they hold. */
export async function edit(
  asked: PluginAsked,
  { link, id, value, field }: {
    link: PluginLink;
    id: string;
    value: unknown;
    field?: string;
  },
): Promise<void> {
  const { io, roof } = asked;
  const stateDir = await findStateDir(io);
  const secrets = openSecrets({ dir: stateDir, env: io.env });
  const path = ["plugins", "granted", id];
  const edited = await editConfig(await roof.schema(), {
    env: io.env,
    stateDir,
    findSecret: (name) => secrets.find(name),
    edits: [{ path: field === undefined ? path : [...path, field], value }],
  });
  if (!edited.ok) {
    const problems = edited.problems.map(formatProblem).join("; ");
    throw new AppError(
      "bad_input",
      `The configuration was not changed: ${problems}`,
      { details: { exit: EXIT.badConfig } },
    );
  }
  const { plugins } = edited.loaded.value as { plugins: PluginsConfig };
  await link.reload();
  await untilItHolds(io, link, await pluginsHash(plugins));
}

async function untilItHolds(
  io: Io,
  link: PluginLink,
  hash: string,
): Promise<void> {
  const until = io.clock.now() + HOLDS_MS;
  while (io.clock.now() < until) {
    const { config } = await link.call("plugins.list", {});
    if (config === hash) return;
    await io.clock.sleep(100);
  }
  throw new AppError(
    "timeout",
    "The configuration was written, and the gateway does not use it yet",
    { hint: 'See "carapace status"' },
  );
}

/** Takes everything back that was granted; the plugin stays installed. */
export async function revoke(asked: PluginAsked, id: string): Promise<number> {
  const { io, roof } = asked;
  await using link = await openLink(io, roof);
  await manifestOf(link, id);
  if ((await pluginsConfig(roof)).granted[id] === undefined) {
    throw new AppError("not_found", `Nothing was granted to "${id}"`);
  }
  await edit(asked, { link, id, value: undefined });
  return await show(asked, link, id);
}

/** Switches a plugin on or off; what was granted stays granted. */
export async function setEnabled(
  asked: PluginAsked,
  id: string,
  enabled: boolean,
): Promise<number> {
  const { io, roof } = asked;
  await using link = await openLink(io, roof);
  const manifest = await manifestOf(link, id);
  const granted = (await pluginsConfig(roof)).granted[id];
  if (granted === undefined) {
    if (enabled && wantsOf(manifest).length === 0) {
      return await writeGrant(asked, { link, manifest, options: NO_OPTIONS });
    }
    throw new AppError("not_found", `Nothing was granted to "${id}" yet`, {
      hint: `Run: carapace plugin grant ${id}`,
    });
  }
  if (granted.enabled !== enabled) {
    await edit(asked, { link, id, field: "enabled", value: enabled });
  }
  if (enabled) await link.call("plugins.restart", { id });
  return await show(asked, link, id);
}
