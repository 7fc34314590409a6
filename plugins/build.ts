/**
 * `deno task plugins build` compiles every first-party plugin and writes each
 * module's hash into its manifest; `deno task plugins check` compiles them anew
 * and compares. The tests' guests are known by their hashes.
 */
import { applyEdits, modify, parse } from "jsonc-parser";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compile } from "./pdk/compile.ts";

const root = fileURLToPath(new URL(".", import.meta.url));
const shared = [join(root, "pdk", "assembly")];

/** A plugin's folder, its manifest's text and what it says of its module. */
interface Source {
  folder: string;
  text: string;
  file: string;
  sha256: string;
}

/** Every first-party plugin. */
export async function sources(): Promise<Source[]> {
  const all: Source[] = [];
  for await (const { name, isDirectory } of Deno.readDir(root)) {
    if (!isDirectory || name === "pdk") continue;
    const folder = join(root, name);
    const text = await Deno.readTextFile(join(folder, "plugin.jsonc"));
    const { wasm } = parse(text);
    all.push({ folder, text, ...wasm });
  }
  return all.sort((a, b) => a.folder < b.folder ? -1 : 1);
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function build(source: Source): Promise<void> {
  const bytes = await compile(source.folder, shared);
  await Deno.writeFile(join(source.folder, source.file), bytes);
  const sha256 = hashOf(bytes);
  const edits = modify(source.text, ["wasm", "sha256"], sha256, {
    formattingOptions: { insertSpaces: true, tabSize: 2 },
  });
  await Deno.writeTextFile(
    join(source.folder, "plugin.jsonc"),
    applyEdits(source.text, edits),
  );
  console.log(`${source.file} ${bytes.length} bytes, ${sha256}`);
}

/** What is wrong with a built plugin, or nothing. */
export async function check(source: Source): Promise<string | undefined> {
  const bytes = await compile(source.folder, shared);
  const built = await Deno.readFile(join(source.folder, source.file));
  if (hashOf(built) !== source.sha256) {
    return `${source.file} is not the file its manifest names`;
  }
  return hashOf(bytes) === source.sha256
    ? undefined
    : `${source.file} is not what its source compiles to`;
}

/** Guests of the tests: compiled where they are used, known by their hashes. */
const guestsFolder = join(root, "..", "tests", "plugins", "guests");
const guestsFile = join(guestsFolder, "hashes.json");

/** What each guest of the tests compiles to now. */
export async function guestHashes(): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  const names = await Array.fromAsync(Deno.readDir(guestsFolder));
  for (const { name, isDirectory } of names) {
    if (!isDirectory) continue;
    hashes[name] = hashOf(await compile(join(guestsFolder, name), shared));
  }
  return Object.fromEntries(Object.entries(hashes).sort());
}

/** What they compiled to when they were written. */
export async function knownGuests(): Promise<Record<string, string>> {
  return JSON.parse(await Deno.readTextFile(guestsFile));
}

async function doGuests(form: string): Promise<number> {
  const now = await guestHashes();
  if (form === "build") {
    await Deno.writeTextFile(guestsFile, `${JSON.stringify(now, null, 2)}\n`);
    return 0;
  }
  const known = await knownGuests();
  const other = Object.keys({ ...now, ...known }).filter((name) =>
    now[name] !== known[name]
  );
  for (const name of other) {
    console.error(`error: the guest ${name} is not what it was`);
  }
  return other.length;
}

async function main([form = "build"]: readonly string[]): Promise<number> {
  let failures = 0;
  for (const source of await sources()) {
    if (form === "build") await build(source);
    else {
      const why = await check(source);
      if (why !== undefined) {
        console.error(`error: ${why}; run: deno task plugins build`);
        failures++;
      }
    }
  }
  failures += await doGuests(form);
  return failures === 0 ? 0 : 1;
}

if (import.meta.main) void main(Deno.args).then((code) => Deno.exit(code));
