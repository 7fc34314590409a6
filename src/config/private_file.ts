/**
 * Small files that hold something private: read only when nobody else can.
 *
 * Never: what others could have read is used as if they had not.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** What is read, and what to say when it cannot be. */
export interface PrivateFile {
  /** `the token`, for messages. */
  what: string;
  bytesMax: number;
  /** What to do about a file that others can read; its path is known. */
  hint: string;
  /** What to do about what is no plain, small file. */
  hintNoFile: string;
  /** Whether a link may stand for it, as certificate tools make them. */
  mayBeLink?: boolean;
}

/**
 * The text of a private file; `undefined` when there is none.
 *
 * @throws {AppError} `forbidden` when group or others may read or write it, or
 * it is not a plain, small file
 */
export async function readPrivateText(
  path: string,
  file: PrivateFile,
): Promise<string | undefined> {
  const { what, bytesMax, hint, hintNoFile } = file;
  const info = await findInfo(path, file);
  if (info === undefined) return undefined;
  if (!info.isFile || info.size > bytesMax) {
    throw new AppError(
      "forbidden",
      `Cannot use ${what} in "${path}": it is not a plain, small file`,
      { hint: hintNoFile },
    );
  }
  // `mode` is null where files have none (Windows).
  if (info.mode !== null && (info.mode & 0o077) !== 0) {
    throw new AppError(
      "forbidden",
      `Cannot use ${what} in "${path}": its mode is ${
        (info.mode & 0o777).toString(8).padStart(4, "0")
      }, so other users can reach it`,
      { hint },
    );
  }
  return await Deno.readTextFile(path);
}

async function findInfo(
  path: string,
  { mayBeLink = false }: PrivateFile,
): Promise<Deno.FileInfo | undefined> {
  try {
    return await (mayBeLink ? Deno.stat(path) : Deno.lstat(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new AppError("forbidden", `Cannot read "${path}"`, {
      cause: error,
      hint: "Set CARAPACE_TOKEN, or allow reading the state directory",
    });
  }
}
