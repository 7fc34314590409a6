/**
 * What a guest may ask of the host: each request parsed and bounded like
 * anything from outside, each within the plugin's own capabilities.
 *
 * Never: a guest sees a secret; a request leaves by another door than egress;
 * one plugin's rows are named by another.
 *
 * @module
 */
import { z } from "zod";
import { parseJson } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import { join, type Label } from "../core/label.ts";
import { spellings } from "../core/spellings.ts";
import type { Clock } from "../core/time.ts";
import type { Egress, HostRule } from "../egress/egress.ts";
import type { Journal } from "../store/journal.ts";
import {
  PLUGIN_KEY_CHARS_MAX,
  PLUGIN_VALUE_CHARS_MAX,
  type Plugins,
} from "../store/plugins.ts";
import type { Capabilities } from "./capabilities.ts";
import type { PluginLimits } from "./config.ts";
import type { PluginCall, PluginWorld } from "./context.ts";
import type { CallInfo } from "./live.ts";
import { Window } from "./rate.ts";

const JSON_LIMITS = { depthMax: 32, nodesMax: 10_000 };
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Bounds of what a guest may ask for. */
export const ASK_LIMITS = {
  /** Characters of one text a plugin hands over; longer is refused. */
  textCharsMax: 16_384,
  /** Bytes of an HTTP answer a plugin is given; the request fails beyond it. */
  responseBytesMax: 1_048_576,
  /** Messages a plugin may send in a minute; then its calls are refused. */
  messagesPerMinute: 20,
  /** Events a plugin may emit in a minute; then its calls are refused. */
  emitsPerMinute: 120,
  /** Writes to its store in a minute; then its calls are refused. */
  keptPerMinute: 6_000,
  /** Timers a plugin may have; one more is refused. */
  timersMax: 100,
  /** The shortest timer; a shorter one is refused. */
  timerMsMin: 1_000,
  timerMsMax: 366 * DAY_MS,
} as const;

const KeyText = z.string().min(1).max(PLUGIN_KEY_CHARS_MAX).regex(
  // deno-lint-ignore no-control-regex
  /^[^\x00-\x1f\x7f]+$/,
  "a key holds no control characters",
);
const HeaderName = z.string().max(64).regex(/^[A-Za-z0-9-]+$/);

