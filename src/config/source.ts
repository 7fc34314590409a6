/**
 * Finds the configuration and reads it with everything it includes, into one
 * tree.
 *
 * Never: a file outside the configuration's folder is included, whatever links
 * say; a file that others may write is believed.
 *
 * @module
 */
import { dirname, join, resolve, sep } from "node:path";
import { decodeUtf8, readBytes } from "../core/bounded.ts";
import { AppError, errorText } from "../core/errors.ts";
import { sha256Hex } from "../core/ids.ts";
import {
  type Document,
  overlay,
  parseDocument,
  problemAt,
  type Spot,
  type Tree,
} from "./document.ts";
import type { Env } from "./env.ts";
import type { Problem } from "./problem.ts";

/** The largest file that is read. */
export const FILE_BYTES_MAX = 1_048_576;

/** How deep includes may nest, and how many files they may name in all. */
export const INCLUDE_DEPTH_MAX = 10;
export const INCLUDE_FILES_MAX = 100;

/** The name of a configuration that has no file. */
export const FROM_ENV = "CARAPACE_CONFIG_JSON";

/** Where the configuration is, before anything is read. */
export type Origin =
  | { kind: "text"; name: string; text: string }
  | { kind: "file"; path: string; required: boolean };

/** Where the configuration is: a text, a named file, or the state directory's. */
export function originOf(env: Env, stateDir: string): Origin {
  const text = env.get("CARAPACE_CONFIG_JSON");
  if (text !== undefined) return { kind: "text", name: FROM_ENV, text };
  const path = env.get("CARAPACE_CONFIG_PATH");
  return path === undefined
    ? { kind: "file", path: join(stateDir, "carapace.jsonc"), required: false }
    : { kind: "file", path: path.trim(), required: true };
}

/** Everything that was read. */
export interface Gathered {
  /** The merged tree; absent when there is no file, or nothing usable in it. */
  tree?: Tree;
  problems: Problem[];
  /** The file's path, `CARAPACE_CONFIG_JSON`, or `defaults`. */
  source: string;
  /** Every file, the main one first. */
  files: string[];
  /** SHA-256 of what was read. */
  hash: string;
  /** The main document, and its real path when it is a file. */
  main?: Document;
  mainPath?: string;
}

/** Reads the configuration; `text` stands in for the main file's contents. */
export async function gather(
  origin: Origin,
  options: { text?: string } = {},
): Promise<Gathered> {
  if (origin.kind === "text") {
    const document = { name: origin.name, text: withoutMark(origin.text) };
    if (origin.text.length > FILE_BYTES_MAX) {
      return await failed(origin.name, tooLarge());
    }
    return await new Gathering(origin.name).run(document, undefined);
  }
  if (origin.path === "") {
    return await failed("CARAPACE_CONFIG_PATH", {
      message: "it names no file",
      hint: "give a path, or unset it",
    });
  }
  const path = resolve(origin.path);
  const read = await readConfigFile(path);
  if (read.kind === "absent" && !origin.required) {
    if (options.text === undefined) {
      return {
        problems: [],
        source: "defaults",
        files: [],
        hash: await hashOf([]),
      };
    }
    const document = { name: path, text: options.text };
    return await new Gathering(path).run(document, path);
  }
  if (read.kind === "absent") {
    return await failed(path, {
      message: "there is no such file",
      hint: origin.path.startsWith("~")
        ? "write the whole path: ~ is not expanded"
        : "CARAPACE_CONFIG_PATH names it",
    });
  }
  if (read.kind === "refused") return await failed(path, read);
  const document = { name: path, text: options.text ?? read.text };
  return await new Gathering(path).run(document, read.realPath);
}

async function failed(
  source: string,
  what: { message: string; hint?: string },
): Promise<Gathered> {
  const { message, hint } = what;
  const problem = { file: source, path: "", message };
  return {
    problems: [hint === undefined ? problem : { ...problem, hint }],
    source,
    files: [],
    hash: await hashOf([]),
  };
}

function tooLarge(): { message: string; hint: string } {
  return {
    message: `it is larger than ${FILE_BYTES_MAX} bytes`,
    hint: "split it with $include",
  };
}

async function hashOf(documents: readonly Document[]): Promise<string> {
  const [only, ...more] = documents;
  if (only === undefined) return await sha256Hex("");
  if (more.length === 0) return await sha256Hex(only.text);
  return await sha256Hex(
    JSON.stringify(documents.map(({ name, text }) => [name, text])),
  );
}

function withoutMark(text: string): string {
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}

/** One file, or why it cannot be used. */
export type FileRead =
  | { kind: "text"; text: string; realPath: string }
  | { kind: "absent" }
  | { kind: "refused"; message: string; hint?: string };

/** Reads one file with its limits; `inside` is the folder it must really be in. */
export async function readConfigFile(
  path: string,
  inside?: string,
): Promise<FileRead> {
  try {
    const realPath = await Deno.realPath(path);
    if (inside !== undefined && !realPath.startsWith(withSep(inside))) {
      return {
        kind: "refused",
        message: "it is outside the configuration's folder",
        hint: `move it into ${inside}`,
      };
    }
    // Asked before opening: a pipe would wait for its writer.
    const before = await Deno.stat(realPath);
    if (before.isDirectory) {
      return { kind: "refused", message: "it is a folder, not a file" };
    }
    if (!before.isFile) {
      return { kind: "refused", message: "it is not a regular file" };
    }
    using file = await Deno.open(realPath, { read: true });
    const { mode, size } = await file.stat();
    if (mode !== null && (mode & 0o022) !== 0) {
      return {
        kind: "refused",
        message: "others than its owner can write it",
        hint: `run "chmod 600 ${realPath}"`,
      };
    }
    if (size > FILE_BYTES_MAX) return { kind: "refused", ...tooLarge() };
    const bytes = await readBytes(file.readable, FILE_BYTES_MAX);
    return { kind: "text", text: withoutMark(decodeUtf8(bytes)), realPath };
  } catch (error) {
    return unreadable(error);
  }
}

