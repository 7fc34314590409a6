/**
 * Opens the gateway for a verb: finds it, connects, and closes at the end.
 *
 * @module
 */
import { stateDir, systemPlace } from "../config/state.ts";
import { GatewayClient } from "../remote/client.ts";
import { locateGateway } from "./locate.ts";
import type { Io, Roof } from "./verb.ts";

/** This machine's state directory. */
export function findStateDir(io: Io): Promise<string> {
  return stateDir(io.env, systemPlace());
}

/** A connected client; dispose it. */
export async function openGateway(
  io: Io,
  options: { roof: Roof; signal?: AbortSignal },
): Promise<GatewayClient> {
  const dir = await findStateDir(io);
  const address = await locateGateway(io, {
    roof: options.roof,
    stateDir: dir,
  });
  return await GatewayClient.connect(address, {
    clock: io.clock,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}
