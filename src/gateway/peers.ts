/**
 * Where a request comes from. The socket's other end says it, and a proxy only
 * where the configuration names it; what a proxy says can make a caller a
 * stranger, never a neighbour.
 *
 * Never: an address is a credential; a header of an unnamed peer is read; a
 * request that came through a proxy counts as this machine's own.
 *
 * @module
 */
import ipaddr from "ipaddr.js";
import { AppError } from "../core/errors.ts";
import { type GatewayConfig, isLoopbackHost } from "./config.ts";

/** The other end of a socket, as the runtime says it. */
export interface SocketPeer {
  hostname: string;
  port: number;
}

/** What nobody's address is: failures of such callers are counted together. */
export const UNKNOWN_ADDRESS = "unknown";

const CHARS_MAX = 4096;

/** An address in one form; `undefined` for what is none. */
function toAddress(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  const bare = text.trim().replace(/^\[(.*)\]$/, "$1");
  if (!bare.includes(":") && !ipaddr.IPv4.isValidFourPartDecimal(bare)) {
    return undefined;
  }
  return ipaddr.isValid(bare) ? ipaddr.process(bare) : undefined;
}

/** The peers this gateway is reached by. */
export class Peers {
  readonly #proxies: ReadonlySet<string>;
  /** Whether strangers may connect directly: over TLS, or inside a container. */
  readonly #isOpen: boolean;

  constructor(
    config: Pick<
      GatewayConfig,
      "host" | "tls" | "trustedProxies" | "container"
    >,
  ) {
    this.#proxies = new Set(
      config.trustedProxies.flatMap((one) => toAddress(one)?.toString() ?? []),
    );
    this.#isOpen = config.tls !== undefined || config.container ||
      isLoopbackHost(config.host);
  }

  /**
   * The address that failures are charged to.
   *
   * @param peer The socket's other end
   * @throws {AppError} `forbidden` when the peer is neither this machine nor a
   * named proxy, and nothing protects what it sends
   */
  addressOf(request: Request, peer: string): string {
    if (this.isProxy(peer)) return this.#forwarded(request.headers);
    const isLocal = toAddress(peer)?.range() === "loopback";
    if (this.#isOpen || isLocal) return peer;
    throw new AppError(
      "forbidden",
      "Cannot answer: without TLS this gateway is reached through its proxy only",
      {
        hint: 'Name the proxy in "gateway.trustedProxies", or set gateway.tls',
      },
    );
  }

  /** Whether it is a named proxy: who is behind one is not its own address's. */
  isProxy(peer: string): boolean {
    return this.#proxies.has(toAddress(peer)?.toString() ?? "");
  }

  /**
   * The last hop that is not one of ours. What stands before it was written by
   * whoever sent the request.
   */
  #forwarded(headers: Headers): string {
    const text = headers.get("x-forwarded-for") ?? "";
    if (text.length > CHARS_MAX) return UNKNOWN_ADDRESS;
    for (const hop of text.split(",").reverse()) {
      const address = toAddress(hop);
      if (address === undefined) return UNKNOWN_ADDRESS;
      if (this.#proxies.has(address.toString())) continue;
      return address.range() === "loopback"
        ? UNKNOWN_ADDRESS
        : address.toString();
    }
    return UNKNOWN_ADDRESS;
  }
}
