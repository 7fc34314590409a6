/**
 * One request through the door and its answer: checked, sent, followed through
 * redirects that are each checked the same way, timed and cut.
 *
 * Never: the platform follows a redirect; a header but the harmless ones, or a
 * body, on another origin than the first; a credential on any redirect.
 *
 * @module
 */
import { type AppError, ignore } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";
import { checkPublicHost } from "./address.ts";
import { BodyCut, type BodyLimits, capBody, findEncoding } from "./body.ts";
import {
  classify,
  type Failure,
  failureError,
  findDenied,
} from "./failures.ts";
import type { Pinned, RawAnswer, Sent } from "./pinned.ts";
import {
  portOf,
  type Refused,
  refused,
  type Rules,
  type RuleVerdict,
} from "./rules.ts";

/** What a door hands to each of its requests. */
export interface Exchange {
  caller: string;
  rules: Rules;
  limits: BodyLimits & {
    answerMs: number;
    totalMs: number;
    requestBytesMax: number;
    redirectsMax: number;
  };
  clock: Clock;
  clientFor(url: URL, options: { fresh: boolean }): Deno.HttpClient;
  pinned: Pinned;
  proxied: boolean;
  attach(url: URL, method: string, headers: Headers): void;
  onOk(rule: string): void;
  onFailure(rule: string, failure: Failure, at: string): void;
  onCut(rule: string, failure: Failure): void;
  /** Counts and tells a refusal, and makes its error. */
  refuse(url: URL | undefined, refusal: Refused, hop: number): AppError;
}

type Input = Parameters<typeof fetch>[0];
type Bytes = Uint8Array<ArrayBuffer>;
type Allowed = Exclude<RuleVerdict, Refused>;

/** What the caller asked for; read once. */
interface Ask {
  url: string;
  method: string;
  headers: Headers;
  body: BodyInit | null;
  signal: AbortSignal | undefined;
  redirect: RequestRedirect;
}

/** One request of the chain. */
interface Hop {
  n: number;
  text: string;
  /** What `text` is relative to. */
  base: URL | undefined;
  method: string;
  headers: Headers;
  body: BodyInit | null;
}

/** Sends a request for a door's caller and answers with its last hop's answer. */
export async function runExchange(
  exchange: Exchange,
  input: Input,
  init?: RequestInit,
): Promise<Response> {
  const ask = toAsk(input, init);
  using life = new Life(exchange, ask.signal);
  let hop: Hop = { ...ask, n: 0, text: ask.url, base: undefined };
  // Ends at the first answer that is no redirect, at the latest after redirectsMax.
  while (true) {
    const { url, verdict } = checkHop(exchange, hop);
    life.at = `${url.hostname}:${portOf(url)}`;
    life.rule = verdict.kind === "named" ? verdict.rule : "public";
    const answer = await send(exchange, { hop, url, verdict, life });
    const location = ask.redirect === "manual"
      ? undefined
      : findLocation(answer);
    if (location === undefined) {
      return finish(exchange, { answer, hop, url, life });
    }
    await answer.body?.cancel().catch(ignore("a redirect's body was dropped"));
    if (ask.redirect === "error" || hop.n >= exchange.limits.redirectsMax) {
      throw life.fail("redirects");
    }
    hop = toNextHop(hop, { url, status: answer.status, location, life });
  }
}

function toAsk(input: Input, init: RequestInit = {}): Ask {
  const request = input instanceof Request ? input : undefined;
  return {
    url: request?.url ?? String(input),
    method: (init.method ?? request?.method ?? "GET").toUpperCase(),
    headers: new Headers(init.headers ?? request?.headers ?? {}),
    body: init.body ?? request?.body ?? null,
    signal: init.signal ?? request?.signal ?? undefined,
    redirect: init.redirect ?? request?.redirect ?? "follow",
  };
}

function checkHop(
  exchange: Exchange,
  hop: Hop,
): { url: URL; verdict: Allowed } {
  const url = URL.parse(hop.text, hop.base);
  if (url === null) {
    throw exchange.refuse(
      undefined,
      refused("url", "it is not a URL", "Use a whole https:// URL"),
      hop.n,
    );
  }
  url.hash = "";
  let verdict: RuleVerdict =
    hop.base?.protocol === "https:" && url.protocol === "http:"
      ? refused(
        "downgrade",
        "it would leave TLS for plain http",
        "Ask for the https address itself",
      )
      : exchange.rules.check(url, hop.method);
  if (verdict.kind === "public") {
    verdict = checkPublicHost(url.hostname) ?? verdict;
  }
  if (verdict.kind === "refused") throw exchange.refuse(url, verdict, hop.n);
  return { url, verdict };
}

