/**
 * The one way to a file: a path is parsed against the configured roots, every
 * part of it is looked at, and what was looked at is what is opened.
 *
 * The platform's own permission follows links out of a root, so each component
 * is checked with `lstat`, the whole with `realPath`, and the open handle with
 * `stat`: same device, same inode, one name.
 *
 * Never: a link is followed; a file with a second name (a hard link) is opened;
 * half a file is left where a whole one was.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";

/** A folder the owner named, or an agent's scratch folder. */
export interface Root {
  /** Absolute. */
  path: string;
  /** Whether its files are the owner's words. */
  trusted: boolean;
}

/** A parsed path: the root it is in, and the parts below. */
export interface Place {
  root: Root;
  parts: readonly string[];
  /** As it is shown and compared. */
  text: string;
}

/** A file's bytes with what was checked about it. */
export interface Read {
  bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of the whole file; more than were read when `isCut`. */
  size: number;
  isCut: boolean;
  info: Deno.FileInfo;
}

const isWindows = Deno.build.os === "windows";
const PARTS_MAX = 64;
const PART_CHARS_MAX = 255;

function toSlashes(path: string): string {
  return isWindows ? path.replaceAll("\\", "/") : path;
}

function plainRoot(path: string): string {
  const slashes = toSlashes(path);
  return slashes.length > 1 ? slashes.replace(/\/+$/, "") : slashes;
}

function refuse(text: string, why: string, hint?: string): AppError {
  return new AppError(
    "forbidden",
    `Cannot use ${JSON.stringify(text)}: ${why}`,
    hint === undefined ? {} : { hint },
  );
}

function missing(text: string): AppError {
  return new AppError("not_found", `There is no ${JSON.stringify(text)}`);
}

