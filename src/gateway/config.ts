/**
 * The gateway's slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { type Need, need } from "../core/needs.ts";

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
}).prefault({});
export type GatewayConfig = z.infer<typeof GatewayConfig>;

/** What listening needs. */
export function gatewayNeeds(config: GatewayConfig): Need[] {
  const name = config.host.includes(":") ? `[${config.host}]` : config.host;
  return [need("net", `${name}:${config.port}`, "gateway.host, gateway.port")];
}
