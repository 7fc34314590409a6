/** The document is valid by somebody else's word, and says what the rows say. */
import assert from "node:assert/strict";
import { Validator } from "@seriousme/openapi-schema-validator";
import {
  openGatewayHouse,
  program,
} from "../../../tests/fakes/gateway_house.ts";
import { makeOpenApi, toTemplate } from "./openapi.ts";
import { ROUTES } from "../routes.ts";
import { SHAPES } from "./shapes.ts";

// deno-lint-ignore no-explicit-any
type AnyDocument = any;

Deno.test("the document is OpenAPI 3.1", async () => {
  const text = JSON.stringify(makeOpenApi(ROUTES));
  const validator = new Validator();
  const { valid, errors } = await validator.validate(JSON.parse(text));
  assert.ok(valid, JSON.stringify(errors));
  assert.equal(validator.version, "3.1");
  assert.ok(!text.includes("#/$defs"), "a reference that leads nowhere");
  const refs = new Set(text.match(/"\$ref":"[^"]*"/g));
  const document: AnyDocument = JSON.parse(text);
  for (const ref of refs) {
    const name = /components\/schemas\/(\w+)"$/.exec(ref)?.[1] ?? "";
    assert.ok(name in document.components.schemas, ref);
  }
});

Deno.test("every row is in it, with its schemas; names are told apart", () => {
  const document: AnyDocument = makeOpenApi(ROUTES);
  const ids = new Set<string>();
  for (const row of ROUTES) {
    if (row.scope === "handshake") continue;
    const at = toTemplate(row.path).path;
    const operation = document.paths[at]?.[row.method.toLowerCase()];
    assert.equal(operation?.summary, row.about, `${row.method} ${row.path}`);
    assert.ok(!ids.has(operation.operationId), operation.operationId);
    ids.add(operation.operationId);
    assert.equal(operation.security.length === 0, isOpen(row.scope));
    const takesBody = row.method === "POST" && row.scope !== "manifest";
    assert.equal("requestBody" in operation, takesBody, row.path);
  }
  const models = document.paths["/v1/models/{id}"].get;
  assert.equal(models.parameters[0].name, "id");
  assert.ok(
    document.paths["/v1/responses"].post.requestBody.content["application/json"]
      .schema.properties.previous_response_id,
  );
});

Deno.test("every shape is a row's", () => {
  const rows = ROUTES.map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(Object.keys(SHAPES).filter((at) => !rows.includes(at)), []);
});

function isOpen(scope: string): boolean {
  return scope === "public" || scope === "manifest";
}

Deno.test("it is served to whoever may read or chat, and nobody else", async () => {
  await using house = await openGatewayHouse({
    principals: {
      chat: program("tok_chat", { scopes: ["chat"] }),
      hooks: program("tok_hooks", { scopes: ["hooks"] }),
    },
  });
  const status = async (token: string) => {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await house.get("/openapi.json", { headers });
    await answer.body?.cancel();
    return answer.status;
  };
  assert.deepEqual(
    await Promise.all(["owner-token", "chat", "hooks", "x"].map(status)),
    [200, 200, 403, 401],
  );
});
