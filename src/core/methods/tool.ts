/**
 * The contracts of the WebSocket methods for what tools keep: memories, and the
 * MCP servers' tools that wait to be accepted.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";
import { Label } from "../label.ts";

const Space = z.string().min(1).max(400);
const ServerName = z.string().min(1).max(64);
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
  state: z.enum(["connecting", "connected", "closed", "needs_login"]),
  why: z.string().optional(),
  /** Of a server that is logged in to: where, for what, until when. */
  login: z.object({
    issuer: z.string().optional(),
    scopes: z.array(z.string()),
    expiresAt: z.int().optional(),
    /** Whether it goes on by itself when it expires. */
    renews: z.boolean(),
  }).optional(),
  tools: z.array(z.object({
    tool: z.string(),
    state: z.enum(["ready", "new", "changed", "refused", "not_listed"]),
    about: z.string(),
  })),
});

export const TOOL_METHODS = contracts({
  "memory.spaces": {
    scope: "admin",
    about: "Whose memories there are: each agent's, and each peer's with it",
    input: () => z.strictObject({}),
    output: () => z.object({ spaces: z.array(z.string()) }),
  },
  "memory.list": {
    scope: "admin",
    about: "A space's memories, newest first",
    input: () =>
      z.strictObject({
        space: Space.optional(),
        tag: z.string().max(64).optional(),
        limit: z.int().min(1).max(50).optional(),
        offset: z.int().min(0).optional(),
      }),
    output: () => z.object({ count: z.int(), memories: z.array(MemoryItem) }),
  },
  "memory.search": {
    scope: "admin",
    about: "A space's memories that fit some words, best first",
    input: () =>
      z.strictObject({
        space: Space.optional(),
        query: z.string().min(1).max(512),
        limit: z.int().min(1).max(50).optional(),
      }),
    output: () => z.object({ memories: z.array(MemoryItem) }),
  },
  "memory.get": {
    scope: "admin",
    about: "One memory",
    input: () => z.strictObject({ space: Space.optional(), id: MemoryId }),
    output: () => MemoryItem,
  },
  "memory.delete": {
    scope: "admin",
    about: "Forget one memory, or a whole space",
    input: () =>
      z.strictObject({
        space: Space.optional(),
        id: MemoryId.optional(),
        all: z.literal(true).optional(),
      }),
    output: () => z.object({ ok: z.literal(true), deleted: z.int() }),
  },
  "mcp.list": {
    scope: "admin",
    about: "The MCP servers, and the tools of each with how they stand",
    input: () => z.strictObject({}),
    output: () => z.object({ servers: z.array(McpServerItem) }),
  },
  "mcp.accept": {
    scope: "admin",
    about: "Accept an MCP server's tool as it is now",
    input: () =>
      z.strictObject({
        server: ServerName,
        tool: z.string().min(1).max(128),
      }),
    output: () => z.object({ ok: z.literal(true) }),
  },
  "mcp.login.start": {
    scope: "admin",
    about:
      "Begin a login at an MCP server: where the owner's browser is to be sent",
    input: () =>
      z.strictObject({
        server: ServerName,
        /** The authorization server, where it is another than the one before. */
        issuer: z.string().min(1).max(2_048).optional(),
      }),
    output: () =>
      z.object({
        url: z.string(),
        redirectUri: z.string(),
        issuer: z.string(),
        scopes: z.array(z.string()),
        expiresAt: z.int(),
      }),
  },
  "mcp.login.finish": {
    scope: "admin",
    about:
      "Finish a login with what the browser came back with: its whole address, or its parts",
    input: () =>
      z.strictObject({
        server: ServerName,
        url: z.string().min(1).max(16_384).optional(),
        state: z.string().min(1).max(256).optional(),
        code: z.string().min(1).max(8_192).optional(),
        iss: z.string().min(1).max(2_048).optional(),
      }),
    output: () =>
      z.object({
        ok: z.literal(true),
        issuer: z.string(),
        scopes: z.array(z.string()),
        expiresAt: z.int().optional(),
        renews: z.boolean(),
      }),
  },
  "mcp.logout": {
    scope: "admin",
    about: "Forget a login at an MCP server, and revoke it there if it can be",
    input: () => z.strictObject({ server: ServerName }),
    output: () => z.object({ ok: z.literal(true), revoked: z.boolean() }),
  },
});
