/**
 * `file_read`, `file_write`, `file_list`, `file_search`, below the configured
 * roots and the agent's scratch folder.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { joinAll, type Label } from "../../core/label.ts";
import { type Tool, tool, type ToolContext } from "../../core/tool.ts";
import { FILE_LIMITS, type FileDesk } from "./desk.ts";
import { documentText, kindOf } from "./document_text.ts";
import type { Place, Roots } from "./root_path.ts";

const Path = z.string().min(1).max(4096);
const PAGE_CHARS = 20_000;
const PAGE_CHARS_MAX = 100_000;
const LINE_CHARS_MAX = 240;

const READS = {
  scope: "tools",
  effect: "read_private",
  result: { integrity: "inherit", secrecy: "private" },
} as const;

/** A folder and what is in it, breadth first, within limits. */
async function* walk(
  roots: Roots,
  start: Place,
  options: { depth: number; signal: AbortSignal },
): AsyncGenerator<{ place: Place; entry: Deno.DirEntry }> {
  let level: Place[] = [start];
  for (let depth = 1; depth <= options.depth && level.length > 0; depth++) {
    const next: Place[] = [];
    for (const folder of level) {
      options.signal.throwIfAborted();
      const max = FILE_LIMITS.searchFilesMax;
      for (const entry of await roots.entries(folder, { max })) {
        const place = roots.below(folder, entry.name);
        yield { place, entry };
        const isHidden = /^(\.|node_modules$)/.test(entry.name);
        if (entry.isDirectory && !isHidden) next.push(place);
      }
    }
    level = next;
  }
}

function listLine({ text }: Place, entry: Deno.DirEntry): string {
  const mark = entry.isSymlink
    ? " (a link, not followed)"
    : entry.isDirectory
    ? "/"
    : "";
  return `${text}${mark}`;
}

async function list(
  desk: FileDesk,
  wanted: { path: string | undefined; depth: number },
  context: ToolContext,
): Promise<{ text: string; label: Label }> {
  const roots = desk.roots(context.agentId);
  if (wanted.path === undefined) {
    const lines = roots.list.map(({ path, trusted }) =>
      trusted ? path : `${path} (not the owner's words)`
    );
    return { text: lines.join("\n"), label: joinAll([]) };
  }
  const start = roots.parse(wanted.path);
  const { depth } = wanted;
  const lines: string[] = [];
  const labels: Label[] = [await desk.nameLabel(start)];
  let more = 0;
  for await (
    const { place, entry } of walk(roots, start, {
      depth,
      signal: context.signal,
    })
  ) {
    if (lines.length >= FILE_LIMITS.listMax) {
      more = 1;
      break;
    }
    lines.push(listLine(place, entry));
    labels.push(await desk.nameLabel(place));
  }
  if (more > 0) lines.push(`(only the first ${FILE_LIMITS.listMax})`);
  return { text: lines.join("\n") || "Empty", label: joinAll(labels) };
}

/** Where a text occurs: by line, without regard to case. */
function* matchesIn(text: string, needle: string): Generator<string> {
  const lines = text.split("\n");
  for (const [n, line] of lines.entries()) {
    const at = line.toLowerCase().indexOf(needle);
    if (at < 0) continue;
    const from = Math.max(0, at - LINE_CHARS_MAX / 2);
    yield `${n + 1}: ${line.slice(from, from + LINE_CHARS_MAX).trim()}`;
  }
}

async function search(
  desk: FileDesk,
  wanted: { text: string; path: string | undefined },
  context: ToolContext,
): Promise<{ text: string; label: Label }> {
  const roots = desk.roots(context.agentId);
  const needle = wanted.text.toLowerCase();
  const starts = wanted.path === undefined
    ? roots.list.filter((root) => root.trusted).map(({ path }) =>
      roots.parse(path)
    )
    : [roots.parse(wanted.path)];
  const found: string[] = [];
  const labels: Label[] = [];
  let files = 0;
  for (const start of starts) {
    const steps = walk(roots, start, {
      depth: FILE_LIMITS.depthMax,
      signal: context.signal,
    });
    for await (const { place, entry } of steps) {
      if (!entry.isFile || ++files > FILE_LIMITS.searchFilesMax) continue;
      if (found.length >= FILE_LIMITS.matchesMax) break;
      const lines = await linesOf(desk, roots, { place, needle });
      if (lines === undefined) continue;
      labels.push(lines.label);
      for (const line of lines.lines) {
        if (found.length < FILE_LIMITS.matchesMax) found.push(line);
      }
    }
  }
  const cut = files > FILE_LIMITS.searchFilesMax ||
    found.length >= FILE_LIMITS.matchesMax;
  const note = cut ? ["(there may be more: search a narrower path)"] : [];
  return {
    text: [...found, ...note].join("\n") || "Nothing found",
    label: joinAll(labels),
  };
}

