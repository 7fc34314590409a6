/**
 * The channels' slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { isClearText } from "../core/clear_text.ts";
import { type Need, need } from "../core/needs.ts";
import { SecretField } from "../core/secret.ts";

/** An account's name: it stands in addresses and keys. */
const AccountName = z.string().regex(
  /^[a-z0-9][a-z0-9_-]{0,63}$/,
  "an account's name is 1 to 64 of a-z, 0-9, _ and -",
);

/** https, or http to this very machine; nothing in the URL but the place. */
function isReceiver(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && url.username === "" && url.password === "" &&
    url.hash === "" &&
    /^https?:$/.test(url.protocol) && !isClearText(url);
}

/** One receiver of signed messages. */
export const WebhookAccount = z.strictObject({
  url: z.string().max(2048).refine(
    isReceiver,
    "a receiver is an https URL (http only on this machine) without user or fragment",
  ).describe("Where messages are posted"),
  secret: SecretField.describe(
    "Signs every message by HMAC-SHA256; with the prefix whsec_ it is base64",
  ),
  idempotent: z.boolean().default(false).describe(
    "The receiver drops a second message with the same webhook-id; then what a crash left open is sent again instead of shown as unknown",
  ),
  charsMax: z.int().min(256).max(1_048_576).default(65_536).describe(
    "Characters of one message; longer ones are cut in several",
  ),
});
export type WebhookAccount = z.infer<typeof WebhookAccount>;

export const ChannelsConfig = z.strictObject({
  webhook: z.record(AccountName, WebhookAccount).default({}).describe(
    "Receivers of signed messages, by account",
  ),
}).prefault({});
export type ChannelsConfig = z.infer<typeof ChannelsConfig>;

/** What the channels need: the hosts of their accounts. */
export function channelNeeds(config: ChannelsConfig): Need[] {
  return Object.entries(config.webhook).map(([account, { url }]) => {
    const { hostname, port, protocol } = new URL(url);
    const standard = protocol === "https:" ? "443" : "80";
    const because = `channels.webhook.${account}.url`;
    return need("net", `${hostname}:${port || standard}`, because);
  });
}
