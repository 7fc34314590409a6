/**
 * What `carapace plugin` does with installed plugins. Grants are lines of the
 * configuration: they are written there, and the gateway follows.
 *
 * @module
 */
import { editConfig } from "../config/edit.ts";
import { formatProblem } from "../config/problem.ts";
import { openSecrets } from "../config/secrets.ts";
import { AppError } from "../core/errors.ts";
import { PluginId, type PluginManifest } from "../core/plugin.ts";
import type { PluginSummary } from "../core/plugin_methods.ts";
import type { Secret } from "../core/secret.ts";
import {
  grantAll,
  secretNames,
  wantHashes,
  wantsOf,
} from "../plugins/capabilities.ts";
import {
  type PluginGrant,
  type PluginsConfig,
  pluginsHash,
} from "../plugins/config.ts";
import { checkWasm, verifyManifest } from "../plugins/manifest.ts";
import {
  assertTrusted,
  checkManifest,
  readManifest,
  trustText,
} from "../plugins/package.ts";
import { usageError } from "./args.ts";
import { findStateDir } from "./gateway.ts";
import { openLink, type PluginLink } from "./plugin_link.ts";
import { fetchPlugin } from "./plugin_package.ts";
import { jsonLine, printable, printableLine } from "./printable.ts";
import { makePaint, table, timeText } from "./term.ts";
import { EXIT, type Io, type Roof } from "./verb.ts";

/** What a form of the verb was asked. */
export interface PluginAsked {
  io: Io;
  roof: Roof;
  json: boolean;
  yes: boolean;
  allowUnsigned: boolean;
  sha256: string | undefined;
}

/** What `grant` was told beside the id. */
export interface GrantOptions {
  /** `NAME=SEALED`, or `NAME` for its usual one. */
  secrets: readonly string[];
  /** `NAME=VALUE` */
  settings: readonly string[];
  /** `ACCOUNT/ID` */
  senders: readonly string[];
}

const NO_OPTIONS: GrantOptions = { secrets: [], settings: [], senders: [] };

/** How long a change of the configuration may take to hold. */
const HOLDS_MS = 40_000;

/** The plugins' slice of the configuration, as it is now. */
export async function pluginsConfig(roof: Roof): Promise<PluginsConfig> {
  const loaded = await roof.load();
  if (!loaded.ok) {
    const [problem] = loaded.problems;
    throw new AppError(
      "bad_input",
      `Cannot read the configuration: ${
        problem === undefined ? "it is not valid" : formatProblem(problem)
      }`,
      { details: { exit: EXIT.badConfig } },
    );
  }
  return (loaded.value as { plugins: PluginsConfig }).plugins;
}

// --- installing -----------------------------------------------------------

/** Installs a plugin and grants it what it wants, if the owner says so. */
export async function install(
  asked: PluginAsked,
  place: string,
): Promise<number> {
  const { io, roof, allowUnsigned, sha256 } = asked;
  const { manifest: raw, bytes, source } = await fetchPlugin(place, {
    clock: io.clock,
    sha256,
  });
  const { publishers } = await pluginsConfig(roof);
  const { manifest, signed } = await verifyManifest(raw, {
    trusted: publishers,
  });
  checkManifest(manifest);
  assertTrusted(signed, { id: manifest.id, allowUnsigned });
  await checkWasm(manifest, bytes);
  await using link = await openLink(io, roof);
  const title = `${manifest.name} ${manifest.version} by ${manifest.publisher}`;
  io.err(`${printable(title)}, ${printable(trustText(signed))}\n`);
  const answer = await askGrant(asked, manifest);
  if (answer === "no") {
    io.err("Nothing was installed\n");
    return EXIT.failed;
  }
  {
    await using _incoming = await link.put(manifest.wasm.sha256, bytes);
    await link.call("plugins.install", {
      manifest: raw,
      sha256: manifest.wasm.sha256,
      source,
      allowUnsigned,
    });
  }
  if (answer === "later") {
    io.err(
      `Installed, and nothing was granted: run "carapace plugin grant ${manifest.id} --yes"\n`,
    );
    return await show(asked, link, manifest.id);
  }
  return await writeGrant(asked, { link, manifest, options: NO_OPTIONS });
}

