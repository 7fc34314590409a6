/**
 * The remotes' slice of the configuration: other gateways that agents may be on.
 *
 * @module
 */
import { z } from "zod";
import { isClearText } from "../core/clear_text.ts";
import { Integrity } from "../core/label.ts";
import { type Need, need } from "../core/needs.ts";
import { SecretField } from "../core/secret.ts";
import { toPin } from "./trust.ts";

/** A gateway's name, as agents refer to it. */
export const RemoteName = z.string().regex(
  /^[a-z0-9][a-z0-9_-]{0,39}$/,
  "a remote's name is 1 to 40 of a-z, 0-9, _ and -",
);

/** `wss:` anywhere, `ws:` on this machine; no credential, query or fragment. */
function isGatewayUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null) return false;
  const isSafe = /^wss?:$/.test(url.protocol) && !isClearText(url);
  return isSafe && url.username === "" && url.password === "" &&
    url.search === "" && url.hash === "";
}

export const RemoteConfig = z.strictObject({
  url: z.string().max(512).refine(
    isGatewayUrl,
    'a gateway is written like "wss://192.168.1.5:18789": no clear text off this machine, no credential, no query',
  ).describe("Its address, wss://HOST:PORT"),
  token: SecretField.describe('Its token: "${secret:NAME}"'),
  pin: z.string().refine(
    (text) => toPin(text) !== undefined,
    'a pin is "sha256:" and 64 digits, as "carapace tls show" prints it',
  ).optional().describe(
    "The SHA-256 of its public key; without it an authority this machine knows must vouch for it",
  ),
  trust: Integrity.default("untrusted").describe(
    "Whose words its answers are: untrusted, or owner when it is yours alone and you take what it read as yours",
  ),
});
export type RemoteConfig = z.infer<typeof RemoteConfig>;

export const RemotesConfig = z.record(RemoteName, RemoteConfig).prefault({})
  .describe("Other gateways; agents.<id>.remote names one");
export type RemotesConfig = z.infer<typeof RemotesConfig>;

/** A gateway's host and port, as permission flags want them. */
export function hostPortOf(text: string): string {
  const url = new URL(text);
  const standard = /^(wss|https):$/.test(url.protocol) ? "443" : "80";
  return `${url.hostname}:${url.port || standard}`;
}

/** What reaching the remotes needs: their hosts, exactly. */
export function remoteNeeds(config: RemotesConfig): Need[] {
  return Object.entries(config).map(([name, { url }]) =>
    need("net", hostPortOf(url), `remotes.${name}.url`)
  );
}
