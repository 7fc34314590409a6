/**
 * `carapace plugin new`: a folder that builds and passes its test.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { AppError } from "../../../core/errors.ts";
import { PluginId } from "../../../core/plugin.ts";
import { usageError } from "../../args.ts";
import { jsonLine, printable } from "../../printable.ts";
import { EXIT, type Io } from "../../verb.ts";

const KINDS = ["tool", "webhook", "hook", "channel"];

/** Files every plugin has, and those of its kind: where from, where to. */
const SHARED: readonly (readonly [from: string, to: string])[] = [
  ["pdk/assembly/carapace.ts", "assembly/carapace.ts"],
  ["pdk/assembly/json.ts", "assembly/json.ts"],
  ["pdk/compile.ts", "compile.ts"],
  ["pdk/template/build.txt", "build.ts"],
  ["pdk/template/deno.txt", "deno.json"],
  ["pdk/template/gitignore.txt", ".gitignore"],
  ["pdk/template/README.txt", "README.md"],
];
const OF_KIND: readonly (readonly [from: string, to: string])[] = [
  ["index.txt", "assembly/index.ts"],
  ["plugin.txt", "plugin.jsonc"],
  ["test.txt", "plugin_test.ts"],
];

const templates = fileURLToPath(
  new URL("../../../../plugins/", import.meta.url),
);

/** Writes a plugin's folder. */
export async function newPlugin(
  io: Io,
  options: {
    name: string;
    kind: string;
    dir: string | undefined;
    json: boolean;
  },
): Promise<number> {
  const { name, kind, dir, json } = options;
  if (!PluginId.safeParse(name).success) {
    throw usageError(
      `"${name.slice(0, 64)}" cannot be a plugin's id`,
      "2 to 40 of a-z, 0-9 and -, beginning with a letter",
    );
  }
  if (!KINDS.includes(kind)) {
    throw usageError(
      `There is no kind "${kind.slice(0, 40)}"`,
      `The kinds are ${KINDS.join(", ")}`,
    );
  }
  const folder = resolve(dir ?? ".", name);
  if (await Deno.stat(folder).then(() => true, () => false)) {
    throw new AppError(
      "conflict",
      `Cannot write "${folder}": it is there already`,
    );
  }
  await Deno.mkdir(join(folder, "assembly"), { recursive: true });
  const files = [
    ...SHARED,
    ...OF_KIND.map(([from, to]) =>
      [`pdk/template/${kind}/${from}`, to] as const
    ),
  ];
  for (const [from, to] of files) {
    const text = await Deno.readTextFile(join(templates, from));
    const own = text.replaceAll("__ID__", name)
      .replaceAll("__NAME__", name.replaceAll("-", "_"));
    await Deno.writeTextFile(join(folder, to), own);
  }
  io.out(
    json ? jsonLine({ id: name, kind, folder }) : `${printable(folder)}\n`,
  );
  io.err(
    `A ${kind} plugin. In that folder:\n` +
      `  deno task build    compiles it and writes the hash into plugin.jsonc\n` +
      `  deno task test     builds it and runs its test\n` +
      `Then: carapace plugin install ${printable(folder)} --allow-unsigned\n`,
  );
  return EXIT.ok;
}
