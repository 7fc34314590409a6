/**
 * What `/openapi.json` says of the answers, held against answers: a sweep over
 * every row of the document on a real house, refusals included.
 */
import assert from "node:assert/strict";
import { Ajv2020 } from "ajv";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

/** One request, and the status it is to get. */
interface Ask {
  path?: string;
  body?: unknown;
  headers?: Record<string, string>;
  token?: string | null;
  status: number;
}

const CHAT = { messages: [{ role: "user", content: "x" }] };
const MESSAGES = { max_tokens: 10, ...CHAT };
const MODELS = ["carapace", "openai:gpt-test", "anthropic:claude-test"];
const RPC = {
  accept: "application/json, text/event-stream",
  "content-type": "application/json",
};

/** What is asked of each operation; one without a row here fails the test. */
function sweep(responseId: string): Record<string, readonly Ask[]> {
  const bad = { body: { model: 7 }, status: 400 };
  const nobody = { token: null, status: 401 };
  const none = { body: { model: "nowhere:x", ...MESSAGES }, status: 404 };
  const each = (body: object) =>
    MODELS.flatMap((model) => [
      { body: { model, ...body }, status: 200 },
      { body: { model, ...body, stream: true }, status: 200 },
    ]);
  return {
    "GET /health/live": [{ status: 200 }, { token: null, status: 200 }],
    "GET /health/ready": [{ status: 200 }, { token: null, status: 200 }],
    "GET /metrics": [{ status: 200 }, nobody],
    "GET /openapi.json": [{ status: 200 }, nobody],
    "GET /v1/models": [{ status: 200 }, nobody],
    "GET /v1/models/{id}": [
      { path: "/v1/models/carapace", status: 200 },
      { path: "/v1/models/openai/gpt-test", status: 200 },
      { path: "/v1/models/nowhere:x", status: 404 },
    ],
    "POST /v1/chat/completions": [...each(CHAT), bad, none, nobody],
    "POST /v1/responses": [
      ...each({ input: "x" }),
      bad,
      { body: { model: "nowhere:x", input: "x" }, status: 404 },
      nobody,
    ],
    "GET /v1/responses/{id}": [
      { path: `/v1/responses/${responseId}`, status: 200 },
      { path: "/v1/responses/resp_none", status: 404 },
    ],
    "DELETE /v1/responses/{id}": [
      { path: `/v1/responses/${responseId}`, status: 200 },
      { path: `/v1/responses/${responseId}`, status: 404 },
    ],
    "POST /v1/messages": [...each(MESSAGES), bad, none, nobody],
    "POST /v1/messages/count_tokens": [
      { body: { model: "carapace", ...CHAT }, status: 200 },
      bad,
      nobody,
    ],
    "POST /v1/embeddings": [
      { body: { model: "openai/gpt-embed", input: "x" }, status: 200 },
      { body: { model: "carapace", input: "x" }, status: 400 },
      nobody,
    ],
    "POST /tools/invoke": [
      { body: { tool: "current_time" }, status: 200 },
      { body: { tool: "math_eval", args: { expression: "(" } }, status: 422 },
      { body: { tool: "math_eval", args: {} }, status: 400 },
      { body: { tool: "nonesuch" }, status: 404 },
      { body: { tool: 7 }, status: 400 },
      nobody,
    ],
    "POST /mcp": [
      {
        body: { jsonrpc: "2.0", id: 1, method: "tools/list" },
        headers: RPC,
        status: 200,
      },
      nobody,
    ],
    "GET /plugins/{id}": [{ path: "/plugins/none/none", status: 401 }],
    "POST /plugins/{id}": [{ path: "/plugins/none/none", status: 401 }],
    // To its index, as a folder does.
    "GET /ui": [{ status: 308, token: null }],
    "GET /ui/": [{ status: 200, token: null }],
  };
}

async function ask(
  house: RealHouse,
  operation: string,
  one: Ask,
): Promise<{ status: number; type: string; text: string }> {
  const [method = "", path = ""] = operation.split(" ");
  const { token = house.owner, body, headers } = one;
  const answer = await fetch(`${house.url}${one.path ?? path}`, {
    method,
    redirect: "manual",
    headers: {
      ...token === null ? {} : { authorization: `Bearer ${token}` },
      ...method === "POST" ? { "content-type": "application/json" } : {},
      ...headers,
    },
    ...method === "POST" ? { body: JSON.stringify(body ?? {}) } : {},
  });
  const type = answer.headers.get("content-type")?.split(";")[0] ?? "";
  return { status: answer.status, type, text: await answer.text() };
}

Deno.test("every answer of every route is what the document says it is", async (t) => {
  await using house = await openRealHouse({ script: () => say("hello") });
  const { text } = await ask(house, "GET /openapi.json", { status: 200 });
  const document: Any = JSON.parse(text);
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema(document, "openapi");
  const check = (schema: Any, value: unknown, where: string) => {
    const resolved = JSON.parse(
      JSON.stringify(schema).replaceAll('"#/', '"openapi#/'),
    );
    const validate = ajv.compile(resolved);
    assert.ok(
      validate(value),
      `${where}: ${JSON.stringify(validate.errors)} in ${
        JSON.stringify(value)
      }`,
    );
  };
  const first = await ask(house, "POST /v1/responses", {
    body: { model: "carapace", input: "x" },
    status: 200,
  });
  const asks = sweep(JSON.parse(first.text).id);
  const seen = new Set<string>();
  for (const [path, item] of Object.entries<Any>(document.paths)) {
    for (const [method, row] of Object.entries<Any>(item)) {
      const operation = `${method.toUpperCase()} ${path}`;
      await t.step(operation, async () => {
        seen.add(operation);
        const { [operation]: wanted = [] } = asks;
        assert.ok(wanted.length > 0 || path.startsWith("/ui"), "no row here");
        for (const one of wanted) {
          const got = await ask(house, operation, one);
          const where = `${operation} ${JSON.stringify(one)}`;
          assert.equal(got.status, one.status, `${where}: ${got.text}`);
          if (got.text === "") continue;
          const said = row.responses[got.status] ??
            (got.status < 300 ? row.responses["200"] : row.responses.default);
          const media = said?.content[got.type];
          assert.ok(media !== undefined, `${where}: ${got.type} is not in it`);
          const isJson = got.type === "application/json";
          if (media.schema === undefined) continue;
          check(media.schema, isJson ? JSON.parse(got.text) : got.text, where);
        }
      });
    }
  }
  for (const operation of Object.keys(asks)) {
    assert.ok(seen.has(operation), `${operation} is not in the document`);
  }
});
