/**
 * A plugin as it arrives: the manifest's text, the checks that a schema cannot
 * make, whom the owner takes it from, and the file a publisher's key is kept in.
 *
 * Never: what nobody trusted vouches for passes without the owner's word.
 *
 * @module
 */
import { stripComments } from "jsonc-parser";
import { z } from "zod";
import { parseJson } from "../core/bounded.ts";
import { canonicalJson } from "../core/canonical.ts";
import { AppError } from "../core/errors.ts";
import { sha256Hex } from "../core/ids.ts";
import { PluginManifest } from "../core/plugin.ts";
import type { Signed } from "./manifest.ts";
import { toInputSchema } from "./schema.ts";

/** Bounds of a manifest's text. */
export const MANIFEST_BYTES_MAX = 262_144;
export const MANIFEST_FILE = "plugin.jsonc";
const JSON_LIMITS = { depthMax: 16, nodesMax: 10_000 };
/** What every provider takes as a tool's name. */
const TOOL_NAME_CHARS_MAX = 64;

/** The name a plugin's tool has for models and policies. */
export function toolName(id: string, tool: string): string {
  return `${id.replaceAll("-", "_")}_${tool}`;
}

/** A manifest's text, with comments, as its publisher wrote it. @throws `bad_input` */
export function parseManifestText(text: string): Record<string, unknown> {
  if (text.length > MANIFEST_BYTES_MAX) {
    throw new AppError(
      "too_large",
      `Cannot read the manifest: it is larger than ${MANIFEST_BYTES_MAX} bytes`,
    );
  }
  const raw = parseJson(stripComments(text), JSON_LIMITS);
  if (typeof raw === "object" && raw !== null && !Array.isArray(raw)) {
    return raw as Record<string, unknown>;
  }
  throw new AppError("bad_input", "Cannot read the manifest: it is no object");
}

/** Checks what a schema cannot. @throws {AppError} `bad_input` */
export function checkManifest(manifest: PluginManifest): void {
  const refuse = (why: string): never => {
    throw new AppError(
      "bad_input",
      `Cannot use the manifest of "${manifest.id}": ${why}`,
    );
  };
  const { id, tools, webhooks, hooks, wants } = manifest;
  const lists: [what: string, names: string[]][] = [
    ["tool", tools.map(({ name }) => name)],
    ["webhook", webhooks.map(({ name }) => name)],
    ["hook", hooks.map(({ point }) => point)],
    ["secret", wants.secrets.map(({ name }) => name)],
  ];
  for (const [what, names] of lists) {
    const twice = names.find((name, n) => names.indexOf(name) !== n);
    if (twice !== undefined) refuse(`there are two ${what}s "${twice}"`);
  }
  for (const tool of tools) {
    const name = toolName(id, tool.name);
    if (name.length > TOOL_NAME_CHARS_MAX) {
      refuse(`"${name}" is longer than ${TOOL_NAME_CHARS_MAX} characters`);
    }
    toInputSchema(tool.input, `tool "${tool.name}"`);
  }
  const offers = tools.length + webhooks.length + hooks.length +
    (manifest.channel === undefined ? 0 : 1);
  if (offers === 0) refuse("it offers nothing");
}

/** A manifest stored earlier, read again. @throws {AppError} `bad_input` */
export function readManifest(raw: unknown): PluginManifest {
  const parsed = PluginManifest.safeParse(raw);
  if (parsed.success) return parsed.data;
  throw new AppError("bad_input", "Cannot read a stored manifest", {
    hint: "Install the plugin again",
    cause: parsed.error,
  });
}

/** Every export the manifest names. */
export function exportsOf(manifest: PluginManifest): string[] {
  const { tools, webhooks, hooks, channel, wants } = manifest;
  const { pollExport } = channel ?? {};
  return [
    ...new Set([
      ...[...tools, ...webhooks, ...hooks].map((one) => one.export),
      ...channel === undefined ? [] : [channel.sendExport],
      ...pollExport === undefined ? [] : [pollExport],
      ...wants.schedule === undefined ? [] : [wants.schedule.export],
    ]),
  ];
}

/** The hash a manifest is known by, its signature included. */
export async function manifestHash(
  raw: Readonly<Record<string, unknown>>,
): Promise<string> {
  return await sha256Hex(canonicalJson(raw));
}

/**
 * Refuses what nobody trusted vouches for, unless the owner said so.
 *
 * @throws {AppError} `forbidden`, with what to do
 */
export function assertTrusted(
  signed: Signed,
  options: { id: string; allowUnsigned: boolean },
): void {
  if (signed.kind === "trusted" || options.allowUnsigned) return;
  const why = signed.kind === "unsigned"
    ? "it is not signed"
    : `it is signed by the key ${signed.publicKey}, which plugins.publishers does not list`;
  throw new AppError(
    "forbidden",
    `Cannot trust plugin "${options.id}": ${why}`,
    {
      hint:
        "Add its publisher to plugins.publishers, or use --allow-unsigned if you know where it is from",
    },
  );
}

/** Who vouches, in words. */
export function trustText(signed: Signed): string {
  switch (signed.kind) {
    case "trusted":
      return `signed by "${signed.publisher}"`;
    case "unknown":
      return `signed by an unknown key (${signed.publicKey}): nobody you trust vouches for it`;
    case "unsigned":
      return "not signed: nobody vouches for it";
  }
}

/** A publisher's key pair as it is kept in a file. */
export const KeyFile = z.strictObject({
  publicKey: z.string().max(64),
  /** PKCS #8, base64url. */
  privateKey: z.string().max(256),
});
export type KeyFile = z.infer<typeof KeyFile>;

const BASE64URL = { alphabet: "base64url", omitPadding: true } as const;
const ALGORITHM = "Ed25519";

/** A key pair as text for a file. */
export async function exportKeys(keys: CryptoKeyPair): Promise<KeyFile> {
  const [publicKey, privateKey] = await Promise.all([
    crypto.subtle.exportKey("raw", keys.publicKey),
    crypto.subtle.exportKey("pkcs8", keys.privateKey),
  ]);
  return {
    publicKey: new Uint8Array(publicKey).toBase64(BASE64URL),
    privateKey: new Uint8Array(privateKey).toBase64(BASE64URL),
  };
}

/** A key pair from a file's text. @throws {AppError} `bad_input` */
export async function importKeys(text: string): Promise<CryptoKeyPair> {
  try {
    const file = KeyFile.parse(JSON.parse(text));
    const options = { alphabet: "base64url" } as const;
    const [publicKey, privateKey] = await Promise.all([
      crypto.subtle.importKey(
        "raw",
        Uint8Array.fromBase64(file.publicKey, options),
        ALGORITHM,
        true,
        ["verify"],
      ),
      crypto.subtle.importKey(
        "pkcs8",
        Uint8Array.fromBase64(file.privateKey, options),
        ALGORITHM,
        true,
        ["sign"],
      ),
    ]);
    return { publicKey, privateKey };
  } catch (cause) {
    // The cause may quote the key.
    throw new AppError("bad_input", "Cannot read the key: it is no key file", {
      hint: 'Make one with "carapace plugin keygen FILE"',
      details: { cause: cause instanceof Error ? cause.name : "" },
    });
  }
}
