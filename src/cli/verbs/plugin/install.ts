/**
 * `carapace plugin install`, `update` and `remove`: what is there to be granted.
 *
 * Never: bytes go to the gateway that were not checked here first.
 *
 * @module
 */
import { AppError } from "../../../core/errors.ts";
import type { PluginSummary } from "../../../core/methods/plugin.ts";
import { assertTrusted, trustText } from "../../../plugins/package.ts";
import {
  idOf,
  type PluginAsked,
  pluginsConfig,
  type ReadPlugin,
  readPlugin,
} from "./asked.ts";
import { askGrant, edit, NO_OPTIONS, writeGrant } from "./grants.ts";
import { openLink, type PluginLink } from "./link.ts";
import { show } from "./look.ts";
import { jsonLine, printable } from "../../printable.ts";
import { EXIT } from "../../verb.ts";

/** A plugin that may be installed: read, checked, and trusted or allowed. */
async function readTrusted(
  asked: PluginAsked,
  place: string,
): Promise<ReadPlugin> {
  const plugin = await readPlugin(asked, place);
  const { io, allowUnsigned } = asked;
  const { read: { id, name, version, publisher }, signed } = plugin;
  assertTrusted(signed, { id, allowUnsigned });
  const title = `${name} ${version} by ${publisher}`;
  io.err(`${printable(title)}, ${printable(trustText(signed))}\n`);
  return plugin;
}

/** Hands it to whoever keeps the plugins. Nothing of it runs by that. */
async function put(
  { allowUnsigned }: PluginAsked,
  link: PluginLink,
  { raw: manifest, read, bytes, source }: ReadPlugin,
): Promise<PluginSummary> {
  const { sha256 } = read.wasm;
  await using _incoming = await link.put(sha256, bytes);
  const input = { manifest, sha256, source, allowUnsigned };
  return await link.call("plugins.install", input);
}

/** Installs a plugin and grants it what it wants, if the owner says so. */
export async function install(
  asked: PluginAsked,
  place: string,
): Promise<number> {
  const { io, roof } = asked;
  const plugin = await readTrusted(asked, place);
  const { read: manifest } = plugin;
  await using link = await openLink(io, roof);
  const answer = await askGrant(asked, manifest);
  if (answer === "no") {
    io.err("Nothing was installed\n");
    return EXIT.failed;
  }
  await put(asked, link, plugin);
  if (answer === "yes") {
    return await writeGrant(asked, { link, manifest, options: NO_OPTIONS });
  }
  io.err(
    `Installed, and nothing was granted: run "carapace plugin grant ${manifest.id} --yes"\n`,
  );
  return await show(asked, link, manifest.id);
}

/** Installs another version; what it wants beyond the last one waits. */
export async function update(
  asked: PluginAsked,
  place: string,
): Promise<number> {
  const { io, roof } = asked;
  const plugin = await readTrusted(asked, place);
  const { read: manifest } = plugin;
  const { id } = manifest;
  await using link = await openLink(io, roof);
  const { plugins } = await link.call("plugins.list", {});
  if (!plugins.some((one) => one.id === id)) {
    throw new AppError("not_found", `There is no plugin "${id}"`, {
      hint: `Install it: carapace plugin install ${place}`,
    });
  }
  const { state, why = "" } = await put(asked, link, plugin);
  if (state !== "held") return await show(asked, link, id);
  io.err(`${printable(why)}\n`);
  if (await askGrant(asked, manifest) === "yes") {
    return await writeGrant(asked, { link, manifest, options: NO_OPTIONS });
  }
  io.err(`It stops until you run "carapace plugin grant ${id}"\n`);
  return await show(asked, link, id);
}

/** Removes a plugin, what it kept, and its lines of the configuration. */
export async function remove(
  asked: PluginAsked,
  id: string,
): Promise<number> {
  const { io, roof, json } = asked;
  await using link = await openLink(io, roof);
  await link.call("plugins.remove", { id: idOf(id) });
  if ((await pluginsConfig(roof)).granted[id] !== undefined) {
    await edit(asked, { link, id, value: undefined });
  }
  io.out(json ? jsonLine({ ok: true, id }) : `removed ${id}\n`);
  return EXIT.ok;
}