function isPlainPart(part: string): boolean {
  if (part === "" || part === "." || part === "..") return false;
  // deno-lint-ignore no-control-regex
  if (part.length > PART_CHARS_MAX || /[\x00-\x1f\x7f/]/.test(part)) {
    return false;
  }
  // Streams, devices and trimmed names are other names of files there.
  return !isWindows || !/[\\:*?"<>|]|[. ]$/.test(part) &&
      !/^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(part);
}

/** The roots of one agent, and every act on files below them. */
export class Roots {
  readonly list: readonly Root[];
  readonly #scratch: Root | undefined;

  /** @param scratch Where relative paths lead */
  constructor(roots: readonly Root[], scratch?: Root) {
    this.list = [...roots, ...scratch === undefined ? [] : [scratch]]
      .map((root) => ({ ...root, path: plainRoot(root.path) }));
    this.#scratch = scratch === undefined ? undefined : this.list.at(-1);
  }

  /**
   * The place a path means: absolute and below a root, or relative to scratch.
   *
   * @throws {AppError} `forbidden` outside the roots, `bad_input` for a path
   * with `..`, control characters or empty parts
   */
  parse(path: string): Place {
    const text = toSlashes(path);
    const isAbsolute = text.startsWith("/") ||
      isWindows && /^[A-Za-z]:\//.test(text);
    const root = isAbsolute
      ? this.list.filter(({ path: own }) =>
        text === own || text.startsWith(own === "/" ? "/" : `${own}/`)
      )
        .sort((a, b) => b.path.length - a.path.length)[0]
      : this.#scratch;
    if (root === undefined) {
      throw refuse(
        path.slice(0, 200),
        "it is in none of the folders this agent may use",
        `Use an absolute path below ${
          this.list.map((one) => one.path).join(" or ") || "tools.roots"
        }`,
      );
    }
    const rest = isAbsolute ? text.slice(root.path.length) : text;
    const parts = rest.replace(/^\/|\/$/g, "").split("/");
    const isRoot = parts.length === 1 && parts[0] === "";
    if (!isRoot && (parts.length > PARTS_MAX || !parts.every(isPlainPart))) {
      throw new AppError(
        "bad_input",
        `Cannot use ${
          JSON.stringify(path.slice(0, 200))
        }: it is not a plain path`,
        { hint: "Leave out . and .., empty parts and control characters" },
      );
    }
    const kept = isRoot ? [] : parts;
    return { root, parts: kept, text: [root.path, ...kept].join("/") };
  }

  /**
   * Reads a file, at most so many bytes of it.
   *
   * @throws {AppError} `not_found`, `forbidden` (a link, a folder, a device, a
   * second name, or replaced meanwhile)
   */
  async read(place: Place, options: { bytesMax: number }): Promise<Read> {
    const info = await this.#walk(place);
    if (info === undefined) throw missing(place.text);
    if (!info.isFile) {
      throw refuse(
        place.text,
        info.isDirectory ? "it is a folder" : "it is no file",
      );
    }
    using file = await this.#open(place, info);
    const buffer = new Uint8Array(
      Math.min(options.bytesMax, Math.max(info.size, 4096)) + 1,
    );
    let length = 0;
    while (length < buffer.length) { // ends at the file's end or the limit
      const read = await file.read(buffer.subarray(length));
      if (read === null || read === 0) break;
      length += read;
    }
    const isCut = length > options.bytesMax;
    const bytes = buffer.slice(0, isCut ? options.bytesMax : length);
    return { bytes, size: Math.max(info.size, length), isCut, info };
  }

  /** What is there, after the same checks; `undefined` when nothing is. */
  async stat(place: Place): Promise<Deno.FileInfo | undefined> {
    return await this.#walk(place);
  }

  /** A folder's entries, links among them named but not followed. */
  async entries(
    place: Place,
    options: { max: number },
  ): Promise<Deno.DirEntry[]> {
    const info = await this.#walk(place);
    if (info === undefined) throw missing(place.text);
    if (!info.isDirectory) throw refuse(place.text, "it is no folder");
    const entries: Deno.DirEntry[] = [];
    for await (const entry of Deno.readDir(this.#real(place))) {
      if (!isPlainPart(entry.name)) continue;
      entries.push(entry);
      if (entries.length >= options.max) break;
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The place of an entry of a folder. */
  below(place: Place, name: string): Place {
    return {
      root: place.root,
      parts: [...place.parts, name],
      text: `${place.text}/${name}`,
    };
  }

  /**
   * Writes a whole file beside the old one and puts it in its place. Missing
   * folders below the root are made.
   *
   * @throws {AppError} `forbidden` for a link, a folder, a second name
   */
  async write(place: Place, bytes: Uint8Array): Promise<void> {
    const before = await this.#writable(place);
    const folder: Place = { ...this.#parent(place) };
    const name = `.carapace-${crypto.randomUUID()}.tmp`;
    const temp = `${this.#real(folder)}/${name}`;
    const mode = before?.mode === null || before?.mode === undefined
      ? 0o600
      : before.mode & 0o777;
    let made: Deno.FileInfo;
    try {
      {
        using file = await Deno.open(temp, {
          write: true,
          createNew: true,
          mode,
        });
        for (let at = 0; at < bytes.length;) {
          at += await file.write(bytes.subarray(at));
        }
        await file.sync();
        made = await file.stat();
      }
      // Not through a folder that became a link meanwhile.
      await this.#walk(folder);
      await this.#same(temp, made, place);
      await Deno.rename(temp, this.#real(place));
    } catch (error) {
      await Deno.remove(temp).catch(() => {});
      throw error;
    }
    await this.#same(this.#real(place), made, place);
  }

  /** Removes a file that the same checks find. */
  async remove(place: Place): Promise<void> {
    const info = await this.#walk(place);
    if (info === undefined) return;
    if (!info.isFile) throw refuse(place.text, "it is no file");
    await Deno.remove(this.#real(place));
  }

  /** The path as the platform takes it: the checked parts, joined. */
  #real(place: Place): string {
    const root = place.root.path === "/" ? "" : place.root.path;
    return [root, ...place.parts].join("/") || "/";
  }

  #parent(place: Place): Place {
    const parts = place.parts.slice(0, -1);
    const text = [place.root.path, ...parts].join("/");
    return { root: place.root, parts, text };
  }

  /** Looks at every part; `undefined` when one is not there. */
  async #walk(place: Place): Promise<Deno.FileInfo | undefined> {
    const { root, parts } = place;
    let info: Deno.FileInfo | undefined;
    for (let n = 0; n <= parts.length; n++) {
      const at = this.#real({ ...place, parts: parts.slice(0, n) });
      try {
        info = await Deno.lstat(at);
      } catch (error) {
        const isMissing = error instanceof Deno.errors.NotFound ||
          error instanceof Deno.errors.NotADirectory;
        if (isMissing) return undefined;
        throw error;
      }
      if (info.isSymlink) {
        throw refuse(place.text, "it is a link, or behind one");
      }
      if (n < parts.length && !info.isDirectory) {
        throw refuse(place.text, "a part of it is no folder");
      }
    }
    const real = plainRoot(await Deno.realPath(this.#real(place)));
    const want = plainRoot(this.#real(place));
    // Case does not matter on some systems; a link would change more than that.
    if (real !== want && real.toLowerCase() !== want.toLowerCase()) {
      throw refuse(
        place.text,
        `it is really at another place than ${root.path}`,
        "A root that is a link itself is configured by its real path",
      );
    }
    return info;
  }

  async #open(place: Place, info: Deno.FileInfo): Promise<Deno.FsFile> {
    const file = await Deno.open(this.#real(place), { read: true });
    try {
      const held = await file.stat();
      if (!held.isFile || held.dev !== info.dev || held.ino !== info.ino) {
        throw refuse(place.text, "it was replaced while it was checked");
      }
      checkNames(place, held);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** What a write would replace, once the folders above it are there. */
  async #writable(place: Place): Promise<Deno.FileInfo | undefined> {
    if (place.parts.length === 0) throw refuse(place.text, "it is a folder");
    for (let n = 1; n < place.parts.length; n++) {
      const folder = { ...place, parts: place.parts.slice(0, n) };
      if (await this.#walk(folder) !== undefined) continue;
      await Deno.mkdir(this.#real(folder), { mode: 0o700 });
    }
    const parent = await this.#walk(this.#parent(place));
    if (parent === undefined) throw missing(this.#parent(place).text);
    if (!parent.isDirectory) {
      throw refuse(place.text, "a part of it is no folder");
    }
    const before = await this.#walk(place);
    if (before === undefined) return undefined;
    if (!before.isFile) {
      throw refuse(
        place.text,
        before.isDirectory ? "it is a folder" : "it is no file",
      );
    }
    checkNames(place, before);
    return before;
  }

  async #same(
    path: string,
    made: Deno.FileInfo,
    place: Place,
  ): Promise<void> {
    const now = await Deno.lstat(path);
    if (now.isSymlink || now.dev !== made.dev || now.ino !== made.ino) {
      throw refuse(place.text, "something else was put there meanwhile");
    }
    checkNames(place, now);
  }
}

function checkNames(place: Place, info: Deno.FileInfo): void {
  if (info.nlink !== null && info.nlink !== 1) {
    throw refuse(place.text, "it has a second name (a hard link)");
  }
}
