/**
 * What a plugin may do: what it wants and was granted, and nothing else. From
 * here come the import list, the doors, the effect of its tools, and the words
 * the owner is shown.
 *
 * Never: a capability that is not both wanted and granted.
 *
 * @module
 */
import { canonicalJson } from "../core/canonical.ts";
import { sha256Hex } from "../core/ids.ts";
import type {
  HookPoint,
  PluginHook,
  PluginHttp,
  PluginManifest,
  PluginWebhook,
} from "../core/plugin.ts";
import type { Secret } from "../core/secret.ts";
import type { Effect } from "../core/tool.ts";
import type { PluginGrant } from "./config.ts";
import { type ImportGrants, importsFor } from "./imports.ts";
import type { MeterImport } from "./imports.ts";

/** A secret and where it is attached. */
export interface PluginCredential {
  name: string;
  host: string;
  header: string;
  prefix: string;
  methods: readonly string[];
  pathPrefix: string;
  secret: Secret;
}

/** Wanted and granted. */
export interface Capabilities {
  http: readonly PluginHttp[];
  credentials: readonly PluginCredential[];
  /** Secrets its webhooks are checked with, by name. */
  secrets: ReadonlyMap<string, Secret>;
  kvBytes: number;
  config: Readonly<Record<string, string>>;
  log: boolean;
  message: { owner: boolean; reply: boolean; channels: readonly string[] };
  schedule: { maxPerDay: number; export: string } | undefined;
  conversation: boolean;
  wasi: boolean;
  hooks: readonly PluginHook[];
  webhooks: readonly PluginWebhook[];
  channel: boolean;
}

function isBelow(path: string, prefix: string): boolean {
  return prefix === "/" || path === prefix ||
    path.startsWith(prefix.endsWith("/") ? prefix : `${prefix}/`);
}

function covers(wide: string, narrow: string): boolean {
  return wide === narrow ||
    wide.startsWith("*.") && narrow.endsWith(wide.slice(1)) &&
      !narrow.slice(0, -wide.length + 1).includes(".");
}

/** What two rules both allow. */
function meetHttp(a: PluginHttp, b: PluginHttp): PluginHttp | undefined {
  if (a.scheme !== b.scheme || a.port !== b.port) return undefined;
  const host = covers(a.host, b.host)
    ? b.host
    : covers(b.host, a.host)
    ? a.host
    : undefined;
  const pathPrefix = isBelow(a.pathPrefix, b.pathPrefix)
    ? a.pathPrefix
    : isBelow(b.pathPrefix, a.pathPrefix)
    ? b.pathPrefix
    : undefined;
  const methods = a.methods.filter((method) => b.methods.includes(method));
  if (host === undefined || pathPrefix === undefined || methods.length === 0) {
    return undefined;
  }
  return { ...a, host, pathPrefix, methods };
}

function meetMessage(
  wanted: PluginManifest["wants"]["message"],
  granted: PluginGrant["message"],
): Capabilities["message"] {
  const both = (to: "owner" | "reply") =>
    wanted?.to === to && granted?.to === to;
  const listed = (message: typeof wanted) =>
    typeof message?.to === "object" ? message.to.channels : [];
  return {
    owner: both("owner"),
    reply: both("reply"),
    channels: listed(wanted).filter((name) => listed(granted).includes(name)),
  };
}

/** Wanted ∩ granted. */
export function capabilitiesOf(
  manifest: PluginManifest,
  grant: PluginGrant,
): Capabilities {
  const { wants } = manifest;
  const http = wants.http.flatMap((wanted) =>
    grant.http.flatMap((granted) => meetHttp(wanted, granted) ?? [])
  );
  const secrets = new Map(Object.entries(grant.secrets));
  const credentials = wants.secrets.flatMap((wanted) => {
    const secret = secrets.get(wanted.name);
    return secret === undefined ? [] : [{ ...wanted, secret }];
  });
  const schedule = wants.schedule === undefined || grant.schedule === undefined
    ? undefined
    : {
      maxPerDay: Math.min(wants.schedule.maxPerDay, grant.schedule.maxPerDay),
      export: wants.schedule.export,
    };
  return {
    http,
    credentials,
    secrets,
    kvBytes: Math.min(wants.kv?.bytes ?? 0, grant.kv?.bytes ?? 0),
    config: Object.fromEntries(
      Object.entries(grant.config).filter(([name]) =>
        wants.config.includes(name)
      ),
    ),
    log: wants.log && grant.log,
    message: meetMessage(wants.message, grant.message),
    schedule,
    conversation: wants.conversation && grant.conversation,
    wasi: wants.wasi && grant.wasi,
    hooks: manifest.hooks.filter(({ point }) => grant.hooks.includes(point)),
    webhooks: manifest.webhooks.filter(({ name }) =>
      grant.webhooks.includes(name)
    ),
    channel: manifest.channel !== undefined && grant.channel,
  };
}

