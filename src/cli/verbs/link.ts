/**
 * `carapace link`: installs the `carapace` command for this user: a small
 * script that starts the launcher.
 *
 * Never: a file that this verb did not write is replaced, unless `--force`.
 *
 * @module
 */
import { delimiter, join, resolve, win32 } from "node:path";
import type { Env } from "../../config/env.ts";
import { findStateDir } from "../gateway.ts";
import { AppError } from "../../core/errors.ts";
import { positionalsMax, readArgs } from "../args.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { makePaint } from "../term.ts";
import { EXIT, type Io, type Verb } from "../verb.ts";

export const link: Verb = {
  name: "link",
  about: "Install the carapace command for this user",
  usage: ["carapace link [--dir DIRECTORY] [--force] [--remove] [--json]"],
  examples: [
    "deno task link",
    "deno task link --dir ~/bin",
    "deno task link --remove",
  ],
  needs: "files",
  run: runLink,
};

/** By this line a script is known as ours. */
const MARK = "carapace launcher, written by: deno task link";

/** What a script is made of. */
export interface Script {
  deno: string;
  /** The folder that holds `deno.json`. */
  root: string;
  stateDir: string;
}

/** What the launcher may do: it computes the sandbox of everything else. */
const FLAGS =
  "--no-prompt --frozen --cached-only --no-remote --allow-read --allow-env --allow-run";

function quoteSh(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A POSIX shell's script. */
export function shellScript({ deno, root, stateDir }: Script): string {
  return `#!/bin/sh
# ${MARK}
deno=${quoteSh(deno)}
[ -x "$deno" ] || deno=deno
[ -n "$CARAPACE_STATE_DIR" ] || CARAPACE_STATE_DIR=${quoteSh(stateDir)}
DENO_NO_UPDATE_CHECK=1
export CARAPACE_STATE_DIR DENO_NO_UPDATE_CHECK
exec "$deno" run ${FLAGS} --config ${quoteSh(join(root, "deno.json"))} ${
    quoteSh(join(root, "src", "launch.ts"))
  } "$@"
`;
}

/** Windows' command script. */
export function commandScript({ deno, root, stateDir }: Script): string {
  const config = win32.join(root, "deno.json");
  const launch = win32.join(root, "src", "launch.ts");
  return [
    "@echo off",
    `rem ${MARK}`,
    "setlocal",
    `if not defined CARAPACE_STATE_DIR set "CARAPACE_STATE_DIR=${stateDir}"`,
    'set "DENO_NO_UPDATE_CHECK=1"',
    `"${deno}" run ${FLAGS} --config "${config}" "${launch}" %*`,
    "",
  ].join("\r\n");
}

/** Paths become part of a script: what could end their quotes is refused. */
function checkPath(path: string, isWindows: boolean): void {
  const bad = isWindows
    // deno-lint-ignore no-control-regex
    ? /["%!^&|<>\x00-\x1f\x7f]/
    // deno-lint-ignore no-control-regex
    : /[\x00-\x1f\x7f]/;
  if (!bad.test(path)) return;
  throw new AppError(
    "bad_input",
    `Cannot write a script for ${
      JSON.stringify(path)
    }: the path holds a character that means something else in a script`,
    { hint: "Move the program, or set CARAPACE_STATE_DIR to another folder" },
  );
}

/**
 * Where the command may go, the best first: Deno's own folder, then the user's
 * own folders on `PATH`.
 */
export function candidateDirs(
  env: Env,
  options: { isWindows: boolean },
): { dir: string; isOnPath: boolean }[] {
  const home = env.get(options.isWindows ? "USERPROFILE" : "HOME");
  const onPath = (env.get("PATH") ?? "").split(delimiter)
    .filter((dir) => dir !== "").map((dir) => resolve(dir));
  const own = home === undefined ? undefined : join(home, ".deno", "bin");
  const inHome = home === undefined
    ? []
    : onPath.filter((dir) => dir.startsWith(join(home, "/")) && dir !== own);
  const elsewhere = onPath.filter((dir) =>
    dir !== own && !inHome.includes(dir)
  );
  const unique = new Set([
    ...(own !== undefined && onPath.includes(own) ? [own] : []),
    ...inHome,
    ...elsewhere,
  ]);
  const dirs = [...unique].map((dir) => ({ dir, isOnPath: true }));
  return own === undefined || onPath.includes(own)
    ? dirs
    : [...dirs, { dir: own, isOnPath: false }];
}

async function findText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Whether the file is not there, or is one of ours. */
async function isOurs(path: string): Promise<boolean> {
  const text = await findText(path);
  return text === undefined || text.slice(0, 400).includes(MARK);
}

function isRefused(error: unknown): boolean {
  return error instanceof Deno.errors.PermissionDenied ||
    error instanceof Deno.errors.NotFound ||
    error instanceof Error && "code" in error && error.code === "EROFS" ||
    error instanceof Deno.errors.NotADirectory;
}

/** Writes it beside, then renames: a half-written command is never run. */
async function install(path: string, text: string): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  await Deno.writeTextFile(temporary, text, { mode: 0o755, createNew: true });
  try {
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary);
    throw error;
  }
}

