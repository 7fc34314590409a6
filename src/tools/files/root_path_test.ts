import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../../core/errors.ts";
import { symlink } from "../../../tests/fakes/symlink.ts";
import { Roots } from "./root_path.ts";

async function inDir(story: (dir: string) => Promise<void>): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const made = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const dir = await Deno.realPath(made);
  try {
    await story(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function link(path: string, name: string): Promise<void> {
  const { success } = await new Deno.Command("ln", { args: [path, name] })
    .output();
  assert.ok(success);
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (of: string) => new TextEncoder().encode(of);
const refused = (code: string) => (error: unknown) =>
  error instanceof AppError && error.code === code;

Deno.test("Roots.parse() takes what is below a root and nothing else", async (t) => {
  const roots = new Roots([
    { path: "/srv/notes", trusted: true },
    { path: "/srv/notes/inbox", trusted: false },
  ], { path: "/state/scratch/main", trusted: false });
  const good: [path: string, root: string, parts: string[]][] = [
    ["/srv/notes", "/srv/notes", []],
    ["/srv/notes/", "/srv/notes", []],
    ["/srv/notes/a b.txt", "/srv/notes", ["a b.txt"]],
    ["/srv/notes/inbox/x", "/srv/notes/inbox", ["x"]],
    ["/srv/notes/inboxes/x", "/srv/notes", ["inboxes", "x"]],
    ["draft.md", "/state/scratch/main", ["draft.md"]],
    ["a/12:30.md", "/state/scratch/main", ["a", "12:30.md"]],
  ];
  for (const [path, root, parts] of good) {
    await t.step(path, () => {
      const place = roots.parse(path);
      assert.equal(place.root.path, root);
      assert.deepEqual(place.parts, parts);
    });
  }
  const bad: [path: string, code: string][] = [
    ["/srv/notesx/a", "forbidden"],
    ["/srv", "forbidden"],
    ["/etc/passwd", "forbidden"],
    ["/srv/notes/../x", "bad_input"],
    ["../x", "bad_input"],
    ["/srv/notes/./x", "bad_input"],
    ["/srv/notes//x", "bad_input"],
    ["/srv/notes/a\0b", "bad_input"],
    ["/srv/notes/a\nb", "bad_input"],
    [`/srv/notes/${"x".repeat(300)}`, "bad_input"],
    [`/srv/notes/${"x/".repeat(70)}x`, "bad_input"],
  ];
  for (const [path, code] of bad) {
    await t.step(JSON.stringify(path).slice(0, 60), () => {
      assert.throws(() => roots.parse(path), refused(code));
    });
  }
  assert.throws(
    () => new Roots([{ path: "/srv", trusted: true }]).parse("x"),
    refused("forbidden"),
  );
});

Deno.test("Roots.parse() never leaves a root, whatever the text", () => {
  const roots = new Roots([{ path: "/srv/notes", trusted: true }]);
  const part = fc.constantFrom("..", ".", "", "a", "/", "\\", "%2e%2e", "~");
  fc.assert(fc.property(fc.array(part), fc.string(), (parts, tail) => {
    try {
      const place = roots.parse(`/srv/notes/${parts.join("/")}${tail}`);
      assert.ok(!place.parts.includes(".."));
      assert.ok(`${place.text}/`.startsWith("/srv/notes/"));
    } catch (error) {
      assert.ok(error instanceof AppError);
    }
  }));
});

Deno.test("Roots reads and writes whole files, with the mode they had", async () => {
  await inDir(async (dir) => {
    const roots = new Roots([{ path: dir, trusted: true }]);
    const place = roots.parse(`${dir}/new/deep/a.txt`);
    await roots.write(place, bytes("one"));
    await roots.write(place, bytes("two"));
    assert.equal(text((await roots.read(place, { bytesMax: 9 })).bytes), "two");
    const cut = await roots.read(place, { bytesMax: 2 });
    assert.deepEqual([text(cut.bytes), cut.isCut, cut.size], ["tw", true, 3]);
    assert.equal(((await Deno.stat(place.text)).mode ?? 0) & 0o777, 0o600);
    const kept = roots.parse(`${dir}/kept`);
    await Deno.writeTextFile(kept.text, "x", { mode: 0o644 });
    await roots.write(kept, bytes("y"));
    assert.equal(((await Deno.stat(kept.text)).mode ?? 0) & 0o777, 0o644);
    const names = (await roots.entries(roots.parse(`${dir}/new/deep`), {
      max: 9,
    })).map((entry) => entry.name);
    assert.deepEqual(names, ["a.txt"], "no temporary file stays");
    await roots.remove(place);
    assert.equal(await roots.stat(place), undefined);
    await assert.rejects(
      roots.read(place, { bytesMax: 9 }),
      refused("not_found"),
    );
  });
});

Deno.test("Roots refuses links, second names, folders and devices", async (t) => {
  await inDir(async (dir) => {
    const root = `${dir}/root`;
    await Deno.mkdir(`${root}/sub`, { recursive: true });
    await Deno.writeTextFile(`${dir}/secret`, "the secret");
    await symlink(`${dir}/secret`, `${root}/link`);
    await symlink(dir, `${root}/up`);
    await symlink(`${dir}/nowhere`, `${root}/dangling`);
    await link(`${dir}/secret`, `${root}/hard`);
    await new Deno.Command("mkfifo", { args: [`${root}/pipe`] }).output();
    const roots = new Roots([{ path: root, trusted: true }]);
    for (const name of ["link", "up/secret", "hard", "sub", "pipe"]) {
      await t.step(`reading ${name}`, async () => {
        const place = roots.parse(`${root}/${name}`);
        await assert.rejects(
          roots.read(place, { bytesMax: 99 }),
          refused("forbidden"),
        );
      });
    }
    for (
      const name of ["link", "up/new", "dangling", "dangling/x", "hard", "sub"]
    ) {
      await t.step(`writing ${name}`, async () => {
        const place = roots.parse(`${root}/${name}`);
        await assert.rejects(
          roots.write(place, bytes("x")),
          refused("forbidden"),
        );
      });
    }
    await t.step("nothing was changed or made outside", async () => {
      assert.equal(await Deno.readTextFile(`${dir}/secret`), "the secret");
      const names = await Array.fromAsync(Deno.readDir(dir), (e) => e.name);
      assert.deepEqual(names.sort(), ["root", "secret"]);
    });
    await t.step("a root that is a link is named in the hint", async () => {
      await symlink(root, `${dir}/alias`);
      const alias = new Roots([{ path: `${dir}/alias`, trusted: true }]);
      await assert.rejects(
        alias.entries(alias.parse(`${dir}/alias`), { max: 9 }),
        refused("forbidden"),
      );
    });
  });
});

Deno.test("Roots never reads through a folder that is swapped for a link", async () => {
  await inDir(async (dir) => {
    const root = `${dir}/root`;
    await Deno.mkdir(`${root}/a`, { recursive: true });
    await Deno.mkdir(`${dir}/other`);
    await Deno.writeTextFile(`${root}/a/file`, "mine");
    await Deno.writeTextFile(`${dir}/other/file`, "the secret");
    const swap = new Deno.Command("sh", {
      args: [
        "-c",
        `cd "$1"; while :; do mv a b; ln -s "$2" a; rm a; mv b a; done`,
        "sh",
        root,
        `${dir}/other`,
      ],
      stderr: "null",
      stdout: "null",
    }).spawn();
    try {
      const roots = new Roots([{ path: root, trusted: true }]);
      const place = roots.parse(`${root}/a/file`);
      const seen = new Set<string>();
      for (let n = 0; n < 1500; n++) {
        try {
          const read = await roots.read(place, { bytesMax: 99 });
          seen.add(text(read.bytes));
        } catch (error) {
          seen.add(error instanceof AppError ? error.code : String(error));
        }
      }
      assert.ok(!seen.has("the secret"), [...seen].join());
    } finally {
      swap.kill("SIGKILL");
      await swap.status;
    }
  });
});
