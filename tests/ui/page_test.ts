/**
 * Runs `page.ts` in a process of its own: a library that drives a browser looks
 * where the other tests have no business.
 */
import assert from "node:assert/strict";
import { Proc, root } from "../process/processes.ts";
import { CHROMIUM } from "./chromium.ts";

Deno.test({
  name: "the page in a real browser",
  ignore: CHROMIUM === undefined,
  fn: async () => {
    await using proc = new Proc([
      ...["test", "--allow-all", "--no-prompt", "--frozen", "--no-check"],
      ...[
        "--quiet",
        "--lock",
        `${root}/tests/deno.lock`,
        `${root}/tests/ui/page.ts`,
      ],
    ]);
    const code = await proc.code();
    assert.equal(code, 0, [...proc.out, ...proc.err].join("\n"));
  },
});
