/**
 * A device as clients of the field are: its own Ed25519 key and its own way of
 * writing the text that is signed, from the protocol's words and not from the
 * gateway's code.
 */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { type AnyFrame, CLIENT, FakeClient } from "./gateway_house.ts";

/** What is signed. */
export interface Signing {
  version: "v2" | "v3";
  clientId: string;
  clientMode: string;
  role: string;
  scopes: readonly string[];
  signedAt: number;
  token: string;
  nonce: string;
  platform?: string;
  deviceFamily?: string;
}

/** A key and its name. */
export interface FakeDevice {
  /** Hex SHA-256 of the raw public key. */
  id: string;
  /** base64url, without padding. */
  publicKey: string;
  /** The signature over the text of a version, base64url. */
  sign(what: Signing): string;
  /** A signature over any text. */
  signText(text: string): string;
}

/** Makes a device with a new key. */
export function makeDevice(): FakeDevice {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  // The raw key is the last 32 bytes of its DER form (RFC 8410).
  const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  const id = createHash("sha256").update(raw).digest("hex");
  const signText = (text: string) =>
    sign(null, new TextEncoder().encode(text), privateKey).toString(
      "base64url",
    );
  return {
    id,
    publicKey: raw.toString("base64url"),
    signText,
    sign: (what) => {
      const parts = [
        what.version,
        id,
        what.clientId,
        what.clientMode,
        what.role,
        what.scopes.join(","),
        `${what.signedAt}`,
        what.token,
        what.nonce,
      ];
      if (what.version === "v3") {
        parts.push((what.platform ?? "").toLowerCase());
        parts.push((what.deviceFamily ?? "").toLowerCase());
      }
      return signText(parts.join("|"));
    },
  };
}

/** What a device's `connect` may differ in. */
export interface ConnectDevice {
  /** @default "v3" */
  version?: "v2" | "v3";
  client?: Record<string, unknown>;
  role?: "operator" | "node";
  scopes?: readonly string[];
  auth?: {
    token?: string;
    password?: string;
    deviceToken?: string;
    bootstrapToken?: string;
  };
  /** Moves the time that is signed from the challenge's. */
  skewMs?: number;
  /** Signs, or sends, something else than it was asked to. */
  signing?: Partial<Signing>;
  device?: Record<string, unknown>;
  /** Further parameters: `caps`, `commands`, `permissions`, `resume`. */
  more?: Record<string, unknown>;
}

/** Answers the challenge with a device's signature; the response frame. */
export async function connectDevice(
  socket: FakeClient,
  device: FakeDevice,
  options: ConnectDevice = {},
): Promise<AnyFrame> {
  const { nonce, ts } = await socket.event("connect.challenge");
  const client = { ...CLIENT, ...options.client };
  const { role, scopes, auth } = options;
  const signedAt = ts + (options.skewMs ?? 0);
  const signature = device.sign({
    version: options.version ?? "v3",
    clientId: client.id,
    clientMode: client.mode,
    role: role ?? "operator",
    scopes: scopes ?? [],
    signedAt,
    token: auth?.token ?? auth?.deviceToken ?? auth?.bootstrapToken ?? "",
    nonce,
    platform: client.platform,
    ...options.signing,
  });
  return await socket.call("connect", {
    minProtocol: 3,
    maxProtocol: 4,
    client,
    ...(role === undefined ? {} : { role }),
    ...(scopes === undefined ? {} : { scopes }),
    ...(auth === undefined ? {} : { auth }),
    device: {
      id: device.id,
      publicKey: device.publicKey,
      signature,
      signedAt,
      nonce,
      ...options.device,
    },
    ...options.more,
  });
}

/** A socket to a house, before its handshake. */
export async function knock(house: { url: string }): Promise<FakeClient> {
  const client = new FakeClient(`${house.url.replace("http", "ws")}/ws`);
  await client.opened;
  return client;
}

/** A socket that came by a token. */
export async function tokenSocket(
  house: { url: string },
  token: string,
): Promise<FakeClient> {
  const client = await knock(house);
  const { ok, error } = await client.connect({ auth: { token } });
  assert.equal(ok, true, JSON.stringify(error));
  return client;
}

/** Pairs a device by an owner's socket; its answer. */
export async function pairDevice(
  house: { url: string },
  owner: FakeClient,
  options: {
    device: FakeDevice;
    scopes?: readonly string[];
    approve?: Record<string, unknown>;
  },
): Promise<AnyFrame> {
  const { device, scopes } = options;
  using socket = await knock(house);
  const { error } = await connectDevice(
    socket,
    device,
    scopes === undefined ? {} : { scopes },
  );
  assert.equal(error.code, "NOT_PAIRED");
  const { requestId } = error.details;
  return await owner.call("device.pair.approve", {
    requestId,
    ...options.approve,
  });
}