/** The requests of each function; `docs/plugin-abi.json` is made of these. */
export const REQUESTS = {
  carapace_http: z.strictObject({
    url: z.string().max(4_096).describe("An absolute https URL"),
    method: z.enum(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
      .default("GET"),
    headers: z.record(HeaderName, z.string().max(4_096)).default({}),
    body: z.string().optional().describe("A text body, in UTF-8"),
    bodyBase64: z.base64().optional().describe("Or one of bytes"),
  }),
  carapace_kv_get: z.strictObject({ key: KeyText }),
  carapace_kv_set: z.strictObject({
    key: KeyText,
    value: z.string().max(PLUGIN_VALUE_CHARS_MAX),
  }),
  carapace_kv_delete: z.strictObject({ key: KeyText }),
  carapace_kv_list: z.strictObject({
    prefix: z.string().max(PLUGIN_KEY_CHARS_MAX).default(""),
    limit: z.int().min(1).max(1_000).default(100),
  }),
  carapace_message: z.strictObject({
    to: z.string().min(1).max(64).describe(
      '"owner", "reply", or the id of a channel plugin',
    ),
    text: z.string().min(1).max(ASK_LIMITS.textCharsMax),
    address: z.string().max(256).optional().describe(
      "Where in that channel; without it wherever its settings say",
    ),
    key: z.string().min(1).max(200).optional().describe(
      "The same key is delivered once",
    ),
  }),
  carapace_schedule: z.strictObject({
    name: z.string().min(1).max(64),
    inMs: z.int().min(ASK_LIMITS.timerMsMin).max(ASK_LIMITS.timerMsMax)
      .optional().describe("From now; without it the timer is taken back"),
    payload: z.string().max(ASK_LIMITS.textCharsMax).default(""),
  }),
  carapace_emit: z.strictObject({
    id: z.string().min(1).max(256).describe("The network's own event id"),
    account: z.string().min(1).max(128).default("default"),
    sender: z.strictObject({
      id: z.string().min(1).max(256).describe("Immutable"),
      name: z.string().max(256).optional(),
    }),
    chat: z.strictObject({
      kind: z.enum(["direct", "group"]).default("direct"),
      id: z.string().min(1).max(256),
    }),
    mentioned: z.boolean().default(false).describe(
      "In a group: the assistant itself was meant",
    ),
    text: z.string().min(1).max(65_536),
  }),
} as const;

/** The answers, beside `{"ok":false,"code":…,"error":…}`. */
export const ANSWERS = {
  carapace_http: z.strictObject({
    ok: z.literal(true),
    status: z.int(),
    headers: z.record(z.string(), z.string()),
    body: z.string().optional(),
    bodyBase64: z.base64().optional(),
  }),
  carapace_kv_get: z.strictObject({
    ok: z.literal(true),
    value: z.string().nullable(),
  }),
  carapace_kv_set: z.strictObject({ ok: z.literal(true) }),
  carapace_kv_delete: z.strictObject({ ok: z.literal(true) }),
  carapace_kv_list: z.strictObject({
    ok: z.literal(true),
    keys: z.array(z.string()),
  }),
  carapace_message: z.strictObject({ ok: z.literal(true) }),
  carapace_schedule: z.strictObject({ ok: z.literal(true) }),
  carapace_emit: z.strictObject({
    ok: z.literal(true),
    accepted: z.boolean(),
    reason: z.enum(["unpaired", "duplicate", "refused"]).optional(),
  }),
} as const;

export type FunctionName = keyof typeof REQUESTS;
type Request<N extends FunctionName> = z.output<(typeof REQUESTS)[N]>;
type Answer<N extends FunctionName> = z.output<(typeof ANSWERS)[N]>;

/** Headers a guest may not set: they are the door's, or name another host. */
const HEADERS_OURS =
  /^(host|connection|content-length|transfer-encoding|upgrade|te|trailer|keep-alive|expect|cookie|proxy-.*|sec-.*|x-forwarded-.*|forwarded|via|origin|referer)$/i;
/** Headers of an answer that a guest is shown. */
const HEADERS_SHOWN =
  /^(content-type|content-length|date|etag|last-modified|link|location|retry-after|x-request-id|x-ratelimit-.*|ratelimit-.*)$/i;

/** The call an ask belongs to. */
export type Asking = CallInfo & { context: PluginCall };

/** What the functions are made of. */
export interface FunctionDeps {
  id: string;
  can: Capabilities;
  limits: PluginLimits;
  rows: Plugins;
  journal: Journal;
  egress: Pick<Egress, "door">;
  world: PluginWorld;
  /** A message from this plugin's network. */
  emit(
    event: Request<"carapace_emit">,
    seen: Label,
  ): Promise<Answer<"carapace_emit">>;
  /** A timer was set or taken back. */
  onTimer(): void;
  clock: Clock;
}

/** The functions of one plugin. */
export class HostFunctions {
  readonly #deps: FunctionDeps;
  readonly #door: typeof fetch | undefined;
  readonly #requests: Window;
  readonly #messages: Window;
  readonly #emits: Window;
  readonly #kept: Window;
  readonly #timers: Window;
  #used: Promise<Map<string, number>> | undefined;

  constructor(deps: FunctionDeps) {
    this.#deps = deps;
    const { id, can, limits, clock } = deps;
    const minute = (what: string, max: number) =>
      new Window(what, { max, ms: MINUTE_MS, clock });
    this.#requests = minute("requests", limits.requestsPerMinute);
    this.#messages = minute("messages", ASK_LIMITS.messagesPerMinute);
    this.#emits = minute("events", ASK_LIMITS.emitsPerMinute);
    this.#kept = minute("uses of its storage", ASK_LIMITS.keptPerMinute);
    this.#timers = new Window("timers", {
      max: can.schedule?.maxPerDay ?? 0,
      ms: DAY_MS,
      clock,
    });
    this.#door = can.http.length === 0 ? undefined : deps.egress.door({
      caller: `plugin:${id}`,
      hosts: can.http.map((rule): HostRule => rule),
      credentials: can.credentials,
      limits: {
        answerMs: limits.callMs,
        totalMs: limits.callMs,
        responseBytesMax: ASK_LIMITS.responseBytesMax,
        requestBytesMax: ASK_LIMITS.responseBytesMax,
      },
      fix: () => `Grant it: carapace plugin grant ${id}`,
    });
  }

  /** Answers one ask. @throws {AppError} which is the answer too */
  async ask(
    name: string,
    text: string,
    call: Asking,
  ): Promise<unknown> {
    const has = Object.hasOwn(REQUESTS, name);
    if (!has) throw new AppError("not_found", `There is no function "${name}"`);
    const parse = <N extends FunctionName>(which: N): Request<N> =>
      parseRequest(which, text) as Request<N>;
    switch (name as FunctionName) {
      case "carapace_http":
        return await this.#http(parse("carapace_http"), call);
      case "carapace_kv_get":
        return await this.#get(parse("carapace_kv_get").key, call);
      case "carapace_kv_set":
        return await this.#set(parse("carapace_kv_set"), call);
      case "carapace_kv_delete":
        return await this.#set({ key: parse("carapace_kv_delete").key }, call);
      case "carapace_kv_list":
        return await this.#list(parse("carapace_kv_list"), call);
      case "carapace_message":
        return await this.#message(parse("carapace_message"), call);
      case "carapace_schedule":
        return await this.#schedule(parse("carapace_schedule"), call);
      case "carapace_emit": {
        this.#emits.take();
        return await this.#emit(parse("carapace_emit"), call);
      }
    }
  }

  // --- http ---------------------------------------------------------------

  async #http(
    request: Request<"carapace_http">,
    call: Asking,
  ): Promise<Answer<"carapace_http">> {
    if (this.#door === undefined) throw notGranted("http");
    this.#requests.take();
    const { method, body, bodyBase64 } = request;
    const url = URL.parse(request.url);
    if (url === null) throw new AppError("bad_input", "that is no URL");
    const headers = this.#headersOf(request.headers);
    const isReading = method === "GET" || method === "HEAD";
    this.#decide({
      what: "http",
      effect: isReading ? "fetch" : "outbound",
      place: url.href,
      // What it was handed for its network may go there.
      label: { ...call.mark().label, secrecy: call.mark().withheld },
    });
    const bytes = bodyBase64 === undefined
      ? body
      : Uint8Array.fromBase64(bodyBase64);
    const response = await this.#door(url, {
      method,
      headers,
      signal: call.signal,
      ...bytes === undefined || isReading ? {} : { body: bytes },
    });
    return this.#toAnswer(response, await response.bytes());
  }

  #headersOf(given: Readonly<Record<string, string>>): Headers {
    const headers = new Headers();
    for (const [name, value] of Object.entries(given)) {
      if (HEADERS_OURS.test(name)) {
        throw new AppError(
          "forbidden",
          `the header "${name}" is not a guest's`,
        );
      }
      try {
        headers.set(name, value);
      } catch {
        throw new AppError(
          "bad_input",
          `the value of the header "${name}" cannot stand in a header`,
        );
      }
    }
    return headers;
  }

  /** The answer without what a guest must not see. */
  #toAnswer(
    response: Response,
    bytes: Uint8Array<ArrayBuffer>,
  ): Answer<"carapace_http"> {
    const headers: Record<string, string> = {};
    for (const [name, value] of response.headers) {
      if (HEADERS_SHOWN.test(name)) headers[name] = value.slice(0, 4_096);
    }
    const text = toText(bytes);
    const answer = {
      ok: true as const,
      status: response.status,
      headers,
      ...text === undefined ? { bodyBase64: bytes.toBase64() } : { body: text },
    };
    const latin = text ?? new TextDecoder("latin1").decode(bytes);
    this.#searchSecrets(`${Object.values(headers).join("\n")}\n${latin}`);
    return answer;
  }

  /** A server that echoes a request would show the guest its secrets. */
  #searchSecrets(text: string): void {
    for (const { name, secret } of this.#deps.can.credentials) {
      const forms = [...spellings(secret.reveal())];
      if (forms.some((value) => text.includes(value))) {
        throw new AppError(
          "forbidden",
          `the answer holds the secret "${name}": it is not shown`,
        );
      }
    }
  }

  #decide(
    act: Pick<
      Parameters<PluginWorld["decide"]>[0],
      "what" | "effect" | "place" | "label"
    >,
  ): void {
    const { verdict, reason } = this.#deps.world.decide({
      plugin: this.#deps.id,
      ...act,
    });
    if (verdict === "allow") return;
    throw new AppError("forbidden", `not allowed: ${reason}`);
  }

  // --- storage ------------------------------------------------------------

  async #get(
    key: string,
    { show }: Asking,
  ): Promise<Answer<"carapace_kv_get">> {
    this.#kept.take();
    const { rows, id } = this.#deps;
    const found = await rows.read(id, key);
    if (found !== undefined) show(found.mark);
    return { ok: true, value: found?.value ?? null };
  }

  async #set(
    { key, value }: { key: string; value?: string },
    call: Asking,
  ): Promise<Answer<"carapace_kv_set">> {
    this.#kept.take();
    const { rows, journal, id, can } = this.#deps;
    this.#used ??= rows.kept(id, { limit: 100_000 }).then((all) =>
      new Map(all.map(({ key, bytes }) => [key, sizeOf(key, bytes)]))
    );
    const used = await this.#used;
    const mark = call.mark();
    if (value === undefined) {
      if (!used.has(key)) return { ok: true };
      if (mark.label.secrecy.length > 0) used.set(key, sizeOf(key, 0));
      else used.delete(key);
    } else {
      const before = used.get(key) ?? 0;
      let total = sizeOf(key, byteLength(value)) - before;
      for (const size of used.values()) total += size;
      if (total > can.kvBytes) {
        throw new AppError(
          "too_large",
          `it may keep ${can.kvBytes} bytes, and this would be ${total}`,
        );
      }
      used.set(key, sizeOf(key, byteLength(value)));
    }
    await journal.commit([rows.keptRow(id, key, { value, mark })]);
    return { ok: true };
  }

  async #list(
    { prefix, limit }: Request<"carapace_kv_list">,
    { show }: Asking,
  ): Promise<Answer<"carapace_kv_list">> {
    this.#kept.take();
    const { rows, id } = this.#deps;
    const found = await rows.kept(id, { prefix, limit });
    for (const { mark } of found) show(mark); // a key is data too
    const there = found.filter(({ isGone }) => !isGone);
    return { ok: true, keys: there.map(({ key }) => key) };
  }

  // --- messages, timers ---------------------------------------------------

  async #message(
    request: Request<"carapace_message">,
    { context, mark }: Asking,
  ): Promise<Answer<"carapace_message">> {
    const { to, text, address, key } = request;
    const { can, id, world, clock } = this.#deps;
    const isAllowed = to === "owner"
      ? can.message.owner
      : to === "reply"
      ? can.message.reply
      : can.message.channels.includes(to);
    if (!isAllowed) throw notGranted(`messages to "${to}"`);
    this.#messages.take();
    const { label } = mark();
    this.#decide({ what: "message", effect: "message", place: to, label });
    if (to === "owner") await world.tellOwner(id, text, label);
    else {
      const reply = to === "reply" ? context.reply : undefined;
      if (to === "reply" && reply === undefined) {
        throw new AppError("bad_input", "nobody wrote: there is no reply");
      }
      const channel = to === "reply" ? id : to;
      await world.send({
        plugin: id,
        key: key ?? crypto.randomUUID(),
        channel: `plugin:${channel}`,
        account: reply?.account ?? "default",
        chat: reply?.to ?? address ?? "",
        text,
        label: join(label, wordsOf(id, clock.now())),
      });
    }
    return { ok: true };
  }

  /** Judged as a request is: it comes in by the network it may be known to. */
  async #emit(
    event: Request<"carapace_emit">,
    { mark }: Asking,
  ): Promise<Answer<"carapace_emit">> {
    const { label, withheld } = mark();
    if (withheld.length > 0) {
      throw new AppError(
        "forbidden",
        `not allowed: it was shown private data of ${withheld.join(", ")}`,
      );
    }
    return await this.#deps.emit(event, label);
  }

  async #schedule(
    { name, inMs, payload }: Request<"carapace_schedule">,
    call: Asking,
  ): Promise<Answer<"carapace_schedule">> {
    const { can, rows, journal, id, clock, onTimer } = this.#deps;
    if (can.schedule === undefined) throw notGranted("schedule");
    const timers = await rows.timers(id);
    const before = timers.filter((timer) => timer.name === name)
      .map((timer) => rows.timerDeletion(timer));
    if (inMs === undefined) {
      if (before.length > 0) await journal.commit(before);
    } else {
      if (timers.length - before.length >= ASK_LIMITS.timersMax) {
        throw new AppError(
          "too_large",
          `it may have ${ASK_LIMITS.timersMax} timers`,
        );
      }
      this.#timers.take();
      const due = clock.now() + inMs;
      await journal.commit([
        ...before,
        rows.timerRow({ id, name, due, payload, mark: call.mark() }),
      ]);
    }
    onTimer();
    return { ok: true };
  }
}

function parseRequest(name: FunctionName, text: string): unknown {
  const parsed = REQUESTS[name].safeParse(parseJson(text, JSON_LIMITS));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path.map(String).join(".") ?? "";
  throw new AppError(
    "bad_input",
    `the request does not fit: ${path === "" ? "" : `${path}: `}${
      issue?.message ?? "unknown"
    }`,
  );
}

function notGranted(what: string): AppError {
  return new AppError("forbidden", `${what} is not granted`);
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).byteLength;
}

function sizeOf(key: string, valueBytes: number): number {
  return byteLength(key) + valueBytes;
}

function toText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined; // not text: it goes as base64
  }
}

/** What a guest writes is its own words. */
function wordsOf(id: string, at: number): Label {
  return {
    integrity: "untrusted",
    secrecy: [],
    origins: [{ kind: "plugin", ref: id, at }],
  };
}