async function send(
  exchange: Exchange,
  options: { hop: Hop; url: URL; verdict: Allowed; life: Life },
): Promise<RawAnswer> {
  const { hop, url, verdict, life } = options;
  const { method } = hop;
  const headers = new Headers(hop.headers);
  for (const name of OURS) headers.delete(name);
  if (!headers.has("user-agent")) headers.set("user-agent", "carapace");
  if (hop.n === 0) exchange.attach(url, method, headers);
  const isOpen = verdict.kind === "public" && !exchange.proxied;
  // Naming an encoding also keeps fetch from decoding: body.ts does, with caps.
  headers.set("accept-encoding", isOpen ? "gzip, deflate, br" : "identity");
  const outgoing = { method, headers, body: hop.body, signal: life.signal };
  const answer = await (isOpen
    ? exchange.pinned.send({
      ...outgoing,
      url,
      caller: exchange.caller,
      bodyBytesMax: exchange.limits.requestBytesMax,
    })
    : sendNamed(exchange, url, outgoing))
    .catch((error) => {
      const denied = findDenied(error);
      if (denied === undefined || life.signal.aborted) {
        throw life.fail(life.toFailure(error));
      }
      return { ...toSandboxRefusal(denied, life.at), rule: life.rule };
    });
  if (answer.kind === "refused") throw exchange.refuse(url, answer, hop.n);
  return answer.raw;
}

/**
 * By the platform's fetch, which must be kept from sending twice: measured on
 * Deno 2.9.6, it sends a request again, a POST too, when the server closes the
 * pooled connection it went out on. Not when the body is a blob; and a request
 * without a body gets a connection of its own.
 */
async function sendNamed(
  exchange: Exchange,
  url: URL,
  init: RequestInit & { method: string; body: BodyInit | null },
): Promise<Sent> {
  const { method } = init;
  const isSafe = method === "GET" || method === "HEAD";
  const body = isSafe || init.body === null ? null : await toBlob(init.body);
  const fresh = !isSafe && body === null;
  const client = exchange.clientFor(url, { fresh });
  const raw = await fetch(url.href, {
    ...init,
    body,
    client,
    redirect: "manual",
  });
  return { kind: "answer", raw };
}

async function toBlob(body: BodyInit): Promise<BodyInit> {
  if (body instanceof ReadableStream || body instanceof Blob) return body;
  if (typeof body !== "string") return await new Response(body).blob();
  return new Blob([body], { type: "text/plain;charset=UTF-8" });
}