/** A file's matches; unreadable ones are passed over. */
async function linesOf(
  desk: FileDesk,
  roots: Roots,
  { place, needle }: { place: Place; needle: string },
): Promise<{ lines: string[]; label: Label } | undefined> {
  const name = place.parts.at(-1) ?? "";
  const byName = name.toLowerCase().includes(needle) ? [place.text] : [];
  let read: Awaited<ReturnType<Roots["read"]>>;
  try {
    read = await roots.read(place, { bytesMax: FILE_LIMITS.searchBytesMax });
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
  const isText = !read.isCut && kindOf(name, read.bytes) === "text";
  const inText = isText
    ? [...matchesIn(new TextDecoder().decode(read.bytes), needle)]
      .slice(0, 5).map((line) => `${place.text}:${line}`)
    : [];
  const lines = [...byName, ...inText];
  if (lines.length === 0) return undefined;
  return {
    lines,
    label: isText
      ? await desk.labelOf(place, read.bytes)
      : await desk.nameLabel(place),
  };
}

/** The file tools over one desk. */
export function fileTools(desk: FileDesk): Tool[] {
  return [
    tool({
      ...READS,
      name: "file_read",
      about: "Read a file: text, PDF, Word, Excel, PowerPoint, OpenDocument",
      input: z.strictObject({
        path: Path,
        from: z.int().min(0).optional().describe("First character"),
        count: z.int().min(1).max(PAGE_CHARS_MAX).optional(),
      }),
      destinations: [{ path: "path", kind: "path" }],
      run: async ({ path, from = 0, count = PAGE_CHARS }, context) => {
        const roots = desk.roots(context.agentId);
        const place = roots.parse(path);
        const { bytes, label } = await desk.read(place, roots);
        const name = place.parts.at(-1) ?? "";
        const text = await documentText(name, bytes, context.signal);
        const page = text.slice(from, from + count);
        const end = from + page.length;
        const note = end < text.length
          ? `\n[characters ${from} to ${end} of ${text.length}; go on with from: ${end}]`
          : "";
        return { text: page + note, label };
      },
    }),
    tool({
      name: "file_write",
      about: "Write a text file, or undo the last write to it",
      input: z.strictObject({
        path: Path.describe("A relative path is in the scratch folder"),
        content: z.string().max(FILE_LIMITS.writeBytesMax).optional(),
        append: z.boolean().optional(),
        undo: z.boolean().optional(),
      }),
      scope: "write",
      effect: "write",
      result: { integrity: "inherit", secrecy: "inherit" },
      destinations: [{ path: "path", kind: "path" }],
      run: async ({ path, content, append, undo }, context) => {
        const roots = desk.roots(context.agentId);
        const place = roots.parse(path);
        if (undo === true) {
          return `${place.text}: ${await desk.undo(place, roots)}`;
        }
        if (content === undefined) {
          throw new AppError("bad_input", "There is nothing to write", {
            hint: "Give content, or undo",
          });
        }
        const { bytes, isNew } = await desk.write(place, roots, {
          bytes: new TextEncoder().encode(content),
          label: context.label,
          ...(append === undefined ? {} : { append }),
        });
        return `${place.text}: ${isNew ? "made" : "written"}, ${bytes} bytes`;
      },
    }),
    tool({
      ...READS,
      name: "file_list",
      about: "List a folder; without a path, the folders there are",
      input: z.strictObject({
        path: Path.optional(),
        depth: z.int().min(1).max(FILE_LIMITS.depthMax).optional(),
      }),
      destinations: [{ path: "path", kind: "path" }],
      run: ({ path, depth = 1 }, context) =>
        list(desk, { path, depth }, context),
    }),
    tool({
      ...READS,
      name: "file_search",
      about: "Find files by name and lines of text in them",
      input: z.strictObject({
        text: z.string().min(2).max(256),
        path: Path.optional(),
      }),
      destinations: [{ path: "path", kind: "path" }],
      run: ({ text, path }, context) => search(desk, { text, path }, context),
    }),
  ];
}
