/**
 * The gateway's slice of the configuration.
 *
 * @module
 */
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { TailscaleConfig } from "../auth/tailnet.ts";
import { type Need, need } from "../core/needs.ts";
import { SecretField } from "../core/secret.ts";

/** The port existing clients of the field expect. */
export const PORT_DEFAULT = 18_789;

/**
 * A name as a `Host` header holds it, with or without a port: letters, digits,
 * dots, hyphens and underscores, or an address in brackets.
 */
const HostName = z.string().min(1).max(253).regex(
  /^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/,
  "not a host name, with or without a port (no spaces, scheme, path or wildcard)",
);

/** Paths stand in permission flags, which white space would cut. */
const TlsPath = z.string().min(1).max(1024).refine(
  (path) => /^(\/|[A-Za-z]:[\\/])/.test(path),
  "write the whole path",
);

function isAddress(text: string): boolean {
  return text.includes(":")
    ? ipaddr.IPv6.isValid(text)
    : ipaddr.IPv4.isValidFourPartDecimal(text);
}

/** Whether a name or address to listen on is this machine's alone. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" ||
    isAddress(host) && ipaddr.process(host).range() === "loopback";
}

type Listening = {
  host: string;
  tls?: unknown;
  trustedProxies: readonly string[];
  container: boolean;
};

/** Whether others could read along: off loopback, and nothing protects it. */
export function isExposed(config: Listening): boolean {
  return !isLoopbackHost(config.host) && config.tls === undefined &&
    config.trustedProxies.length === 0 && !config.container;
}

/** Why that is refused, and the ways out. */
export function exposedText(host: string): string {
  return `tokens would travel in clear text to ${host}: set gateway.tls ("carapace tls init", "carapace tls issue", "carapace tls use"), name the proxy in gateway.trustedProxies, or in a container set gateway.container`;
}

export const GatewayConfig = z.strictObject({
  host: z.string().min(1).max(253).default("127.0.0.1").describe(
    "Address to listen on; off loopback needs TLS or a named trusted proxy",
  ),
  port: z.int().min(1).max(65_535).default(PORT_DEFAULT).describe(
    "Port to listen on; CARAPACE_PORT overrides it",
  ),
  hosts: z.array(HostName).max(32).default([]).describe(
    "Further names this gateway is reached by (checked against the Host header)",
  ),
  origins: z.array(z.url()).max(32).default([]).describe(
    "Further web origins that may call this gateway, exactly as a browser sends them",
  ),
  tls: z.strictObject({
    cert: TlsPath.describe("The certificate and those that vouch for it, PEM"),
    key: TlsPath.describe(
      "Its private key, PEM; a file that only its owner can read",
    ),
  }).optional().describe(
    "Serve https:// and wss:// with these files; `carapace tls` makes them",
  ),
  password: SecretField.optional().describe(
    "Lets the owner in at a WebSocket by a password, on this machine or in TLS; off unless set",
  ),
  tailscale: TailscaleConfig.optional().describe(
    "Lets logins of the tailnet in by their device's address, as this machine's tailscaled says; off unless set",
  ),
  trustedProxies: z.array(
    z.string().refine(isAddress, "a proxy is named by its address alone"),
  ).max(32).default([]).describe(
    "Addresses of the proxies in front of this gateway: only their X-Forwarded-For is read",
  ),
  container: z.boolean().default(false).describe(
    "It runs in a container whose published port protects it: listens off loopback without TLS",
  ),
}).superRefine((gateway, context) => {
  if (gateway.tailscale !== undefined && gateway.tls === undefined) {
    context.addIssue({
      code: "custom",
      path: ["tailscale"],
      message:
        "it needs gateway.tls: only over https does a browser say which site sent a request",
    });
  }
  if (!isExposed(gateway)) return;
  context.addIssue({
    code: "custom",
    path: ["host"],
    message: exposedText(gateway.host),
  });
}).prefault({});
export type GatewayConfig = z.infer<typeof GatewayConfig>;

/** What listening needs. Files of its own state directory are granted anyway. */
export function gatewayNeeds(config: GatewayConfig): Need[] {
  const name = config.host.includes(":") ? `[${config.host}]` : config.host;
  return [need("net", `${name}:${config.port}`, "gateway.host, gateway.port")];
}
