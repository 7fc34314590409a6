/**
 * What a request must look like before anyone asks who sent it: its Host, its
 * Origin, and that no other site's page made it. Also the headers every answer
 * carries.
 *
 * Never: a cookie; a pattern or suffix match of a name; trust in an address.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { GatewayConfig } from "./config.ts";
import type { GatewayLimits } from "./limits.ts";

const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

const CORS_HEADERS = "authorization, content-type, idempotency-key, " +
  "x-carapace-session-key, x-carapace-agent-id, x-carapace-model, " +
  "x-openclaw-session-key, x-openclaw-agent-id, x-openclaw-model, " +
  "x-stainless-arch, x-stainless-lang, x-stainless-os, " +
  "x-stainless-package-version, x-stainless-retry-count, " +
  "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout";

/** What a client shows when it has something to show. */
const CREDENTIALS = ["authorization", "x-api-key", "proxy-authorization"];

/** What a proxy adds: whoever it speaks for is not where it stands. */
const FORWARDED = [
  "forwarded",
  "via",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-real-ip",
];

const EXPOSED = "retry-after, x-request-id, ratelimit, ratelimit-policy";

/** Sent with everything. */
const SECURITY: readonly (readonly [string, string])[] = [
  ["x-content-type-options", "nosniff"],
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["cache-control", "no-store"],
  ["referrer-policy", "no-referrer"],
  ["cross-origin-resource-policy", "same-origin"],
];

/**
 * Refuses a head that is too large. The runtime refuses one beyond what it can
 * hold by itself, with 400.
 *
 * @throws {AppError} `too_large`, 414 or 431
 */
export function checkHead(
  { url, headers }: Request,
  limits: Pick<
    GatewayLimits,
    "targetCharsMax" | "headersMax" | "headerCharsMax"
  >,
): void {
  if (url.length > limits.targetCharsMax) {
    throw new AppError(
      "too_large",
      `Cannot read the request: its target is longer than ${limits.targetCharsMax} characters`,
      { details: { status: 414 } },
    );
  }
  let count = 0;
  let chars = 0;
  headers.forEach((value, name) => {
    count++;
    chars += name.length + value.length;
  });
  if (count <= limits.headersMax && chars <= limits.headerCharsMax) return;
  throw new AppError(
    "too_large",
    `Cannot read the request: it has more than ${limits.headersMax} header fields or ${limits.headerCharsMax} characters of them`,
    { details: { status: 431 } },
  );
}

/** The exact names this gateway answers to. */
export class Door {
  readonly #hosts: ReadonlySet<string>;
  readonly #ownOrigins: ReadonlySet<string>;
  readonly #configured: ReadonlySet<string>;
  readonly #scheme: "http" | "https";

