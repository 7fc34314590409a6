import assert from "node:assert/strict";
import { join } from "node:path";
import { recordEnv } from "../../src/config/env.ts";
import { loadConfig } from "../../src/config/load.ts";
import { formatProblem } from "../../src/config/problem.ts";
import { Secret } from "../../src/core/secret.ts";
import { Settings } from "../../src/settings.ts";

/** Documents whose `jsonc` blocks are whole configurations. */
const DOCUMENTS = [
  "docs/guard.md",
  "docs/config-examples.md",
  "docs/providers.md",
];

const BLOCK = /^```jsonc\n([^]*?)^```$/gm;

Deno.test("every configuration in the documents loads", async (t) => {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  try {
    for (const name of ["agents.jsonc", "providers.jsonc"]) {
      await Deno.writeTextFile(join(dir, name), "{}");
    }
    for (const document of DOCUMENTS) {
      const text = await Deno.readTextFile(document);
      const blocks = [...text.matchAll(BLOCK)];
      assert.ok(blocks.length > 0);
      for (const [n, [, block = ""]] of blocks.entries()) {
        await t.step(`${document}, block ${n + 1}`, async () => {
          await Deno.writeTextFile(join(dir, "carapace.jsonc"), block);
          const loaded = await loadConfig(Settings, {
            env: recordEnv({ USER: "ada", OPENAI_API_KEY: "k" }),
            stateDir: dir,
            findSecret: (name) =>
              Promise.resolve(new Secret("s", `secret ${name}`)),
          });
          assert.ok(
            loaded.ok,
            loaded.ok ? "" : loaded.problems.map(formatProblem).join("\n"),
          );
        });
      }
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
