import assert from "node:assert/strict";
import { label } from "../core/label.ts";
import { silentLog } from "../core/log.ts";
import { systemClock } from "../core/time.ts";
import { openStore } from "../store/store.ts";
import { runTool } from "../../tests/fakes/tools.ts";
import { Outputs } from "./outputs.ts";

const WEB = label("untrusted", ["owner"], { kind: "web", ref: "x", at: 1 });

async function withOutputs(story: (outputs: Outputs) => Promise<void>) {
  await using store = await openStore({
    dir: ":memory:",
    clock: systemClock,
    log: silentLog,
  });
  await story(new Outputs({ blobs: store.blobs, journal: store.journal }));
}

function output(text: string, sessionKey = "agent:main:main") {
  const about = { tool: "web_fetch", label: WEB, bytesMax: 3_000, now: 1 };
  return { text, sessionKey, ...about };
}

function handleIn(text: string): string {
  const handle = /handle ([0-9a-f]{64})/.exec(text)?.[1];
  assert.ok(handle !== undefined, text.slice(-200));
  return handle;
}

Deno.test("Outputs leaves what fits as it is", async () => {
  await withOutputs(async (outputs) => {
    assert.equal(await outputs.keep(output("short")), "short");
  });
});

Deno.test("Outputs keeps what does not fit, every character of it, with its label", async () => {
  await withOutputs(async (outputs) => {
    const text = Array.from({ length: 20_000 }, (_, n) => `line ${n} é😀\n`)
      .join("");
    const shown = await outputs.keep(output(text));
    assert.ok(shown.length < 3_000);
    const handle = handleIn(shown);
    let read = "";
    for (let from = 0; from < text.length;) {
      const page = await runTool(outputs.tool(), {
        handle,
        from,
        count: 64_000,
      });
      assert.equal(page.label?.integrity, "untrusted");
      assert.deepEqual(page.label?.secrecy, ["owner"]);
      const body = page.text.replace(/\n\[[^\]]*\]$/, "");
      read += body;
      from += body.length;
    }
    assert.equal(read, text);
    const hits = await runTool(outputs.tool(), { handle, find: "line 19999" });
    assert.match(hits.text, /^\d+: ….* line 19999 é😀 …$/);
  });
});

Deno.test("output_read reads no other session's output", async () => {
  await withOutputs(async (outputs) => {
    const text = "x".repeat(9_000);
    const handle = handleIn(
      await outputs.keep(output(text, "agent:main:secret")),
    );
    await assert.rejects(
      runTool(outputs.tool(), { handle }),
      { code: "not_found" },
    );
    const own = handleIn(await outputs.keep(output(text)));
    assert.notEqual(own, handle);
    await runTool(outputs.tool(), { handle: own });
  });
});
