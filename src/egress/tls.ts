/**
 * TLS connections to another gateway, and a WebSocket over one. The certificate
 * is judged on the very connection that is then used, before a byte of ours is
 * sent over it.
 *
 * Measured on Deno 2.9.6: `Deno.connectTls` and `WebSocket` show no peer
 * certificate; `node:tls` does (`getPeerCertificate().raw`, `authorized`,
 * `authorizationError`), with the name checked also when `rejectUnauthorized` is
 * off. A trust anchor must be an authority, so a server's own certificate given
 * as `ca` does not pin it.
 *
 * Never: a request, a header or a token before the certificate was judged.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import { AppError, errorText } from "../core/errors.ts";

/** What a server showed when it was greeted. */
export interface PeerCertificate {
  /** SHA-256 of its public key, `sha256:` and 64 hexadecimal digits. */
  readonly key: string;
  /** SHA-256 of the whole certificate, in the same form. */
  readonly certificate: string;
  /** Whether an authority this machine knows vouches for it, for this name, today. */
  readonly isTrusted: boolean;
  /** The reason when it is not trusted, in OpenSSL's words. */
  readonly why: string;
  readonly validTo: string;
}

/** Judges a certificate: throws to refuse it. */
export type Trust = (peer: PeerCertificate) => void;

/** A connection that was not made, and why, in a few words. */
export class ConnectError extends AppError {
  override readonly name = "ConnectError";

  constructor(why: string, cause?: unknown) {
    super("unavailable", why, cause === undefined ? {} : { cause });
  }
}

/** What a gateway may send in one message. */
const PAYLOAD_BYTES_MAX = 16_777_216;
/** How long a closed socket waits for the other side's goodbye. */
const CLOSE_MS = 2_000;
const BODY_BYTES_MAX = 262_144;

/** SHA-256 of bytes as a fingerprint. */
async function fingerprint(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return `sha256:${new Uint8Array(digest).toHex()}`;
}

async function readPeer(socket: TLSSocket): Promise<PeerCertificate> {
  const { X509Certificate } = await import("node:crypto");
  const { raw } = socket.getPeerCertificate();
  const shown = new X509Certificate(raw);
  const key = shown.publicKey.export({ type: "spki", format: "der" });
  return {
    key: await fingerprint(new Uint8Array(key)),
    certificate: await fingerprint(new Uint8Array(raw)),
    isTrusted: socket.authorized,
    why: String(socket.authorizationError ?? ""),
    validTo: shown.validTo,
  };
}

function portOf(url: URL): number {
  return url.port === "" ? 443 : Number(url.port);
}

/** What went wrong below TLS, as people say it. */
function toConnectError(error: unknown, host: string): AppError {
  if (error instanceof AppError) return error;
  const { code } = error as { code?: string };
  const text = errorText(error);
  if (
    error instanceof Deno.errors.NotCapable || code === "EACCES" ||
    code === "EPERM" || /Requires net access/.test(text)
  ) {
    return new AppError(
      "forbidden",
      `Cannot connect to ${host}: this process may not reach it`,
      {
        hint:
          "A name that leads to a private address is refused too: write the address itself",
        cause: error,
      },
    );
  }
  if (code === "ECONNREFUSED") return new ConnectError("nothing listens there");
  return new ConnectError(text === "" ? String(code) : text, error);
}

/**
 * Connects, greets, and lets `trust` judge the certificate.
 *
 * @throws {AppError} what `trust` throws, {@linkcode ConnectError}, `forbidden`
 * when this process may not reach the host
 */
async function openTls(
  url: URL,
  { trust, signal }: { trust: Trust; signal: AbortSignal },
): Promise<TLSSocket> {
  const { connect } = await import("node:tls");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isAddress = host.includes(":") || /^[\d.]+$/.test(host);
  const ready = Promise.withResolvers<void>();
  signal.throwIfAborted();
  let socket: TLSSocket | undefined;
  const onAbort = () => ready.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    socket = connect({
      host,
      port: portOf(url),
      ...(isAddress ? {} : { servername: host }),
      ALPNProtocols: ["http/1.1"],
      // Judged below, on this connection; nothing was written till then.
      rejectUnauthorized: false,
    });
    socket.once("secureConnect", ready.resolve);
    socket.once("error", ready.reject);
    socket.once("close", () => ready.reject(new ConnectError("it hung up")));
    await ready.promise;
    trust(await readPeer(socket));
    return socket;
  } catch (error) {
    socket?.on("error", () => {});
    socket?.destroy();
    if (signal.aborted) throw signal.reason;
    throw toConnectError(error, url.host);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * A WebSocket over a judged connection; its handlers are the standard's.
 *
 * @param url `wss://…`
 * @throws as {@linkcode openTls}
 */
export async function openTlsWebSocket(
  url: URL,
  options: { trust: Trust; signal: AbortSignal },
): Promise<WebSocket> {
  const connection = await openTls(url, options);
  const { WebSocket: Client } = await import("ws");
  return new Client(url.href, {
    createConnection: () => connection,
    perMessageDeflate: false,
    followRedirects: false,
    maxPayload: PAYLOAD_BYTES_MAX,
    closeTimeout: CLOSE_MS,
  });
}

/** An answer to {@linkcode getOverTls}. */
export interface TlsAnswer {
  status: number;
  body: string;
}

/**
 * `GET` over a judged connection. Redirects are answers like others.
 *
 * @throws as {@linkcode openTls}; {@linkcode ConnectError} for a body past 256 KiB
 */
export async function getOverTls(
  url: URL,
  options: {
    trust: Trust;
    signal: AbortSignal;
    headers: Readonly<Record<string, string>>;
  },
): Promise<TlsAnswer> {
  const connection = await openTls(url, options);
  try {
    const { request } = await import("node:http");
    const { promise, resolve, reject } = Promise.withResolvers<
      IncomingMessage
    >();
    const sent = request({
      createConnection: () => connection,
      method: "GET",
      path: `${url.pathname}${url.search}`,
      headers: { ...options.headers, host: url.host, connection: "close" },
      signal: options.signal,
    }, resolve);
    sent.on("error", reject);
    sent.end();
    const answer = await promise;
    let body = "";
    answer.setEncoding("utf8");
    for await (const chunk of answer) {
      body += String(chunk);
      if (body.length > BODY_BYTES_MAX) {
        throw new ConnectError("it answers too much");
      }
    }
    return { status: answer.statusCode ?? 0, body };
  } finally {
    connection.destroy();
  }
}

/**
 * Looks at a server's certificate and hangs up; nothing is sent.
 *
 * @throws as {@linkcode openTls}
 */
export async function lookAtCertificate(
  url: URL,
  signal: AbortSignal,
): Promise<PeerCertificate> {
  const seen: PeerCertificate[] = [];
  const connection = await openTls(url, {
    trust: (peer) => void seen.push(peer),
    signal,
  });
  connection.destroy();
  const [peer] = seen;
  if (peer === undefined) throw new ConnectError("it showed no certificate");
  return peer;
}
