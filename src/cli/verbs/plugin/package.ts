/**
 * A plugin as the command line gets it: from a file, a folder, or an address
 * whose hash its caller states.
 *
 * Never: more is read than a plugin may be; a page is followed to another host.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import { decodeUtf8, readBytes } from "../../../core/bounded.ts";
import { AppError } from "../../../core/errors.ts";
import { sha256Hex } from "../../../core/ids.ts";
import { silentLog } from "../../../core/log.ts";
import type { Clock } from "../../../core/time.ts";
import type { EgressConfig } from "../../../egress/config.ts";
import { makeEgress } from "../../../egress/egress.ts";
import {
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  parseManifestText,
} from "../../../plugins/package.ts";
import { PLUGIN_BYTES_MAX } from "../../../store/plugins.ts";
import { usageError } from "../../args.ts";

/** A plugin that was read and not yet looked at. */
export interface Fetched {
  manifest: Record<string, unknown>;
  bytes: Uint8Array<ArrayBuffer>;
  /** Where it came from, for people. */
  source: string;
}

/** How an address is fetched. */
export interface FetchOptions {
  clock: Clock;
  /** How things leave this machine: by a proxy, where one is configured. */
  egress: EgressConfig;
  /** The hash of the manifest's bytes, as its caller got it elsewhere. */
  sha256?: string | undefined;
}

/** Reads a plugin from wherever its caller says. @throws {AppError} */
export async function fetchPlugin(
  place: string,
  options: FetchOptions,
): Promise<Fetched> {
  if (isAddress(place)) return await fromUrl(place, options);
  return await fetchFile(place, options);
}

/** Whether a place is an address and not a path. */
export function isAddress(place: string): boolean {
  return /^https?:\/\//i.test(place);
}

/** The module's file, as a manifest names it: beside the manifest. */
function wasmFile(manifest: Record<string, unknown>): string {
  const wasm = manifest["wasm"];
  const file = typeof wasm === "object" && wasm !== null && "file" in wasm
    ? wasm.file
    : undefined;
  if (typeof file === "string" && /^[A-Za-z0-9_-]+\.wasm$/.test(file)) {
    return file;
  }
  throw new AppError(
    "bad_input",
    'Cannot use the manifest: its "wasm.file" names no file beside it',
  );
}

/** Reads a plugin that is a file, a folder, or a module beside its manifest. */
export async function fetchFile(
  place: string,
  { sha256 }: Pick<FetchOptions, "sha256"> = {},
): Promise<Fetched & { path: string }> {
  const path = await manifestPath(place);
  const raw = await readFile(path, MANIFEST_BYTES_MAX);
  await checkPin(raw, sha256);
  const manifest = parseManifestText(decodeUtf8(raw));
  const module = join(dirname(path), wasmFile(manifest));
  const bytes = await readFile(module, PLUGIN_BYTES_MAX);
  return { manifest, bytes, source: path, path };
}

/** The manifest of a folder, a manifest, or a module with one beside it. */
async function manifestPath(place: string): Promise<string> {
  const path = resolve(place);
  try {
    const { isDirectory } = await Deno.stat(path);
    if (isDirectory) return join(path, MANIFEST_FILE);
  } catch (error) {
    throw notReadable(path, error);
  }
  return basename(path).endsWith(".wasm")
    ? join(dirname(path), MANIFEST_FILE)
    : path;
}

function notReadable(path: string, cause: unknown): AppError {
  const isMissing = cause instanceof Deno.errors.NotFound;
  const why = isMissing
    ? "it is not there"
    : cause instanceof Deno.errors.NotCapable
    ? "this process may not read it"
    : "it cannot be read";
  return new AppError(
    isMissing ? "not_found" : "bad_input",
    `Cannot read "${path}": ${why}`,
    { cause, hint: `Name a folder that holds a ${MANIFEST_FILE}` },
  );
}

async function readFile(
  path: string,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    using file = await Deno.open(path);
    const { isFile, size } = await file.stat();
    if (!isFile) throw new AppError("bad_input", `"${path}" is not a file`);
    if (size > bytesMax) {
      throw new AppError(
        "too_large",
        `Cannot take "${path}": its ${size} bytes are more than ${bytesMax}`,
      );
    }
    return await readBytes(file.readable, bytesMax);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw notReadable(path, error);
  }
}

async function checkPin(
  bytes: Uint8Array<ArrayBuffer>,
  sha256: string | undefined,
): Promise<void> {
  if (sha256 === undefined) return;
  const actual = await sha256Hex(bytes);
  if (actual === sha256.toLowerCase()) return;
  throw new AppError(
    "forbidden",
    `Cannot take the plugin: its manifest's hash is ${actual}, not the one you gave`,
    { hint: "Somebody changed it, or the hash is of another version" },
  );
}

async function fromUrl(
  place: string,
  { clock, egress: config, sha256 }: FetchOptions,
): Promise<Fetched> {
  const url = URL.parse(place);
  if (url === null || url.protocol !== "https:") {
    throw usageError("A plugin is fetched from an https address");
  }
  if (sha256 === undefined || !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw usageError(
      "A plugin from an address needs --sha256 with the hash of its manifest",
      "Its publisher states it; sha256sum plugin.jsonc prints it",
    );
  }
  using egress = makeEgress({
    config,
    clock,
    log: silentLog,
  });
  const { hostname: host, port } = url;
  const door = egress.door({
    caller: "plugin:install",
    hosts: [{
      host,
      scheme: "https",
      port: Number(port) || 443,
      methods: ["GET"],
    }],
    limits: { responseBytesMax: PLUGIN_BYTES_MAX, totalMs: 120_000 },
    fix: (other) =>
      `It redirects to ${other}: fetch it from there, or install from a file`,
  });
  const get = async (from: URL, bytesMax: number) => {
    try {
      return await download(door, from, bytesMax);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "too_large") {
        throw error;
      }
      throw new AppError(
        "too_large",
        `Cannot take "${from.href}": it is larger than ${bytesMax} bytes`,
        { cause: error },
      );
    }
  };
  const raw = await get(url, MANIFEST_BYTES_MAX);
  await checkPin(raw, sha256);
  const manifest = parseManifestText(decodeUtf8(raw));
  const bytes = await get(
    new URL(wasmFile(manifest), url),
    PLUGIN_BYTES_MAX,
  );
  return { manifest, bytes, source: url.href };
}

async function download(
  door: typeof fetch,
  from: URL,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const response = await door(from);
  if (response.ok) return await readBytes(response.body, bytesMax);
  await response.body?.cancel();
  throw new AppError(
    "upstream",
    `Cannot fetch "${from.href}": ${response.status}`,
  );
}
