/**
 * The contracts of the WebSocket methods for plugins. Grants are not among them:
 * they are lines of the configuration, which no method here writes.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";
import { PluginId } from "../plugin.ts";

const Nothing = z.strictObject({});

/** An installed plugin, as it is listed. */
export const PluginSummary = z.object({
  id: PluginId,
  name: z.string(),
  version: z.string(),
  description: z.string(),
  publisher: z.string(),
  /** Whether a publisher the owner trusts signed it. */
  trusted: z.boolean(),
  state: z.enum(["ready", "off", "held", "blocked", "stopped"]),
  /** Why it does not run. */
  why: z.string().optional(),
  sha256: z.string(),
  source: z.string(),
  installedAt: z.int(),
  tools: z.array(z.object({ name: z.string(), description: z.string() })),
  webhooks: z.array(z.string()),
  hooks: z.array(z.string()),
  channel: z.boolean(),
  /** All it wants, in words, and what of that it was not granted. */
  wants: z.array(z.string()),
  missing: z.array(z.string()),
  isLoaded: z.boolean(),
});
export type PluginSummary = z.infer<typeof PluginSummary>;

export const PLUGIN_METHODS = contracts({
  "plugins.list": {
    scope: "read",
    about: "The installed plugins, what each wants and how it stands",
    input: () => Nothing,
    output: () =>
      z.object({
        plugins: z.array(PluginSummary),
        /** A hash of the plugins' configuration that holds now. */
        config: z.string(),
      }),
  },
  "plugins.manifest": {
    scope: "admin",
    about: "An installed plugin's manifest, as its publisher wrote it",
    input: () => z.strictObject({ id: PluginId }),
    output: () => z.object({ manifest: z.record(z.string(), z.unknown()) }),
  },
  "plugins.install": {
    scope: "admin",
    owner: true,
    about:
      "Install or update a plugin whose module lies in the state directory; nothing of it runs before it is granted",
    input: () =>
      z.strictObject({
        manifest: z.record(z.string(), z.unknown()),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        source: z.string().max(1024),
        allowUnsigned: z.boolean().default(false),
      }),
    output: () => PluginSummary,
  },
  "plugins.remove": {
    scope: "admin",
    owner: true,
    about: "Remove a plugin and all it kept",
    input: () => z.strictObject({ id: PluginId }),
    output: () => z.object({ ok: z.literal(true), id: z.string() }),
  },
  "plugins.restart": {
    scope: "admin",
    owner: true,
    about: "Start a plugin anew, also one that failed too often",
    input: () => z.strictObject({ id: PluginId }),
    output: () => PluginSummary,
  },
  "plugins.call": {
    scope: "admin",
    owner: true,
    about: "Run a plugin's tool and return what it says",
    input: () =>
      z.strictObject({
        id: PluginId,
        tool: z.string().min(1).max(128),
        args: z.record(z.string(), z.unknown()).default({}),
      }),
    output: () =>
      z.object({ output: z.string(), fuel: z.int(), ms: z.number() }),
  },
  "plugins.logs": {
    scope: "admin",
    owner: true,
    about: "The last lines of a plugin's log, oldest first",
    input: () =>
      z.strictObject({
        id: PluginId,
        limit: z.int().min(1).max(1000).default(100),
      }),
    output: () =>
      z.object({
        lines: z.array(z.object({
          at: z.int(),
          level: z.string(),
          text: z.string(),
        })),
      }),
  },
});
