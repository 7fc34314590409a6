/**
 * The egress slice of the configuration.
 *
 * @module
 */
import { z } from "zod";

export const EgressConfig = z.strictObject({
  open: z.boolean().default(false).describe(
    "Let web_fetch and media reach any public host; without it only hosts that a configuration line names",
  ),
  hosts: z.array(z.string().min(1).max(253)).max(256).default([]).describe(
    "Hosts that tools may reach by https, exactly",
  ),
  proxy: z.url().optional().describe(
    "An http(s) proxy for everything that leaves; HTTP_PROXY is ignored on purpose",
  ),
}).prefault({});
export type EgressConfig = z.infer<typeof EgressConfig>;
