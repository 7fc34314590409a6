/**
 * The plugin manifest: all a plugin offers and all it wants, so that listing
 * and granting run none of its code.
 *
 * Never: a capability that is not written here; a field that is not signed.
 *
 * @module
 */
import { z } from "zod";
import { Effect } from "./tool.ts";

/** A plugin's id: it names rows, routes and senders, so it is narrow. */
export const PluginId = z.string().regex(
  /^[a-z][a-z0-9-]{1,39}$/,
  "a plugin id is 2 to 40 of a-z, 0-9 and -, and begins with a letter",
);

/** A function of the module, as WebAssembly names it. */
const Export = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/);
/** What tools, webhooks, secrets and settings of a plugin are called. */
export const PluginName = z.string().regex(
  /^[a-z][a-z0-9_]{0,63}$/,
  "a name is 1 to 64 of a-z, 0-9 and _, and begins with a letter",
);
const Name = PluginName;
const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Host = z.string().max(253).regex(
  /^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/,
  "a host is exact (api.example.com) or one level of wildcard (*.example.com)",
);
const Method = z.enum(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]);
const HeaderName = z.string().max(64).regex(/^[a-z0-9-]+$/);
const PathPrefix = z.string().max(256).regex(/^\/[^\s?#]*$/).default("/");

export const PluginTool = z.strictObject({
  name: Name,
  description: z.string().max(1024),
  /** JSON Schema of the arguments. */
  input: z.record(z.string(), z.json()),
  effect: Effect,
  result: z.strictObject({
    integrity: z.enum(["inherit", "untrusted"]).default("untrusted"),
    secrecy: z.enum(["inherit", "private"]).default("inherit"),
  }).prefault({}),
  destinations: z.array(z.strictObject({
    path: z.string().max(128),
    kind: z.enum(["url", "address", "path"]),
  })).max(16).default([]),
  export: Export,
});

export type PluginTool = z.infer<typeof PluginTool>;

export const PluginWebhook = z.strictObject({
  name: Name,
  methods: z.array(Method).min(1).default(["POST"]),
  auth: z.discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("hmac"),
      header: HeaderName,
      algorithm: z.enum(["sha256", "sha1"]).default("sha256"),
      prefix: z.string().max(32).default(""),
      secret: Name,
    }),
    z.strictObject({
      kind: z.literal("token"),
      header: HeaderName,
      secret: Name,
    }),
    z.strictObject({ kind: z.literal("scope"), scope: z.literal("hooks") }),
  ]),
  /** The header that names the event, so that it is taken once. Signed bodies need none. */
  eventId: HeaderName.optional(),
  /** Request headers the guest sees, response headers it may set. */
  headersIn: z.array(HeaderName).max(32).default([]),
  headersOut: z.array(HeaderName).max(32).default(["content-type"]),
  export: Export,
});

export type PluginWebhook = z.infer<typeof PluginWebhook>;

export const HookPoint = z.enum([
  "message_received",
  "before_turn",
  "before_tool_call",
  "after_tool_call",
  "before_reply",
  "session_start",
  "session_end",
  "compaction",
  "gateway_start",
  "gateway_stop",
]);

export type HookPoint = z.infer<typeof HookPoint>;

export const PluginHook = z.strictObject({
  point: HookPoint,
  /** Lower runs first. */
  order: z.int().min(0).max(1000).default(500),
  may: z.array(z.enum(["annotate", "change", "cancel"])).default(["annotate"]),
  export: Export,
});

export type PluginHook = z.infer<typeof PluginHook>;

export const PluginChannel = z.strictObject({
  description: z.string().max(1024),
  charsMax: z.int().min(64).max(65_536).default(4096),
  /** How its network writes emphasis; `none` is handed plain text. */
  markdown: z.enum(["none", "markdown"]).default("markdown"),
  /** Its network drops a second message with the same key. */
  idempotent: z.boolean().default(false),
  /**
   * Called with one message to deliver. An error it returns means that the
   * network did not take it; one that begins with `unknown:` that nobody knows.
   */
  sendExport: Export,
  /** Called every `pollMs` to fetch what came in, if the network has no webhook. */
  pollExport: Export.optional(),
  pollMs: z.int().min(1000).default(30_000),
});

/** One place a plugin may reach. */
export const PluginHttp = z.strictObject({
  host: Host,
  /** `http` only for an exact host: a server of the owner's own. */
  scheme: z.enum(["https", "http"]).default("https"),
  port: z.int().min(1).max(65_535).default(443),
  methods: z.array(Method).min(1).max(6).default(["GET"]),
  pathPrefix: PathPrefix,
}).refine(
  ({ host, scheme }) => scheme === "https" || !host.startsWith("*."),
  "a wildcard host is reached by https only",
);
export type PluginHttp = z.infer<typeof PluginHttp>;

/** Bytes of its own that a plugin may keep. */
export const PluginKv = z.strictObject({
  bytes: z.int().min(1).max(16_777_216),
});

/** Whom a plugin may write to. */
export const PluginMessage = z.strictObject({
  to: z.union([
    z.literal("owner"),
    z.literal("reply"),
    z.strictObject({ channels: z.array(z.string().max(64)).min(1).max(16) }),
  ]),
});
export type PluginMessage = z.infer<typeof PluginMessage>;

/** How often a plugin may ask to be called later. */
export const PluginSchedule = z.strictObject({
  maxPerDay: z.int().min(1).max(1440),
  /** Called when the time comes. */
  export: Export.default("on_schedule"),
});

export const PluginWants = z.strictObject({
  http: z.array(PluginHttp).max(32).default([]),
  secrets: z.array(z.strictObject({
    name: Name,
    host: Host,
    header: HeaderName,
    /** Written before the value: `Bearer `. */
    prefix: z.string().max(32).default(""),
    methods: z.array(Method).min(1).default(["GET"]),
    pathPrefix: PathPrefix,
  })).max(16).default([]),
  kv: PluginKv.optional(),
  config: z.array(Name).max(64).default([]),
  log: z.boolean().default(false),
  message: PluginMessage.optional(),
  schedule: PluginSchedule.optional(),
  /** Its hooks are shown what is said; without it only that something was. */
  conversation: z.boolean().default(false),
  /** The system interface of C, Go and JavaScript guests, over `/dev/null`. */
  wasi: z.boolean().default(false),
});
export type PluginWants = z.infer<typeof PluginWants>;

/** `plugin.jsonc`. Signed over RFC 8785 of everything but `signature`. */
export const PluginManifest = z.strictObject({
  id: PluginId,
  name: z.string().min(1).max(80),
  version: z.string().regex(
    /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/,
    "a version looks like 1.2.3",
  ),
  description: z.string().max(1024).default(""),
  publisher: z.string().min(1).max(128),
  wasm: z.strictObject({
    file: z.string().regex(/^[A-Za-z0-9_-]+\.wasm$/),
    sha256: Sha256,
  }),
  tools: z.array(PluginTool).max(64).default([]),
  webhooks: z.array(PluginWebhook).max(16).default([]),
  hooks: z.array(PluginHook).max(32).default([]),
  channel: PluginChannel.optional(),
  wants: PluginWants.prefault({}),
  signature: z.strictObject({
    /** Base64url of the raw Ed25519 public key. */
    publicKey: z.string().max(64),
    /** Base64url of the signature. */
    value: z.string().max(128),
  }).optional(),
});
export type PluginManifest = z.infer<typeof PluginManifest>;