/** Installs another version; what it wants beyond the last one waits. */
export async function update(
  asked: PluginAsked,
  place: string,
): Promise<number> {
  const { io, roof, allowUnsigned, sha256 } = asked;
  const { manifest: raw, bytes, source } = await fetchPlugin(place, {
    clock: io.clock,
    sha256,
  });
  const { publishers } = await pluginsConfig(roof);
  const { manifest, signed } = await verifyManifest(raw, {
    trusted: publishers,
  });
  checkManifest(manifest);
  assertTrusted(signed, { id: manifest.id, allowUnsigned });
  await checkWasm(manifest, bytes);
  await using link = await openLink(io, roof);
  const { plugins } = await link.call("plugins.list", {});
  if (!plugins.some(({ id }) => id === manifest.id)) {
    throw new AppError("not_found", `There is no plugin "${manifest.id}"`, {
      hint: `Install it: carapace plugin install ${place}`,
    });
  }
  let view: PluginSummary;
  {
    await using _incoming = await link.put(manifest.wasm.sha256, bytes);
    view = await link.call("plugins.install", {
      manifest: raw,
      sha256: manifest.wasm.sha256,
      source,
      allowUnsigned,
    });
  }
  if (view.state !== "held") return await show(asked, link, manifest.id);
  io.err(`${printable(view.why ?? "")}\n`);
  if (await askGrant(asked, manifest) !== "yes") {
    io.err(`It stops until you run "carapace plugin grant ${manifest.id}"\n`);
    return await show(asked, link, manifest.id);
  }
  return await writeGrant(asked, { link, manifest, options: NO_OPTIONS });
}

/** Shows what a plugin wants and asks; without a terminal only `--yes` is yes. */
async function askGrant(
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

async function readLine(io: Io): Promise<string> {
  let text = "";
  const reader = io.stdin.getReader();
  const decoder = new TextDecoder();
  try {
    while (!text.includes("\n") && text.length < 1024) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    reader.releaseLock();
  }
  return text.split("\n")[0] ?? "";
}

// --- grants ---------------------------------------------------------------

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

async function manifestOf(
  link: PluginLink,
  id: string,
): Promise<PluginManifest> {
  const { manifest } = await link.call("plugins.manifest", { id: idOf(id) });
  return readManifest(manifest);
}

function idOf(text: string): string {
  const parsed = PluginId.safeParse(text);
  if (parsed.success) return parsed.data;
  throw usageError(`"${text.slice(0, 64)}" is no plugin's id`);
}

/** `NAME=VALUE` as a pair. */
function pair(text: string, what: string): [name: string, value: string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw usageError(`Cannot read "${text}": write ${what}`);
}

/** The sealed secret a plugin's secret is called by, unless it is said. */
export function sealedName(id: string, name: string): string {
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

async function writeGrant(
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
  });
  await edit(asked, { link, id, value });
  return await show(asked, link, id);
}

