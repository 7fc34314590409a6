import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { Secret, SecretField } from "../core/secret.ts";
import { symlink } from "../../tests/fakes/symlink.ts";
import { recordEnv } from "./env.ts";
import { loadConfig, type Loaded } from "./load.ts";
import { formatProblem } from "./problem.ts";

const Schema = z.strictObject({
  $schema: z.string().optional(),
  gateway: z.strictObject({
    host: z.string().min(1).default("127.0.0.1"),
    port: z.int().min(1).max(65_535).default(18_789),
    hosts: z.array(z.string().min(1)).max(3).default([]),
  }).prefault({}),
  agents: z.record(
    z.string().regex(/^[a-z]+$/, "an agent's name is of a-z"),
    z.strictObject({
      prompt: z.string().optional(),
      tools: z.union([z.literal("any"), z.array(z.string())]).default("any"),
      level: z.enum(["low", "high"]).default("low"),
    }).prefault({}),
  ).prefault({}),
  providers: z.record(
    z.string(),
    z.strictObject({
      baseUrl: z.url().optional(),
      apiKey: SecretField.optional(),
    }),
  ).prefault({}),
  store: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("file") }),
    z.strictObject({
      kind: z.literal("remote"),
      url: z.url(),
      token: SecretField,
    }),
  ]).default({ kind: "file" }),
});

type Vars = Readonly<Record<string, string>>;

function load(
  env: Vars,
  stateDir = "/nowhere",
): Promise<Loaded<z.infer<typeof Schema>>> {
  return loadConfig(Schema, {
    env: recordEnv(env),
    stateDir,
    findSecret: (name) => {
      if (name === "LOCKED") {
        return Promise.reject(
          new AppError("locked", "Cannot open the secrets: no passphrase", {
            hint: "set it",
          }),
        );
      }
      return Promise.resolve(
        name === "KNOWN" ? new Secret("s3cret", "secret KNOWN") : undefined,
      );
    },
  });
}

function loadText(
  text: string,
  env: Vars = {},
): Promise<Loaded<z.infer<typeof Schema>>> {
  return load({ CARAPACE_CONFIG_JSON: text, ...env });
}

async function problemsOf(text: string, env: Vars = {}): Promise<string[]> {
  const loaded = await loadText(text, env);
  return loaded.ok
    ? []
    : loaded.problems.map((p) => formatProblem(p).replace(`${p.file}:`, ""));
}

async function inFolder(
  files: Readonly<Record<string, string>>,
  run: (dir: string) => Promise<void>,
): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.realPath(
    await Deno.makeTempDir({ dir: "tests/.tmp" }),
  );
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.mkdir(join(dir, name, ".."), { recursive: true });
      await Deno.writeTextFile(join(dir, name), text, { mode: 0o600 });
    }
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The problems of a folder's `carapace.jsonc`, with paths from that folder. */
async function problemsIn(dir: string, env: Vars = {}): Promise<string[]> {
  const loaded = await load(env, dir);
  return loaded.ok
    ? []
    : loaded.problems.map((p) => formatProblem(p).replaceAll(`${dir}/`, ""));
}

