/**
 * Whatever is done to a configuration's text, loading answers with a value or
 * with problems that point into the text.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import { Secret, SecretField } from "../core/secret.ts";
import { recordEnv } from "./env.ts";
import { loadConfig } from "./load.ts";
import { dotted, formatProblem, parsePath } from "./problem.ts";
import { closest, editDistance } from "./shape.ts";

const Schema = z.strictObject({
  gateway: z.strictObject({
    host: z.string().min(1).default("a"),
    port: z.int().min(1).max(65_535).default(1),
    hosts: z.array(z.string()).max(4).default([]),
  }).prefault({}),
  agents: z.record(
    z.string().regex(/^[a-z]+$/),
    z.strictObject({
      prompt: z.string().optional(),
      tools: z.union([z.literal("any"), z.array(z.string())]).default("any"),
    }).prefault({}),
  ).prefault({}).transform((agents) => ({ main: {}, ...agents })),
  key: SecretField.optional(),
  store: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("file") }),
    z.strictObject({ kind: z.literal("remote"), url: z.url() }),
  ]).default({ kind: "file" }),
});

const TEXT = `{
  // A comment with "quotes", {braces} and \${A_REFERENCE}.
  "gateway": { "host": "\${HOST}", "port": 8080, "hosts": ["a", "b"] },
  /* another */
  "agents": {
    "main": { "prompt": "costs $$5, \${HOST}", "tools": ["x"] },
    "other": {}
  },
  "key": "\${secret:K}",
  "store": { "kind": "remote", "url": "https://example.com" },
}
`;

const PIECES = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "\\",
  "null",
  "true",
  "-1e999",
  "0x",
  "//",
  "/*",
  "*/",
  "\n",
  "\r",
  "\u2028",
  "\u0000",
  "\ud800",
  "${",
  "${X}",
  "${secret:NO}",
  "$$",
  '"$include":"x.jsonc",',
  '"__proto__":{},',
  '"constructor":1,',
  '"toString":{},',
  '"port":1,',
  "\ufeff",
  "sk-abcdefghijklmnop",
];

const mutation = fc.record({
  at: fc.nat(TEXT.length),
  cut: fc.oneof(fc.constant(0), fc.nat(12), fc.nat(200)),
  put: fc.oneof(
    fc.constant(""),
    fc.constantFrom(...PIECES),
    fc.string({ maxLength: 8 }),
  ),
});

function load(text: string) {
  return loadConfig(Schema, {
    env: recordEnv({ CARAPACE_CONFIG_JSON: text, HOST: "h" }),
    stateDir: "/nowhere",
    findSecret: (name) =>
      Promise.resolve(name === "K" ? new Secret("v", "secret K") : undefined),
  });
}

Deno.test("loadConfig() answers any mutation with a value or problems inside the text", async () => {
  assert.ok((await load(TEXT)).ok);
  await fc.assert(
    fc.asyncProperty(
      fc.array(mutation, { minLength: 1, maxLength: 4 }),
      async (mutations) => {
        let text = TEXT;
        for (const { at, cut, put } of mutations) {
          const from = Math.min(at, text.length);
          text = text.slice(0, from) + put + text.slice(from + cut);
        }
        if (text === "") return;
        const loaded = await load(text);
        if (loaded.ok) {
          assert.equal(loaded.source, "CARAPACE_CONFIG_JSON");
          return;
        }
        assert.ok(loaded.problems.length > 0);
        const lines = text.replace(/^\ufeff/, "").split("\n");
        for (const problem of loaded.problems) {
          assert.ok(formatProblem(problem).length < 2000);
          if (problem.line === undefined) continue;
          const line = lines[problem.line - 1];
          assert.ok(line !== undefined, formatProblem(problem));
          const column = problem.column ?? 0;
          assert.ok(column >= 1 && column <= line.length + 1);
        }
      },
    ),
    { numRuns: 1500 },
  );
});

Deno.test("loadConfig() never repeats what stands in a secret field", async () => {
  const secretText = fc.string({ minLength: 12, maxLength: 40 })
    .map((text) => `zq${text.replaceAll(/[\s"\\]/g, "_")}`);
  await fc.assert(
    fc.asyncProperty(secretText, async (text) => {
      const loaded = await load(JSON.stringify({ key: text }));
      assert.ok(!loaded.ok);
      assert.ok(!JSON.stringify(loaded.problems).includes(text.slice(0, 10)));
    }),
    { numRuns: 200 },
  );
});

Deno.test("parsePath() reads what dotted() writes", () => {
  const segment = fc.string({ minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 5 }), (path) => {
      assert.deepEqual(parsePath(dotted(path)), path);
    }),
  );
  for (const text of ["a..b", ".a", "a.", 'a"b', '"a', '"a"b', "a b"]) {
    assert.equal(parsePath(text), undefined, text);
  }
});

Deno.test("closest() finds the word with one slip in it", () => {
  const words = ["gateway", "agents", "providers", "limits", "approvalMs"];
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("ab", "ba"), 1);
  fc.assert(
    fc.property(
      fc.constantFrom(...words),
      fc.nat(),
      fc.constantFrom("drop", "twice", "swap"),
      (word, at, how) => {
        const n = at % (word.length - 1);
        const [a = "", b = ""] = word.slice(n, n + 2);
        const slip = how === "drop" ? b : how === "twice" ? a + a + b : b + a;
        const typed = word.slice(0, n) + slip + word.slice(n + 2);
        assert.equal(closest(typed, words), word);
      },
    ),
  );
  assert.equal(closest("zzzzzz", words), undefined);
});
