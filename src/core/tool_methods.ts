/**
 * The contracts of the WebSocket methods for what tools keep: memories, and the
 * MCP servers' tools that wait to be accepted.
 *
 * @module
 */
import { z } from "zod";
import { Label } from "./label.ts";

const Space = z.string().min(1).max(400);
const MemoryId = z.string().min(1).max(64);

/** A memory as the wire shows it. */
export const MemoryItem = z.object({
  id: z.string(),
  space: z.string(),
  text: z.string(),
  tags: z.array(z.string()),
  pinned: z.boolean(),
  /** Whose words it was made from. */
  label: Label,
  createdAt: z.int(),
  updatedAt: z.int(),
});
export type MemoryItem = z.infer<typeof MemoryItem>;

/** An MCP server and its tools as an owner sees them. */
export const McpServerItem = z.object({
  server: z.string(),
  state: z.enum(["connecting", "connected", "closed"]),
  why: z.string().optional(),
  tools: z.array(z.object({
    tool: z.string(),
    state: z.enum(["ready", "new", "changed", "refused", "not_listed"]),
    about: z.string(),
  })),
});

export const TOOL_METHODS = {
  "memory.spaces": {
    scope: "admin",
    about: "Whose memories there are: each agent's, and each peer's with it",
    input: z.strictObject({}),
    output: z.object({ spaces: z.array(z.string()) }),
  },
  "memory.list": {
    scope: "admin",
    about: "A space's memories, newest first",
    input: z.strictObject({
      space: Space.optional(),
      tag: z.string().max(64).optional(),
      limit: z.int().min(1).max(50).optional(),
      offset: z.int().min(0).optional(),
    }),
    output: z.object({ count: z.int(), memories: z.array(MemoryItem) }),
  },
  "memory.search": {
    scope: "admin",
    about: "A space's memories that fit some words, best first",
    input: z.strictObject({
      space: Space.optional(),
      query: z.string().min(1).max(512),
      limit: z.int().min(1).max(50).optional(),
    }),
    output: z.object({ memories: z.array(MemoryItem) }),
  },
  "memory.get": {
    scope: "admin",
    about: "One memory",
    input: z.strictObject({ space: Space.optional(), id: MemoryId }),
    output: MemoryItem,
  },
  "memory.delete": {
    scope: "admin",
    about: "Forget one memory, or a whole space",
    input: z.strictObject({
      space: Space.optional(),
      id: MemoryId.optional(),
      all: z.literal(true).optional(),
    }),
    output: z.object({ ok: z.literal(true), deleted: z.int() }),
  },
  "mcp.list": {
    scope: "admin",
    about: "The MCP servers, and the tools of each with how they stand",
    input: z.strictObject({}),
    output: z.object({ servers: z.array(McpServerItem) }),
  },
  "mcp.accept": {
    scope: "admin",
    about: "Accept an MCP server's tool as it is now",
    input: z.strictObject({
      server: z.string().min(1).max(64),
      tool: z.string().min(1).max(128),
    }),
    output: z.object({ ok: z.literal(true) }),
  },
} as const;