Deno.test("loadConfig() says what is wrong, where, and what to do", async (t) => {
  const rows: [why: string, text: string, want: string[]][] = [
    ["a mistyped key", '{"gateway":{"prot":1}}', [
      '1:13: gateway.prot: "prot" is not a key that belongs here (did you mean "port"?)',
    ]],
    ["another spelling", '{"gate_way":{}}', [
      '1:2: gate_way: "gate_way" is not a key that belongs here (did you mean "gateway"?)',
    ]],
    ["a key at the wrong level", '{\n  "port": 1\n}', [
      '2:3: port: "port" is not a key that belongs here (did you mean "gateway.port"?)',
    ]],
    ["a key like no other", '{"providers":{"a":{"zzzzzz":1}}}', [
      '1:20: providers.a.zzzzzz: "zzzzzz" is not a key that belongs here (known here: baseUrl, apiKey)',
    ]],
    ["a wrong type", '{"gateway":{"port":"80"}}', [
      "1:20: gateway.port: wants a number, got a string",
    ]],
    ["one below", '{"gateway":{"port":0}}', [
      "1:20: gateway.port: must be at least 1, got 0",
    ]],
    ["one above", '{"gateway":{"port":65536}}', [
      "1:20: gateway.port: must be at most 65535, got 65536",
    ]],
    ["not whole", '{"gateway":{"port":1.5}}', [
      "1:20: gateway.port: wants a whole number, got 1.5",
    ]],
    ["an empty string in a list", '{"gateway":{"hosts":["a",""]}}', [
      "1:26: gateway.hosts.1: must not be empty",
    ]],
    ["a long list", '{"gateway":{"hosts":["a","b","c","d"]}}', [
      "1:21: gateway.hosts: must have at most 3 entries",
    ]],
    ["null", '{"gateway":null}', ["1:12: gateway: wants an object, got null"]],
    ["neither of two", '{"agents":{"a":{"tools":5}}}', [
      '1:25: agents.a.tools: wants "any" or a list, got a number',
    ]],
    ["an entry of one of two", '{"agents":{"a":{"tools":["x",5]}}}', [
      "1:30: agents.a.tools.1: wants a string, got a number",
    ]],
    ["not one of the words", '{"agents":{"a":{"level":"mid"}}}', [
      '1:25: agents.a.level: wants one of "low", "high", got "mid"',
    ]],
    ["a name that is none", '{"agents":{"A b":{}}}', [
      '1:18: agents."A b": an agent\'s name is of a-z',
    ]],
    ["no such kind", '{"store":{"kind":"tape"}}', [
      '1:18: store.kind: wants one of "file", "remote"',
    ]],
    ["what a kind lacks", '{"store":{"kind":"remote","token":"${K}"}}', [
      "1:2: store.url: is missing: it wants a string",
    ]],
    ["not a URL", '{"providers":{"a":{"baseUrl":"x"}}}', [
      '1:30: providers.a.baseUrl: must be a whole URL, such as "https://example.com"',
    ]],
    ["a key twice", '{"agents":{},\n"agents":{}}', [
      '2:1: agents: "agents" is written twice, first in line 1 (keep one)',
    ]],
    ["a reserved key", '{"__proto__":{"gateway":{}}}', [
      '1:2: "__proto__" cannot be a key',
    ]],
    ["no comma", '{"agents":{} "gateway":{}}', [
      "1:14: it is not JSON: a comma belongs here",
    ]],
    ["a cut text", '{\n"agents":{', [
      "2:11: it is not JSON: a closing } is missing",
    ]],
    ["no object", "[]", ["1:1: the outermost value must be an object"]],
    ["a comment only", "// later\n", [
      "2:1: it holds no JSON value (write {} for a configuration without lines)",
    ]],
    ["too deep", "[".repeat(100_000), ["1:65: it nests deeper than 64 levels"]],
    ["all at once", '{"prot":1,\n"gateway":{"port":0,"host":7}}', [
      '1:2: prot: "prot" is not a key that belongs here (known here: gateway, agents, providers, store)',
      "2:19: gateway.port: must be at least 1, got 0",
      "2:28: gateway.host: wants a string, got a number",
    ]],
  ];
  for (const [why, text, want] of rows) {
    await t.step(why, async () => {
      assert.deepEqual(await problemsOf(text, { K: "v" }), want);
    });
  }
});

Deno.test("loadConfig() reads comments, trailing commas and a byte order mark", async () => {
  const loaded = await loadText(
    '\ufeff{ // one\n "gateway": { /* two */ "port": 8080, },\n}',
  );
  assert.ok(loaded.ok);
  assert.equal(loaded.value.gateway.port, 8080);
  assert.equal(loaded.where("gateway.port"), "CARAPACE_CONFIG_JSON:2");
  assert.equal(loaded.where("gateway.host"), "CARAPACE_CONFIG_JSON");
});

