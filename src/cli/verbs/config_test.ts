import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { recordEnv } from "../../config/env.ts";
import { loadConfig } from "../../config/load.ts";
import { openSecrets } from "../../config/secrets.ts";
import { SecretField } from "../../core/secret.ts";
import { systemClock } from "../../core/time.ts";
import { runCli } from "../run.ts";
import { EXIT, type Io, type Roof } from "../verb.ts";

const Schema = z.strictObject({
  gateway: z.strictObject({
    port: z.int().min(1).max(65_535).default(18_789),
    hosts: z.array(z.string()).default([]),
    proxy: z.string().optional(),
  }).prefault({}),
  agents: z.record(
    z.string(),
    z.strictObject({ prompt: z.string().optional() }),
  ).prefault({ main: {} }),
  providers: z.record(
    z.string(),
    z.strictObject({ apiKey: SecretField.optional() }),
  ).prefault({}),
});

type Ran = { code: number; out: string; err: string };
type RunOptions = {
  input?: string | string[];
  terminal?: boolean;
  env?: Record<string, string>;
};
type House = {
  dir: string;
  path: string;
  raw: boolean[];
  run(args: string[], options?: RunOptions): Promise<Ran>;
};

async function inHouse(
  text: string | undefined,
  test: (house: House) => Promise<void>,
): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.realPath(
    await Deno.makeTempDir({ dir: "tests/.tmp" }),
  );
  const path = join(dir, "carapace.jsonc");
  const raw: boolean[] = [];
  try {
    if (text !== undefined) await Deno.writeTextFile(path, text);
    await test({ dir, path, raw, run: makeRun(dir, raw) });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function makeRun(dir: string, raw: boolean[]): House["run"] {
  return async (args, { input = "", terminal = false, env: vars } = {}) => {
    const env = recordEnv({ CARAPACE_STATE_DIR: dir, ...vars });
    const secrets = openSecrets({ dir, env });
    const unused = () => Promise.reject(new TypeError("not used here"));
    const roof: Roof = {
      schema: () => Promise.resolve(Schema),
      load: () =>
        loadConfig(Schema, {
          env,
          stateDir: dir,
          findSecret: (name) => secrets.find(name),
        }),
      permissions: unused,
      start: unused,
    };
    const ran: Ran = { code: -1, out: "", err: "" };
    const chunks = [input].flat().map((text) => new TextEncoder().encode(text));
    const io: Io = {
      args,
      env,
      clock: systemClock,
      out: (text) => void (ran.out += text),
      err: (text) => void (ran.err += text),
      isTerminal: terminal,
      color: false,
      stdin: ReadableStream.from(chunks),
      stdinIsTerminal: terminal,
      setRaw: (on) => void raw.push(on),
      onInterrupt: () => ({ [Symbol.dispose]: () => {} }),
    };
    ran.code = await runCli(io, roof);
    return ran;
  };
}

const TEXT = `{
  // the usual port
  "gateway": { "port": 8080, "proxy": "http://me:hunter2@proxy:1" },
  "providers": {
    "a": { "apiKey": "\${A_KEY}" }
  }
}
`;
const KEY = { env: { A_KEY: "sk-hidden" } };

Deno.test("config show prints every value, its place, and no secret", async () => {
  await inHouse(TEXT, async ({ run, path }) => {
    const { code, out } = await run(["config", "show"], KEY);
    assert.equal(code, EXIT.ok);
    assert.equal(
      out,
      `// ${path}
{
  "gateway": {
    "port": 8080,  // carapace.jsonc:3
    "hosts": [],
    "proxy": "http://[secret]@proxy:1"  // carapace.jsonc:3
  },
  "agents": {
    "main": {}
  },
  "providers": {
    "a": {
      "apiKey": "[secret]"  // carapace.jsonc:5, env A_KEY
    }
  }
}
`,
    );
    const json = await run(["config", "show", "--json"], KEY);
    assert.ok(!/hunter2|sk-hidden/.test(json.out));
    const { value, where } = JSON.parse(json.out);
    assert.equal(value.gateway.port, 8080);
    assert.equal(where["providers.a.apiKey"], "carapace.jsonc:5, env A_KEY");
  });
});

Deno.test("config path says where, whether or not it is there", async () => {
  await inHouse(undefined, async ({ run, path }) => {
    const { out, err } = await run(["config", "path"]);
    assert.equal(out, `${path}\n`);
    assert.match(err, /no such file yet/);
    const json = JSON.parse((await run(["config", "path", "--json"])).out);
    assert.equal(json.exists, false);
    const env = { CARAPACE_CONFIG_JSON: "{}" };
    const text = await run(["config", "path"], { env });
    assert.equal(text.out, "CARAPACE_CONFIG_JSON\n");
  });
});

Deno.test("config get prints one value, or says what is wrong with the key", async (t) => {
  const rows: [key: string, code: number, want: RegExp][] = [
    ["gateway.port", EXIT.ok, /^8080\n$/],
    ["gateway.hosts", EXIT.ok, /^\[\]\n$/],
    ["providers.a.apiKey", EXIT.ok, /^\[secret\]\n$/],
    ["gateway.proxy", EXIT.ok, /^http:\/\/\[secret\]@proxy:1\n$/],
    [
      "gateway.prot",
      EXIT.failed,
      /no key "gateway.prot"[^]*mean "gateway.port"/,
    ],
    ["agents.main.prompt", EXIT.failed, /"agents.main.prompt" is not set/],
    ["constructor", EXIT.failed, /no key "constructor"/],
    ["a..b", EXIT.usage, /Cannot read the key/],
  ];
  await inHouse(TEXT, async ({ run }) => {
    for (const [key, code, want] of rows) {
      await t.step(key, async () => {
        const ran = await run(["config", "get", key], KEY);
        assert.equal(ran.code, code);
        assert.match(ran.out + ran.err, want);
      });
    }
  });
});

Deno.test("config set changes one line, says old and new, refuses what would not load", async (t) => {
  await inHouse(TEXT, async ({ run, path }) => {
    await t.step("a number", async () => {
      const ran = await run(["config", "set", "gateway.port", "9090"], KEY);
      assert.equal(ran.code, EXIT.ok, ran.err);
      assert.equal(ran.out, "gateway.port: 8080 → 9090 (carapace.jsonc:3)\n");
      assert.equal(
        await Deno.readTextFile(path),
        TEXT.replace("8080", "9090"),
      );
    });
    await t.step("a string without quotes, and with --json", async () => {
      const args = ["config", "set", "agents.main.prompt", "be kind", "--json"];
      const { out } = await run(args, KEY);
      const { before, after, hash } = JSON.parse(out);
      assert.deepEqual([before, after], [undefined, "be kind"]);
      const stale = ["config", "set", "gateway.port", "1", "--base-hash"];
      const refused = await run([...stale, "0".repeat(64)], KEY);
      assert.equal(refused.code, EXIT.failed);
      assert.match(refused.err, /it changed since it was read/);
      assert.equal((await run([...stale, hash], KEY)).code, EXIT.ok);
    });
    await t.step("a secret in plain text", async () => {
      const before = await Deno.readTextFile(path);
      const args = ["config", "set", "providers.a.apiKey", "sk-plain"];
      const { code, err, out } = await run(args, KEY);
      assert.equal(code, EXIT.badConfig);
      assert.match(err, /run "carapace secret set A_API_KEY"/);
      assert.ok(!(out + err).includes("sk-plain"));
      assert.equal(await Deno.readTextFile(path), before);
    });
    await t.step("away with it", async () => {
      const ran = await run(["config", "unset", "gateway.port"], KEY);
      assert.equal(ran.out, `gateway.port: 1 → 18789 (${path})\n`);
    });
    await t.step("nothing to set", async () => {
      const ran = await run(["config", "set", "gateway.port"], KEY);
      assert.equal(ran.code, EXIT.usage);
    });
  });
});

Deno.test("config validate prints every problem with its position", async () => {
  const wrong = '{\n  "gateway": {"prot": 1, "port": 0}\n}';
  await inHouse(wrong, async ({ run, path, dir }) => {
    const { code, out } = await run(["config", "validate"]);
    assert.equal(code, EXIT.badConfig);
    assert.equal(
      out,
      `${path}:2:15: gateway.prot: "prot" is not a key that belongs here (did you mean "port"?)\n` +
        `${path}:2:34: gateway.port: must be at least 1, got 0\n`,
    );
    const json = await run(["config", "validate", "--json"]);
    assert.equal(json.code, EXIT.badConfig);
    assert.equal(JSON.parse(json.out).problems.length, 2);
    assert.equal((await run(["config", "show"])).code, EXIT.badConfig);

    const other = join(dir, "other.jsonc");
    await Deno.writeTextFile(other, "{}");
    const good = await run(["config", "validate", other]);
    assert.deepEqual([good.code, good.out], [EXIT.ok, `${other}: valid\n`]);
    const none = await run(["config", "validate", join(dir, "none.jsonc")]);
    assert.match(none.out, /there is no such file/);
  });
});

Deno.test("config schema prints a JSON Schema; unknown forms are usage errors", async () => {
  await inHouse(undefined, async ({ run }) => {
    const { properties } = JSON.parse((await run(["config", "schema"])).out);
    assert.equal(properties.gateway.properties.port.default, 18_789);
    for (const args of [[], ["shwo"], ["show", "x"], ["set"], ["--nope"]]) {
      assert.equal((await run(["config", ...args])).code, EXIT.usage);
    }
  });
});

Deno.test("secret set takes a pipe or a hidden line, and shows nothing", async (t) => {
  await inHouse(undefined, async ({ run, dir, raw }) => {
    const find = async (name: string) =>
      (await openSecrets({ dir, env: recordEnv({}) }).find(name))?.reveal();
    const rows: [
      why: string,
      options: RunOptions,
      code: number,
      want: string | undefined,
    ][] = [
      ["a pipe with a line end", { input: "v1\n" }, EXIT.ok, "v1"],
      ["a pipe of lines", { input: "a\nb\r\n" }, EXIT.ok, "a\nb"],
      ["an empty pipe", { input: "\n" }, EXIT.failed, undefined],
      [
        "typed, with mistakes",
        { terminal: true, input: ["ab", "x\x7f", "c\r"] },
        EXIT.ok,
        "abc",
      ],
      [
        "pasted",
        { terminal: true, input: "\x1b[200~zz\x15pasted\x1b[201~\n" },
        EXIT.ok,
        "pasted",
      ],
      [
        "Ctrl-C",
        { terminal: true, input: "ab\x03" },
        EXIT.interrupted,
        undefined,
      ],
      [
        "several lines pasted",
        { terminal: true, input: "a\rb\r" },
        EXIT.failed,
        undefined,
      ],
    ];
    for (const [n, [why, options, code, want]] of rows.entries()) {
      await t.step(why, async () => {
        raw.length = 0;
        const ran = await run(["secret", "set", `S${n}`], options);
        assert.equal(ran.code, code, ran.err);
        assert.equal(await find(`S${n}`), want);
        if (want !== undefined) {
          assert.ok(!(ran.out + ran.err).includes(want));
          assert.match(ran.out, new RegExp(`"\\$\\{secret:S${n}\\}"`));
        }
        assert.deepEqual(raw, options.terminal === true ? [true, false] : []);
      });
    }
    await t.step("an argument", async () => {
      const ran = await run(["secret", "set", "X", "sk-1"]);
      assert.equal(ran.code, EXIT.usage);
      assert.equal(await find("X"), undefined);
    });
  });
});

Deno.test("secret list, remove and rotate", async () => {
  await inHouse(undefined, async ({ run, dir }) => {
    assert.match((await run(["secret", "list"])).err, /No secrets/);
    await run(["secret", "set", "B"], { input: "b" });
    await run(["secret", "set", "A"], { input: "a" });
    assert.equal((await run(["secret", "list"])).out, "A\nB\n");
    assert.equal((await run(["secret", "rotate"])).code, EXIT.ok);
    assert.equal((await run(["secret", "remove", "A"])).code, EXIT.ok);
    assert.equal((await run(["secret", "remove", "A"])).code, EXIT.failed);
    const { out } = await run(["secret", "list", "--json"]);
    assert.deepEqual(JSON.parse(out), { names: ["B"] });
    const env = { CARAPACE_PASSPHRASE: "correct horse" };
    assert.equal((await run(["secret", "rotate"], { env })).code, EXIT.ok);
    const locked = await run(["secret", "set", "C"], { input: "c" });
    assert.equal(locked.code, EXIT.locked);
    assert.match(locked.err, /CARAPACE_PASSPHRASE/);
    const found = await openSecrets({ dir, env: recordEnv(env) }).find("B");
    assert.equal(found?.reveal(), "b");
  });
});
