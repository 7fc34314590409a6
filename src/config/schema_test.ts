import assert from "node:assert/strict";
import { z } from "zod";
import { SecretField } from "../core/secret.ts";
import { toJsonSchema, toMarkdown } from "./schema.ts";

const Schema = z.strictObject({
  $schema: z.string().optional(),
  gateway: z.strictObject({
    port: z.int().min(1).max(65_535).default(80).describe("Where | it listens"),
    hosts: z.array(z.string()).default([]).describe("Names"),
  }).prefault({}),
  providers: z.record(
    z.string().regex(/^[a-z]+$/),
    z.strictObject({
      apiKey: SecretField.optional().describe("The key"),
      mode: z.enum(["a", "b"]).optional(),
    }).prefault({}),
  ).prefault({}),
  rules: z.array(z.strictObject({ url: z.url() })).default([]),
});

Deno.test("toJsonSchema() keeps defaults, words, references and includes", () => {
  const json = toJsonSchema(Schema);
  assert.equal(json.$schema, "https://json-schema.org/draft/2020-12/schema");
  assert.equal(json.additionalProperties, false);
  const { gateway, providers } = JSON.parse(JSON.stringify(json.properties));
  assert.equal(gateway.properties.port.default, 80);
  assert.equal(gateway.properties.port.description, "Where | it listens");
  assert.deepEqual(gateway.required, undefined);
  assert.deepEqual(gateway.properties.$include, { $ref: "#/$defs/include" });
  assert.deepEqual(providers.propertyNames.anyOf.at(-1), { const: "$include" });
  const { apiKey } = providers.additionalProperties.properties;
  assert.equal(apiKey.writeOnly, true);
  const pattern = new RegExp(apiKey.pattern);
  for (const text of ["${secret:A-b.c}", "${A_KEY}"]) {
    assert.match(text, pattern);
  }
  for (const text of ["sk-123", "x${A}", "${secret:}", "${a b}"]) {
    assert.doesNotMatch(text, pattern);
  }
});

Deno.test("toMarkdown() has a row for every key", () => {
  assert.equal(
    toMarkdown(Schema),
    `## gateway

| key             | type                     | default | what                |
| --------------- | ------------------------ | ------- | ------------------- |
| \`gateway.port\`  | whole number, 1 to 65535 | \`80\`    | Where \\| it listens |
| \`gateway.hosts\` | list of string           | \`[]\`    | Names               |

## providers

| key                       | type             | default | what    |
| ------------------------- | ---------------- | ------- | ------- |
| \`providers.<name>.apiKey\` | secret reference |         | The key |
| \`providers.<name>.mode\`   | \`"a"\`, \`"b"\`     |         |         |

## rules

| key           | type | default | what |
| ------------- | ---- | ------- | ---- |
| \`rules[].url\` | URL  |         |      |
`,
  );
});
