/**
 * Webhooks: requests from outside to a plugin, checked on the raw body before
 * anything is read of it, taken once.
 *
 * Never: a request reaches a guest that was not verified; two answers to
 * unverified requests differ; a guest sets a header its manifest does not name.
 *
 * @module
 */
import { z } from "zod";
import { parseJson } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import { sha256Hex } from "../core/ids.ts";
import type { PluginWebhook } from "../core/plugin.ts";
import { type Secret, verifySecret } from "../core/secret.ts";
import type { Clock } from "../core/time.ts";
import type { Journal } from "../store/journal.ts";
import type { Plugins } from "../store/plugins.ts";
import { guestLabel, type Instance } from "./instance.ts";

/** Bytes of a webhook's body. */
export const WEBHOOK_BODY_BYTES_MAX = 1_048_576;
const HEADER_CHARS_MAX = 4_096;

/** A request as the gateway hands it in: the body as it came. */
export interface WebhookRequest {
  method: string;
  query: URLSearchParams;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
  /** Whether the caller's own token has the scope "hooks". */
  hasScope: boolean;
  signal: AbortSignal;
}

/** What a webhook's export answers; nothing means 200. */
export const WebhookAnswer = z.strictObject({
  status: z.int().min(200).max(599).refine(
    (status) => status < 300 || status >= 400,
    "a webhook does not redirect",
  ).default(200),
  headers: z.record(
    z.string().max(64).regex(/^[A-Za-z0-9-]+$/),
    z.string().max(HEADER_CHARS_MAX),
  ).default({}),
  body: z.string().max(262_144).default(""),
});

const JSON_LIMITS = { depthMax: 16, nodesMax: 1_000 };

/** Headers no guest sets, whatever its manifest names. */
const HEADERS_OURS =
  /^(set-cookie2?|content-security-policy.*|x-content-type-options|access-control-.*|cross-origin-.*|strict-transport-security|location|refresh|clear-site-data|cache-control|referrer-policy|www-authenticate|connection|content-length|content-encoding|transfer-encoding|upgrade|server|date|link|service-worker.*|sourcemap)$/i;
/** What a browser would run is sent as text. */
const TYPES_SENT = /^(text\/plain|application\/json)\b/i;
/** Headers no guest sees: they open something. */
const HEADERS_HIDDEN = /^(authorization|cookie|proxy-.*)$/i;

/** The one answer to whoever is not verified. */
export function unverified(): AppError {
  return new AppError("unauthorized", "Cannot authenticate this request", {
    hint: "Check the secret on both sides",
  });
}

/** What taking a webhook needs. */
export interface WebhookDeps {
  rows: Plugins;
  journal: Journal;
  clock: Clock;
}

/**
 * Verifies a request, takes it once and asks the plugin.
 *
 * @throws {AppError} `unauthorized`, always the same, for what is not verified
 */
export async function takeWebhook(
  found: { instance: Instance; name: string } | undefined,
  request: WebhookRequest,
  deps: WebhookDeps,
): Promise<Response> {
  const { instance, name } = found ?? {};
  const webhook = instance?.can.webhooks.find((one) => one.name === name);
  if (instance === undefined || webhook === undefined) throw unverified();
  if (!await isVerified(webhook, request, instance.can.secrets)) {
    instance.note("warn", `webhook "${webhook.name}": not verified`);
    throw unverified();
  }
  if (!webhook.methods.some((method) => method === request.method)) {
    throw new AppError(
      "bad_input",
      `Cannot ${request.method}: it takes ${webhook.methods.join(", ")}`,
      { details: { status: 405 } },
    );
  }
  const event = await eventOf(webhook, request);
  if (event === undefined) return await ask(instance, webhook, request);
  const { rows, journal, clock } = deps;
  const seen = rows.seenRow(instance.id, webhook.name, event, clock.now());
  try {
    await journal.commit([seen]);
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "conflict") throw error;
    return Response.json({ ok: true, duplicate: true });
  }
  try {
    return await ask(instance, webhook, request);
  } catch (error) {
    // It was not taken: the sender may try again.
    const again = rows.unseenRow(instance.id, webhook.name, event);
    await journal.commit([again]);
    throw error;
  }
}