/** Headers that belong to the connection, or that the door sets itself. */
const OURS = [
  "accept-encoding",
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** What another origin may be told. */
const HARMLESS = ["accept", "accept-language", "range", "user-agent"];

function toSandboxRefusal(denied: string, at: string): Refused {
  return denied === at
    ? refused(
      "sandbox",
      `this process was started without net access to "${denied}"`,
      'Restart it, so that its permissions follow the configuration; "carapace permissions --explain" shows them',
    )
    : refused(
      "sandbox",
      `it resolves to "${denied}", which this process may not reach`,
      "Check its DNS; a private address is reached only when a line of the configuration names that address",
    );
}

function findLocation(answer: RawAnswer): string | undefined {
  if (![301, 302, 303, 307, 308].includes(answer.status)) return undefined;
  return answer.headers.get("location") ?? undefined;
}

function toNextHop(
  hop: Hop,
  options: { url: URL; status: number; location: string; life: Life },
): Hop {
  const { url, status, location, life } = options;
  const toGet = status === 303 && hop.method !== "HEAD" ||
    (status === 301 || status === 302) && hop.method === "POST";
  const sameOrigin = URL.parse(location, url)?.origin === url.origin;
  const body = toGet || !sameOrigin ? null : hop.body;
  const headers = new Headers(hop.headers);
  for (const name of [...headers.keys()]) {
    if (!sameOrigin && !HARMLESS.includes(name)) headers.delete(name);
    if (body === null && name.startsWith("content-")) headers.delete(name);
  }
  // A stream was read by the first hop; nothing is left to send.
  if (body instanceof ReadableStream) throw life.fail("replay");
  return {
    n: hop.n + 1,
    text: location,
    base: url,
    method: toGet ? "GET" : hop.method,
    headers,
    body,
  };
}

const EMPTY: ReadonlySet<number> = new Set([204, 205, 304]);

function finish(
  exchange: Exchange,
  options: { answer: RawAnswer; hop: Hop; url: URL; life: Life },
): Response {
  const { answer, hop, url, life } = options;
  const { status, statusText } = answer;
  if (status < 200 || status > 599) throw life.fail("protocol");
  let { headers } = answer;
  const encoding = findEncoding(headers);
  let body: ReadableStream<Bytes> | null = null;
  if (answer.body !== null && !EMPTY.has(status) && hop.method !== "HEAD") {
    const { responseBytesMax } = exchange.limits;
    const length = Number(headers.get("content-length") ?? 0);
    if (encoding === null) throw life.fail("encoding");
    if (length > responseBytesMax) throw life.fail("size");
    if (encoding !== undefined) {
      headers = new Headers(headers);
      headers.delete("content-encoding");
      headers.delete("content-length");
    }
    life.answered();
    body = capBody(answer.body, {
      ...exchange.limits,
      encoding,
      signal: life.signal,
      onEnd: ({ failure, whole }) => {
        if (failure !== undefined) exchange.onCut(life.rule, failure);
        life.close({ abort: !whole });
      },
      toFailure: (error) => life.toFailure(error),
      toError: (failure) => life.toError(failure),
    });
  } else {
    answer.body?.cancel().catch(ignore("an empty body was closed"));
    life.answered();
    life.close({ abort: false });
  }
  exchange.onOk(life.rule);
  const response = new Response(body, {
    status,
    statusText,
    headers,
  });
  Object.defineProperty(response, "url", { value: url.href });
  Object.defineProperty(response, "redirected", { value: hop.n > 0 });
  return response;
}

/** The time a request has: one signal of the caller's and two limits. */
class Life implements Disposable {
  /** Where the present hop goes, and by which rule. */
  at = "";
  rule = "unlisted";
  readonly #exchange: Exchange;
  readonly #caller: AbortSignal | undefined;
  readonly #controller = new AbortController();
  readonly #onAbort = () => this.#controller.abort(this.#caller?.reason);
  readonly #stopAnswer: () => void;
  readonly #stopTotal: () => void;
  #late: Failure | undefined;
  #answered = false;

  constructor(exchange: Exchange, caller: AbortSignal | undefined) {
    caller?.throwIfAborted();
    this.#exchange = exchange;
    this.#caller = caller;
    caller?.addEventListener("abort", this.#onAbort, { once: true });
    const { answerMs, totalMs } = exchange.limits;
    this.#stopAnswer = this.#limit(answerMs, "answer_time");
    this.#stopTotal = this.#limit(totalMs, "total_time");
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #limit(ms: number, failure: Failure): () => void {
    if (ms > TIMER_MAX_MS) return () => {};
    const timer = new AbortController();
    this.#exchange.clock.sleep(ms, timer.signal).then(() => {
      this.#late = failure;
      this.#controller.abort();
    }, ignore("a request was done before its limit"));
    return () => timer.abort(DONE);
  }

  /** The body goes on living after the call that asked for it. */
  answered(): void {
    this.#answered = true;
    this.#stopAnswer();
  }

  /** Why something broke: our limit, the caller, or the network. */
  toFailure(error: unknown): Failure {
    if (this.#late !== undefined) return this.#late;
    if (this.#caller?.aborted === true) return "cancelled";
    return error instanceof BodyCut ? error.failure : classify(error);
  }

  /** What the caller is thrown; its own abort is given back as it was. */
  toError(failure: Failure): unknown {
    return failure === "cancelled" && this.#caller?.aborted === true
      ? this.#caller.reason
      : failureError(failure, this.at);
  }

  /** Counts a failure before the answer and makes its error. */
  fail(failure: Failure): unknown {
    this.#exchange.onFailure(this.rule, failure, this.at);
    return this.toError(failure);
  }

  close(options: { abort: boolean }): void {
    this.#stopAnswer();
    this.#stopTotal();
    this.#caller?.removeEventListener("abort", this.#onAbort);
    if (options.abort) this.#controller.abort();
  }

  [Symbol.dispose](): void {
    if (!this.#answered) this.close({ abort: true });
  }
}

/** A reason that costs nothing: the default one is an exception with a stack. */
const DONE = "done";

/** Longer than a timer can be is no limit. */
const TIMER_MAX_MS = 2_147_483_647;
