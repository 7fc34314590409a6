/**
 * What every form of `carapace plugin` begins with: what was asked, the
 * configuration, the plugin that was named.
 *
 * @module
 */
import { formatProblem } from "../../../config/problem.ts";
import { AppError } from "../../../core/errors.ts";
import { PluginId, type PluginManifest } from "../../../core/plugin.ts";
import type { EgressConfig } from "../../../egress/config.ts";
import type { PluginsConfig } from "../../../plugins/config.ts";
import {
  checkWasm,
  type Signed,
  verifyManifest,
} from "../../../plugins/manifest.ts";
import { checkManifest, readManifest } from "../../../plugins/package.ts";
import { usageError } from "../../args.ts";
import type { PluginLink } from "./link.ts";
import { type Fetched, fetchPlugin } from "./package.ts";
import { EXIT, type Io, type Roof } from "../../verb.ts";

/** What a form of the verb was asked. */
export interface PluginAsked {
  io: Io;
  roof: Roof;
  json: boolean;
  yes: boolean;
  allowUnsigned: boolean;
  sha256: string | undefined;
}

/** The slices of the configuration that plugins are handled by. */
interface Slices {
  plugins: PluginsConfig;
  egress: EgressConfig;
}

/** Those slices, as they are now. */
async function slices(roof: Roof): Promise<Slices> {
  const loaded = await roof.load();
  if (loaded.ok) return loaded.value as Slices;
  const [problem] = loaded.problems;
  throw new AppError(
    "bad_input",
    `Cannot read the configuration: ${
      problem === undefined ? "it is not valid" : formatProblem(problem)
    }`,
    { details: { exit: EXIT.badConfig } },
  );
}

/** The plugins' slice of the configuration, as it is now. */
export async function pluginsConfig(roof: Roof): Promise<PluginsConfig> {
  return (await slices(roof)).plugins;
}

/** A plugin that was read, and found to be what its manifest and signature say. */
export interface ReadPlugin extends Fetched {
  /** As its publisher wrote it. */
  raw: Record<string, unknown>;
  read: PluginManifest;
  signed: Signed;
}

/** Reads a plugin from where its caller says, and checks it. @throws {AppError} */
export async function readPlugin(
  { io, roof, sha256 }: PluginAsked,
  place: string,
): Promise<ReadPlugin> {
  const { plugins: { publishers }, egress } = await slices(roof);
  const { clock } = io;
  const fetched = await fetchPlugin(place, { clock, egress, sha256 });
  const { manifest: raw, bytes } = fetched;
  const { manifest: read, signed } = await verifyManifest(raw, {
    trusted: publishers,
  });
  checkManifest(read);
  await checkWasm(read, bytes);
  return { ...fetched, raw, read, signed };
}

/** The manifest of an installed plugin. @throws {AppError} `not_found` */
export async function manifestOf(
  link: PluginLink,
  id: string,
): Promise<PluginManifest> {
  const { manifest } = await link.call("plugins.manifest", { id: idOf(id) });
  return readManifest(manifest);
}

/** An id as it was typed. */
export function idOf(text: string): string {
  const parsed = PluginId.safeParse(text);
  if (parsed.success) return parsed.data;
  throw usageError(`"${text.slice(0, 64)}" is no plugin's id`);
}
