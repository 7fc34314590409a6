/**
 * The gateway's slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { type Need, need } from "../core/needs.ts";

/** The port existing clients of the field expect. */
export const PORT_DEFAULT = 18_789;

export const GatewayConfig = z.strictObject({
  host: z.string().min(1).max(253).default("127.0.0.1").describe(
    "Address to listen on; off loopback needs TLS or a named trusted proxy",
  ),
  port: z.int().min(1).max(65_535).default(PORT_DEFAULT).describe(
    "Port to listen on; CARAPACE_PORT overrides it",
  ),
  hosts: z.array(z.string().min(1).max(253)).max(32).default([]).describe(
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