async function isVerified(
  { auth }: PluginWebhook,
  request: WebhookRequest,
  secrets: ReadonlyMap<string, Secret>,
): Promise<boolean> {
  if (auth.kind === "scope") return request.hasScope;
  const secret = secrets.get(auth.secret);
  const given = request.headers.get(auth.header);
  // A blank secret would verify whoever sends a blank one.
  const isBlank = secret === undefined || secret.reveal().length < 8;
  if (isBlank || given === null) return false;
  if (auth.kind === "token") {
    const value = given.replace(/^Bearer +/i, "");
    return await verifySecret(value, secret.reveal());
  }
  const { prefix, algorithm } = auth;
  const hex = given.slice(prefix.length);
  // One spelling only, so that a signature is not accepted twice as two.
  if (!given.startsWith(prefix) || !/^[0-9a-f]+$/.test(hex)) return false;
  const hash = algorithm === "sha256" ? "SHA-256" : "SHA-1";
  const key = await crypto.subtle.importKey(
    "raw",
    new TextEncoder().encode(secret.reveal()),
    { name: "HMAC", hash },
    false,
    ["sign"],
  );
  const mac = await crypto.subtle.sign("HMAC", key, request.body);
  return await verifySecret(hex, new Uint8Array(mac).toHex());
}

/**
 * What an event is known by. Of a signed request only the body is signed, so
 * only the body names it; a header beside it could be any.
 */
async function eventOf(
  webhook: PluginWebhook,
  request: WebhookRequest,
): Promise<string | undefined> {
  if (webhook.auth.kind === "hmac") return await sha256Hex(request.body);
  const id = webhook.eventId === undefined
    ? null
    : request.headers.get(webhook.eventId);
  return id === null ? undefined : await sha256Hex(id);
}

function toInput(webhook: PluginWebhook, request: WebhookRequest): unknown {
  const headers: Record<string, string> = {};
  const hidden = webhook.auth.kind === "scope" ? "" : webhook.auth.header;
  for (const name of webhook.headersIn) {
    const value = request.headers.get(name);
    if (value === null || name === hidden || HEADERS_HIDDEN.test(name)) {
      continue;
    }
    headers[name] = value.slice(0, HEADER_CHARS_MAX);
  }
  const query = Object.fromEntries([...request.query].slice(0, 64));
  const shared = { name: webhook.name, method: request.method, query, headers };
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    return { ...shared, body: decoder.decode(request.body) };
  } catch {
    return { ...shared, bodyBase64: request.body.toBase64() };
  }
}

async function ask(
  instance: Instance,
  webhook: PluginWebhook,
  request: WebhookRequest,
): Promise<Response> {
  const { output, mark } = await instance.call({
    export: webhook.export,
    what: `webhook "${webhook.name}"`,
    input: JSON.stringify(toInput(webhook, request)),
    context: {
      kind: "webhook",
      label: guestLabel(instance.id, 0),
    },
    signal: request.signal,
  });
  if (mark.label.secrecy.length > 0) {
    // It was taken, so it is not to be sent again; nobody outside learns more.
    const why = `it read private data of ${mark.label.secrecy.join(", ")}`;
    instance.note("warn", `webhook "${webhook.name}": not answered, ${why}`);
    return new Response("");
  }
  const answer = output.trim() === ""
    ? WebhookAnswer.parse({})
    : readAnswer(output, webhook.name);
  const headers = new Headers({ "content-type": "text/plain; charset=utf-8" });
  for (const [name, value] of Object.entries(answer.headers)) {
    const lower = name.toLowerCase();
    if (!webhook.headersOut.includes(lower) || HEADERS_OURS.test(lower)) {
      continue;
    }
    if (lower === "content-type" && !TYPES_SENT.test(value)) continue;
    headers.set(lower, value.replaceAll(/[^\x20-\x7e]/g, ""));
  }
  const hasBody = answer.status !== 204;
  return new Response(hasBody ? answer.body : null, {
    status: answer.status,
    headers,
  });
}

function readAnswer(
  output: string,
  name: string,
): z.infer<typeof WebhookAnswer> {
  const parsed = WebhookAnswer.safeParse(parseJson(output, JSON_LIMITS));
  if (parsed.success) return parsed.data;
  throw new AppError(
    "upstream",
    `webhook "${name}" answered what is no answer of a webhook`,
  );
}
