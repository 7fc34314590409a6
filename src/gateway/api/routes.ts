/**
 * The rows of the APIs that existing clients speak.
 *
 * @module
 */
import {
  CountAnswer,
  DeletedAnswer,
  EmbeddingsAnswer,
  EmbeddingsBody,
  MessageAnswer,
  ResponseAnswer,
  RpcBody,
} from "./answers.ts";
import { createEmbeddings } from "./embeddings.ts";
import { mcp } from "./mcp.ts";
import { countTokens, createMessage } from "./messages/messages.ts";
import { CountRequest, MessagesRequest } from "./messages/schema.ts";
import { ResponsesRequest } from "./responses/schema.ts";
import {
  createResponse,
  deleteResponse,
  getResponse,
} from "./responses/responses.ts";
import type { Route } from "../routes.ts";
import { InvokeAnswer, InvokeBody, toolsInvoke } from "./invoke.ts";

/** Part of `ROUTES`. */
export const API_ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/embeddings",
    scope: "chat",
    about: "Sent on to a vendor that has them",
    input: EmbeddingsBody,
    output: EmbeddingsAnswer,
    handle: createEmbeddings,
  },
  {
    method: "POST",
    path: "/tools/invoke",
    scope: "tools",
    about: "One tool by name, decided as an agent's call is",
    input: InvokeBody,
    output: InvokeAnswer,
    handle: toolsInvoke,
  },
  {
    method: "POST",
    path: "/mcp",
    scope: "tools",
    about: "The same tools, and sessions to read, for clients that speak MCP",
    input: RpcBody,
    streams: true,
    handle: mcp,
  },
  {
    method: "POST",
    path: "/v1/responses",
    scope: "chat",
    about:
      "An agent's turn or a model's answer, in the Responses API's dialect",
    input: ResponsesRequest,
    output: ResponseAnswer,
    streams: true,
    handle: createResponse,
  },
  {
    method: "GET",
    path: "/v1/responses/:id",
    scope: "chat",
    about: "An answer of the caller's own that was stored",
    output: ResponseAnswer,
    handle: getResponse,
  },
  {
    method: "DELETE",
    path: "/v1/responses/:id",
    scope: "chat",
    about: "Forget it; its conversation is not touched",
    output: DeletedAnswer,
    handle: deleteResponse,
  },
  {
    method: "POST",
    path: "/v1/messages",
    scope: "chat",
    about: "An agent's turn or a model's answer, in the Messages API's dialect",
    input: MessagesRequest,
    output: MessageAnswer,
    streams: true,
    handle: createMessage,
  },
  {
    method: "POST",
    path: "/v1/messages/count_tokens",
    scope: "chat",
    about: "An estimate of a request's size",
    input: CountRequest,
    output: CountAnswer,
    handle: countTokens,
  },
];
