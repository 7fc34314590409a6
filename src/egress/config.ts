/**
 * The egress slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { type Need, need } from "../core/needs.ts";
import { isMisplacedStar } from "./rules.ts";

/** A host alone, as the URL parser writes it. */
function isHost(host: string): boolean {
  const url = URL.parse(`https://${host}/`);
  return url !== null && url.host === host && url.username === "" &&
    url.pathname === "/" && url.search === "" && url.hash === "" &&
    url.hostname === url.host;
}

/**
 * Without user and password: measured on Deno 2.9.6, `fetch` sends a proxy's
 * credentials on through the tunnel, to every host it reaches.
 */
function isProxy(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && url.hostname !== "" && url.username === "" &&
    url.password === "" && url.pathname === "/" && url.search === "";
}

export const EgressConfig = z.strictObject({
  open: z.boolean().default(false).describe(
    "Let web_fetch and media reach any public host; without it only hosts that a configuration line names",
  ),
  hosts: z.array(
    z.string().min(1).max(253).refine(
      isHost,
      'a host stands alone and in lower case, like "api.example.com": no scheme, port or path',
    ).refine(
      (host) => !isMisplacedStar(host),
      'a wildcard stands before at least two labels, like "*.example.com"',
    ),
  ).max(256).default([]).describe(
    "Hosts that tools may reach by https, exactly",
  ),
  proxy: z.url({ protocol: /^https?$/ }).refine(
    isProxy,
    'a proxy is scheme, host and port, like "http://proxy.example.com:3128"; one that wants a password needs a local relay that knows it',
  ).optional().describe(
    "An http(s) proxy for everything that leaves; HTTP_PROXY is ignored on purpose",
  ),
}).prefault({});
export type EgressConfig = z.infer<typeof EgressConfig>;

/** What reaching the named hosts, or any public host, needs. */
export function egressNeeds(config: EgressConfig): Need[] {
  const needs = config.hosts.map((host) =>
    need("net", `${host}:443`, "egress.hosts")
  );
  if (config.open) needs.push(need("net", true, "egress.open"));
  if (config.proxy !== undefined) {
    const { hostname, port, protocol } = new URL(config.proxy);
    const standard = protocol === "https:" ? "443" : "80";
    needs.push(need("net", `${hostname}:${port || standard}`, "egress.proxy"));
  }
  return needs;
}
