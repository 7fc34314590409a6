/**
 * What the launcher knows of the files it is to run or hand on: which they are,
 * by content, and that no link stands in their way.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { SeenFile } from "./core/command.ts";
import { AppError, ignore } from "./core/errors.ts";

/** A file is read whole up to this size. */
const READ_BYTES_MAX = 268_435_456;

/** What a file is called where its bytes are too many. */
function statOf(info: Deno.FileInfo): string {
  const { dev, ino, size, mtime, ctime } = info;
  // Nobody but the kernel sets the last.
  const times = [mtime, ctime].map((time) => time?.getTime() ?? 0);
  return `stat:${[dev, ino, size, ...times].join("-")}`;
}

/**
 * A file behind whatever links its path has, and what is in it. It is read
 * every time: a file's times tell of a change only where they are fine enough.
 *
 * @throws {AppError} `forbidden` when it is no file
 */
export async function seeFile(path: string): Promise<SeenFile> {
  const real = await Deno.realPath(path);
  const isFile = async (info: Promise<Deno.FileInfo>) => {
    if ((await info).isFile) return await info;
    throw new AppError("forbidden", `"${path}" is no file`);
  };
  await isFile(Deno.stat(real)); // opening a pipe would wait for its writer
  using file = await Deno.open(real, { read: true });
  const info = await isFile(file.stat());
  if (info.size > READ_BYTES_MAX) return { path: real, digest: statOf(info) };
  const hash = createHash("sha256");
  const buffer = new Uint8Array(262_144);
  while (true) { // ends with the file
    const count = await file.read(buffer);
    if (count === null) break;
    hash.update(buffer.subarray(0, count));
  }
  return { path: real, digest: `sha256:${hash.digest("hex")}` };
}

/** Those of the paths that are files a program of this user could read. */
export async function seeFiles(paths: readonly string[]): Promise<SeenFile[]> {
  const seen = new Map<string, SeenFile>();
  for (const path of [...new Set(paths)].sort()) {
    try {
      const file = await seeFile(path);
      seen.set(file.path, file);
    } catch (error) {
      // A word is no file; one that is there later makes another plan.
      ignore("an argument names no file")(error);
    }
  }
  return [...seen.values()];
}

/** Looks at a folder and every part below it: links are refused. */
export async function checkPath(below: string, path: string): Promise<void> {
  if (await Deno.realPath(below) !== below.replace(/(?<=.)\/+$/, "")) {
    throw new AppError("forbidden", `"${below}" is behind a link`);
  }
  let at = below.replace(/\/+$/, "");
  for (const part of path.slice(at.length).split("/").filter(Boolean)) {
    at = `${at}/${part}`;
    let info: Deno.FileInfo;
    try {
      info = await Deno.lstat(at);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return; // to be made, then
      throw error;
    }
    if (info.isSymlink) throw new AppError("forbidden", `"${at}" is a link`);
    if (info.isFile && info.nlink !== null && info.nlink > 1) {
      throw new AppError("forbidden", `"${at}" has a second name`);
    }
  }
}