/** Whether it may write to anybody. */
function mayMessage({ message }: Capabilities): boolean {
  return message.owner || message.reply || message.channels.length > 0;
}

/** Functions of this host that a module may import, by its capabilities. */
export function userFunctions(can: Capabilities): string[] {
  return [
    ...can.http.length > 0 ? ["carapace_http"] : [],
    ...can.kvBytes > 0
      ? ["get", "set", "delete", "list"].map((verb) => `carapace_kv_${verb}`)
      : [],
    ...mayMessage(can) ? ["carapace_message"] : [],
    ...can.schedule === undefined ? [] : ["carapace_schedule"],
    ...can.channel ? ["carapace_emit"] : [],
  ];
}

/** What the meter lets a module import. */
export function importListOf(
  manifest: PluginManifest,
  can: Capabilities,
): readonly MeterImport[] {
  const grants: ImportGrants = {
    // Asking for a setting that nobody set is harmless: the answer is nothing.
    config: manifest.wants.config.length > 0,
    log: can.log,
    wasi: can.wasi,
    user: userFunctions(can),
  };
  return importsFor(grants);
}

/** What its grants let a tool do, whatever the manifest says of it. */
export function impliedEffect(can: Capabilities): Effect {
  if (can.schedule !== undefined) return "schedule";
  if (mayMessage(can) || can.channel) return "message";
  const reads = can.http.every(({ methods }) =>
    methods.every((method) => method === "GET" || method === "HEAD")
  );
  if (can.http.length === 0) return "none";
  return reads ? "fetch" : "outbound";
}

/** Something a plugin wants: a key to compare by, and words for the owner. */
export interface Want {
  key: string;
  words: string;
}

const HOOK_WORDS: Readonly<Record<HookPoint, string>> = {
  message_received: "when a message comes in",
  before_turn: "before each turn",
  before_tool_call: "before each tool call",
  after_tool_call: "after each tool call",
  before_reply: "before each reply",
  session_start: "when a conversation begins",
  session_end: "when a conversation ends",
  compaction: "when a conversation is shortened",
  gateway_start: "when the gateway starts",
  gateway_stop: "when the gateway stops",
};

const AUTH_WORDS = {
  hmac: "whoever can sign with its secret",
  token: "whoever has its secret",
  scope: 'tokens with the scope "hooks"',
} as const;

function isPrivateHost(host: string): boolean {
  return /^(127\.|10\.|192\.168\.|169\.254\.|172\.(1[6-9]|2\d|3[01])\.)|^localhost$|\.(local|internal|lan|home)$/
    .test(host);
}

function httpWords({ host, scheme, port, methods, pathPrefix }: PluginHttp) {
  const isUsual = scheme === "https" && port === 443;
  const at = `${host}${isUsual ? "" : `:${port}`}`;
  const where = isPrivateHost(host) ? " (a machine of your own network)" : "";
  const how = scheme === "http" ? " without encryption" : "";
  const verbs = methods.join(", ");
  const path = pathPrefix === "/" ? "" : ` below ${pathPrefix}`;
  return `send ${verbs} requests to ${at}${path}${how}${where}`;
}

function messageWants({ message }: PluginManifest["wants"]): Want[] {
  if (message === undefined) return [];
  if (message.to === "owner") {
    return [{ key: "message owner", words: "write to you" }];
  }
  if (message.to === "reply") {
    return [{
      key: "message reply",
      words: "answer whoever wrote to its channel",
    }];
  }
  return message.to.channels.map((name) => ({
    key: `message ${name}`,
    words: `send messages through the channel "${name}"`,
  }));
}

/** Everything a manifest wants, in words. */
export function wantsOf(manifest: PluginManifest): Want[] {
  const { wants, hooks, webhooks, channel } = manifest;
  const secretWords = (name: string) =>
    `the secret "${name}" (it never sees it)`;
  return [
    ...wants.http.map((rule) => ({
      key: `http ${canonicalJson(rule)}`,
      words: httpWords(rule),
    })),
    ...wants.secrets.map((secret) => ({
      key: `secret ${canonicalJson(secret)}`,
      words: `have ${
        secretWords(secret.name)
      } attached to its requests to ${secret.host}`,
    })),
    ...wants.kv === undefined ? [] : [{
      key: `kv ${wants.kv.bytes}`,
      words: `keep ${wants.kv.bytes} bytes of its own`,
    }],
    ...wants.config.map((name) => ({
      key: `config ${name}`,
      words: `read its setting "${name}"`,
    })),
    ...wants.log ? [{ key: "log", words: "write log lines" }] : [],
    ...messageWants(wants),
    ...wants.schedule === undefined ? [] : [{
      key: `schedule ${wants.schedule.maxPerDay}`,
      words: `ask to be called later, ${wants.schedule.maxPerDay} times a day`,
    }],
    ...wants.conversation
      ? [{ key: "conversation", words: "be shown what is said" }]
      : [],
    ...wants.wasi
      ? [{
        key: "wasi",
        words:
          "use the system interface of C and Go programs, without any file",
      }]
      : [],
    ...hooks.map(({ point, may }) => ({
      key: `hook ${point} ${[...may].sort().join(" ")}`,
      words: `be called ${HOOK_WORDS[point]} (it may ${may.join(", ")})`,
    })),
    ...webhooks.map(({ name, auth }) => ({
      key: `webhook ${name} ${canonicalJson(auth)}`,
      words: `be called over HTTP at /plugins/${manifest.id}/${name} by ${
        AUTH_WORDS[auth.kind]
      }`,
    })),
    ...channel === undefined ? [] : [{
      key: "channel",
      words: "carry messages between you and its network",
    }],
  ];
}

