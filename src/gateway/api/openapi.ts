/**
 * `/openapi.json`: OpenAPI 3.1, made of the rows that the router is made of.
 *
 * @module
 */
import { z } from "zod";
import { VERSION } from "../../core/version.ts";
import type { Dialect } from "../http_errors.ts";
import { dialectOf, type Route, takesApiKey } from "../routes.ts";
import { SHAPES, type Shapes } from "./shapes.ts";

type Json = Record<string, unknown>;

const ERRORS: Readonly<Record<Dialect, z.ZodType>> = {
  plain: z.object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      hint: z.string().optional(),
      details: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
  openai: z.object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string(),
    }),
  }),
  get responses() {
    return this.openai;
  },
  messages: z.object({
    type: z.literal("error"),
    error: z.object({ type: z.string(), message: z.string() }),
  }),
};

const ERROR_NAMES = {
  plain: "Error",
  openai: "OpenAiError",
  responses: "OpenAiError",
  messages: "MessagesError",
} as const satisfies Record<Dialect, string>;

function toSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: "any",
  });
  return rest;
}

/** `/v1/models/:id{.+}` as `/v1/models/{id}`, with its parameters' names. */
export function toTemplate(path: string): { path: string; names: string[] } {
  const names: string[] = [];
  const template = path.replaceAll(
    /:([A-Za-z]+)(?:\{[^}]*\})?/g,
    (_, name: string) => {
      names.push(name);
      return `{${name}}`;
    },
  );
  return { path: template, names };
}

function securityOf({ path, scope }: Route): Json[] {
  if (scope === "public" || scope === "manifest") return [];
  return [{ bearer: [] }, ...takesApiKey(path) ? [{ apiKey: [] }] : []];
}

/** What is known of a route's bodies. */
function shapesOf({ method, path }: Route): Shapes {
  return SHAPES[`${method} ${path}`] ?? {};
}

function toAnswer(route: Route): Json {
  const { streams, mime } = route;
  const { output } = shapesOf(route);
  const schema = output === undefined
    ? mime === undefined ? {} : { type: "string" }
    : toSchema(output, "output");
  return {
    description: "As asked for",
    content: {
      [mime ?? "application/json"]: { schema },
      ...streams === true
        ? { "text/event-stream": { schema: { type: "string" } } }
        : {},
    },
  };
}

function toOperation(route: Route, names: readonly string[]): Json {
  const { method, path, scope, orScope, about } = route;
  const { input, refusal } = shapesOf(route);
  const named = toTemplate(path).path.match(/[A-Za-z0-9]+/g) ?? ["root"];
  const words = path.length > 1 && path.endsWith("/")
    ? [...named, "index"]
    : named;
  const error = {
    $ref: `#/components/schemas/${ERROR_NAMES[dialectOf(path)]}`,
  };
  const scopes = [scope, ...orScope === undefined ? [] : [orScope]];
  return {
    operationId: [method.toLowerCase(), ...words].join("_"),
    summary: about,
    ...securityOf(route).length === 0
      ? {}
      : { description: `Needs the scope ${scopes.join(" or ")}.` },
    security: securityOf(route),
    ...names.length === 0 ? {} : {
      parameters: names.map((one) => ({
        name: one,
        in: "path",
        required: true,
        schema: { type: "string" },
      })),
    },
    ...input === undefined ? {} : {
      requestBody: {
        required: true,
        content: { "application/json": { schema: toSchema(input, "input") } },
      },
    },
    responses: {
      "200": toAnswer(route),
      default: {
        description: "What could not be done, and why",
        content: {
          "application/json": {
            schema: refusal === undefined
              ? error
              : { anyOf: [error, toSchema(refusal, "output")] },
          },
        },
      },
    },
  };
}

/** The document. WebSocket rows are in docs/protocol.md instead. */
export function makeOpenApi(routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    if (route.scope === "handshake") continue;
    const { path, names } = toTemplate(route.path);
    const item = paths[path] ??= {};
    item[route.method.toLowerCase()] = toOperation(route, names);
  }
  const schemas = Object.fromEntries(
    (["plain", "openai", "messages"] as const).map((dialect) => [
      ERROR_NAMES[dialect],
      toSchema(ERRORS[dialect], "output"),
    ]),
  );
  return {
    openapi: "3.1.0",
    info: {
      title: "Carapace",
      version: VERSION,
      summary: "A personal assistant's gateway",
      license: { name: "MIT", identifier: "MIT" },
    },
    paths,
    components: {
      schemas,
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        apiKey: { type: "apiKey", in: "header", name: "X-Api-Key" },
      },
    },
  };
}
