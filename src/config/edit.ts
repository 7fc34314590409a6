/**
 * Changes single lines of the configuration file and leaves its comments and
 * order alone.
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
import { isSecret, shapeAt } from "./shape.ts";
import { FILE_BYTES_MAX, gather, originOf, readConfigFile } from "./source.ts";

/** One change: a value for a field, or `undefined` to remove its line. */
export interface Edit {
  path: readonly string[];
  value: unknown;
}

export interface EditOptions extends LoadOptions {
  edits: readonly Edit[];
  /** The hash the caller saw; the edit is refused if it is another now. */
  baseHash?: string;
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
  options: EditOptions,
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
    if (before.source !== "defaults" && (!main || !tree)) {
      const { problems, source } = before;
      return { ok: false, problems, source };
    }
    const text = edited(main?.text ?? "{}\n", options.edits, tree);
    const after = await gather(origin, { text });
    const loaded = await judge(schema, after, options);
    if (!loaded.ok) return loaded;
    const path = before.mainPath ?? resolve(origin.path);
    const now = await readConfigFile(path);
    if ((now.kind === "text" ? now.text : undefined) !== main?.text) {
      throw changed();
    }
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeWhole(path, text);
    const changes = options.edits.map((edit) =>
      changeOf(edit, { schema, before: tree, after: after.tree })
    );
    return { ok: true, file: loaded.source, changes, loaded };
  });
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
  if (text.length > FILE_BYTES_MAX) {
    throw new AppError(
      "too_large",
      `Cannot write the configuration: it would be larger than ${FILE_BYTES_MAX} bytes`,
    );
  }
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
  { path }: Edit,
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
      ? plain(found.tree, shapeAt(schema, path))
      : undefined;
  };
  return {
    path: dotted(path),
    before: written(before),
    after: written(after),
  };
}

/** A tree as the value it stands for; references stay, secrets are hidden. */
function plain(tree: Tree, shape: readonly z.core.$ZodType[]): unknown {
  if (tree.kind === "scalar") {
    const { value } = tree;
    const isHidden = isSecret(shape) && !/^\$\{[^{}]*\}$/.test(String(value));
    return isHidden ? "[secret]" : value;
  }
  const below = (segment: PropertyKey) =>
    shape.flatMap((schema) => shapeAt(schema, [segment]));
  if (tree.kind === "array") {
    return tree.items.map((item, n) => plain(item, below(n)));
  }
  return Object.fromEntries(
    [...tree.entries].map((
      [name, { value }],
    ) => [name, plain(value, below(name))]),
  );
}