function unreadable(error: unknown): FileRead {
  if (error instanceof Deno.errors.NotFound) return { kind: "absent" };
  if (error instanceof AppError && error.code === "too_large") {
    return { kind: "refused", ...tooLarge() };
  }
  if (error instanceof AppError) {
    return { kind: "refused", message: "it is not UTF-8 text" };
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return {
      kind: "refused",
      message: "this user may not read it",
      hint: "check its owner and mode",
    };
  }
  if (error instanceof Deno.errors.NotCapable) {
    return {
      kind: "refused",
      message: "the sandbox does not let it be read",
      hint: "restart with deno task start, which grants the folder",
    };
  }
  return { kind: "refused", message: `it cannot be read: ${errorText(error)}` };
}

function withSep(folder: string): string {
  return folder.endsWith(sep) ? folder : folder + sep;
}

/** What is known while one file is worked on. */
interface Inside {
  document: Document;
  /** The folder its includes are relative to; none for a text. */
  folder: string | undefined;
  /** Real paths from the main file to this one. */
  chain: readonly string[];
}

class Gathering {
  readonly #source: string;
  readonly #problems: Problem[] = [];
  readonly #documents: Document[] = [];
  #root = "";

  constructor(source: string) {
    this.#source = source;
  }

  async run(
    document: Document,
    realPath: string | undefined,
  ): Promise<Gathered> {
    if (realPath !== undefined) this.#root = dirname(realPath);
    const tree = await this.#read({
      document,
      folder: realPath === undefined ? undefined : this.#root,
      chain: realPath === undefined ? [] : [realPath],
    });
    return {
      ...(tree === undefined ? {} : { tree }),
      problems: this.#problems,
      source: this.#source,
      files: realPath === undefined ? [] : this.#documents.map((d) => d.name),
      hash: await hashOf(this.#documents),
      main: document,
      ...(realPath === undefined ? {} : { mainPath: realPath }),
    };
  }

  async #read(inside: Inside): Promise<Tree | undefined> {
    this.#documents.push(inside.document);
    const { tree, problems } = parseDocument(inside.document);
    this.#problems.push(...problems);
    if (tree === undefined) return undefined;
    if (tree.kind !== "object") {
      this.#problem(tree.at, "the outermost value must be an object");
      return undefined;
    }
    return await this.#expand(tree, inside);
  }

  #problem(at: Spot, message: string, hint?: string): void {
    const path = message.includes("$include") ? "$include" : "";
    const what = hint === undefined ? { message } : { message, hint };
    this.#problems.push(problemAt(at, { path, ...what }));
  }

  /** Replaces each `$include` below by what it names, laid under its object. */
  async #expand(tree: Tree, inside: Inside): Promise<Tree> {
    if (tree.kind === "scalar") return tree;
    if (tree.kind === "array") {
      const items: Tree[] = [];
      for (const item of tree.items) {
        items.push(await this.#expand(item, inside));
      }
      return { ...tree, items };
    }
    const own: Tree = { ...tree, entries: new Map() };
    for (const [name, { at, value }] of tree.entries) {
      if (name === "$include") continue;
      own.entries.set(name, { at, value: await this.#expand(value, inside) });
    }
    const include = tree.entries.get("$include");
    if (include === undefined) return own;
    let under: Tree = { ...tree, entries: new Map() };
    for (const { at, name } of this.#names(include.value)) {
      const included = await this.#include(name, at, inside);
      if (included !== undefined) under = overlay(under, included);
    }
    return overlay(under, own);
  }

  #names(value: Tree): { at: Spot; name: string }[] {
    const items = value.kind === "array" ? value.items : [value];
    return items.flatMap((item) => {
      if (item.kind === "scalar" && typeof item.value === "string") {
        return [{ at: item.at, name: item.value }];
      }
      this.#problem(item.at, "$include wants a file name or a list of them");
      return [];
    });
  }

  async #include(
    name: string,
    at: Spot,
    inside: Inside,
  ): Promise<Tree | undefined> {
    const quoted = JSON.stringify(name.slice(0, 200));
    const refuse = (why: string, hint?: string) => {
      this.#problem(at, `Cannot $include ${quoted}: ${why}`, hint);
      return undefined;
    };
    if (inside.folder === undefined) {
      return refuse("only a file can include, a variable's text cannot");
    }
    if (!/\.jsonc?$/.test(name) || name.includes("\0")) {
      return refuse("its name must end in .jsonc or .json");
    }
    if (inside.chain.length > INCLUDE_DEPTH_MAX) {
      return refuse(`includes nest deeper than ${INCLUDE_DEPTH_MAX}`);
    }
    if (this.#documents.length > INCLUDE_FILES_MAX) {
      return refuse(`more than ${INCLUDE_FILES_MAX} files are included`);
    }
    const path = resolve(inside.folder, name);
    const read = await readConfigFile(path, this.#root);
    if (read.kind === "absent") return refuse("there is no such file");
    if (read.kind === "refused") return refuse(read.message, read.hint);
    const { realPath } = read;
    if (inside.chain.includes(realPath)) {
      const circle = inside.chain.slice(inside.chain.indexOf(realPath));
      const short = (path: string) => path.slice(withSep(this.#root).length);
      return refuse(
        `it includes itself: ${[...circle, realPath].map(short).join(" → ")}`,
      );
    }
    return await this.#read({
      document: { name: path, text: read.text },
      folder: dirname(realPath),
      chain: [...inside.chain, realPath],
    });
  }
}
