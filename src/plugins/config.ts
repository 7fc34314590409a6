/**
 * The plugins' slice of the configuration: whom to trust, and what each plugin
 * was granted. It is the only place a capability comes from.
 *
 * @module
 */
import { z } from "zod";
import { ListedSender, SenderPolicy } from "../core/channel.ts";
import { type Need, need } from "../core/needs.ts";
import {
  HookPoint,
  PluginHttp,
  PluginId,
  PluginKv,
  PluginMessage,
  PluginName,
} from "../core/plugin.ts";
import { sha256Hex } from "../core/ids.ts";
import { SecretField } from "../core/secret.ts";

/** A publisher the owner trusts, by the key it signs with. */
export const TrustedPublisher = z.strictObject({
  /** The `publisher` its manifests must name. */
  name: z.string().min(1).max(128),
  /** Base64url of the raw Ed25519 public key. */
  publicKey: z.string().regex(
    /^[A-Za-z0-9_-]{43}$/,
    "a public key is 43 characters of base64url",
  ),
  /** The plugins it may publish. */
  plugins: z.union([z.literal("any"), z.array(PluginId)]).default("any"),
});
export type TrustedPublisher = z.infer<typeof TrustedPublisher>;

const LIMITS = {
  fuel: z.int().min(1_000_000).max(1_000_000_000_000)
    .describe("Units of work in one call: instructions, lengths, imports"),
  memoryMiB: z.int().min(1).max(1024).describe("Memory of one plugin"),
  callMs: z.int().min(100).max(600_000).describe(
    "One call, with the time of what it asks the host for",
  ),
  outputBytesMax: z.int().min(1024).max(16_777_216).describe(
    "Output of one call",
  ),
  requestsPerMinute: z.int().min(1).max(10_000).describe(
    "HTTP requests of one plugin",
  ),
  logsPerMinute: z.int().min(1).max(100_000).describe(
    "Log lines of one plugin",
  ),
  queuedMax: z.int().min(1).max(1024).describe(
    "Calls that wait for one plugin",
  ),
  idleMs: z.int().min(1_000).max(86_400_000).describe(
    "A plugin that nobody calls for so long gives its memory back",
  ),
};

/** What one call of any plugin may cost. */
export const PluginLimits = z.strictObject({
  fuel: LIMITS.fuel.default(1_000_000_000),
  memoryMiB: LIMITS.memoryMiB.default(64),
  callMs: LIMITS.callMs.default(30_000),
  outputBytesMax: LIMITS.outputBytesMax.default(1_048_576),
  requestsPerMinute: LIMITS.requestsPerMinute.default(100),
  logsPerMinute: LIMITS.logsPerMinute.default(1_000),
  queuedMax: LIMITS.queuedMax.default(64),
  idleMs: LIMITS.idleMs.default(120_000),
}).prefault({});
export type PluginLimits = z.infer<typeof PluginLimits>;

/** What one plugin was granted. It has what it wants and is granted, no more. */
export const PluginGrant = z.strictObject({
  enabled: z.boolean().default(true).describe("Whether it runs"),
  reviewed: z.array(z.string().regex(/^[0-9a-f]{16}$/)).max(256).optional()
    .describe(
      "What the owner has looked at, granted or not; an update that wants anything else waits. Written by carapace plugin grant",
    ),
  http: z.array(PluginHttp).max(32).default([]).describe(
    "Hosts, methods and paths it may ask for",
  ),
  secrets: z.record(PluginName, SecretField).default({}).describe(
    "Secrets that are attached to its requests, or that its webhooks are checked with; it never sees them",
  ),
  kv: PluginKv.optional().describe("Bytes it may keep"),
  config: z.record(PluginName, z.string().max(4096)).default({}).describe(
    "Settings it may read",
  ),
  log: z.boolean().default(false).describe("Whether it may write log lines"),
  message: PluginMessage.optional().describe("Whom it may write to"),
  schedule: z.strictObject({ maxPerDay: z.int().min(1).max(1440) }).optional()
    .describe("How often a day it may ask to be called later"),
  conversation: z.boolean().default(false).describe(
    "Whether its hooks are shown what is said",
  ),
  wasi: z.boolean().default(false).describe(
    "The system interface of C, Go and JavaScript guests, over /dev/null",
  ),
  hooks: z.array(HookPoint).max(16).default([]).describe(
    "Points of a turn it is called at",
  ),
  webhooks: z.array(PluginName).max(16).default([]).describe(
    "Webhooks that are open under /plugins/<id>/",
  ),
  channel: z.boolean().default(false).describe(
    "Whether it carries messages in and out",
  ),
  policy: SenderPolicy.default("pairing").describe(
    "Who else may talk through its channel: after pairing with a code, nobody (allowlist), anybody (open); off shuts it",
  ),
  senders: z.array(ListedSender).max(256).default([]).describe(
    "Senders of its channel who may talk to the agent in direct messages, by the network's immutable id",
  ),
  limits: z.strictObject(LIMITS).partial().default({}).describe(
    "Limits of this plugin, in place of plugins.limits",
  ),
});
export type PluginGrant = z.infer<typeof PluginGrant>;

export const PluginsConfig = z.strictObject({
  publishers: z.array(TrustedPublisher).max(64).default([]).describe(
    "Publishers whose signature is trusted; none means nobody is",
  ),
  granted: z.record(PluginId, PluginGrant.prefault({})).default({}).describe(
    "What each installed plugin may do",
  ),
  limits: PluginLimits,
}).prefault({});
export type PluginsConfig = z.infer<typeof PluginsConfig>;

/** What holds for one plugin: the limits of all, and the owner's for this one. */
export function limitsOf(
  { limits, granted }: PluginsConfig,
  id: string,
): PluginLimits {
  const own = Object.entries(granted[id]?.limits ?? {}).filter(([, value]) =>
    value !== undefined
  );
  return { ...limits, ...Object.fromEntries(own) };
}

/** Where guests of WASI read and write: nothing comes, nothing stays. */
export const NULL_DEVICE = "/dev/null";

/** What the granted plugins need: their hosts. */
export function pluginNeeds(config: PluginsConfig): Need[] {
  const needs: Need[] = [];
  for (const [id, grant] of Object.entries(config.granted)) {
    if (!grant.enabled) continue;
    for (const { host, port } of grant.http) {
      const because = `plugins.granted.${id}.http`;
      needs.push(need("net", `${host}:${port}`, because));
    }
    if (grant.wasi) needs.push(...wasiNeeds(`plugins.granted.${id}.wasi`));
  }
  return needs;
}

/** What running a guest of WASI needs. */
export function wasiNeeds(because: string): Need[] {
  return [
    need("read", NULL_DEVICE, because),
    need("write", NULL_DEVICE, because),
  ];
}

/** A hash of the slice, to know which one holds. Secrets count by their source. */
export async function pluginsHash(config: PluginsConfig): Promise<string> {
  const sources = Object.values(config.granted).map(({ secrets }) =>
    Object.values(secrets).map(({ source }) => source)
  );
  return await sha256Hex(JSON.stringify([config, sources]));
}
