/**
 * How a plugin stands: whether it may run, why not, and how that is shown.
 *
 * Never: an update that wants more than the owner has looked at runs.
 *
 * @module
 */
import type { PluginManifest } from "../core/plugin.ts";
import type { PluginRow } from "../store/plugins.ts";
import { missingOf, unreviewed, wantsOf } from "./capabilities.ts";
import { PluginGrant, type PluginsConfig } from "./config.ts";
import { verifyManifest } from "./manifest.ts";
import { assertTrusted, readManifest } from "./package.ts";

/** How a plugin stands. */
export type PluginState =
  | "ready"
  | "off"
  | "held"
  | "blocked"
  | "stopped";

/** A plugin as it is shown. */
export interface PluginView {
  id: string;
  name: string;
  version: string;
  description: string;
  publisher: string;
  /** Whether a trusted publisher's signature is on it. */
  trusted: boolean;
  state: PluginState;
  /** Why it does not run. */
  why?: string;
  sha256: string;
  source: string;
  installedAt: number;
  tools: { name: string; description: string }[];
  webhooks: string[];
  hooks: string[];
  channel: boolean;
  /** All it wants, in words, and what of that it has not. */
  wants: string[];
  missing: string[];
  isLoaded: boolean;
}

/** Why a plugin that is installed does not run. */
export interface Standing {
  state: Exclude<PluginState, "ready">;
  why: string;
}

/** Why it should not run, if it should not. */
export async function standingOf(
  row: PluginRow,
  manifest: PluginManifest,
  { granted, publishers }: PluginsConfig,
): Promise<Standing | undefined> {
  const { id } = row;
  const grant = granted[id];
  if (row.stopped !== undefined) {
    return { state: "stopped", why: row.stopped.why };
  }
  if (grant === undefined) {
    return { state: "off", why: "nothing was granted to it yet" };
  }
  if (!grant.enabled) return { state: "off", why: "it is switched off" };
  const { signed } = await verifyManifest(row.manifest, {
    trusted: publishers,
  });
  assertTrusted(signed, { id, allowUnsigned: row.allowUnsigned });
  if (grant.reviewed === undefined) return undefined;
  const fresh = await unreviewed(manifest, grant.reviewed);
  if (fresh.length === 0) return undefined;
  const words = fresh.map((want) => want.words).join("; ");
  return {
    state: "held",
    why: `this version wants more than you have looked at: ${words}`,
  };
}

/** What makes a running plugin another one. */
export function keyOf(
  row: PluginRow,
  grant: PluginGrant,
  { limits }: PluginsConfig,
): string {
  const secrets = Object.values(grant.secrets).map(({ source }) => source);
  return JSON.stringify([
    row.manifestSha256,
    row.sha256,
    grant,
    secrets,
    limits,
  ]);
}

/** A plugin as it is shown. Without a standing it runs. */
export async function viewOf(
  row: PluginRow,
  { config, standing, isLoaded }: {
    config: PluginsConfig;
    standing: Standing | undefined;
    isLoaded: boolean;
  },
): Promise<PluginView> {
  const { id, version, sha256, source, installedAt } = row;
  const manifest = readManifest(row.manifest);
  const grant = config.granted[id] ?? PluginGrant.parse({});
  const trusted = await verifyManifest(row.manifest, {
    trusted: config.publishers,
  }).then(({ signed }) => signed.kind === "trusted", () => false);
  return {
    id,
    name: manifest.name,
    version,
    description: manifest.description,
    publisher: manifest.publisher,
    trusted,
    state: standing?.state ?? "ready",
    ...standing === undefined ? {} : { why: standing.why },
    sha256,
    source,
    installedAt,
    tools: manifest.tools.map(({ name, description }) => ({
      name,
      description,
    })),
    webhooks: manifest.webhooks.map(({ name }) => `/plugins/${id}/${name}`),
    hooks: manifest.hooks.map(({ point }) => point),
    channel: manifest.channel !== undefined,
    wants: wantsOf(manifest).map(({ words }) => words),
    missing: missingOf(manifest, grant).map(({ words }) => words),
    isLoaded,
  };
}