interface Place {
  path: string;
  isOnPath: boolean;
}

async function installSomewhere(
  places: readonly Place[],
  options: { text: string; isForced: boolean },
): Promise<Place> {
  let taken: string | undefined;
  for (const place of places) {
    if (!options.isForced && !await isOurs(place.path)) {
      taken ??= place.path;
      continue;
    }
    try {
      if (!place.isOnPath) {
        await Deno.mkdir(resolve(place.path, ".."), { recursive: true });
      }
      await install(place.path, options.text);
      return place;
    } catch (error) {
      if (!isRefused(error)) throw error;
    }
  }
  throw taken === undefined
    ? new AppError(
      "forbidden",
      "Cannot install the command: no folder of PATH can be written",
      { hint: "Name one: deno task link --dir ~/bin" },
    )
    : new AppError(
      "conflict",
      `Cannot install the command: "${taken}" is another program's`,
      { hint: "Use --force to replace it, or --dir for another folder" },
    );
}

async function removeOurs(places: readonly Place[]): Promise<string[]> {
  const removed: string[] = [];
  for (const { path } of places) {
    if (await findText(path).catch(() => undefined) === undefined) continue;
    if (!await isOurs(path)) continue;
    await Deno.remove(path);
    removed.push(path);
  }
  return removed;
}

async function runLink(io: Io): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    dir: { type: "string" },
    force: { type: "boolean" },
    remove: { type: "boolean" },
  });
  positionalsMax(positionals, 0);
  const isWindows = Deno.build.os === "windows";
  const name = isWindows ? "carapace.cmd" : "carapace";
  const known = candidateDirs(io.env, { isWindows });
  const named = values.dir === undefined ? undefined : resolve(values.dir);
  const dirs = named === undefined ? known : [{
    dir: named,
    isOnPath: known.some(({ dir, isOnPath }) => isOnPath && dir === named),
  }];
  const places = dirs.map(({ dir, isOnPath }) => ({
    path: join(dir, name),
    isOnPath,
  }));
  const paint = makePaint(io);
  if (values.remove === true) {
    const removed = await removeOurs(places);
    if (values.json === true) io.out(jsonLine({ removed }));
    else if (removed.length === 0) io.err("nothing to remove\n");
    else for (const path of removed) io.out(`removed ${printableLine(path)}\n`);
    return EXIT.ok;
  }
  const script: Script = {
    deno: Deno.execPath(),
    root: resolve(import.meta.dirname ?? ".", "..", ".."),
    stateDir: await findStateDir(io),
  };
  for (const path of Object.values(script)) checkPath(path, isWindows);
  const text = isWindows ? commandScript(script) : shellScript(script);
  const { path, isOnPath } = await installSomewhere(places, {
    text,
    isForced: values.force === true,
  });
  if (values.json === true) io.out(jsonLine({ path, isOnPath }));
  else {
    io.out(`installed ${printableLine(path)}\n`);
    if (!isOnPath) {
      io.out(
        `${paint("yellow", "note:")} ${
          printableLine(resolve(path, ".."))
        } is not in PATH yet; add it to use the command\n`,
      );
    }
  }
  return EXIT.ok;
}
