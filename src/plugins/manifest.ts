/**
 * A plugin's manifest, signed and checked: Ed25519 over the RFC 8785 text of
 * everything in it but `signature`, as its publisher wrote it (before defaults,
 * so that a later default breaks no signature).
 *
 * Never: a signature says more than who wrote a manifest; what it may do is the
 * owner's grant. A key speaks for a publisher that is not written beside it.
 *
 * @module
 */
import { z } from "zod";
import { canonicalJson } from "../core/canonical.ts";
import { AppError } from "../core/errors.ts";
import { sha256Hex } from "../core/ids.ts";
import { PluginManifest } from "../core/plugin.ts";
import type { TrustedPublisher } from "./config.ts";

/** What a signature says. A wrong one is not an answer but an error. */
export type Signed =
  | { kind: "trusted"; publisher: string; publicKey: string }
  | { kind: "unknown"; publicKey: string }
  | { kind: "unsigned" };

const ALGORITHM = "Ed25519";
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

function toText(bytes: ArrayBuffer): string {
  return new Uint8Array(bytes).toBase64({
    alphabet: "base64url",
    omitPadding: true,
  });
}

function toBytes(text: string, length: number): Uint8Array<ArrayBuffer> {
  try {
    const bytes = Uint8Array.fromBase64(text, { alphabet: "base64url" });
    if (bytes.length === length) return bytes;
  } catch {
    // Said below.
  }
  throw new AppError(
    "bad_input",
    `Cannot read a signature: ${
      JSON.stringify(text.slice(0, 16))
    } is not ${length} bytes of base64url`,
  );
}

function signedBytes(
  manifest: Readonly<Record<string, unknown>>,
): Uint8Array<ArrayBuffer> {
  const { signature: _, ...signed } = manifest;
  return new TextEncoder().encode(canonicalJson(signed));
}

function parse(written: unknown): PluginManifest {
  const parsed = PluginManifest.safeParse(written);
  if (parsed.success) return parsed.data;
  throw new AppError(
    "bad_input",
    `Cannot read a plugin's manifest: ${
      z.prettifyError(parsed.error).replaceAll(/\s+/g, " ").slice(0, 500)
    }`,
    { cause: parsed.error },
  );
}

/** Makes a key pair to sign with. */
export async function makePublisherKeys(): Promise<CryptoKeyPair> {
  return await crypto.subtle.generateKey(ALGORITHM, true, [
    "sign",
    "verify",
  ]) as CryptoKeyPair;
}

/**
 * The manifest with its signature; one that was there is replaced.
 *
 * @throws {AppError} `bad_input` when it is not a manifest
 */
export async function signManifest(
  written: Readonly<Record<string, unknown>>,
  keys: CryptoKeyPair,
): Promise<Record<string, unknown>> {
  const value = await crypto.subtle.sign(
    ALGORITHM,
    keys.privateKey,
    signedBytes(written),
  );
  const publicKey = await crypto.subtle.exportKey("raw", keys.publicKey);
  const signed = {
    ...written,
    signature: { publicKey: toText(publicKey), value: toText(value) },
  };
  parse(signed);
  return signed;
}

/** What a manifest is checked against. */
export interface VerifyOptions {
  /** Empty trusts nobody. */
  trusted: readonly TrustedPublisher[];
  /** The key this plugin's id was installed with, if it was. */
  installedKey?: string;
}

/**
 * Reads a manifest as it was written and says who signed it.
 *
 * @throws {AppError} `bad_input` when it is not a manifest; `forbidden` when the
 * signature is not over this manifest, or the key does not speak for the
 * publisher or the plugin it names.
 */
export async function verifyManifest(
  written: unknown,
  options: VerifyOptions,
): Promise<{ manifest: PluginManifest; signed: Signed }> {
  const manifest = parse(written);
  const { signature } = manifest;
  if (options.installedKey !== undefined) {
    checkSameKey(manifest, options.installedKey);
  }
  if (signature === undefined) {
    return { manifest, signed: { kind: "unsigned" } };
  }
  await checkSignature(written as Record<string, unknown>, signature);
  const { publicKey } = signature;
  const owner = options.trusted.find((row) => row.publicKey === publicKey);
  if (owner === undefined) {
    checkNameIsFree(manifest, options.trusted);
    return { manifest, signed: { kind: "unknown", publicKey } };
  }
  checkSpeaksFor(manifest, owner);
  const publisher = owner.name;
  return { manifest, signed: { kind: "trusted", publisher, publicKey } };
}

async function checkSignature(
  written: Readonly<Record<string, unknown>>,
  signature: { publicKey: string; value: string },
): Promise<void> {
  const raw = toBytes(signature.publicKey, KEY_BYTES);
  const value = toBytes(signature.value, SIGNATURE_BYTES);
  const key = await crypto.subtle.importKey("raw", raw, ALGORITHM, false, [
    "verify",
  ]);
  const isRight = await crypto.subtle.verify(
    ALGORITHM,
    key,
    value,
    signedBytes(written),
  );
  if (isRight) return;
  throw new AppError(
    "forbidden",
    "Cannot accept the plugin: its signature is not over this manifest",
    { hint: "It was changed after it was signed; get it from its publisher" },
  );
}

function checkSameKey(manifest: PluginManifest, installedKey: string): void {
  if (manifest.signature?.publicKey === installedKey) return;
  throw new AppError(
    "forbidden",
    `Cannot accept the plugin "${manifest.id}": it is installed from another key`,
    { hint: "Remove the installed plugin first, if its publisher changed" },
  );
}

function checkSpeaksFor(
  manifest: PluginManifest,
  owner: TrustedPublisher,
): void {
  const { id, publisher } = manifest;
  if (publisher !== owner.name) {
    throw new AppError(
      "forbidden",
      `Cannot accept the plugin "${id}": it names "${publisher}" and is signed by "${owner.name}"`,
    );
  }
  if (owner.plugins !== "any" && !owner.plugins.includes(id)) {
    throw new AppError(
      "forbidden",
      `Cannot accept the plugin "${id}": "${publisher}" may not publish it`,
      { hint: "Add the id to the publisher's plugins in the configuration" },
    );
  }
}

/** An unknown key may not use the name or the plugin of a trusted publisher. */
function checkNameIsFree(
  manifest: PluginManifest,
  trusted: readonly TrustedPublisher[],
): void {
  const claimed = trusted.find(({ name, plugins }) =>
    name === manifest.publisher ||
    plugins !== "any" && plugins.includes(manifest.id)
  );
  if (claimed === undefined) return;
  throw new AppError(
    "forbidden",
    `Cannot accept the plugin "${manifest.id}": it claims to be of "${claimed.name}" and is signed by another key`,
  );
}

/** Checks that this is the module the manifest names. @throws `forbidden` */
export async function checkWasm(
  manifest: PluginManifest,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const sha256 = await sha256Hex(bytes);
  if (sha256 === manifest.wasm.sha256) return;
  throw new AppError(
    "forbidden",
    `Cannot accept the plugin "${manifest.id}": "${manifest.wasm.file}" is not the file its manifest names`,
    { details: { expected: manifest.wasm.sha256, actual: sha256 } },
  );
}
