import assert from "node:assert/strict";
import { ChatHistory } from "./history.ts";

async function scratch(): Promise<{ dir: string } & AsyncDisposable> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  return {
    dir,
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

Deno.test("ChatHistory keeps the last thousand lines for its owner alone", async () => {
  await using place = await scratch();
  const path = `${place.dir}/chat_history`;
  const lines = Array.from({ length: 1005 }, (_, n) => `line ${n}`);
  await Deno.writeTextFile(path, lines.join("\n"), { mode: 0o644 });
  const history = await ChatHistory.open(place.dir);
  assert.equal(history.lines.length, 1000);
  assert.equal(history.lines[0], "line 1004");
  for (const line of ["new", "new", " kept out", "", "x".repeat(5000)]) {
    await history.add(line);
  }
  const again = await ChatHistory.open(place.dir);
  assert.deepEqual(again.lines.slice(0, 2), ["new", "line 1004"]);
  assert.equal(again.lines.length, 1000);
  const { mode } = await Deno.stat(path);
  if (mode !== null) assert.equal(mode & 0o777, 0o600);
});

Deno.test("ChatHistory goes on without a folder to write to", async () => {
  await using place = await scratch();
  const history = await ChatHistory.open(`${place.dir}/not/there`);
  await history.add("one");
  await history.add("two");
  assert.deepEqual(history.lines, ["two", "one"]);
});
