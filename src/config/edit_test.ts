import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { Secret, SecretField } from "../core/secret.ts";
import { type Edit, editConfig, type Edited } from "./edit.ts";
import { symlink } from "../../tests/fakes/symlink.ts";
import { recordEnv } from "./env.ts";
import { loadConfig, type LoadOptions } from "./load.ts";

const Schema = z.strictObject({
  gateway: z.strictObject({
    port: z.int().max(65_535).default(1),
    hosts: z.array(z.string()).default([]),
  }).prefault({}),
  agents: z.record(
    z.string(),
    z.strictObject({ prompt: z.string().optional() }),
  ).prefault({}),
  key: SecretField.optional(),
});

const TEXT = `{
  // How to reach it.
  "gateway": {
    "port": 8080, // the usual one
    "hosts": ["a"]
  },
  "agents": { "main": { "prompt": "\${WHO}" } }
}
`;

type House = {
  dir: string;
  path: string;
  options: LoadOptions;
  edit(
    edits: Edit[],
    baseHash?: string,
  ): Promise<Edited<z.infer<typeof Schema>>>;
  read(): Promise<string>;
};

async function withConfig(
  text: string | undefined,
  run: (house: House) => Promise<void>,
): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const path = join(dir, "carapace.jsonc");
  const options: LoadOptions = {
    env: recordEnv({ WHO: "resolved value" }),
    stateDir: dir,
    findSecret: () => Promise.resolve(new Secret("s", "secret S")),
  };
  try {
    if (text !== undefined) await Deno.writeTextFile(path, text);
    await run({
      dir,
      path,
      options,
      edit: (edits, baseHash) =>
        editConfig(Schema, {
          ...options,
          edits,
          ...(baseHash === undefined ? {} : { baseHash }),
        }),
      read: () => Deno.readTextFile(path),
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("editConfig() changes its line and keeps every comment and reference", async () => {
  await withConfig(TEXT, async ({ edit, read, path, dir }) => {
    const edited = await edit([{ path: ["gateway", "port"], value: 9090 }]);
    assert.ok(edited.ok);
    assert.equal(await read(), TEXT.replace("8080", "9090"));
    assert.equal(edited.loaded.value.gateway.port, 9090);
    assert.deepEqual(edited.changes, [
      { path: "gateway.port", before: 8080, after: 9090 },
    ]);
    assert.equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
    const names = (await Array.fromAsync(Deno.readDir(dir))).map((e) => e.name);
    assert.deepEqual(names.sort(), ["carapace.jsonc", "config.lock"]);
  });
});

Deno.test("editConfig() adds, changes list entries and removes", async () => {
  await withConfig(TEXT, async ({ edit, read }) => {
    const edited = await edit([
      { path: ["gateway", "hosts", "1"], value: "b" },
      { path: ["agents", "other.one"], value: { prompt: "p" } },
      { path: ["gateway", "port"], value: undefined },
      { path: ["key"], value: "${secret:S}" },
    ]);
    assert.ok(edited.ok);
    assert.deepEqual(edited.loaded.value.gateway, {
      port: 1,
      hosts: ["a", "b"],
    });
    assert.equal(edited.loaded.value.agents["other.one"]?.prompt, "p");
    assert.deepEqual(edited.changes.map((c) => [c.path, c.before, c.after]), [
      ["gateway.hosts.1", undefined, "b"],
      ['agents."other.one"', undefined, { prompt: "p" }],
      ["gateway.port", 8080, undefined],
      ["key", undefined, "${secret:S}"],
    ]);
    const text = await read();
    assert.ok(text.includes("// How to reach it.") && text.includes("${WHO}"));
    assert.ok(!text.includes("resolved value"));
  });
});

Deno.test("editConfig() makes the file when there is none", async () => {
  await withConfig(undefined, async ({ edit, read }) => {
    const edited = await edit([{ path: ["gateway", "port"], value: 2 }]);
    assert.ok(edited.ok);
    assert.equal(await read(), '{\n  "gateway": {\n    "port": 2\n  }\n}\n');
  });
});

Deno.test("editConfig() writes nothing that would not load", async (t) => {
  const rows: [why: string, text: string, edit: Edit, want: RegExp][] = [
    [
      "a wrong value",
      TEXT,
      { path: ["gateway", "port"], value: "x" },
      /number/,
    ],
    ["a plain secret", TEXT, { path: ["key"], value: "sk-1" }, /not written/],
    ["an unknown key", TEXT, { path: ["gateway", "prot"], value: 1 }, /"prot"/],
    ["a broken file", "{", { path: ["gateway", "port"], value: 1 }, /JSON/],
    [
      "a file that is wrong elsewhere",
      '{"x":1}',
      { path: ["gateway", "port"], value: 1 },
      /"x"/,
    ],
  ];
  for (const [why, text, change, want] of rows) {
    await t.step(why, async () => {
      await withConfig(text, async ({ edit, read }) => {
        const edited = await edit([change]);
        assert.ok(!edited.ok);
        assert.match(edited.problems[0]?.message ?? "", want);
        assert.equal(await read(), text);
      });
    });
  }
  await t.step("a repair of the only mistake is written", async () => {
    await withConfig('{"gateway":{"port":"x"}}', async ({ edit, read }) => {
      assert.ok((await edit([{ path: ["gateway", "port"], value: 1 }])).ok);
      assert.equal(await read(), '{"gateway":{"port":1}}');
    });
  });
  for (
    const path of [[], ["gateway", "port", "x"], ["gateway", "hosts", "9"], [
      "gateway",
      "hosts",
      "x",
    ]]
  ) {
    await t.step(`no such place: ${path.join(".")}`, async () => {
      await withConfig(TEXT, async ({ edit, read }) => {
        await assert.rejects(edit([{ path, value: 1 }]), { code: "bad_input" });
        assert.equal(await read(), TEXT);
      });
    });
  }
});

Deno.test("editConfig() refuses to write over what the caller has not seen", async () => {
  await withConfig(TEXT, async ({ edit, options, path, read }) => {
    const seen = await loadConfig(Schema, options);
    assert.ok(seen.ok);
    const first = await edit(
      [{ path: ["gateway", "port"], value: 1 }],
      seen.hash,
    );
    assert.ok(first.ok && first.loaded.hash !== seen.hash);
    await assert.rejects(
      edit([{ path: ["gateway", "port"], value: 2 }], seen.hash),
      { code: "conflict" },
    );
    const again = await loadConfig(Schema, options);
    assert.ok(again.ok && again.hash === first.loaded.hash);
    const text = await read();
    const env = recordEnv({ CARAPACE_CONFIG_JSON: "{}" });
    await assert.rejects(
      editConfig(Schema, { ...options, env, edits: [] }),
      { code: "bad_input", message: /it comes from CARAPACE_CONFIG_JSON/ },
    );
    assert.equal(await Deno.readTextFile(path), text);
  });
});

Deno.test("editConfig() refuses when the file changes meanwhile", async () => {
  await withConfig(TEXT, async ({ options, path, read }) => {
    const other = TEXT.replace("8080", "1234");
    const meddling: LoadOptions = {
      ...options,
      findSecret: async () => {
        await Deno.writeTextFile(path, other);
        return new Secret("s", "secret S");
      },
    };
    const edits = [{ path: ["key"], value: "${secret:S}" }];
    await assert.rejects(editConfig(Schema, { ...meddling, edits }), {
      code: "conflict",
    });
    assert.equal(await read(), other);
  });
});

Deno.test("editConfig() loses nothing when several edit at once", async () => {
  await withConfig(TEXT, async ({ edit, options }) => {
    const names = Array.from({ length: 10 }, (_, n) => `n${n}`);
    await Promise.all(
      names.map((name) => edit([{ path: ["agents", name], value: {} }])),
    );
    const loaded = await loadConfig(Schema, options);
    assert.ok(loaded.ok);
    assert.equal(Object.keys(loaded.value.agents).length, 11);
  });
});

Deno.test("editConfig() keeps a link a link, and Windows line ends", async () => {
  await withConfig(undefined, async ({ dir, path, edit }) => {
    const real = join(dir, "real.jsonc");
    await Deno.writeTextFile(real, '{\r\n  "agents": {}\r\n}\r\n');
    await symlink("real.jsonc", path);
    assert.ok((await edit([{ path: ["gateway", "port"], value: 2 }])).ok);
    assert.ok((await Deno.lstat(path)).isSymlink);
    assert.ok(!/[^\r]\n/.test(await Deno.readTextFile(real)));
  });
});