  /** @param port The port that is really listened on */
  constructor(
    config: Pick<GatewayConfig, "hosts" | "origins" | "tls">,
    port: number,
  ) {
    this.#scheme = config.tls === undefined ? "http" : "https";
    const local = LOOPBACK.map((name) => `${name}:${port}`);
    const named = config.hosts.map((host) => host.toLowerCase());
    this.#hosts = new Set([
      ...local,
      ...named,
      ...named.filter((host) => !/:\d+$/.test(host)).map((host) =>
        `${host}:${port}`
      ),
    ]);
    // Over TLS its pages come from the named hosts too; in clear text another
    // machine's page is one's own only where `origins` says so.
    this.#ownOrigins = new Set(
      config.tls === undefined
        ? local.map((host) => `http://${host}`)
        : [...this.#hosts].flatMap((host) =>
          URL.parse(`https://${host}`)?.origin ?? []
        ),
    );
    this.#configured = new Set(
      config.origins.map((origin) => new URL(origin).origin),
    );
  }

  /**
   * Which name was asked for. HTTP/2, which comes over TLS only, has it in its
   * `:authority`, which the runtime puts into the URL; there is no Host header.
   */
  #hostOf({ headers, url }: Request): string | undefined {
    const host = headers.get("host") ?? undefined;
    if (host !== undefined || this.#scheme !== "https") return host;
    return /^https:\/\/([^/?#]+)\//.exec(url)?.[1];
  }

  /** The name asked for, when it is one of ours. @throws `forbidden` */
  checkHost(request: Request): string {
    const host = this.#hostOf(request);
    if (host === undefined) {
      throw new AppError("bad_input", "Cannot answer: there is no Host header");
    }
    if (!this.#hosts.has(host) && !this.#hosts.has(host.toLowerCase())) {
      throw new AppError(
        "forbidden",
        "Cannot answer: this gateway is not reached by that Host",
        { hint: 'Add the name to "gateway.hosts" if it is meant' },
      );
    }
    return host;
  }

  /**
   * Refuses what another site's page sends. Upgrades count as mutations.
   *
   * @throws {AppError} `forbidden`
   */
  checkOrigin(request: Request, isUpgrade: boolean): void {
    const { headers, method } = request;
    const origin = headers.get("origin");
    if (origin !== null) {
      if (this.#ownOrigins.has(origin) || this.#configured.has(origin)) return;
      throw new AppError(
        "forbidden",
        "Cannot answer: pages of that Origin may not call this gateway",
        { hint: 'Add the origin to "gateway.origins" if it is meant' },
      );
    }
    if (!isUpgrade && (method === "GET" || method === "HEAD")) return;
    const site = headers.get("sec-fetch-site");
    if (site !== null && site !== "same-origin" && site !== "none") {
      throw new AppError(
        "forbidden",
        "Cannot answer: another site's page sent this request",
      );
    }
  }

  /**
   * Whether a request may be known by where it comes from alone. A browser would
   * send such a request for any page, so every mark of one must be that of this
   * gateway's own page; a browser too old to make marks is none. Something that
   * is shown is judged by itself. A proxy, also one that nobody named, speaks for
   * others.
   *
   * Call it after {@linkcode checkHost}.
   */
  isOwnClient(request: Request, isUpgrade: boolean): boolean {
    const { headers, method } = request;
    const isOther = (name: string) => headers.has(name);
    if (CREDENTIALS.some(isOther) || FORWARDED.some(isOther)) return false;
    const origin = headers.get("origin");
    const site = headers.get("sec-fetch-site");
    const host = this.#hostOf(request)?.toLowerCase() ?? "";
    const isSafe = !isUpgrade && (method === "GET" || method === "HEAD");
    if (origin !== null && origin !== `${this.#scheme}://${host}`) return false;
    if (site === "none") return isSafe && origin === null;
    if (site !== null) return site === "same-origin";
    if (origin !== null) return true;
    const isBrowser = headers.has("referer") || headers.has("cookie") ||
      /^mozilla\//i.test(headers.get("user-agent") ?? "") ||
      [...headers.keys()].some((name) => name.startsWith("sec-fetch-"));
    return !isBrowser;
  }

  /** The answer to a preflight whose Origin was checked. */
  preflight(): Response {
    return new Response(null, {
      status: 204,
      headers: {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": CORS_HEADERS,
        "access-control-max-age": "600",
      },
    });
  }

  /** Adds the headers every answer carries, and CORS for configured origins. */
  dress(response: Response, request: Request): Response {
    const { headers } = response;
    for (const [name, value] of SECURITY) {
      if (!headers.has(name)) headers.set(name, value);
    }
    const origin = this.#configured.size === 0
      ? null
      : request.headers.get("origin");
    if (origin !== null && this.#configured.has(origin)) {
      headers.set("access-control-allow-origin", origin);
      headers.set("access-control-expose-headers", EXPOSED);
      headers.set("cross-origin-resource-policy", "cross-origin");
      headers.append("vary", "origin");
    }
    return response;
  }
}
