/**
 * Opens the gateway for a verb: finds it, connects, and closes at the end. A
 * gateway whose certificate nobody vouches for is asked about once.
 *
 * Never: a token is sent before the certificate was accepted.
 *
 * @module
 */
import { putPin } from "../config/pins.ts";
import { stateDir, systemPlace } from "../config/state.ts";
import { GatewayClient } from "../remote/client.ts";
import type { GatewayAddress } from "../remote/handshake.ts";
import { makeTrust, UnknownCertificate } from "../remote/trust.ts";
import { readLine } from "./line.ts";
import { hostPortOf, locateGateway } from "./locate.ts";
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
  const { roof, ...rest } = options;
  const dir = await findStateDir(io);
  const address = await locateGateway(io, { roof, stateDir: dir });
  return await connectTrusted(io, { address, stateDir: dir, ...rest });
}

/** What is connected to. */
interface Connecting {
  address: GatewayAddress;
  stateDir: string;
  signal?: AbortSignal;
}

/** Connects; asks about a key that was never seen, and keeps what is accepted. */
export async function connectTrusted(
  io: Io,
  { address, stateDir, signal }: Connecting,
): Promise<GatewayClient> {
  const connect = (to: GatewayAddress) =>
    GatewayClient.connect(to, {
      clock: io.clock,
      ...(signal === undefined ? {} : { signal }),
    });
  const host = hostPortOf(new URL(address.url));
  const named = io.target?.pin;
  let client: GatewayClient;
  let accepted = named;
  try {
    client = await connect(address);
  } catch (error) {
    if (!(error instanceof UnknownCertificate)) throw error;
    if (!await acceptsKey(io, error)) throw error;
    accepted = error.peer.key;
    client = await connect({
      ...address,
      trust: makeTrust({ host, pin: accepted }),
    });
  }
  try {
    if (accepted !== undefined) {
      await putPin(stateDir, { host, pin: accepted });
    }
    return client;
  } catch (error) {
    client[Symbol.dispose]();
    throw error;
  }
}

/** Whether the person at the terminal, or the command line, takes a new key. */
export async function acceptsKey(
  io: Io,
  { host, peer }: UnknownCertificate,
): Promise<boolean> {
  if (io.target?.acceptsNew === true) {
    io.err(`accepted: ${host} shows ${peer.key}\n`);
    return true;
  }
  if (!io.stdinIsTerminal) return false;
  io.err(
    `No authority this machine knows vouches for ${host}. It shows the key\n` +
      `  ${peer.key}\n` +
      'Run "carapace tls show" on that machine and compare.\n' +
      "Is it the same, and is it to be trusted from now on? [y/N] ",
  );
  return /^y(es)?$/i.test((await readLine(io)).trim());
}
