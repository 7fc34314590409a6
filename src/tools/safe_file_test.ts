import assert from "node:assert/strict";
import { AppError } from "../core/errors.ts";
import { readInside } from "./safe_file.ts";

async function inDir(story: (dir: string) => Promise<void>): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.realPath(
    await Deno.makeTempDir({ dir: "tests/.tmp" }),
  );
  try {
    await story(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("readInside() reads a plain file, and says when it cut it", async () => {
  await inDir(async (dir) => {
    await Deno.mkdir(`${dir}/memory`);
    await Deno.writeTextFile(`${dir}/memory/a.md`, "héllo");
    const whole = await readInside(dir, "memory/a.md", { bytesMax: 100 });
    assert.equal(whole?.text, "héllo");
    assert.equal(whole?.isCut, false);
    const cut = await readInside(dir, "memory/a.md", { bytesMax: 2 });
    assert.deepEqual([cut?.text, cut?.isCut, cut?.bytes], ["h", true, 6]);
    assert.equal(await readInside(dir, "no.md", { bytesMax: 9 }), undefined);
    assert.equal(
      await readInside(`${dir}/no`, "a.md", { bytesMax: 9 }),
      undefined,
    );
  });
});

Deno.test("readInside() refuses what is not the file it seems", async (t) => {
  await inDir(async (dir) => {
    const root = `${dir}/root`;
    await Deno.mkdir(`${root}/sub`, { recursive: true });
    await Deno.writeTextFile(`${dir}/secret`, "no");
    await Deno.symlink(`${dir}/secret`, `${root}/link`);
    await Deno.symlink(dir, `${root}/up`);
    await Deno.link(`${dir}/secret`, `${root}/hard`);
    const rows: [path: string, code: string][] = [
      ["link", "forbidden"],
      ["up/secret", "forbidden"],
      ["hard", "forbidden"],
      ["sub", "forbidden"],
      ["../secret", "bad_input"],
      ["sub/../../secret", "bad_input"],
      ["/etc/passwd", "bad_input"],
      ["", "bad_input"],
      ["a\0b", "bad_input"],
      ["c:x", "bad_input"],
    ];
    for (const [path, code] of rows) {
      await t.step(JSON.stringify(path), async () => {
        await assert.rejects(
          readInside(root, path, { bytesMax: 10 }),
          (error) => error instanceof AppError && error.code === code,
        );
      });
    }
  });
});
