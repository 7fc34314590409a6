/**
 * The rows of the APIs that existing clients speak.
 *
 * @module
 */
import { countTokens, createMessage } from "./messages/messages.ts";
import type { Route } from "./routes.ts";

/** Part of `ROUTES`. */
export const API_ROUTES: readonly Route[] = [
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
