import assert from "node:assert/strict";
import fc from "fast-check";
import { chunks } from "./chunks.ts";
import { toPlainText } from "./plain_text.ts";

/** Texts as models write them: words, paragraphs, fences, astral characters. */
const text = fc.array(
  fc.oneof(
    fc.string({ maxLength: 40 }),
    fc.string({ unit: "grapheme", maxLength: 20 }),
    fc.constantFrom(
      "\n",
      "\n\n",
      " ",
      "```ts\n",
      "\n```\n",
      "~~~\n",
      "\n~~~~\n",
      "👩‍👩‍👧",
      "```",
      "- item\n",
      "    code\n",
    ),
  ),
  { maxLength: 60 },
).map((parts) => parts.join(""));
const limit = fc.integer({ min: 16, max: 200 });

const bare = (all: string) => all.replaceAll(/[\s`~]/g, "");

Deno.test("chunks() never exceed the limit, and none is empty", () => {
  fc.assert(
    fc.property(text, limit, (all, max) => {
      const pieces = chunks(all, max);
      assert.ok(pieces.length > 0);
      for (const piece of pieces) assert.ok(piece.length <= max, piece);
      if (all.trim() !== "") {
        assert.ok(pieces.slice(1).every((piece) => piece !== ""));
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("chunks() cut no surrogate pair in two", () => {
  fc.assert(
    fc.property(text, limit, (all, max) => {
      if (!all.isWellFormed()) return;
      for (const piece of chunks(all, max)) assert.ok(piece.isWellFormed());
    }),
    { numRuns: 2000 },
  );
});

Deno.test("chunks() lose no word and keep their order", () => {
  // Fences are opened again, so what they say of themselves is said more often.
  const plain = text.map((all) => all.replaceAll(/[`~]/g, ""));
  fc.assert(
    fc.property(plain, limit, (all, max) => {
      assert.equal(bare(chunks(all, max).join("")), bare(all));
    }),
    { numRuns: 2000 },
  );
});

Deno.test("chunks() close a fence that is cut, and open it again", () => {
  const lines = Array.from({ length: 30 }, (_, n) => `line(${n});`).join("\n");
  const pieces = chunks(`Look:\n\n\`\`\`ts\n${lines}\n\`\`\`\n\nDone.`, 100);
  assert.ok(pieces.length > 3);
  for (const piece of pieces) {
    const marks = piece.match(/^```/gm)?.length ?? 0;
    assert.equal(marks % 2, 0, piece);
  }
  assert.match(pieces[1] ?? "", /^```ts\nline/);
  const code = pieces.join("\n").match(/line\(\d+\);/g);
  assert.equal(code?.length, 30);
});

Deno.test("chunks() cut at paragraphs, lines, words, in this order", () => {
  const a = "a".repeat(60);
  const b = "b".repeat(60);
  assert.deepEqual(chunks(`${a}\n\n${b}`, 100), [a, b]);
  assert.deepEqual(chunks(`${a}\n${b}`, 100), [a, b]);
  assert.deepEqual(chunks(`${a} ${b}`, 100), [a, b]);
  assert.deepEqual(chunks("x".repeat(250), 100).map((c) => c.length), [
    100,
    100,
    50,
  ]);
  assert.deepEqual(chunks("", 100), [""]);
  assert.deepEqual(chunks("x".repeat(100), 100), ["x".repeat(100)]);
});

Deno.test("toPlainText() keeps words, code and addresses", () => {
  const rows: [string, string][] = [
    ["# Head", "Head"],
    ["some **bold** and *soft* and `code`", "some bold and soft and code"],
    ["see [here](https://a.test/x?y=1)", "see here (https://a.test/x?y=1)"],
    ["2 * 3 * 4 and snake_case_name", "2 * 3 * 4 and snake_case_name"],
    ["```js\nconst a = **1**;\n```", "const a = **1**;"],
    ["> quoted", "quoted"],
  ];
  for (const [markdown, plain] of rows) {
    assert.equal(toPlainText(markdown), plain);
  }
});

Deno.test("toPlainText() ends on any text", () => {
  fc.assert(
    fc.property(text, (all) => {
      assert.equal(typeof toPlainText(all), "string");
    }),
    { numRuns: 2000 },
  );
});
