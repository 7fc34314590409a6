/**
 * Finds the gateway: where it listens and the token that opens it.
 *
 * Never: the token of this machine's gateway is shown to another machine.
 *
 * @module
 */
import { resolve } from "node:path";
import { findPin } from "../config/pins.ts";
import {
  readTokenAt,
  readTokenFile,
  TOKEN_FILE,
} from "../config/token_file.ts";
import { decodeUtf8, readBytes } from "../core/bounded.ts";
import { Secret } from "../core/secret.ts";
import { makeTrust } from "../remote/trust.ts";
import { usageError } from "./args.ts";
import type { GatewayAddress } from "../remote/handshake.ts";
import type { Io, Roof } from "./verb.ts";

const HOST_DEFAULT = "127.0.0.1";
const PORT_DEFAULT = 18_789;
const TOKEN_BYTES_MAX = 4096;

/** Whether a host name means this machine. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(hostname);
}

/**
 * A gateway's address as people write it, as the WebSocket's.
 *
 * @throws {AppError} a usage error for what is not such an address, holds a
 * credential, or would send the token in clear text over a network
 */
export function toSocketUrl(text: string): string {
  const url = URL.parse(/^[a-z]+:\/\//i.test(text) ? text : `http://${text}`);
  if (
    url === null || !["http:", "https:", "ws:", "wss:"].includes(url.protocol)
  ) {
    throw usageError(
      `Cannot use "${text}" as the gateway's address`,
      `Write it like http://${HOST_DEFAULT}:${PORT_DEFAULT}`,
    );
  }
  if (url.username !== "" || url.password !== "" || url.search !== "") {
    throw usageError(
      "Cannot use a gateway address that holds a credential or a query",
      "Put the token into CARAPACE_TOKEN, or into a 0600 file for --token",
    );
  }
  const isClear = url.protocol === "http:" || url.protocol === "ws:";
  if (isClear && !isLoopback(url.hostname)) {
    throw usageError(
      `Cannot use "${text}": the token would travel in clear text`,
      "Use https:// (or wss://) for a gateway on another machine",
    );
  }
  url.protocol = isClear ? "ws:" : "wss:";
  url.hash = "";
  if (url.pathname === "/") url.pathname = "/ws";
  return url.href;
}

/** Where this machine's own gateway listens. */
interface Own {
  url: string;
  /** The file of the certificate it shows. */
  cert?: string;
}

/** The configured address; the default when the configuration is unreadable. */
async function configured(roof: Roof, io: Io): Promise<Own> {
  const loaded = await roof.load();
  const { gateway = {} } = (loaded.ok ? loaded.value : {}) as {
    gateway?: { host?: string; port?: number; tls?: { cert: string } };
  };
  let { host = HOST_DEFAULT } = gateway;
  const port = portOf(io) ?? gateway.port ?? PORT_DEFAULT;
  // A gateway that listens on every address is on this one too.
  if (host === "0.0.0.0" || host === "::") host = HOST_DEFAULT;
  const name = host.includes(":") ? `[${host}]` : host;
  const { tls } = gateway;
  if (tls === undefined) return { url: toSocketUrl(`http://${name}:${port}`) };
  return { url: toSocketUrl(`https://${name}:${port}`), cert: tls.cert };
}

function portOf(io: Io): number | undefined {
  const port = io.env.get("CARAPACE_PORT");
  if (port === undefined) return undefined;
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    throw usageError(`Cannot use CARAPACE_PORT "${port}": it is not a port`);
  }
  return Number(port);
}

/** Where to connect: `--url`, `CARAPACE_URL`, `CARAPACE_PORT`, configuration, default. */
async function locate(io: Io, roof: Roof): Promise<Own> {
  const url = io.target?.url ?? io.env.get("CARAPACE_URL");
  if (url !== undefined) return { url: toSocketUrl(url) };
  return await configured(roof, io);
}

/** The key this machine's own gateway shows, by its certificate's file. */
async function ownPin(cert: string | undefined): Promise<string | undefined> {
  if (cert === undefined) return undefined;
  const { readCertificate, readCertificateFile } = await import(
    "../config/certificates.ts"
  );
  const text = await readCertificateFile(cert);
  return text === undefined ? undefined : readCertificate(text).key;
}

/** `host:port`, also where the port is the usual one. */
export function hostPortOf(url: URL): string {
  const standard = url.protocol === "wss:" ? "443" : "80";
  return `${url.hostname}:${url.port || standard}`;
}

type Token = Pick<GatewayAddress, "token" | "tokenHint">;

/**
 * The token `--token` names: in a file, or all there is on standard input.
 *
 * @throws {AppError} a usage error when there is none
 */
export async function readNamedToken(io: Io, path: string): Promise<Secret> {
  const token = path === "-"
    ? toToken(decodeUtf8(await readBytes(io.stdin, TOKEN_BYTES_MAX)))
    : await readTokenAt(resolve(path));
  if (token !== undefined) return token;
  throw usageError(
    path === "-"
      ? "Cannot read a token from standard input: it is empty"
      : "Cannot read a token: --token names no file that holds one",
    "A token itself is no argument: other programs and the shell's history see it. Put it into a 0600 file, or pipe it to --token -",
  );
}

function toToken(text: string): Secret | undefined {
  const token = text.trim();
  return token === "" ? undefined : new Secret(token, "standard input");
}

/** The token: `--token`, `CARAPACE_TOKEN`, else the gateway's own file. */
async function locateToken(
  io: Io,
  { url, stateDir }: { url: URL; stateDir: string },
): Promise<Token> {
  const named = io.target?.tokenFile;
  if (named !== undefined) {
    return {
      token: await readNamedToken(io, named),
      tokenHint: 'Make another: "carapace token create NAME"',
    };
  }
  const fromEnv = io.env.get("CARAPACE_TOKEN");
  if (fromEnv !== undefined) {
    return {
      token: new Secret(fromEnv, "CARAPACE_TOKEN"),
      tokenHint:
        'Make another where the gateway runs: "carapace token create NAME"; or unset CARAPACE_TOKEN to use the gateway\'s own file',
    };
  }
  if (!isLoopback(url.hostname)) {
    return {
      token: undefined,
      tokenHint:
        'Make one where the gateway runs ("carapace token create NAME") and put it into CARAPACE_TOKEN, or into a 0600 file for --token',
    };
  }
  return {
    token: await readTokenFile(stateDir),
    tokenHint:
      `The gateway writes one to ${stateDir}/${TOKEN_FILE} when it starts; if it uses another state directory, set CARAPACE_STATE_DIR or CARAPACE_TOKEN`,
  };
}

/** The address with its token and what its certificate is measured by. */
export async function locateGateway(
  io: Io,
  { roof, stateDir }: { roof: Roof; stateDir: string },
): Promise<GatewayAddress> {
  const { url: href, cert } = await locate(io, roof);
  const url = new URL(href);
  const token = await locateToken(io, { url, stateDir });
  if (url.protocol !== "wss:") return { url: href, ...token };
  const host = hostPortOf(url);
  const pin = io.target?.pin ?? await ownPin(cert) ??
    await findPin(stateDir, host);
  return { url: href, ...token, trust: makeTrust({ host, pin }) };
}
