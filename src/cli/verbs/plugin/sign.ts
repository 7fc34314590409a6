/**
 * `carapace plugin keygen`, `sign` and `verify`: a publisher's side of trust,
 * and a look at what somebody signed.
 *
 * Never: a private key is printed.
 *
 * @module
 */
import { resolve } from "node:path";
import { applyEdits, modify } from "jsonc-parser";
import { decodeUtf8 } from "../../../core/bounded.ts";
import { AppError } from "../../../core/errors.ts";
import { sha256Hex } from "../../../core/ids.ts";
import {
  makePublisherKeys,
  signManifest,
  verifyManifest,
} from "../../../plugins/manifest.ts";
import {
  checkManifest,
  exportKeys,
  importKeys,
  parseManifestText,
  trustText,
} from "../../../plugins/package.ts";
import { wantsOf } from "../../../plugins/capabilities.ts";
import { usageError } from "../../args.ts";
import { type PluginAsked, readPlugin } from "./asked.ts";
import { fetchFile, isAddress } from "./package.ts";
import { jsonLine, printable } from "../../printable.ts";
import { EXIT } from "../../verb.ts";

async function readText(path: string): Promise<string> {
  try {
    return decodeUtf8(await Deno.readFile(path));
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("not_found", `Cannot read "${path}"`, { cause: error });
  }
}

/** Makes a publisher's key pair and prints its public half. */
export async function keygen(
  { io, json }: PluginAsked,
  file: string,
): Promise<number> {
  const path = resolve(file);
  const exists = await Deno.stat(path).then(() => true, () => false);
  if (exists) {
    throw new AppError(
      "conflict",
      `Cannot write "${path}": it is there already`,
    );
  }
  const keys = await exportKeys(await makePublisherKeys());
  // A file alone may be what this process can write, not its folder.
  await Deno.writeTextFile(path, `${JSON.stringify(keys, null, 2)}\n`, {
    mode: 0o600,
    createNew: true,
  });
  const { publicKey } = keys;
  io.out(json ? jsonLine({ publicKey, path }) : `${publicKey}\n`);
  io.err(
    `The private key is in ${
      printable(path)
    }: keep it. Who trusts you writes\n` +
      `  "plugins": { "publishers": [{ "name": "YOUR NAME", "publicKey": "${publicKey}" }] }\n`,
  );
  return EXIT.ok;
}

/** Signs a manifest in place; its comments stay. */
export async function sign(
  { io, json }: PluginAsked,
  place: string,
  options: { key: string | undefined; publisher: string | undefined },
): Promise<number> {
  if (options.key === undefined) {
    throw usageError("Say which key signs: --key FILE");
  }
  const keys = await importKeys(await readText(resolve(options.key)));
  if (isAddress(place)) throw usageError("Only a file can be signed");
  const { bytes, path } = await fetchFile(place);
  const format = { formattingOptions: { insertSpaces: true, tabSize: 2 } };
  const set = (text: string, at: string[], value: unknown) =>
    applyEdits(text, modify(text, at, value, format));
  let text = await readText(path);
  text = set(text, ["wasm", "sha256"], await sha256Hex(bytes));
  if (options.publisher !== undefined) {
    text = set(text, ["publisher"], options.publisher);
  }
  const signed = await signManifest(parseManifestText(text), keys);
  text = set(text, ["signature"], signed["signature"]);
  const { manifest } = await verifyManifest(parseManifestText(text), {
    trusted: [],
  });
  checkManifest(manifest);
  await Deno.writeTextFile(path, text);
  const { id, publisher } = manifest;
  io.out(
    json
      ? jsonLine({ id, path, publisher, publicKey: keys.publicKey })
      : `Signed ${printable(path)} as "${printable(publisher)}"\n`,
  );
  return EXIT.ok;
}

/** Says who signed a plugin and what it wants. */
export async function verify(
  asked: PluginAsked,
  place: string,
): Promise<number> {
  const { io, json } = asked;
  const { read: manifest, signed } = await readPlugin(asked, place);
  const wants = wantsOf(manifest).map(({ words }) => words);
  const { id, version } = manifest;
  const trusted = signed.kind === "trusted";
  if (json) io.out(jsonLine({ id, version, trusted, signed, wants }));
  else {
    io.out(`${id} ${version}: ${printable(trustText(signed))}\n`);
    for (const words of wants) io.out(`  it wants to ${printable(words)}\n`);
  }
  return trusted ? EXIT.ok : EXIT.failed;
}
