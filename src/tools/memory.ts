/**
 * `memory_read`, `memory_write`, `memory_list`, `memory_search`: what the agent
 * keeps between conversations.
 *
 * Never: one principal's memory is read or changed in another's turn.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { joinAll } from "../core/label.ts";
import { type Tool, tool, type ToolContext } from "../core/tool.ts";
import { type Memory, MEMORY_CHARS_MAX, memorySpace } from "../store/memory.ts";
import { MEMORY_LIMITS, type MemoryBook, recalled } from "./memory_book.ts";

const Id = z.string().min(1).max(64);
const READ = {
  scope: "chat",
  effect: "read_private",
  result: { integrity: "inherit", secrecy: "private" },
  destinations: [],
} as const;

function spaceOf({ agentId, authority }: ToolContext): string {
  return memorySpace(agentId, authority);
}

/** In a clean conversation, what would make it unclean is only counted. */
function clean(
  context: ToolContext,
  all: boolean | undefined,
): ((memory: Memory) => boolean) | undefined {
  if (all === true || context.label.integrity === "untrusted") return undefined;
  return (memory) => memory.label.integrity !== "untrusted";
}

function line(memory: Memory): string {
  const marks = [
    ...memory.tags.map((tag) => `#${tag}`),
    ...(memory.pinned ? ["pinned"] : []),
    ...(memory.label.integrity === "untrusted" ? ["from untrusted text"] : []),
  ];
  const day = new Date(memory.updatedAt).toISOString().slice(0, 10);
  const about = marks.length === 0 ? "" : ` (${marks.join(", ")})`;
  return `${memory.id} ${day}${about}: ${memory.text}`;
}

function brief(memory: Memory): string {
  const text = memory.text.replaceAll(/\s+/g, " ");
  return line({
    ...memory,
    text: text.length > 200 ? `${text.slice(0, 200)}…` : text,
  });
}

function shown(memories: readonly Memory[], hidden: number, of = brief) {
  const more = hidden > 0
    ? [`(${hidden} more made from untrusted text; set all to see them)`]
    : [];
  return {
    text: [...memories.map(of), ...more].join("\n") || "Nothing is remembered",
    label: joinAll(memories.map(recalled)),
  };
}

/** The memory tools over one book. */
export function memoryTools(book: MemoryBook): Tool[] {
  const all = z.boolean().optional().describe(
    "Also those made from untrusted text",
  );
  return [
    tool({
      ...READ,
      name: "memory_read",
      about: "Read one memory in full",
      input: z.strictObject({ id: Id }),
      run: async ({ id }, context) => {
        const memory = await book.find(spaceOf(context), id);
        if (memory === undefined) {
          throw new AppError("not_found", `There is no memory "${id}"`, {
            hint: "memory_list shows what there is",
          });
        }
        return { text: line(memory), label: recalled(memory) };
      },
    }),
    tool({
      name: "memory_write",
      about: "Remember something across conversations; with id, replace it",
      input: z.strictObject({
        text: z.string().max(MEMORY_CHARS_MAX).describe(
          "Empty with an id: forget it",
        ),
        tags: z.array(z.string().min(1).max(64)).max(16).optional(),
        pin: z.boolean().optional().describe("Show it in every conversation"),
        id: Id.optional(),
      }),
      scope: "chat",
      effect: "write",
      result: { integrity: "inherit", secrecy: "inherit" },
      destinations: [],
      run: async ({ text, tags = [], pin = false, id }, context) => {
        const space = spaceOf(context);
        if (text.trim() === "") {
          if (id === undefined) {
            throw new AppError("bad_input", "There is nothing to remember");
          }
          await book.forget(space, id);
          return `Forgot ${id}`;
        }
        const memory = await book.write(space, {
          text,
          tags,
          pinned: pin,
          label: context.label,
          principal: context.authority.principal,
          ...(id === undefined ? {} : { id }),
        });
        return `Remembered as ${memory.id}`;
      },
    }),
    tool({
      ...READ,
      name: "memory_list",
      about: "List memories, newest first",
      input: z.strictObject({
        tag: z.string().max(64).optional(),
        limit: z.int().min(1).max(MEMORY_LIMITS.resultsMax).optional(),
        offset: z.int().min(0).optional(),
        all,
      }),
      run: async ({ limit = 20, offset = 0, tag, all }, context) => {
        const isWanted = clean(context, all);
        const query = {
          limit,
          offset,
          ...(tag === undefined ? {} : { tag }),
        };
        const space = spaceOf(context);
        const { memories, count } = await book.list(space, {
          ...query,
          ...(isWanted === undefined ? {} : { isWanted }),
        });
        const total = isWanted === undefined
          ? count
          : (await book.list(space, query)).count;
        return shown(memories, total - count);
      },
    }),
    tool({
      ...READ,
      name: "memory_search",
      about: "Find memories by their words",
      input: z.strictObject({
        query: z.string().min(1).max(512),
        limit: z.int().min(1).max(MEMORY_LIMITS.resultsMax).optional(),
        all,
      }),
      run: async ({ query: text, limit = 8, all }, context) => {
        const isWanted = clean(context, all);
        const space = spaceOf(context);
        const memories = await book.search(space, {
          text,
          limit,
          ...(isWanted === undefined ? {} : { isWanted }),
        });
        const hidden = isWanted === undefined ? 0 : (await book.search(space, {
          text,
          limit: MEMORY_LIMITS.resultsMax,
          isWanted: (memory) => !isWanted(memory),
        })).length;
        return shown(memories, hidden, line);
      },
    }),
  ];
}
