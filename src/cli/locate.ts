/**
 * Finds the gateway: where it listens and the token that opens it.
 *
 * Never: the token of this machine's gateway is shown to another machine.
 *
 * @module
 */
import { readTokenFile, TOKEN_FILE } from "../config/token_file.ts";
import { Secret } from "../core/secret.ts";
import { usageError } from "./args.ts";
import type { GatewayAddress } from "../remote/handshake.ts";
import type { Io, Roof } from "./verb.ts";

const HOST_DEFAULT = "127.0.0.1";
const PORT_DEFAULT = 18_789;

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
      "Put the token into CARAPACE_TOKEN",
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

/** The configured address; the default when the configuration is unreadable. */
async function configuredUrl(roof: Roof): Promise<string> {
  let host = HOST_DEFAULT;
  let port = PORT_DEFAULT;
  const loaded = await roof.load();
  if (loaded.ok) {
    const { gateway } = loaded.value as {
      gateway?: { host?: string; port?: number };
    };
    host = gateway?.host ?? host;
    port = gateway?.port ?? port;
  }
  // A gateway that listens on every address is on this one too.
  if (host === "0.0.0.0" || host === "::") host = HOST_DEFAULT;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Where to connect: `CARAPACE_URL`, `CARAPACE_PORT`, configuration, default. */
export async function locateUrl(io: Io, roof: Roof): Promise<string> {
  const url = io.env.get("CARAPACE_URL");
  if (url !== undefined) return toSocketUrl(url);
  const port = io.env.get("CARAPACE_PORT");
  if (port === undefined) return toSocketUrl(await configuredUrl(roof));
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    throw usageError(`Cannot use CARAPACE_PORT "${port}": it is not a port`);
  }
  return toSocketUrl(`http://${HOST_DEFAULT}:${port}`);
}

/** The address with its token: `CARAPACE_TOKEN`, else the gateway's own file. */
export async function locateGateway(
  io: Io,
  options: { roof: Roof; stateDir: string },
): Promise<GatewayAddress> {
  const url = await locateUrl(io, options.roof);
  const fromEnv = io.env.get("CARAPACE_TOKEN");
  if (fromEnv !== undefined) {
    return {
      url,
      token: new Secret(fromEnv, "CARAPACE_TOKEN"),
      tokenHint:
        'Make another where the gateway runs: "carapace token create NAME"; or unset CARAPACE_TOKEN to use the gateway\'s own file',
    };
  }
  const path = `${options.stateDir}/${TOKEN_FILE}`;
  if (!isLoopback(new URL(url).hostname)) {
    return {
      url,
      token: undefined,
      tokenHint:
        'Make one where the gateway runs ("carapace token create NAME") and put it into CARAPACE_TOKEN',
    };
  }
  return {
    url,
    token: await readTokenFile(options.stateDir),
    tokenHint:
      `The gateway writes one to ${path} when it starts; if it uses another state directory, set CARAPACE_STATE_DIR or CARAPACE_TOKEN`,
  };
}
