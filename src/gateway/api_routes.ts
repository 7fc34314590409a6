/**
 * The rows of the APIs that existing clients speak.
 *
 * @module
 */
import { countTokens, createMessage } from "./messages/messages.ts";
import {
  createResponse,
  deleteResponse,
  getResponse,
} from "./responses/responses.ts";
import type { Route } from "./routes.ts";

/** Part of `ROUTES`. */
export const API_ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/responses",
    scope: "chat",
    about:
      "An agent's turn or a model's answer, in the Responses API's dialect",
    handle: createResponse,
  },
  {
    method: "GET",
    path: "/v1/responses/:id",
    scope: "chat",
    about: "An answer of the caller's own that was stored",
    handle: getResponse,
  },
  {
    method: "DELETE",
    path: "/v1/responses/:id",
    scope: "chat",
    about: "Forget it; its conversation is not touched",
    handle: deleteResponse,
  },
  {
    method: "POST",
    path: "/v1/messages",
    scope: "chat",
    about: "An agent's turn or a model's answer, in the Messages API's dialect",
    handle: createMessage,
  },
  {
    method: "POST",
    path: "/v1/messages/count_tokens",
    scope: "chat",
    about: "An estimate of a request's size",
    handle: countTokens,
  },
];
