import assert from "node:assert/strict";
import fc from "fast-check";
import { didYouMean, editDistance } from "./help.ts";
import { VERBS } from "./verbs.ts";

Deno.test("VERBS says of each verb what the verb says of itself", async () => {
  for (const row of VERBS) {
    const verb = await row.load();
    assert.equal(verb.name, row.name);
    assert.equal(verb.about, row.about);
    for (const line of verb.usage) {
      assert.ok(line.startsWith(`carapace ${row.name}`), line);
    }
    assert.ok(verb.examples.length > 0);
  }
});

Deno.test("didYouMean() finds the near, not the far", () => {
  const known = VERBS.map(({ name }) => name);
  const rows: [name: string, want: string | undefined][] = [
    ["chta", "chat"],
    ["Status", "status"],
    ["stat", "status"],
    ["star", "start"],
    ["sess", "sessions"],
    ["perm", "permissions"],
    ["tokens", "token"],
    ["xyzzy", undefined],
    ["", undefined],
    ["x".repeat(10_000), undefined],
  ];
  for (const [name, want] of rows) assert.equal(didYouMean(name, known), want);
});

Deno.test("editDistance() is a distance", () => {
  const word = fc.string({ maxLength: 8 });
  fc.assert(fc.property(word, word, (a, b) => {
    assert.equal(editDistance(a, b), editDistance(b, a));
    assert.equal(editDistance(a, b) === 0, a === b);
    assert.ok(editDistance(a, b) <= Math.max(a.length, b.length));
  }));
  assert.equal(editDistance("chta", "chat"), 1);
});