Deno.test("loadConfig() puts variables into strings and counts them", async () => {
  const loaded = await loadText(
    '{"agents":{"a":{"prompt":"${WHO} owes $$5, $3 and $${WHO}"}},' +
      '"gateway":{"host":"${HOST}"}}',
    { WHO: "${HOST}", HOST: "::1" },
  );
  assert.ok(loaded.ok);
  // What a variable holds is not read again.
  assert.equal(
    loaded.value.agents["a"]?.prompt,
    "${HOST} owes $5, $3 and ${WHO}",
  );
  assert.equal(loaded.value.gateway.host, "::1");
  assert.deepEqual(loaded.variables, ["HOST", "WHO"]);
});

Deno.test("loadConfig() makes secrets only in secret fields", async () => {
  const loaded = await loadText(
    '{"providers":{"a":{"apiKey":"${secret:KNOWN}"},"b":{"apiKey":"${B_KEY}"}},' +
      '"store":{"kind":"remote","url":"https://x","token":"${secret:KNOWN}"}}',
    { B_KEY: "from env" },
  );
  assert.ok(loaded.ok);
  const { a, b } = loaded.value.providers;
  assert.deepEqual(
    [a?.apiKey?.reveal(), a?.apiKey?.source],
    ["s3cret", "secret KNOWN"],
  );
  assert.deepEqual(
    [b?.apiKey?.reveal(), b?.apiKey?.source],
    ["from env", "env B_KEY"],
  );
  assert.ok(!JSON.stringify(loaded.value).includes("s3cret"));
});

