/**
 * What is found out about a plugin before it is stored, without running it.
 *
 * Never: a row is made of bytes that were not hashed, metered and compiled.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { PluginManifest } from "../core/plugin.ts";
import type { Clock } from "../core/time.ts";
import {
  PLUGIN_BYTES_MAX,
  type PluginRow,
  type Plugins,
} from "../store/plugins.ts";
import {
  capabilitiesOf,
  grantAll,
  importListOf,
  userFunctions,
} from "./capabilities.ts";
import { limitsOf, type PluginsConfig } from "./config.ts";
import { checkWasm, verifyManifest } from "./manifest.ts";
import {
  assertTrusted,
  checkManifest,
  exportsOf,
  manifestHash,
  readManifest,
} from "./package.ts";
import { Runner } from "./runner.ts";

/** A plugin to install. */
export interface PluginPackage {
  /** As its publisher wrote it. */
  manifest: Record<string, unknown>;
  bytes: Uint8Array<ArrayBuffer>;
  source: string;
  allowUnsigned: boolean;
  /** The principal who installs it. */
  by: string;
}

/** What a plugin is checked against. */
export interface CheckDeps {
  rows: Pick<Plugins, "find">;
  config: PluginsConfig;
  clock: Clock;
  log: Log;
}

/** Everything that can be found out without running it. */
export async function checkPackage(
  pack: PluginPackage,
  { rows, config, clock, log }: CheckDeps,
): Promise<PluginRow> {
  const { manifest: raw, bytes, allowUnsigned } = pack;
  const id = String(raw["id"] ?? "").slice(0, 64);
  const before = /^[a-z][a-z0-9-]{1,39}$/.test(id)
    ? await rows.find(id)
    : undefined;
  const { manifest, signed } = await verifyManifest(raw, {
    trusted: config.publishers,
    ...before?.signedBy === undefined ? {} : { installedKey: before.signedBy },
  });
  if (before !== undefined) {
    const owner = readManifest(before.manifest).publisher;
    if (owner !== manifest.publisher) {
      throw new AppError(
        "conflict",
        `Cannot install plugin "${id}": that id is taken by a plugin of "${owner}"`,
        { hint: `Remove that one first: carapace plugin remove ${id}` },
      );
    }
  }
  assertTrusted(signed, { id: manifest.id, allowUnsigned });
  checkManifest(manifest);
  if (bytes.byteLength > PLUGIN_BYTES_MAX) {
    throw new AppError(
      "too_large",
      `Cannot install plugin "${id}": its module of ${bytes.byteLength} bytes is larger than ${PLUGIN_BYTES_MAX}`,
    );
  }
  await checkWasm(manifest, bytes);
  await checkModule(manifest, { bytes, config, log });
  return {
    id: manifest.id,
    version: manifest.version,
    manifest: raw as PluginRow["manifest"],
    manifestSha256: await manifestHash(raw),
    sha256: manifest.wasm.sha256,
    bytes: bytes.byteLength,
    source: pack.source.slice(0, 1_024),
    ...signed.kind === "unsigned" ? {} : { signedBy: signed.publicKey },
    allowUnsigned: allowUnsigned && signed.kind !== "trusted",
    installedAt: clock.now(),
    installedBy: pack.by.slice(0, 256),
  };
}

/** Meters it with all it wants: what it wants beyond that it cannot have. */
async function checkModule(
  manifest: PluginManifest,
  { bytes, config, log }: Pick<CheckDeps, "config" | "log"> & {
    bytes: Uint8Array<ArrayBuffer>;
  },
): Promise<void> {
  const can = capabilitiesOf(manifest, grantAll(manifest, {}));
  using runner = new Runner({
    id: manifest.id,
    bytes: () => Promise.resolve(bytes),
    imports: importListOf(manifest, can),
    functions: userFunctions(can),
    exports: exportsOf(manifest),
    wasi: false,
    config: {},
    limits: limitsOf(config, manifest.id),
    ask: () => Promise.resolve({}),
    onLog: () => {},
    onTrap: () => {},
    log,
  });
  await runner.check();
}
