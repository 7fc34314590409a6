import assert from "node:assert/strict";
import { symlink } from "../../tests/fakes/symlink.ts";
import { readTokenFile, TOKEN_FILE } from "./token_file.ts";

async function scratch(): Promise<{ dir: string } & AsyncDisposable> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  return {
    dir,
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

Deno.test("readTokenFile() reads a file that only its owner can read", async () => {
  await using place = await scratch();
  const path = `${place.dir}/${TOKEN_FILE}`;
  assert.equal(await readTokenFile(place.dir), undefined);
  await Deno.writeTextFile(path, "abc\n", { mode: 0o600 });
  const token = await readTokenFile(place.dir);
  assert.equal(token?.reveal(), "abc");
  assert.equal(String(token), "[secret]");
  await Deno.writeTextFile(path, "\n");
  assert.equal(await readTokenFile(place.dir), undefined);
});

Deno.test({
  name: "readTokenFile() refuses a file that others can reach",
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    await using place = await scratch();
    const path = `${place.dir}/${TOKEN_FILE}`;
    await Deno.writeTextFile(path, "abc", { mode: 0o600 });
    for (const mode of [0o640, 0o604, 0o644, 0o660, 0o610]) {
      await t.step(mode.toString(8), async () => {
        await Deno.chmod(path, mode);
        await assert.rejects(readTokenFile(place.dir), { code: "forbidden" });
      });
    }
    await t.step("a link", async () => {
      await Deno.chmod(path, 0o600);
      await Deno.rename(path, `${place.dir}/elsewhere`);
      await symlink("elsewhere", path);
      await assert.rejects(readTokenFile(place.dir), { code: "forbidden" });
    });
    await t.step("a file that is too large", async () => {
      await Deno.remove(path);
      await Deno.writeTextFile(path, "x".repeat(4097), { mode: 0o600 });
      await assert.rejects(readTokenFile(place.dir), { code: "forbidden" });
    });
  },
});
