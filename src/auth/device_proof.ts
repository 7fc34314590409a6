/**
 * Whether a client holds the key it says it has: the signature over what it
 * sent and over the nonce it was given. Pure but for the verification itself.
 *
 * The signed text, joined by `|`: version, device id, client id, client mode,
 * role, scopes joined by `,`, time in ms, the token that was sent or nothing,
 * nonce; version `v3` adds platform and device family in lower case.
 *
 * Never: a signature over another socket's nonce, or over another token than
 * the one sent, passes.
 *
 * @module
 */
import { DEVICES } from "../core/methods/device.ts";
import { sha256Hex } from "../core/ids.ts";
import type { ConnectParams } from "../core/protocol.ts";
import { verifySecret } from "../core/secret.ts";

/** What the server asked the client to sign. */
export interface Challenge {
  nonce: string;
  /** When it was asked, ms. */
  ts: number;
}

/** A key that was proven to be the client's. */
export interface ProvenDevice {
  id: string;
  /** Raw, base64url without padding. */
  publicKey: string;
}

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** Only ASCII letters, so that every language lowers them alike. */
function lowered(text: string | undefined): string {
  return (text ?? "").trim().replace(
    /[A-Z]/g,
    (letter) => letter.toLowerCase(),
  );
}

/** The texts a signature may be over, the newest version first. */
function signedTexts(
  params: ConnectParams,
  device: NonNullable<ConnectParams["device"]>,
): string[] {
  const { auth, client, role = "operator", scopes = [] } = params;
  const fields = [
    device.id,
    client.id,
    client.mode,
    role,
    scopes.join(","),
    String(device.signedAt),
    auth?.token ?? auth?.deviceToken ?? auth?.bootstrapToken ?? "",
    device.nonce ?? "",
  ];
  const more = [lowered(client.platform), lowered(client.deviceFamily)];
  // A separator inside a field would let one text stand for two requests.
  if ([...fields, ...more].some((field) => field.includes("|"))) return [];
  if (scopes.some((scope) => scope.includes(","))) return [];
  return [["v3", ...fields, ...more].join("|"), ["v2", ...fields].join("|")];
}

/** The device of a `connect`, when its proof holds; nothing else is looked at. */
export async function proveDevice(
  params: ConnectParams,
  challenge: Challenge,
): Promise<ProvenDevice | undefined> {
  const { device } = params;
  if (device?.nonce === undefined) return;
  if (!await verifySecret(device.nonce, challenge.nonce)) return;
  if (Math.abs(device.signedAt - challenge.ts) > DEVICES.skewMs) return;
  const key = readBase64url(device.publicKey, KEY_BYTES);
  const signature = readBase64url(device.signature, SIGNATURE_BYTES);
  if (key === undefined || signature === undefined) return;
  if (await sha256Hex(key) !== device.id) return;
  const encoder = new TextEncoder();
  try {
    const verifier = await crypto.subtle.importKey(
      "raw",
      key,
      "Ed25519",
      true,
      [
        "verify",
      ],
    );
    for (const text of signedTexts(params, device)) {
      const bytes = encoder.encode(text);
      if (await crypto.subtle.verify("Ed25519", verifier, signature, bytes)) {
        return { id: device.id, publicKey: toBase64url(key) };
      }
    }
  } catch (error) {
    // Bytes that are no point of the curve.
    if (!(error instanceof DOMException)) throw error;
  }
}

function toBase64url(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

function readBase64url(
  text: string,
  length: number,
): Uint8Array<ArrayBuffer> | undefined {
  try {
    const bytes = Uint8Array.fromBase64(text, { alphabet: "base64url" });
    return bytes.length === length ? bytes : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
