/**
 * `deno.lock`: the part of `tests/deno.lock` that the program itself reaches.
 * The runtime downloads all that a lock file names, so who only starts the
 * gateway would otherwise get every package the tests are made with.
 *
 * `deno task lock` writes it; `--check` only compares.
 *
 * @module
 */
import { ROOTS } from "./roots.ts";

interface Lock {
  version: string;
  specifiers: Record<string, string>;
  npm: Record<string, { dependencies?: string[] }>;
  workspace: unknown;
}

const here = (path: string) => new URL(`../${path}`, import.meta.url);

interface Info {
  modules: { npmPackage?: string }[];
}

/** The packages that the program's modules import, as `name@version…`. */
async function imported(root: string): Promise<string[]> {
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--lock", "tests/deno.lock", root],
    cwd: here(""),
  }).output();
  if (!success) throw new SyntaxError(new TextDecoder().decode(stderr));
  const { modules }: Info = JSON.parse(new TextDecoder().decode(stdout));
  return modules.flatMap(({ npmPackage }) => npmPackage ?? []);
}

/** The part of a lock that these packages need. */
export function partOf(lock: Lock, packages: readonly string[]): Lock {
  const byName = Map.groupBy(
    Object.keys(lock.npm),
    (key) => key.slice(0, key.indexOf("@", 1)),
  );
  // A lock names a dependency without its version where there is only one.
  const toKey = (brief: string): string => {
    if (brief in lock.npm) return brief;
    const [key, ...others] = byName.get(brief) ?? [];
    if (key === undefined || others.length > 0) {
      throw new TypeError(
        `the lock names "${brief}", which is not one package`,
      );
    }
    return key;
  };
  const needed = new Set<string>();
  const queue = [...packages];
  for (let brief = queue.pop(); brief !== undefined; brief = queue.pop()) {
    const key = toKey(brief);
    if (needed.has(key)) continue;
    needed.add(key);
    queue.push(...lock.npm[key]?.dependencies ?? []);
  }
  const specifiers = Object.entries(lock.specifiers).filter((
    [specifier, version],
  ) => {
    const name = specifier.slice("npm:".length, specifier.lastIndexOf("@"));
    return needed.has(`${name}@${version}`);
  });
  const npm = Object.entries(lock.npm).filter(([key]) => needed.has(key));
  return {
    version: lock.version,
    specifiers: Object.fromEntries(specifiers),
    npm: Object.fromEntries(npm),
    workspace: lock.workspace,
  };
}

/** The text of `deno.lock` as it should be. */
export async function programLock(): Promise<string> {
  const lock: Lock = JSON.parse(
    await Deno.readTextFile(here("tests/deno.lock")),
  );
  const packages = await Promise.all(ROOTS.map(imported));
  return `${JSON.stringify(partOf(lock, packages.flat()), undefined, 2)}\n`;
}

async function main(args: readonly string[]): Promise<number> {
  const file = here("deno.lock");
  const wanted = await programLock();
  if (!args.includes("--check")) {
    await Deno.writeTextFile(file, wanted);
    return 0;
  }
  if (await Deno.readTextFile(file) === wanted) return 0;
  console.error(
    "error: deno.lock is not the program's part of tests/deno.lock\nhint:  deno task lock",
  );
  return 1;
}

if (import.meta.main) void main(Deno.args).then(Deno.exit);