/** A short hash of each want: what the owner has looked at. */
export async function wantHashes(manifest: PluginManifest): Promise<string[]> {
  const hashes = wantsOf(manifest).map(({ key }) => sha256Hex(key));
  return (await Promise.all(hashes)).map((hash) => hash.slice(0, 16)).sort();
}

/** The wants that the owner has not looked at yet. */
export async function unreviewed(
  manifest: PluginManifest,
  reviewed: readonly string[],
): Promise<Want[]> {
  const fresh: Want[] = [];
  for (const want of wantsOf(manifest)) {
    const hash = (await sha256Hex(want.key)).slice(0, 16);
    if (!reviewed.includes(hash)) fresh.push(want);
  }
  return fresh;
}

/** What is wanted and not granted. Secrets that nobody set count. */
export function missingOf(
  manifest: PluginManifest,
  grant: PluginGrant,
): Want[] {
  const all = grantAll(manifest, grant.secrets);
  const full = new Set(
    grantKeys(capabilitiesOf(manifest, all), manifest),
  );
  const has = new Set(grantKeys(capabilitiesOf(manifest, grant), manifest));
  const names = new Map(wantsOf(manifest).map((want) => [want.key, want]));
  const missing = [...full].filter((key) => !has.has(key)).flatMap((key) =>
    names.get(key) ?? []
  );
  const secrets = secretNames(manifest).filter((name) =>
    !Object.hasOwn(grant.secrets, name)
  ).map((name) => ({
    key: `secret ${name}`,
    words: `use the secret "${name}", which is not set`,
  }));
  return [...missing, ...secrets];
}

/** The keys of {@linkcode wantsOf} that are fully there. */
function grantKeys(can: Capabilities, manifest: PluginManifest): string[] {
  const { wants } = manifest;
  const whole = (rule: PluginHttp) => canonicalJson(rule);
  const http = new Set(can.http.map(whole));
  return [
    ...wants.http.map(whole).filter((rule) => http.has(rule)).map((rule) =>
      `http ${rule}`
    ),
    ...can.kvBytes > 0 ? [`kv ${can.kvBytes}`] : [],
    ...can.log ? ["log"] : [],
    ...can.message.owner ? ["message owner"] : [],
    ...can.message.reply ? ["message reply"] : [],
    ...can.message.channels.map((name) => `message ${name}`),
    ...can.schedule === undefined ? [] : [`schedule ${can.schedule.maxPerDay}`],
    ...can.conversation ? ["conversation"] : [],
    ...can.wasi ? ["wasi"] : [],
    ...can.hooks.map(({ point, may }) =>
      `hook ${point} ${[...may].sort().join(" ")}`
    ),
    ...can.webhooks.map(({ name, auth }) =>
      `webhook ${name} ${canonicalJson(auth)}`
    ),
    ...can.channel ? ["channel"] : [],
  ];
}

/** Every secret a manifest speaks of: for requests, and for webhooks. */
export function secretNames(manifest: PluginManifest): string[] {
  return [
    ...new Set([
      ...manifest.wants.secrets.map(({ name }) => name),
      ...manifest.webhooks.flatMap(({ auth }) =>
        auth.kind === "scope" ? [] : [auth.secret]
      ),
    ]),
  ];
}

/** A grant of all that is wanted, with the secrets there are. */
export function grantAll(
  manifest: PluginManifest,
  secrets: PluginGrant["secrets"],
): PluginGrant {
  const { wants, hooks, webhooks, channel } = manifest;
  return {
    enabled: true,
    http: wants.http,
    secrets,
    ...wants.kv === undefined ? {} : { kv: wants.kv },
    config: {},
    log: wants.log,
    ...wants.message === undefined ? {} : { message: wants.message },
    ...wants.schedule === undefined
      ? {}
      : { schedule: { maxPerDay: wants.schedule.maxPerDay } },
    conversation: wants.conversation,
    wasi: wants.wasi,
    hooks: hooks.map(({ point }) => point),
    webhooks: webhooks.map(({ name }) => name),
    channel: channel !== undefined,
    policy: "pairing",
    senders: [],
    limits: {},
  };
}
