/**
 * Writes the configuration file: single lines of it, which leaves its comments
 * and order alone, or the whole.
 *
 * Never: a configuration is written that would not load, over a version that
 * nobody looked at, or with a reference replaced by its value.
 *
 * @module
 */
import { applyEdits, modify } from "jsonc-parser";
import { dirname, join, resolve } from "node:path";
import type { z } from "zod";
import { AppError } from "../core/errors.ts";
import { find, type Tree } from "./document.ts";
import { alone, writeWhole } from "./files.ts";
import { judge, type Loaded, type LoadOptions } from "./load.ts";
import { dotted, type Problem } from "./problem.ts";
import { shapeAt } from "./shape.ts";
import { shownTree } from "./shown.ts";
import {
  FILE_BYTES_MAX,
  gather,
  type Gathered,
  originOf,
  readConfigFile,
} from "./source.ts";

/** One change: a value for a field, or `undefined` to remove its line. */
export interface Edit {
  path: readonly string[];
  value: unknown;
}

/** What every write of the file may say beside what is written. */
export interface WriteOptions<T> extends LoadOptions {
  /** The hash the caller saw; the edit is refused if it is another now. */
  baseHash?: string;
  /** Told what is about to be written; what it throws keeps it from happening. */
  onWrite?(write: Writing<T>): Promise<void>;
}

export interface EditOptions<T = unknown> extends WriteOptions<T> {
  edits: readonly Edit[];
}

/** A write that was judged and is about to happen. */
export interface Writing<T> {
  path: string;
  /** The main file as it is, if there is one, and what was read of it. */
  before: Gathered;
  text: string;
  loaded: Extract<Loaded<T>, { ok: true }>;
}

/** What a change did to its field, as written; secrets are not shown. */
export interface Change {
  path: string;
  before: unknown;
  after: unknown;
}

/** The configuration after the edit, or why it was not written. */
export type Edited<T> =
  | {
    ok: true;
    /** The file that was written. */
    file: string;
    changes: readonly Change[];
    loaded: Extract<Loaded<T>, { ok: true }>;
  }
  | { ok: false; problems: readonly Problem[]; source: string };

/**
 * Applies the edits to the main configuration file, which is created if need
 * be. The result is loaded before it is written.
 *
 * @throws {AppError} `conflict` when the file is not what `baseHash` says, or
 * changes meanwhile; `bad_input` when there is no file to write or no such place
 */
export async function editConfig<T>(
  schema: z.ZodType<T>,
  options: EditOptions<T>,
): Promise<Edited<T>> {
  const { edits } = options;
  return await write(schema, options, {
    paths: edits.map(({ path }) => path),
    textOf: ({ main, tree }) => edited(main?.text ?? "{}\n", edits, tree),
    mustRead: true,
  });
}

/**
 * Replaces the whole main configuration file by a text, which is loaded first.
 *
 * @throws {AppError} as {@linkcode editConfig}
 */
export async function replaceConfig<T>(
  schema: z.ZodType<T>,
  options: WriteOptions<T> & { text: string },
): Promise<Edited<T>> {
  const { text } = options;
  if (text.length > FILE_BYTES_MAX) throw tooLarge();
  return await write(schema, options, {
    paths: [],
    textOf: () => text,
    mustRead: false,
  });
}

