/**
 * Plugins as the gateway sees them: the handlers of their methods, and the
 * route of their webhooks.
 *
 * Never: a webhook's body is read past its limit, or parsed here; two answers to
 * requests that nobody verified differ.
 *
 * @module
 */
import { readBytes } from "../core/bounded.ts";
import type { Authority } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import type { PluginSummary } from "../core/methods/plugin.ts";
import type { PLUGIN_METHODS } from "../core/methods/plugin.ts";
import type { z } from "zod";
import type { Call } from "./call.ts";
import type { Caller } from "./keys.ts";
import type { GatewayLimits } from "./limits.ts";
import { parseQuery } from "./paths.ts";

/** A verified or unverified request, for the plugins to judge. */
export interface PluginRequest {
  method: string;
  query: URLSearchParams;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
  hasScope: boolean;
  signal: AbortSignal;
}

/** The plugins, as the gateway is given them. */
export interface PluginDesk {
  list(): Promise<{ plugins: PluginSummary[]; config: string }>;
  manifest(id: string): Promise<Record<string, unknown>>;
  /** @throws {AppError} which says what is wrong with it */
  install(
    input: Output<"plugins.install">,
    by: string,
  ): Promise<PluginSummary>;
  remove(id: string, by: string): Promise<void>;
  restart(id: string, by: string): Promise<PluginSummary>;
  call(
    call: { id: string; tool: string; args: unknown },
    options: { by: Authority; signal: AbortSignal },
  ): Promise<{ output: string; fuel: number; ms: number }>;
  logs(
    id: string,
    limit: number,
  ): Promise<{ at: number; level: string; text: string }[]>;
  webhook(
    place: { id: string; name: string },
    request: PluginRequest,
  ): Promise<Response>;
}

type Methods = typeof PLUGIN_METHODS;
type Output<M extends keyof Methods> = z.output<Methods[M]["input"]>;

/** Bodies of senders nobody knows yet that are read at once. */
const READING_MAX = 32;
/** Bytes of a webhook's body. */
const BODY_BYTES_MAX = 1_048_576;

/** Where webhooks of plugins are. */
export const PLUGIN_PATH =
  /^\/plugins\/([a-z][a-z0-9-]{1,39})\/([a-z][a-z0-9_]{0,63})$/;

/** The same, as a row of the routes. */
export const PLUGIN_ROUTE = "/plugins/:id{[^/]+/[^/]+}";

/** Whether a request is a webhook's: its plugin's manifest says who may ask. */
export function isWebhook(method: string, path: string): boolean {
  return (method === "POST" || method === "GET") && PLUGIN_PATH.test(path);
}

function off(): never {
  throw new AppError("unavailable", "Plugins are off", {
    hint: "The gateway runs in safe mode; see: carapace status",
  });
}

/** The handlers of the plugins' methods. */
export function pluginHandlers(desk: PluginDesk | undefined): {
  readonly [M in keyof Methods]: (
    params: Output<M>,
    call: { caller: Caller; signal: AbortSignal },
  ) => Promise<z.output<Methods[M]["output"]>>;
} {
  return {
    "plugins.list": async () =>
      await desk?.list() ?? { plugins: [], config: "" },
    "plugins.manifest": async ({ id }) => ({
      manifest: await (desk ?? off()).manifest(id),
    }),
    "plugins.install": async (params, { caller }) =>
      await (desk ?? off()).install(params, caller.principal.id),
    "plugins.remove": async ({ id }, { caller }) => {
      await (desk ?? off()).remove(id, caller.principal.id);
      return { ok: true, id };
    },
    "plugins.restart": async ({ id }, { caller }) =>
      await (desk ?? off()).restart(id, caller.principal.id),
    "plugins.call": async (params, { caller, signal }) =>
      await (desk ?? off()).call(params, { by: caller.authority, signal }),
    "plugins.logs": async ({ id, limit }) => ({
      lines: await (desk ?? off()).logs(id, limit),
    }),
  };
}

/** The one answer to what is not there or not verified. */
function unverified(): AppError {
  return new AppError("unauthorized", "Cannot authenticate this request", {
    hint: "Check the secret on both sides",
  });
}

/** What answering webhooks needs. */
export interface WebhookDoorDeps {
  desk: PluginDesk | undefined;
  limits: Pick<GatewayLimits, "bodyMs">;
  /** Whether the caller showed a token with the scope "hooks". */
  hasScope(call: Call): Promise<boolean>;
}

/** The way in for requests that a plugin's own manifest says who may make. */
export class WebhookDoor {
  readonly #deps: WebhookDoorDeps;
  #reading = 0;

  constructor(deps: WebhookDoorDeps) {
    this.#deps = deps;
  }

  /** Answers a request. @throws {AppError} the same for all that is not verified */
  async take(call: Call): Promise<Response> {
    const { desk, limits, hasScope } = this.#deps;
    const [, id, name] = PLUGIN_PATH.exec(call.path) ?? [];
    if (id === undefined || name === undefined || desk === undefined) {
      throw unverified();
    }
    const { request } = call;
    // Whoever sends this is not known yet: few such bodies are held at once.
    if (this.#reading >= READING_MAX) {
      throw new AppError("unavailable", "Cannot take another request now", {
        retryAfterMs: 1_000,
      });
    }
    this.#reading++;
    let body: Uint8Array<ArrayBuffer>;
    try {
      body = await readBody(request, limits);
    } finally {
      this.#reading--;
    }
    const { signal } = call;
    return await desk.webhook({ id, name }, {
      method: request.method,
      query: parseQuery(request.url),
      headers: request.headers,
      body,
      hasScope: request.headers.has("authorization") && await hasScope(call),
      signal,
    });
  }
}

async function readBody(
  request: Request,
  { bodyMs }: Pick<GatewayLimits, "bodyMs">,
): Promise<Uint8Array<ArrayBuffer>> {
  const length = Number(request.headers.get("content-length") ?? 0);
  if (length > BODY_BYTES_MAX) {
    throw new AppError(
      "too_large",
      `Cannot read the body: it is larger than ${BODY_BYTES_MAX} bytes`,
    );
  }
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() =>
    reject(
      new AppError("timeout", "Cannot read the body: it came too slowly", {
        details: { status: 408 },
      }),
    ), bodyMs);
  try {
    return await Promise.race([
      readBytes(request.body, BODY_BYTES_MAX),
      promise,
    ]);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("bad_input", "Cannot read the body: it broke off", {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}
