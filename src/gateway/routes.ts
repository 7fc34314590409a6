/**
 * The HTTP routes as rows: method, path, scope, handler. Scope is a required
 * field, so nothing is open by oversight; public rows are listed in a test.
 *
 * Never: a handler decides who the caller is.
 *
 * @module
 */
import type { Scope } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { later } from "../core/later.ts";
import { API_ROUTES } from "./api/routes.ts";
import type { Call } from "./call.ts";
import type { Health } from "./health.ts";
import { type Dialect, json } from "./http_errors.ts";
import { PLUGIN_ROUTE, type WebhookDoor } from "./plugins.ts";
import type { ApiDeps } from "./api/target.ts";
import { UI_ROUTES } from "./ui.ts";

/**
 * One route. `handshake` rows authenticate inside the WebSocket, `manifest` rows
 * by what a plugin's manifest declares.
 */
export interface Route {
  method: "GET" | "POST" | "DELETE";
  /** Exact, or with a last `:name`, or `:name{.+}` that may hold slashes. */
  path: string;
  scope: Scope | "public" | "handshake" | "manifest";
  /** One that will do as well. */
  orScope?: Scope;
  about: string;
  /** What the answer is, where it is not JSON. */
  mime?: string;
  /** Whether the answer can come as server-sent events. */
  streams?: boolean;
  handle(call: Call, on: RouteDeps): Response | Promise<Response>;
}

/** What a public row may find out about a caller that sent a token anyway. */
export type MayRead = (call: Call) => Promise<boolean>;

function upgradeRequired(): never {
  throw new AppError("bad_input", "Cannot answer: this is a WebSocket", {
    details: { status: 426 },
  });
}

/** What the routes work on. */
export interface RouteDeps extends ApiDeps {
  health: Health;
  mayRead: MayRead;
  webhooks: WebhookDoor;
  isDraining(): boolean;
}

// What few ask for, or not at once, is loaded when it is.
const chatCompletions = later(() =>
  import("./api/chat_completions/chat_completions.ts")
);
const models = later(() => import("./api/models.ts"));
const openapi = later(() => import("./api/openapi.ts"));

/** Every route there is. */
export const ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/health/live",
    scope: "public",
    about: "The process answers",
    handle: () => json({ status: "ok" }),
  },
  {
    method: "GET",
    path: "/health/ready",
    scope: "public",
    about: "200 or 503; with a token that may read, each check by name",
    handle: async (call, on) => {
      const { ok, checks } = await on.health.ready();
      const isReady = ok && !on.isDraining();
      const status = isReady
        ? "ok"
        : on.isDraining()
        ? "draining"
        : "unavailable";
      const detail = await on.mayRead(call) ? { checks } : {};
      return json({ status, ...detail }, isReady ? 200 : 503);
    },
  },
  {
    method: "GET",
    path: "/metrics",
    scope: "metrics",
    orScope: "read",
    about: "Numbers for Prometheus",
    mime: "text/plain",
    handle: async (_, on) => {
      const { metrics } = on.deps;
      if (metrics === undefined) {
        throw new AppError("unavailable", "Cannot answer: nothing is counted");
      }
      const { type, text } = await metrics();
      return new Response(text, { headers: { "content-type": type } });
    },
  },
  ...API_ROUTES,
  ...UI_ROUTES,
  {
    method: "GET",
    path: "/openapi.json",
    scope: "read",
    orScope: "chat",
    about: "This document",
    handle: async () => json((await openapi()).makeOpenApi(ROUTES)),
  },
  {
    method: "GET",
    path: "/v1/models",
    scope: "chat",
    about: "Agents and models, in OpenAI's shape",
    handle: async (call, on) => (await models()).listModels(call, on),
  },
  {
    method: "GET",
    path: "/v1/models/:id{.+}",
    scope: "chat",
    about: "One of them",
    handle: async (call, on) => (await models()).getModel(call, on),
  },
  {
    method: "POST",
    path: "/v1/chat/completions",
    scope: "chat",
    about: "An agent's turn, or a model's answer passed through",
    streams: true,
    handle: async (call, on) =>
      (await chatCompletions()).chatCompletions(call, on),
  },
  {
    method: "POST",
    path: PLUGIN_ROUTE,
    scope: "manifest",
    about: "A plugin's webhook",
    handle: (call, on) => on.webhooks.take(call),
  },
  {
    method: "GET",
    path: PLUGIN_ROUTE,
    scope: "manifest",
    about: "A plugin's webhook",
    handle: (call, on) => on.webhooks.take(call),
  },
  {
    method: "GET",
    path: "/ws",
    scope: "handshake",
    about: "The WebSocket protocol",
    handle: upgradeRequired,
  },
  {
    method: "GET",
    path: "/",
    scope: "handshake",
    about: "The WebSocket protocol, where older clients look for it",
    handle: upgradeRequired,
  },
];

/** Whether a row's path is the one that was asked for, whatever the method. */
export function fitsPath(route: Pick<Route, "path">, path: string): boolean {
  const at = route.path.indexOf(":");
  if (at === -1) return route.path === path;
  const fixed = route.path.slice(0, at);
  const rest = path.startsWith(fixed) ? path.slice(fixed.length) : "";
  return rest !== "" && (route.path.endsWith("{.+}") || !rest.includes("/"));
}

/** The dialect a path's errors are in. */
export function dialectOf(path: string): Dialect {
  if (path === "/v1/messages" || path.startsWith("/v1/messages/")) {
    return "messages";
  }
  return path.startsWith("/v1/") ? "openai" : "plain";
}

/** Where a token may also come as `X-Api-Key`: that dialect's clients do so. */
export function takesApiKey(path: string): boolean {
  return dialectOf(path) === "messages" || path === "/v1/models" ||
    path.startsWith("/v1/models/");
}