async function write<T>(
  schema: z.ZodType<T>,
  options: WriteOptions<T>,
  how: {
    paths: readonly (readonly string[])[];
    textOf(before: Gathered): string;
    /** Whether what is there has to be readable. */
    mustRead: boolean;
  },
): Promise<Edited<T>> {
  const origin = originOf(options.env, options.stateDir);
  if (origin.kind === "text") {
    throw new AppError(
      "bad_input",
      `Cannot write the configuration: it comes from ${origin.name}`,
      { hint: `Change the variable, or unset it and use a file` },
    );
  }
  await Deno.mkdir(options.stateDir, { recursive: true, mode: 0o700 });
  const lockPath = join(options.stateDir, "config.lock");
  return await alone(lockPath, async () => {
    const before = await gather(origin);
    if (options.baseHash !== undefined && options.baseHash !== before.hash) {
      throw changed();
    }
    const { main, tree } = before;
    if (how.mustRead && before.source !== "defaults" && (!main || !tree)) {
      const { problems, source } = before;
      return { ok: false, problems, source };
    }
    const text = how.textOf(before);
    const after = await gather(origin, { text });
    const loaded = await judge(schema, after, options);
    if (!loaded.ok) return loaded;
    const path = before.mainPath ?? resolve(origin.path);
    const now = await readConfigFile(path);
    if ((now.kind === "text" ? now.text : undefined) !== main?.text) {
      throw changed();
    }
    await options.onWrite?.({ path, before, text, loaded });
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeWhole(path, text);
    const trees = { schema, before: tree, after: after.tree };
    const paths = how.paths.length > 0 ? how.paths : topPaths(trees);
    const changes = paths.map((path) => changeOf(path, trees));
    return {
      ok: true,
      file: loaded.source,
      changes: how.paths.length > 0 ? changes : changes.filter(isChange),
      loaded,
    };
  });
}

/** The outermost keys before and after: what a whole new text may change. */
function topPaths(
  trees: { before: Tree | undefined; after: Tree | undefined },
): string[][] {
  const names = [trees.before, trees.after].flatMap((tree) =>
    tree?.kind === "object" ? [...tree.entries.keys()] : []
  );
  return [...new Set(names)].map((name) => [name]);
}

function isChange({ before, after }: Change): boolean {
  return JSON.stringify(before) !== JSON.stringify(after);
}

function tooLarge(): AppError {
  return new AppError(
    "too_large",
    `Cannot write the configuration: it would be larger than ${FILE_BYTES_MAX} bytes`,
  );
}

function changed(): AppError {
  return new AppError(
    "conflict",
    "Cannot write the configuration: it changed since it was read",
    { hint: "Read it again and repeat the change" },
  );
}

function edited(
  original: string,
  edits: readonly Edit[],
  tree: Tree | undefined,
): string {
  const formattingOptions = {
    insertSpaces: true,
    tabSize: 2,
    eol: original.includes("\r\n") ? "\r\n" : "\n",
  };
  let text = original;
  for (const { path, value } of edits) {
    const place = tree === undefined ? [...path] : toJsonPath(tree, path);
    try {
      const options = { formattingOptions };
      text = applyEdits(text, modify(text, place, value, options));
    } catch (cause) {
      // The library's own errors are about places that cannot be.
      throw noPlace(path, cause);
    }
  }
  if (text.length > FILE_BYTES_MAX) throw tooLarge();
  return text;
}

function noPlace(path: readonly string[], cause?: unknown): AppError {
  return new AppError(
    "bad_input",
    `Cannot set "${dotted(path)}": there is no such place in the configuration`,
    { cause },
  );
}

/** The path with numbers where the file has a list. @throws `bad_input` */
function toJsonPath(
  tree: Tree,
  path: readonly string[],
): (string | number)[] {
  if (path.length === 0) throw noPlace(path);
  return path.map((segment, n) => {
    const { tree: parent, complete } = find(tree, path.slice(0, n));
    if (!complete || parent.kind === "object") return segment;
    const index = Number(segment);
    if (
      parent.kind === "scalar" || !/^\d{1,6}$/.test(segment) ||
      index > parent.items.length
    ) throw noPlace(path);
    return index;
  });
}

function changeOf(
  path: readonly string[],
  trees: {
    schema: z.core.$ZodType;
    before: Tree | undefined;
    after: Tree | undefined;
  },
): Change {
  const { schema, before, after } = trees;
  const written = (tree: Tree | undefined) => {
    const found = tree && find(tree, path);
    return found?.complete
      ? shownTree(found.tree, shapeAt(schema, path))
      : undefined;
  };
  return {
    path: dotted(path),
    before: written(before),
    after: written(after),
  };
}
