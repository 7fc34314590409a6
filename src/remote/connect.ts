/**
 * The way to another gateway, by what the configuration says of it.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Clock } from "../core/time.ts";
import { GatewayClient } from "./client.ts";
import { hostPortOf, type RemoteConfig } from "./config.ts";
import type { GatewayAddress } from "./handshake.ts";
import { makeTrust, toPin } from "./trust.ts";

/** How long a lost gateway is sought. */
const RECONNECT_MS = 60_000;

/**
 * A connection to a remote whose token may talk and listen.
 *
 * @throws {AppError} what `GatewayClient.connect` throws; `forbidden` for a token
 * that may not
 */
export async function connectRemote(
  name: string,
  config: Pick<RemoteConfig, "url" | "token" | "pin">,
  options: { clock: Clock; signal?: AbortSignal },
): Promise<GatewayClient> {
  const client = await GatewayClient.connect(addressOf(name, config), {
    reconnectMs: RECONNECT_MS,
    ...options,
  });
  const { methods, events } = client.hello.features;
  if (methods.includes("chat.send") && events.includes("agent")) return client;
  client[Symbol.dispose]();
  throw new AppError(
    "forbidden",
    `Cannot use "${name}": its token may not talk and listen there`,
    {
      hint:
        "Make one on that gateway: carapace token create NAME --scopes read,chat",
    },
  );
}

/** Where a remote is, and what it is measured by. */
function addressOf(
  name: string,
  { url, token, pin }: Pick<RemoteConfig, "url" | "token" | "pin">,
): GatewayAddress {
  const socket = new URL(url);
  if (socket.pathname === "/") socket.pathname = "/ws";
  return {
    url: socket.href,
    token,
    tokenHint:
      `Make another on that gateway ("carapace token create NAME --scopes read,chat") and store it: "carapace remote add ${name} …"`,
    trust: makeTrust({
      host: hostPortOf(url),
      pin: pin === undefined ? undefined : toPin(pin),
    }),
  };
}
