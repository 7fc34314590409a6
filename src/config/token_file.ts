/**
 * The command line's own token: a file the gateway writes into its state
 * directory for the owner's shell, and the only one who may read it.
 *
 * Never: a token is read from a file that others can read; it may be known.
 *
 * @module
 */
import { Secret } from "../core/secret.ts";
import { writeWhole } from "./files.ts";
import { readPrivateText } from "./private_file.ts";

/** The file's name inside the state directory. */
export const TOKEN_FILE = "cli-token";

const BYTES_MAX = 4096;

/**
 * Reads `<dir>/cli-token`; `undefined` when there is none.
 *
 * @throws {AppError} `forbidden` when group or others may read it, or it is
 * not a plain file
 */
export function readTokenFile(dir: string): Promise<Secret | undefined> {
  return readTokenAt(
    `${dir}/${TOKEN_FILE}`,
    "Remove it and restart the gateway; it writes a new one",
  );
}

/** The same for a file of any name, which the caller names. */
export async function readTokenAt(
  path: string,
  hintNoFile = "Put the token alone into a file of its own",
): Promise<Secret | undefined> {
  const text = await readPrivateText(path, {
    what: "the token",
    bytesMax: BYTES_MAX,
    hint: `Revoke it ("carapace token revoke"), then run: chmod 600 ${path}`,
    hintNoFile,
  });
  const token = text?.trim() ?? "";
  return token === "" ? undefined : new Secret(token, `file ${path}`);
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
