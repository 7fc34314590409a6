/**
 * Writes that a crash cannot cut in half: temporary file, fsync, rename, fsync
 * of the folder, for the owner's eyes only.
 *
 * Never: a file is written in place, or born readable by others.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { decodeUtf8, readBytes } from "../core/bounded.ts";
import { AppError, ignore } from "../core/errors.ts";

const FILE_MODE = 0o600;

/** Replaces a file as a whole; its mode is 0600. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  const name = `.${basename(path)}.${crypto.randomUUID()}.tmp`;
  const temporary = join(folder, name);
  try {
    {
      const options = { write: true, createNew: true, mode: FILE_MODE };
      using file = await Deno.open(temporary, options);
      const bytes = new TextEncoder().encode(text);
      for (let n = 0; n < bytes.length;) {
        n += await file.write(bytes.subarray(n));
      }
      await file.sync();
    }
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(ignore("temporary file is gone"));
    throw error;
  }
  await syncFolder(folder);
}

/** Makes a rename in the folder last. Windows cannot open a folder. */
async function syncFolder(folder: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using handle = await Deno.open(folder, { read: true });
  await handle.sync();
}

/**
 * Runs alone among all processes that lock the same file. The lock is the
 * kernel's, so it is free when its holder dies.
 */
export async function alone<T>(
  lockPath: string,
  run: () => Promise<T>,
): Promise<T> {
  const options = { read: true, write: true, create: true, mode: FILE_MODE };
  using file = await Deno.open(lockPath, options);
  await file.lock(true);
  return await run();
}

/**
 * Reads a text file that a configuration line names.
 *
 * @throws {AppError} `too_large` past the limit, and what the system says
 */
export async function readText(
  path: string,
  bytesMax: number,
): Promise<string> {
  using file = await Deno.open(path, { read: true });
  const { isFile } = await file.stat();
  if (!isFile) throw new AppError("bad_input", "it is not a file");
  return decodeUtf8(await readBytes(file.readable, bytesMax));
}
