import assert from "node:assert/strict";
import { basename, join } from "node:path";
import type { Clock } from "../core/time.ts";
import { watchConfig } from "./watch.ts";

/** Nobody waits: a pause is over at once. */
const clock: Clock = { now: () => 0, sleep: () => Promise.resolve() };

Deno.test("watchConfig() sees writes, renames, comings and goings", async () => {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const stop = new AbortController();
  try {
    const main = join(dir, "carapace.jsonc");
    const more = join(dir, "more.jsonc");
    await Deno.writeTextFile(main, "{}");
    const changes = watchConfig([main, more], stop.signal, { clock });
    // Written at once: nobody looks between the emptying and the writing.
    const put = (path: string, text: string) =>
      Deno.writeTextFileSync(path, text);
    const next = async (act: () => void) => {
      act();
      const { value } = await changes.next();
      return (value ?? []).map((path) => basename(path));
    };
    assert.deepEqual(
      await next(() => put(main, '{"a":1}')),
      ["carapace.jsonc"],
    );
    // What an editor does: another file, renamed over the first.
    assert.deepEqual(
      await next(() => {
        put(join(dir, ".swap"), '{"a":2}');
        Deno.renameSync(join(dir, ".swap"), main);
      }),
      ["carapace.jsonc"],
    );
    // Touched, replaced by its equal, or a stranger: the next change is more's.
    assert.deepEqual(
      await next(() => {
        put(main, '{"a":2}');
        put(join(dir, "other.txt"), "x");
        put(more, "{}");
      }),
      ["more.jsonc"],
    );
    assert.deepEqual(await next(() => Deno.removeSync(main)), [
      "carapace.jsonc",
    ]);
    assert.deepEqual(
      await next(() => put(main, "{}")),
      ["carapace.jsonc"],
    );
    const last = changes.next();
    stop.abort();
    assert.deepEqual(await last, { done: true, value: undefined });
  } finally {
    stop.abort();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("watchConfig() ends at once when it is already told to", async () => {
  const changes = watchConfig(["deno.json"], AbortSignal.abort(), { clock });
  assert.equal((await changes.next()).done, true);
});

Deno.test("watchConfig() needs a folder that exists", () => {
  assert.throws(
    () =>
      watchConfig(["tests/.tmp/no/such/file"], new AbortController().signal),
    { code: "not_found" },
  );
});
