import assert from "node:assert/strict";
import { DOCUMENTS, readDocument } from "./generate.ts";

Deno.test("generated documents say what the program says", async (t) => {
  for (const { path, make } of DOCUMENTS) {
    await t.step(path, async () => {
      assert.equal(
        await readDocument(path),
        await make(),
        `${path} is stale: run deno task docs`,
      );
    });
  }
});