/** Writes a plugin's lines and waits until they hold. */
async function edit(
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

// --- looking --------------------------------------------------------------

/** Prints how a plugin stands; failing when it should run and does not. */
async function show(
  { io, json }: PluginAsked,
  link: PluginLink,
  id: string,
): Promise<number> {
  const { plugins } = await link.call("plugins.list", {});
  const view = plugins.find((one) => one.id === id);
  if (view === undefined) return EXIT.failed;
  if (json) io.out(jsonLine(view));
  else io.out(`${standing(view)}\n`);
  const isBad = view.state === "blocked" || view.state === "stopped";
  return isBad ? EXIT.failed : EXIT.ok;
}

function standing(view: PluginSummary): string {
  const why = view.why === undefined || view.why === ""
    ? ""
    : `: ${printableLine(view.why)}`;
  const tools = view.tools.map(({ name }) => name).join(", ");
  const offers = view.state !== "ready" || tools === ""
    ? ""
    : `; tools: ${tools}`;
  return `${view.id} ${
    printableLine(view.version)
  } is ${view.state}${why}${offers}`;
}

/** Every installed plugin, a line each. */
export async function list({ io, roof, json }: PluginAsked): Promise<number> {
  await using link = await openLink(io, roof);
  const { plugins } = await link.call("plugins.list", {});
  if (json) {
    io.out(jsonLine({ plugins }));
    return EXIT.ok;
  }
  if (plugins.length === 0) {
    io.err('No plugins: try "carapace plugin install plugins/qr"\n');
    return EXIT.ok;
  }
  const rows = plugins.map((view) => [
    view.id,
    view.version,
    view.state,
    view.trusted ? view.publisher : "nobody",
    view.tools.map(({ name }) => name).join(" "),
  ]);
  io.out(
    table(["ID", "VERSION", "STATE", "TRUSTED", "TOOLS"], rows, makePaint(io)),
  );
  return EXIT.ok;
}

/** All there is to know of one plugin. */
export async function info(
  { io, roof, json }: PluginAsked,
  id: string,
): Promise<number> {
  await using link = await openLink(io, roof);
  const { plugins } = await link.call("plugins.list", {});
  const view = plugins.find((one) => one.id === id);
  if (view === undefined) {
    throw new AppError("not_found", `There is no plugin "${id}"`, {
      hint: 'Run "carapace plugin list"',
    });
  }
  if (json) {
    io.out(jsonLine(view));
    return EXIT.ok;
  }
  const lines = [
    standing(view),
    view.description,
    view.trusted
      ? `signed by "${view.publisher}"`
      : `says it is by "${view.publisher}"; nobody you trust vouches for it`,
    `installed ${timeText(view.installedAt)} from ${view.source}`,
    `module ${view.sha256}`,
    ...view.tools.map((tool) => `tool ${tool.name}: ${tool.description}`),
    ...view.webhooks.map((path) => `webhook ${path}`),
    ...view.hooks.map((point) => `hook ${point}`),
    ...view.channel ? ["channel"] : [],
    ...view.wants.map((words) => `wants to ${words}`),
    ...view.missing.map((words) => `was not granted to ${words}`),
  ];
  io.out(lines.map((line) => `${printableLine(line)}\n`).join(""));
  return EXIT.ok;
}

/** Removes a plugin, what it kept, and its lines of the configuration. */
export async function remove(
  asked: PluginAsked,
  id: string,
): Promise<number> {
  const { io, roof, json } = asked;
  await using link = await openLink(io, roof);
  await link.call("plugins.remove", { id: idOf(id) });
  if ((await pluginsConfig(roof)).granted[id] !== undefined) {
    await edit(asked, { link, id, value: undefined });
  }
  io.out(json ? jsonLine({ ok: true, id }) : `removed ${id}\n`);
  return EXIT.ok;
}

/** Runs a tool and prints what it says. */
export async function callTool(
  { io, roof, json }: PluginAsked,
  id: string,
  call: { tool: string; json: string | undefined },
): Promise<number> {
  let args: unknown;
  try {
    args = JSON.parse(call.json ?? "{}");
  } catch {
    throw usageError("The arguments of a tool are JSON", `Like '{"text":"a"}'`);
  }
  if (typeof args !== "object" || args === null || Array.isArray(args)) {
    throw usageError("The arguments of a tool are a JSON object");
  }
  await using link = await openLink(io, roof);
  const result = await link.call("plugins.call", {
    id: idOf(id),
    tool: call.tool,
    args: args as Record<string, unknown>,
  });
  if (json) io.out(jsonLine(result));
  else io.out(`${printable(result.output).replace(/\n$/, "")}\n`);
  return EXIT.ok;
}

/** The last lines of a plugin's log. */
export async function logs(
  { io, roof, json }: PluginAsked,
  id: string,
  limit: string | undefined,
): Promise<number> {
  const count = Number(limit ?? 100);
  if (!Number.isInteger(count) || count < 1 || count > 1000) {
    throw usageError(`Cannot show "${limit}" lines: say a number up to 1000`);
  }
  await using link = await openLink(io, roof);
  const { lines } = await link.call("plugins.logs", {
    id: idOf(id),
    limit: count,
  });
  if (json) io.out(jsonLine({ lines }));
  else {
    for (const { at, level, text } of lines) {
      io.out(`${timeText(at)} ${level} ${printableLine(text)}\n`);
    }
  }
  return EXIT.ok;
}
