/**
 * Where this program keeps what it knows.
 *
 * @module
 */
import { posix, win32 } from "node:path";
import { fileURLToPath } from "node:url";
import { AppError } from "../core/errors.ts";
import type { Env } from "./env.ts";

/** What the answer depends on beside the environment. */
export interface Place {
  /** The folder the program was started in. */
  cwd: string;
  platform: typeof Deno.build.os;
  /** The folder of this program's own source. */
  program: string;
}

/** The place this process runs in. */
export function systemPlace(): Place {
  return {
    cwd: Deno.cwd(),
    platform: Deno.build.os,
    program: fileURLToPath(new URL("../../", import.meta.url)),
  };
}

/**
 * The state directory: `CARAPACE_STATE_DIR`, else `.carapace` in a checkout of
 * this very program, else where the platform keeps state. It is not created.
 *
 * A folder that merely looks like a checkout does not count: its `.carapace`
 * could be someone else's configuration.
 */
export async function stateDir(env: Env, place: Place): Promise<string> {
  const { join, resolve } = place.platform === "windows" ? win32 : posix;
  const named = env.get("CARAPACE_STATE_DIR");
  if (named !== undefined) return resolve(place.cwd, named);
  if (await isCheckout(place)) return join(place.cwd, ".carapace");
  if (place.platform === "windows") {
    return join(need(env, "LOCALAPPDATA"), "carapace");
  }
  if (place.platform === "darwin") {
    const home = need(env, "HOME");
    return join(home, "Library", "Application Support", "carapace");
  }
  const xdg = env.get("XDG_STATE_HOME");
  // The XDG specification has relative paths ignored.
  return xdg?.startsWith("/")
    ? join(xdg, "carapace")
    : join(need(env, "HOME"), ".local", "state", "carapace");
}

function need(env: Env, name: string): string {
  const value = env.get(name);
  if (value !== undefined) return value;
  throw new AppError(
    "bad_input",
    `Cannot find the state directory: ${name} is not set`,
    { hint: "Set CARAPACE_STATE_DIR to a folder of your own" },
  );
}

async function isCheckout({ cwd, program }: Place): Promise<boolean> {
  const strip = (path: string) => path.replace(/[/\\]+$/, "");
  if (strip(cwd) !== strip(program)) return false;
  try {
    const text = await Deno.readTextFile(posix.join(cwd, "deno.json"));
    return JSON.parse(text).name === "carapace";
  } catch {
    return false; // no readable deno.json: not a checkout
  }
}
