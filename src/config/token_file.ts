/**
 * The command line's own token: a file the gateway writes into its state
 * directory for the owner's shell, and the only one who may read it.
 *
 * Never: a token is read from a file that others can read; it may be known.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import { Secret } from "../core/secret.ts";
import { writeWhole } from "./files.ts";

/** The file's name inside the state directory. */
export const TOKEN_FILE = "cli-token";

const BYTES_MAX = 4096;

/**
 * Reads `<dir>/cli-token`; `undefined` when there is none.
 *
 * @throws {AppError} `forbidden` when group or others may read it, or it is
 * not a plain file
 */
export async function readTokenFile(dir: string): Promise<Secret | undefined> {
  const path = `${dir}/${TOKEN_FILE}`;
  const info = await findInfo(path);
  if (info === undefined) return undefined;
  if (!info.isFile || info.size > BYTES_MAX) {
    throw new AppError(
      "forbidden",
      `Cannot use the token in "${path}": it is not a plain, small file`,
      { hint: "Remove it and restart the gateway; it writes a new one" },
    );
  }
  // `mode` is null where files have none (Windows).
  if (info.mode !== null && (info.mode & 0o077) !== 0) {
    throw new AppError(
      "forbidden",
      `Cannot use the token in "${path}": its mode is ${
        (info.mode & 0o777).toString(8).padStart(4, "0")
      }, so other users can reach it`,
      {
        hint:
          `Revoke it ("carapace token revoke"), then run: chmod 600 ${path}`,
      },
    );
  }
  const text = (await Deno.readTextFile(path)).trim();
  return text === "" ? undefined : new Secret(text, `file ${path}`);
}

async function findInfo(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new AppError("forbidden", `Cannot read "${path}"`, {
      cause: error,
      hint: "Set CARAPACE_TOKEN, or allow reading the state directory",
    });
  }
}

/** Writes the command line's token, readable by its owner only. */
export async function writeTokenFile(
  dir: string,
  token: Secret,
): Promise<string> {
  const path = `${dir}/${TOKEN_FILE}`;
  await writeWhole(path, `${token.reveal()}\n`);
  return path;
}
