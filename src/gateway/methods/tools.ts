/**
 * The handlers of the methods for what tools keep.
 *
 * @module
 */
import type { z } from "zod";
import { AppError } from "../../core/errors.ts";
import type { MemoryItem, TOOL_METHODS } from "../../core/methods/tool.ts";
import type { Caller } from "../keys.ts";

type Methods = typeof TOOL_METHODS;
type Params<M extends keyof Methods> = z.output<Methods[M]["input"]>;
type Payload<M extends keyof Methods> = z.output<Methods[M]["output"]>;

/** Memories and MCP servers, as the gateway is given them. */
export interface ToolsDesk {
  memory: {
    spaces(): Promise<string[]>;
    list(
      space: string,
      query: { limit: number; offset?: number; tag?: string },
    ): Promise<{ memories: MemoryItem[]; count: number }>;
    search(
      space: string,
      query: { text: string; limit: number },
    ): Promise<MemoryItem[]>;
    find(space: string, id: string): Promise<MemoryItem | undefined>;
    forget(space: string, id: string): Promise<void>;
    forgetAll(space: string): Promise<number>;
  };
  /** Absent when no server is configured. */
  mcp?: {
    list(): Payload<"mcp.list">["servers"];
    accept(server: string, tool: string): Promise<void>;
    startLogin(
      server: string,
      options: { issuer?: string | undefined },
    ): Promise<Payload<"mcp.login.start">>;
    finishLogin(
      server: string,
      answer: Omit<Params<"mcp.login.finish">, "server">,
    ): Promise<{
      issuer?: string | undefined;
      scopes: string[];
      expiresAt?: number | undefined;
      renews: boolean;
    }>;
    logout(server: string): Promise<{ revoked: boolean }>;
  } | undefined;
}

const SPACE = "main";

function off(): never {
  throw new AppError("unavailable", "Tools are off", {
    hint: "The gateway runs in safe mode; see: carapace status",
  });
}

/** What is the owner's is the owner's, whatever scopes another holds. */
function checkOwner(caller: Caller): void {
  if (caller.isOwner) return;
  throw new AppError("forbidden", "Memories and servers are the owner's");
}

/** The handlers of the tools' methods. */
export function toolHandlers(desk: ToolsDesk | undefined): {
  readonly [M in keyof Methods]: (
    params: Params<M>,
    call: { caller: Caller; signal: AbortSignal },
  ) => Promise<Payload<M>>;
} {
  const open = (caller: Caller) => {
    checkOwner(caller);
    return desk ?? off();
  };
  const mcpOf = (caller: Caller) => {
    const { mcp } = open(caller);
    if (mcp !== undefined) return mcp;
    throw new AppError("not_found", "No MCP server is configured");
  };
  return {
    "memory.spaces": async (_, { caller }) => ({
      spaces: await open(caller).memory.spaces(),
    }),
    "memory.list": async ({ space = SPACE, limit = 20, offset, tag }, call) =>
      await open(call.caller).memory.list(space, {
        limit,
        ...(offset === undefined ? {} : { offset }),
        ...(tag === undefined ? {} : { tag }),
      }),
    "memory.search": async ({ space = SPACE, query, limit = 20 }, call) => ({
      memories: await open(call.caller).memory.search(space, {
        text: query,
        limit,
      }),
    }),
    "memory.get": async ({ space = SPACE, id }, { caller }) => {
      const found = await open(caller).memory.find(space, id);
      if (found !== undefined) return found;
      throw new AppError("not_found", `There is no memory "${id}"`, {
        hint: "The list shows what there is, and in which space",
      });
    },
    "memory.delete": async ({ space = SPACE, id, all }, { caller }) => {
      const { memory } = open(caller);
      if ((id === undefined) === (all === undefined)) {
        throw new AppError("bad_input", "Say which one, or all: not both");
      }
      if (id === undefined) {
        return { ok: true, deleted: await memory.forgetAll(space) };
      }
      await memory.forget(space, id);
      return { ok: true, deleted: 1 };
    },
    "mcp.list": async (_, { caller }) =>
      await Promise.resolve({ servers: open(caller).mcp?.list() ?? [] }),
    "mcp.accept": async ({ server, tool }, { caller }) => {
      await mcpOf(caller).accept(server, tool);
      return { ok: true };
    },
    "mcp.login.start": async ({ server, issuer }, { caller }) =>
      await mcpOf(caller).startLogin(server, { issuer }),
    "mcp.login.finish": async ({ server, ...answer }, { caller }) => {
      const { issuer = "", scopes, expiresAt, renews } = await mcpOf(caller)
        .finishLogin(server, answer);
      return {
        ok: true,
        issuer,
        scopes,
        ...(expiresAt === undefined ? {} : { expiresAt }),
        renews,
      };
    },
    "mcp.logout": async ({ server }, { caller }) => ({
      ok: true,
      ...await mcpOf(caller).logout(server),
    }),
  };
}
