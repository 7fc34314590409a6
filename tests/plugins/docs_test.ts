/** `docs/plugins.md`, followed to the letter: every `sh` block, in order. */
import assert from "node:assert/strict";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
} from "../process/processes.ts";

Deno.test("docs/plugins.md works as it is written", async (t) => {
  const text = await Deno.readTextFile(`${root}/docs/plugins.md`);
  const lines = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap((
    [, block = ""],
  ) => block.trim().split("\n"));
  assert.ok(lines.length >= 12, `${lines.length} lines`);
  await using dir = await scratch();
  const state = `${dir.path}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  // What the reader's folder holds: the program, as in a checkout.
  await Deno.mkdir(`${dir.path}/plugins/qr`, { recursive: true });
  for (const name of ["plugin.jsonc", "qr.wasm"]) {
    const path = `plugins/qr/${name}`;
    await Deno.copyFile(`${root}/${path}`, `${dir.path}/${path}`);
  }
  for (const line of lines) {
    await t.step(line, async () => {
      const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((
        [, quoted, word],
      ) => quoted ?? word ?? "");
      assert.equal(words[0], "carapace", "a block of another program");
      await using proc = new Proc(
        ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, ...words.slice(1)],
        {
          cwd: dir.path,
          env: { CARAPACE_STATE_DIR: state, CARAPACE_PORT: `${freePort()}` },
        },
      );
      const code = await proc.code();
      assert.equal(code, 0, [...proc.out, ...proc.err].join("\n"));
    });
  }
});
