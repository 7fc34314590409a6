/**
 * The rows of the APIs that existing clients speak.
 *
 * @module
 */
import { later } from "../../core/later.ts";
import type { Route } from "../routes.ts";

// Each dialect is loaded when somebody first speaks it.
const embeddings = later(() => import("./embeddings.ts"));
const invoke = later(() => import("./invoke.ts"));
const mcp = later(() => import("./mcp.ts"));
const messages = later(() => import("./messages/messages.ts"));
const responses = later(() => import("./responses/responses.ts"));

/** Part of `ROUTES`. */
export const API_ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/embeddings",
    scope: "chat",
    about: "Sent on to a vendor that has them",
    handle: async (call, on) => (await embeddings()).createEmbeddings(call, on),
  },
  {
    method: "POST",
    path: "/tools/invoke",
    scope: "tools",
    about: "One tool by name, decided as an agent's call is",
    handle: async (call, on) => (await invoke()).toolsInvoke(call, on),
  },
  {
    method: "POST",
    path: "/mcp",
    scope: "tools",
    about: "The same tools, and sessions to read, for clients that speak MCP",
    streams: true,
    handle: async (call, on) => (await mcp()).mcp(call, on),
  },
  {
    method: "POST",
    path: "/v1/responses",
    scope: "chat",
    about:
      "An agent's turn or a model's answer, in the Responses API's dialect",
    streams: true,
    handle: async (call, on) => (await responses()).createResponse(call, on),
  },
  {
    method: "GET",
    path: "/v1/responses/:id",
    scope: "chat",
    about: "An answer of the caller's own that was stored",
    handle: async (call, on) => (await responses()).getResponse(call, on),
  },
  {
    method: "DELETE",
    path: "/v1/responses/:id",
    scope: "chat",
    about: "Forget it; its conversation is not touched",
    handle: async (call, on) => (await responses()).deleteResponse(call, on),
  },
  {
    method: "POST",
    path: "/v1/messages",
    scope: "chat",
    about: "An agent's turn or a model's answer, in the Messages API's dialect",
    streams: true,
    handle: async (call, on) => (await messages()).createMessage(call, on),
  },
  {
    method: "POST",
    path: "/v1/messages/count_tokens",
    scope: "chat",
    about: "An estimate of a request's size",
    handle: async (call, on) => (await messages()).countTokens(call, on),
  },
];
