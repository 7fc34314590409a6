/**
 * Reads one file under a folder the owner named, and no other file: links are
 * refused, and what was checked is what is read.
 *
 * Never: a path that leaves its root; a second name of a file (a hard link); a
 * device or pipe.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** A file's text, as much of it as was asked for. */
export interface FileText {
  text: string;
  /** Bytes of the whole file. */
  bytes: number;
  isCut: boolean;
  mtime: number;
}

function refuse(path: string, why: string): AppError {
  return new AppError("forbidden", `Cannot read "${path}": ${why}`);
}

/** The parts of a relative path. @throws `bad_input` for one that could leave */
function partsOf(path: string): string[] {
  const parts = path.split(/[\\/]/);
  const isPlain = parts.every((part) =>
    part !== "" && part !== "." && part !== ".." && !part.includes("\0") &&
    !part.includes(":")
  );
  if (!isPlain) {
    throw new AppError(
      "bad_input",
      `Cannot read ${JSON.stringify(path)}: it is not a plain path in its root`,
    );
  }
  return parts;
}

async function lstat(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    const isMissing = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    if (isMissing) return undefined;
    throw error;
  }
}

/**
 * Reads `root/path` as UTF-8, at most so many bytes of it; `undefined` when
 * there is no such file.
 *
 * @throws {AppError} `forbidden` for a link, a folder or a device, `bad_input`
 * for a path that is not plain
 */
export async function readInside(
  root: string,
  path: string,
  options: { bytesMax: number },
): Promise<FileText | undefined> {
  const parts = partsOf(path);
  if (await lstat(root) === undefined) return undefined;
  const real = await Deno.realPath(root);
  let at = real.replace(/[\\/]+$/, "");
  let info: Deno.FileInfo | undefined;
  for (const [n, part] of parts.entries()) {
    at = `${at}/${part}`;
    info = await lstat(at);
    if (info === undefined) return undefined;
    if (info.isSymlink) throw refuse(path, "it is a link, or behind one");
    const isLast = n === parts.length - 1;
    if (isLast ? !info.isFile : !info.isDirectory) {
      throw refuse(path, isLast ? "it is no file" : "a part is no folder");
    }
  }
  if (info === undefined) return undefined;
  const resolved = await Deno.realPath(at);
  if (resolved.replaceAll("\\", "/") !== at.replaceAll("\\", "/")) {
    throw refuse(path, "it is somewhere else");
  }
  using file = await Deno.open(at, { read: true });
  const held = await file.stat();
  if (held.dev !== info.dev || held.ino !== info.ino || !held.isFile) {
    throw refuse(path, "it was replaced while it was checked");
  }
  if (held.nlink !== null && held.nlink !== 1) {
    throw refuse(path, "it has a second name (a hard link)");
  }
  return await readHead(file, held, options.bytesMax);
}

async function readHead(
  file: Deno.FsFile,
  info: Deno.FileInfo,
  bytesMax: number,
): Promise<FileText> {
  const buffer = new Uint8Array(bytesMax + 1);
  let length = 0;
  while (length < buffer.length) { // ends at the file's end or the limit
    const read = await file.read(buffer.subarray(length));
    if (read === null || read === 0) break;
    length += read;
  }
  const isCut = length > bytesMax;
  const head = buffer.subarray(0, Math.min(length, bytesMax));
  // A cut may fall inside a character; what it leaves of it goes.
  const text = new TextDecoder().decode(head, { stream: isCut });
  return {
    text,
    bytes: Math.max(info.size, length),
    isCut,
    mtime: info.mtime?.getTime() ?? 0,
  };
}
