/**
 * The signed outgoing webhook: posts each message as JSON to a receiver the
 * configuration names. Signed as Standard Webhooks says
 * (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md):
 * `webhook-id` is the message's key, `webhook-timestamp` seconds, and
 * `webhook-signature` is `v1,` and base64 of HMAC-SHA256 over
 * `id.timestamp.body`.
 *
 * Never: a message without a signature; a redirect that is followed.
 *
 * @module
 */
import {
  type Capabilities,
  type Channel,
  type Delivered,
  type Out,
  SendError,
} from "../core/channel.ts";
import { AppError } from "../core/errors.ts";
import type { Secret } from "../core/secret.ts";
import type { Clock } from "../core/time.ts";
import type { Egress } from "../egress/egress.ts";
import type { WebhookAccount } from "./config.ts";

/** The channel's name. */
export const WEBHOOK = "webhook";

/** What it is made of. */
export interface WebhookDeps {
  accounts(): Readonly<Record<string, WebhookAccount>>;
  egress: Pick<Egress, "door">;
  clock: Clock;
}

const ANSWER_BYTES_MAX = 65_536;
const ANSWER_MS = 30_000;

/** Failures before a byte of the message was sent. */
const NOT_SENT: ReadonlySet<unknown> = new Set([
  "dns",
  "refused",
  "unreachable",
  "tls",
  "port",
  "request_size",
]);

/** Answers that say that nothing was taken, and that it may be taken later. */
const LATER: ReadonlySet<number> = new Set([425, 429, 503]);
/** Answers that say nothing of what was done. */
const UNSURE: ReadonlySet<number> = new Set([408, 500, 502, 504]);

/** `Retry-After` in milliseconds (RFC 9110, 10.2.3): seconds or a date. */
export function parseRetryAfter(
  text: string | null,
  now: number,
): number | undefined {
  if (text === null || text === "") return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

function keyBytes(secret: Secret): Uint8Array<ArrayBuffer> {
  const text = secret.reveal();
  if (!text.startsWith("whsec_")) return new TextEncoder().encode(text);
  try {
    return Uint8Array.fromBase64(text.slice("whsec_".length));
  } catch {
    throw new SendError(
      "bad_input",
      `Cannot sign: ${secret.source} begins with whsec_ and is no base64`,
      { sent: "no", final: true },
    );
  }
}

/** The headers that sign a body. */
export async function signatureHeaders(
  body: string,
  { id, secret, now }: { id: string; secret: Secret; now: number },
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(now / 1000));
  const key = await crypto.subtle.importKey(
    "raw",
    keyBytes(secret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, signed));
  return {
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${mac.toBase64()}`,
    "idempotency-key": id,
  };
}

/** The channel; each receiver is an account of it. */
export class WebhookChannel implements Channel {
  readonly id = WEBHOOK;
  readonly #deps: WebhookDeps;

  constructor(deps: WebhookDeps) {
    this.#deps = deps;
  }

  capabilities(account: string): Capabilities {
    const { idempotent = false, charsMax = 65_536 } =
      this.#deps.accounts()[account] ?? {};
    return {
      charsMax,
      idempotent,
      markdown: "markdown",
      edits: false,
      media: false,
      threads: true,
    };
  }

  accounts(): readonly string[] {
    return Object.keys(this.#deps.accounts());
  }

  async send(out: Out): Promise<Delivered> {
    const { key: id, destination, text, signal } = out;
    const { account, chat, thread } = destination;
    const found = this.#deps.accounts()[account];
    if (found === undefined) {
      throw new SendError("not_found", `There is no webhook "${account}"`, {
        sent: "no",
        final: true,
        hint: `Name it in channels.webhook.${account}`,
      });
    }
    const { egress, clock } = this.#deps;
    const now = clock.now();
    const body = JSON.stringify({
      type: "message",
      timestamp: new Date(now).toISOString(),
      data: {
        id,
        account,
        ...chat === "" ? {} : { chat },
        ...thread === undefined ? {} : { thread },
        text,
      },
    });
    const headers = {
      "content-type": "application/json",
      ...await signatureHeaders(body, { id, secret: found.secret, now }),
    };
    const url = new URL(found.url);
    const door = egress.door({
      caller: `channel:${WEBHOOK}`,
      hosts: [{
        host: url.hostname,
        scheme: url.protocol === "http:" ? "http" : "https",
        ...url.port === "" ? {} : { port: Number(url.port) },
        methods: ["POST"],
      }],
      limits: {
        answerMs: ANSWER_MS,
        totalMs: ANSWER_MS,
        responseBytesMax: ANSWER_BYTES_MAX,
      },
      fix: () => `Check channels.webhook.${account}.url`,
    });
    let response: Response;
    try {
      const init = { method: "POST", headers, body, signal } as const;
      response = await door(url, { ...init, redirect: "manual" });
    } catch (error) {
      throw toSendError(error);
    }
    await response.body?.cancel().catch(() => {}); // what it says is nobody's
    return answered(response, now);
  }

  /** Its accounts' secrets can sign; whether anybody listens, only a message shows. */
  async check(): Promise<void> {
    for (const { secret } of Object.values(this.#deps.accounts())) {
      await signatureHeaders("", { id: "check", secret, now: 0 });
    }
  }
}

function toSendError(error: unknown): SendError {
  if (error instanceof SendError) return error;
  if (!(error instanceof AppError)) {
    return new SendError("upstream", "Cannot send: it was cut off", {
      sent: "maybe",
      cause: error,
    });
  }
  const isRefused = error.code === "forbidden" || error.code === "bad_input";
  const isUnsent = isRefused || NOT_SENT.has(error.details?.["failure"]);
  return new SendError(error.code, error.message, {
    sent: isUnsent ? "no" : "maybe",
    final: isRefused,
    ...error.hint === undefined ? {} : { hint: error.hint },
  });
}

function answered(response: Response, now: number): Delivered {
  const { status } = response;
  if (status >= 200 && status < 300) return {};
  const retryAfterMs = parseRetryAfter(
    response.headers.get("retry-after"),
    now,
  );
  const isLater = LATER.has(status);
  const isUnsure = UNSURE.has(status) || status >= 500 && !isLater;
  throw new SendError(
    status === 429 ? "rate_limited" : "upstream",
    `The receiver answered ${status}`,
    {
      sent: isUnsure ? "maybe" : "no",
      final: !isUnsure && !isLater,
      ...retryAfterMs === undefined ? {} : { retryAfterMs },
    },
  );
}