Deno.test("loadConfig() refuses a reference that does not hold", async (t) => {
  const key = (text: string) => `{"providers":{"a":{"apiKey":"${text}"}}}`;
  const prompt = (text: string) => `{"agents":{"a":{"prompt":"${text}"}}}`;
  const rows: [why: string, text: string, want: RegExp][] = [
    [
      "a plain secret",
      key("sk-abcdef"),
      /1:29: .*apiKey: a secret is not written in the configuration \(run "carapace secret set A_API_KEY"/,
    ],
    ["a part of a secret", key("Bearer ${TOK}"), /is not written/],
    ["two references", key("${TOK}${TOK}"), /is not written/],
    ["a missing secret", key("${secret:NOPE}"), /there is no secret "NOPE"/],
    ["a secret's odd name", key("${secret:a b}"), /cannot be a secret's name/],
    ["a closed vault", key("${secret:LOCKED}"), /no passphrase \(set it\)/],
    ["an unset secret variable", key("${NOPE}"), /variable NOPE is not set/],
    ["an unset variable", prompt("${NOPE}"), /variable NOPE is not set/],
    ["a variable's odd name", prompt("${a b}"), /cannot be a variable's name/],
    ["an open reference", prompt("${WHO"), /a \$\{ is not closed/],
    ["a secret in a prompt", prompt("${secret:KNOWN}"), /cannot stand here/],
    ["a key in a prompt", prompt("${MY_API_KEY}"), /looks like a secret/],
    ["a key in a list", '{"gateway":{"hosts":["${T_TOKEN}"]}}', /hosts\.0: /],
    ["our passphrase", key("${CARAPACE_PASSPHRASE}"), /may not read/],
  ];
  for (const [why, text, want] of rows) {
    await t.step(why, async () => {
      const problems = await problemsOf(text, {
        TOK: "t",
        WHO: "w",
        MY_API_KEY: "sk-abcdef",
        T_TOKEN: "sk-abcdef",
        CARAPACE_PASSPHRASE: "sk-abcdef",
      });
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.match(problems[0] ?? "", want);
      assert.ok(!problems.join().includes("sk-abcdef"));
    });
  }
});

Deno.test("loadConfig() looks where it is told", async () => {
  await inFolder({
    "state/carapace.jsonc": '{"gateway":{"port":1}}',
    "other.jsonc": '{"gateway":{"port":2}}',
  }, async (dir) => {
    const state = join(dir, "state");
    const env = {
      CARAPACE_CONFIG_PATH: join(dir, "other.jsonc"),
      CARAPACE_CONFIG_JSON: '{"gateway":{"port":3}}',
    };
    const ports = async (env: Vars, stateDir: string) => {
      const loaded = await load(env, stateDir);
      assert.ok(loaded.ok);
      return [loaded.value.gateway.port, loaded.source.replace(`${dir}/`, "")];
    };
    assert.deepEqual(await ports(env, state), [3, "CARAPACE_CONFIG_JSON"]);
    assert.deepEqual(
      await ports({ ...env, CARAPACE_CONFIG_JSON: "" }, state),
      [2, "other.jsonc"],
    );
    assert.deepEqual(await ports({}, state), [1, "state/carapace.jsonc"]);
    assert.deepEqual(await ports({}, dir), [18_789, "defaults"]);
  });
});

Deno.test("loadConfig() refuses a file it cannot trust or read", async (t) => {
  await inFolder({ "ok.jsonc": "{}" }, async (dir) => {
    const path = join(dir, "carapace.jsonc");
    const check = (why: string, make: () => Promise<void>, want: RegExp) =>
      t.step(why, async () => {
        await make();
        const problems = await problemsIn(dir);
        assert.equal(problems.length, 1);
        assert.match(problems[0] ?? "", want);
        await Deno.remove(path, { recursive: true });
      });
    const write = (text: string | Uint8Array, mode = 0o600) => async () => {
      const bytes = typeof text === "string"
        ? new TextEncoder().encode(text)
        : text;
      await Deno.writeFile(path, bytes);
      await Deno.chmod(path, mode);
    };
    await check("a folder", () => Deno.mkdir(path), /it is a folder/);
    await check(
      "group may write",
      write("{}", 0o620),
      /others than its owner can write it \(run "chmod 600/,
    );
    await check("all may write", write("{}", 0o602), /can write it/);
    await check(
      "one byte too large",
      write("{}" + " ".repeat(1_048_575)),
      /larger than 1048576 bytes/,
    );
    await check("not UTF-8", write(new Uint8Array([0xff])), /not UTF-8/);
    await check(
      "a link to a pipe's folder",
      () => symlink("/dev/null", path),
      /not a regular file/,
    );
    await t.step("the largest file that is read, readable by all", async () => {
      await write("{}" + " ".repeat(1_048_574), 0o644)();
      assert.deepEqual(await problemsIn(dir), []);
    });
    await t.step("a named file that is not there", async () => {
      const env = { CARAPACE_CONFIG_PATH: join(dir, "none.jsonc") };
      assert.match((await problemsIn(dir, env))[0] ?? "", /there is no such/);
    });
    await t.step("a name of blanks", async () => {
      const env = { CARAPACE_CONFIG_PATH: " " };
      assert.match((await problemsIn(dir, env))[0] ?? "", /names no file/);
    });
  });
});

Deno.test("loadConfig() merges includes under the file that includes them", async () => {
  await inFolder({
    "carapace.jsonc":
      '{\n"$include": ["a.jsonc", "sub/b.jsonc"],\n"gateway": {"port": 1},\n' +
      '"agents": {"x": {"$include": "x.jsonc"}}}',
    "a.jsonc": '{"gateway": {"port": 2, "host": "a", "hosts": ["a", "b"]}}',
    "sub/b.jsonc": '{\n"$include": "c.jsonc",\n"gateway": {"hosts": ["b"]}}',
    "sub/c.jsonc": '{"agents": {"c": {"prompt": "from c"}}}',
    "x.jsonc": '{"prompt": "from x"}',
  }, async (dir) => {
    const loaded = await load({}, dir);
    assert.ok(loaded.ok);
    assert.deepEqual(loaded.value.gateway, {
      host: "a",
      port: 1,
      hosts: ["b"],
    });
    assert.deepEqual(
      Object.entries(loaded.value.agents).map(([n, a]) => [n, a.prompt]),
      [["c", "from c"], ["x", "from x"]],
    );
    assert.deepEqual(
      loaded.files.map((file) => file.replace(`${dir}/`, "")),
      ["carapace.jsonc", "x.jsonc", "a.jsonc", "sub/b.jsonc", "sub/c.jsonc"],
    );
    assert.equal(loaded.where("gateway.port"), "carapace.jsonc:3");
    assert.equal(loaded.where("gateway.hosts"), "sub/b.jsonc:3");
    const { hash } = loaded;
    await Deno.writeTextFile(join(dir, "sub/c.jsonc"), "{}");
    const again = await load({}, dir);
    assert.ok(again.ok && again.hash !== hash);
  });
});

Deno.test("loadConfig() keeps includes inside the configuration's folder", async (t) => {
  const files = {
    "conf/carapace.jsonc": "{}",
    "conf/wrong.jsonc": '{\n  "gateway": {"prot": 1}}',
    "conf/broken.jsonc": '{\n\n  "gateway" 1}',
    "conf/loop.jsonc": '{"$include": "sub/back.jsonc"}',
    "conf/sub/back.jsonc": '{"$include": "../loop.jsonc"}',
    "conf/list.jsonc": "[]",
    "conf/notes.txt": "{}",
    "conf/shared.jsonc": "{}",
    "secret.jsonc": "{}",
  };
  await inFolder(files, async (dir) => {
    const conf = join(dir, "conf");
    await symlink(join(dir, "secret.jsonc"), join(conf, "link.jsonc"));
    await symlink(dir, join(conf, "up"));
    await symlink("list.jsonc", join(conf, "inside.jsonc"));
    await Deno.chmod(join(conf, "shared.jsonc"), 0o666);
    for (let n = 1; n <= 11; n++) {
      const text = n === 11 ? "{}" : `{"$include": "d${n + 1}.jsonc"}`;
      const mode = { mode: 0o600 };
      await Deno.writeTextFile(join(conf, `d${n}.jsonc`), text, mode);
    }
    const rows: [include: string, want: RegExp][] = [
      ['"../secret.jsonc"', /carapace.jsonc:1:14: .*outside the config/],
      ['"link.jsonc"', /outside the configuration's folder/],
      ['"up/secret.jsonc"', /outside the configuration's folder/],
      [JSON.stringify(join(dir, "secret.jsonc")), /outside/],
      ['"none.jsonc"', /"none.jsonc": there is no such file/],
      ['"notes.txt"', /must end in .jsonc or .json/],
      ['"shared.jsonc"', /can write it \(run "chmod 600/],
      ['"wrong.jsonc"', /wrong.jsonc:2:15: gateway.prot: .* "port"\?/],
      ['"broken.jsonc"', /broken.jsonc:3:13: it is not JSON: a colon/],
      ['"inside.jsonc"', /inside.jsonc:1:1: the outermost value/],
      [
        '"loop.jsonc"',
        /itself: loop.jsonc → sub\/back.jsonc → loop.jsonc/,
      ],
      ['"carapace.jsonc"', /itself: carapace.jsonc → carapace.jsonc/],
      ["5", /wants a file name or a list/],
      ['["d2.jsonc", 5]', /wants a file name or a list/],
      ['"d1.jsonc"', /d10.jsonc:1:14: .*deeper than 10/],
    ];
    for (const [include, want] of rows) {
      await t.step(include.replace(dir, ""), async () => {
        const path = join(conf, "carapace.jsonc");
        await Deno.writeTextFile(path, `{"$include": ${include}}`);
        const problems = await problemsIn(conf);
        assert.equal(problems.length, 1, problems.join("\n"));
        assert.match(problems[0] ?? "", want);
      });
    }
    await t.step("ten deep is not too deep", async () => {
      const path = join(conf, "carapace.jsonc");
      await Deno.writeTextFile(path, `{"$include": "d2.jsonc"}`);
      assert.deepEqual(await problemsIn(conf), []);
    });
  });
  await t.step("a variable's text includes nothing", async () => {
    assert.match(
      (await problemsOf('{"$include":"/etc/x.json"}'))[0] ?? "",
      /only a file can include/,
    );
  });
});

Deno.test("loadConfig() follows a link to the configuration itself", async () => {
  await inFolder({
    "dots/carapace.jsonc": '{"$include": "more.jsonc"}',
    "dots/more.jsonc": '{"gateway": {"port": 7}}',
  }, async (dir) => {
    await Deno.mkdir(join(dir, "state"));
    const link = join(dir, "state/carapace.jsonc");
    await symlink(join(dir, "dots/carapace.jsonc"), link);
    const loaded = await load({}, join(dir, "state"));
    assert.ok(loaded.ok);
    assert.equal(loaded.value.gateway.port, 7);
  });
});
