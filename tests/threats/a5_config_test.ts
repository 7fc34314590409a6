/**
 * A5: secrets at rest and on their way: what stands in the configuration, what
 * is written back, who may read the files, where a credential is not sent.
 */
import assert from "node:assert/strict";
import { recordEnv } from "../../src/config/env.ts";
import { loadConfig } from "../../src/config/load.ts";
import { formatProblem } from "../../src/config/problem.ts";
import { openSecrets } from "../../src/config/secrets.ts";
import { AppError } from "../../src/core/errors.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { planProviders } from "../../src/providers/registry.ts";
import { ProvidersConfig } from "../../src/providers/config.ts";
import { Settings } from "../../src/settings.ts";
import { systemClock } from "../../src/core/time.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { openLoginBench } from "../fakes/mcp_login.ts";
import { client, providedBy, start } from "../process/gateways.ts";
import { LAUNCHER_FLAGS, Proc, scratch, until } from "../process/processes.ts";
import { carapace } from "../process/verbs.ts";

const PLAIN = "plain-text-secret-1a2b3c4d";
const REMOTE = { url: "wss://far.example.com", token: "${secret:A}" };

/** What a configuration comes to, where every secret is set. */
async function problemsOf(config: unknown): Promise<string> {
  const loaded = await loadConfig(Settings, {
    stateDir: "/nowhere",
    env: recordEnv({ CARAPACE_CONFIG_JSON: JSON.stringify(config) }),
    findSecret: (name) => Promise.resolve(new Secret("set", name)),
  });
  return loaded.ok ? "" : loaded.problems.map(formatProblem).join("\n");
}

Deno.test("A5: a secret in the configuration is refused with the command that moves it, unseen", async (t) => {
  const places: Record<string, unknown> = {
    "gateway.password": { gateway: { password: PLAIN } },
    "providers.openai.apiKey": { providers: { openai: { apiKey: PLAIN } } },
    "providers.bedrock.aws.secretAccessKey": {
      providers: { bedrock: { aws: { secretAccessKey: PLAIN } } },
    },
    "channels.webhook.own.secret": {
      channels: {
        webhook: { own: { url: "https://h.example.com", secret: PLAIN } },
      },
    },
    "mcp.servers.notes.token": {
      mcp: {
        servers: { notes: { url: "https://m.example.com", token: PLAIN } },
      },
    },
    "remotes.far.token": { remotes: { far: { ...REMOTE, token: PLAIN } } },
    "tools.search.apiKey": {
      tools: { search: { kind: "brave", apiKey: PLAIN } },
    },
  };
  for (const [path, config] of Object.entries(places)) {
    await t.step(path, async () => {
      const said = await problemsOf(config);
      assert.ok(said.includes(path), said);
      assert.match(said, /carapace secret set/);
      assert.ok(!said.includes(PLAIN), said);
    });
  }
  await t.step("by the verb, and by a start", async () => {
    await using dir = await scratch();
    await Deno.writeTextFile(
      `${dir.path}/carapace.jsonc`,
      JSON.stringify({ providers: { openai: { apiKey: PLAIN } } }),
      { mode: 0o600 },
    );
    for (const form of ["validate", "show", "get"]) {
      const args = form === "get" ? ["providers.openai.apiKey"] : [];
      const { out, err } = await carapace(dir.path, ["config", form, ...args]);
      assert.ok(!`${out}${err}`.includes(PLAIN), form);
      if (form === "validate") {
        assert.match(`${out}${err}`, /carapace secret set/);
      }
    }
    await using gateway = await start({ dir: dir.path });
    using one = await client(gateway);
    for (const method of ["config.get", "status", "logs.tail"] as const) {
      const said = JSON.stringify(await one.call(method, {}));
      assert.ok(!said.includes(PLAIN), method);
    }
    const { out, err } = gateway.proc;
    assert.ok(![...out, ...err].join("\n").includes(PLAIN));
  });
});

Deno.test("A5: no write of the configuration writes a reference back as its value", async (t) => {
  const VALUE = "the-value-behind-it-77";
  await using dir = await scratch();
  await using fake = await fakeOpenai();
  const path = `${dir.path}/carapace.jsonc`;
  const sealed = openSecrets({ dir: dir.path, env: { get: () => undefined } });
  await sealed.set("KEY", new Secret(PLAIN, "test"));
  const text = `{
  // the owner's own words
  "agents": { "main": { "name": "\${AGENT_NAME}" } },
  "providers": { "openai": { "apiKey": "\${secret:KEY}" } }
}`;
  await Deno.writeTextFile(path, text, { mode: 0o600 });
  const env = {
    OPENAI_BASE_URL: fake.url,
    CARAPACE_MODEL: "openai:gpt-test",
    AGENT_NAME: VALUE,
  };
  await using gateway = await start({ dir: dir.path, env });
  using one = await client(gateway);
  const { agents } = await one.call("agents.list", {});
  assert.equal(agents[0]?.name, VALUE, "it is resolved where it is used");
  const look = async () => {
    const now = await Deno.readTextFile(path);
    for (const name of ["${AGENT_NAME}", "${secret:KEY}"]) {
      assert.ok(now.includes(name), name);
    }
    for (const value of [VALUE, PLAIN]) assert.ok(!now.includes(value), value);
    const { revisions } = await one.call("config.revisions", {});
    const [last] = revisions;
    const shown = await one.call("config.revisions", { id: last?.id ?? "" });
    assert.ok(!JSON.stringify(shown).includes(PLAIN));
    assert.ok(shown.raw?.includes("${AGENT_NAME}"));
  };
  const hash = async () => (await one.call("config.get", {})).hash;
  const patch = '{"limits":{"stepsMax":9}}';
  await t.step("patch", async () => {
    await one.call("config.patch", { raw: patch, baseHash: await hash() });
    await look();
  });
  await t.step("what config.get shows, written back", async () => {
    for (const method of ["config.set", "config.apply"] as const) {
      const { raw, hash: baseHash } = await one.call("config.get", {});
      assert.ok(raw);
      await one.call(method, { raw: raw.replace("9", "8"), baseHash });
      await look();
    }
  });
  await t.step("undo", async () => {
    await one.call("config.undo", { baseHash: await hash() });
    await look();
  });
  await t.step("the verb", async () => {
    const port = { CARAPACE_PORT: String(gateway.port), ...env };
    const ran = await carapace(
      dir.path,
      ["config", "set", "limits.stepsMax", "7"],
      port,
    );
    assert.equal(ran.code, 0, ran.err);
    await look();
  });
});

Deno.test("A5: a credential does not leave this machine in clear text", async (t) => {
  const far = "http://192.0.2.7:8000/v1";
  const key = "${secret:A}";
  const refused: Record<string, [bad: unknown, good: unknown]> = {
    "a provider": [
      { providers: { openai: { baseUrl: far, apiKey: key } } },
      { providers: { openai: { baseUrl: far } } },
    ],
    "a provider's account": [
      { providers: { bedrock: { baseUrl: far, aws: { accessKeyId: key } } } },
      { providers: { bedrock: { aws: { accessKeyId: key } } } },
    ],
    "an MCP server's token": [
      { mcp: { servers: { m: { url: far, token: key } } } },
      { mcp: { servers: { m: { url: far } } } },
    ],
    "an MCP server's header": [
      { mcp: { servers: { m: { url: far, headers: { "x-key": key } } } } },
      { mcp: { servers: { m: { url: far, headers: { "x-k": "plain" } } } } },
    ],
    "a search engine": [
      { tools: { search: { kind: "searxng", url: far, apiKey: key } } },
      { tools: { search: { kind: "searxng", url: far } } },
    ],
    "a receiver": [
      { channels: { webhook: { w: { url: far, secret: key } } } },
      {
        channels: {
          webhook: { w: { url: "http://127.0.0.1:1", secret: key } },
        },
      },
    ],
    "another gateway": [
      { remotes: { r: { ...REMOTE, url: "ws://192.0.2.7:18789" } } },
      { remotes: { r: { ...REMOTE, url: "ws://127.0.0.1:18789" } } },
    ],
  };
  for (const [name, [bad, good]] of Object.entries(refused)) {
    await t.step(name, async () => {
      assert.match(await problemsOf(bad), /clear text|https/);
      assert.equal(await problemsOf(good), "");
      const home = JSON.stringify(bad).replaceAll("192.0.2.7", "127.0.0.1");
      assert.equal(await problemsOf(JSON.parse(home)), "");
      const https = JSON.stringify(bad).replaceAll("http:", "https:")
        .replaceAll("ws:", "wss:");
      assert.equal(await problemsOf(JSON.parse(https)), "");
      // Said, not thrown: a service that follows its file must outlive a slip.
      const slip = JSON.stringify(bad).replace(
        /"(http|ws):[^"]*"/,
        '"nowhere"',
      );
      assert.match(await problemsOf(JSON.parse(slip)), /url|Url|URL/);
    });
  }
  await t.step("a key and an address out of the environment", () => {
    const plan = (OPENAI_BASE_URL: string, keys: Record<string, string>) =>
      planProviders(
        ProvidersConfig.parse({}),
        recordEnv({ OPENAI_BASE_URL, ...keys }),
      );
    const keys = { OPENAI_API_KEY: PLAIN };
    assert.throws(() => plan(far, keys), (error) => {
      assert.ok(error instanceof AppError);
      assert.match(error.message, /env OPENAI_API_KEY .*clear text/);
      assert.ok(!`${error.message}${error.hint}`.includes(PLAIN));
      return true;
    });
    assert.equal(plan(far, {}).length, 1);
    assert.equal(plan("http://127.0.0.1:1/v1", keys).length, 1);
    // A name that only begins like this machine's is another's.
    for (const host of ["127.0.0.1.example.com", "localhost.example.com"]) {
      assert.throws(() => plan(`http://${host}/v1`, keys), /clear text/);
    }
  });
  await t.step("the door attaches none, whatever was configured", async () => {
    using egress = makeEgress({
      config: EgressConfig.parse({}),
      clock: systemClock,
      log: silentLog,
    });
    const door = egress.door({
      caller: "test",
      hosts: [{ host: "far.example.com", port: 80, scheme: "http" }],
      credentials: [{
        host: "far.example.com",
        port: 80,
        header: "authorization",
        secret: new Secret(PLAIN, "secret A"),
      }],
      fix: () => "",
    });
    await assert.rejects(
      door("http://far.example.com/"),
      (error: Error) =>
        /secret A .*clear text/.test(error.message) &&
        !error.message.includes(PLAIN),
    );
  });
  await t.step("a verb's --gateway", async () => {
    await using dir = await scratch();
    const ran = await carapace(dir.path, ["status"], {
      CARAPACE_URL: "ws://192.0.2.7:18789",
      CARAPACE_TOKEN: PLAIN,
    });
    assert.notEqual(ran.code, 0);
    assert.match(ran.err, /https|wss/);
    assert.ok(!ran.err.includes(PLAIN));
  });
});

Deno.test("A5: what goes through a browser at a login carries no verifier", async () => {
  await using bench = await openLoginBench();
  const { url } = await bench.desk.startLogin("bank", {});
  const asked = new URL(url);
  const back = await bench.authorization.browse(url);
  await bench.desk.finishLogin("bank", { url: back });
  const exchange = bench.authorization.seen.find(({ path }) =>
    path === "/token"
  );
  const verifier = new URLSearchParams(exchange?.body).get("code_verifier");
  assert.ok(verifier !== null && verifier.length >= 43);
  const state = asked.searchParams.get("state") ?? "";
  const decoded = (() => {
    try {
      return new TextDecoder().decode(
        Uint8Array.fromBase64(state, { alphabet: "base64url" }),
      );
    } catch {
      return "";
    }
  })();
  for (const text of [url, back, decoded, ...bench.logged]) {
    assert.ok(!text.includes(verifier), text.slice(0, 80));
  }
});

Deno.test({
  name:
    "A5: every file of the state is its owner's, and a start refuses others",
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    await using dir = await scratch();
    await using fake = await fakeOpenai();
    const sealed = openSecrets({
      dir: dir.path,
      env: { get: () => undefined },
    });
    await sealed.set("PASSWORD", new Secret("a password of some length", "t"));
    await Deno.writeTextFile(
      `${dir.path}/carapace.jsonc`,
      '{ "gateway": { "password": "${secret:PASSWORD}" } }',
      { mode: 0o600 },
    );
    const env = providedBy(fake);
    const modes: [string, number][] = [];
    {
      await using gateway = await start({ dir: dir.path, env });
      using one = await client(gateway);
      await one.call("chat.send", {
        sessionKey: "main",
        message: "hi",
        idempotencyKey: "1",
      });
      await until("the turn", async () => {
        const { runs } = await one.call("status", {});
        return runs.running + runs.queued === 0;
      });
      for await (const path of everything(dir.path)) {
        modes.push([path, (await Deno.lstat(path)).mode ?? 0]);
      }
    }
    const open = modes.filter(([, mode]) => (mode & 0o077) !== 0);
    assert.deepEqual(open, []);
    assert.ok(modes.length >= 6, `${modes.length} files`);
    for (
      const [name, bits] of [
        ["", 0o050],
        ["kv.db", 0o040],
        ["kv.db", 0o004],
        ["kv.db", 0o020],
        ["store.key", 0o040],
        ["cli-token", 0o040],
        ["secrets.json", 0o004],
        ["secrets.key", 0o040],
        ["carapace.jsonc", 0o020],
      ] as const
    ) {
      await t.step(
        `${name || "the directory"} | ${bits.toString(8)}`,
        async () => {
          const path = name === "" ? dir.path : `${dir.path}/${name}`;
          const { mode } = await Deno.stat(path);
          const was = (mode ?? 0) & 0o777;
          await Deno.chmod(path, was | bits);
          await using proc = new Proc(
            ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"],
            { env: { CARAPACE_STATE_DIR: dir.path, ...env } },
          );
          // It ends, or serves nothing but its own repair.
          const said = await Promise.race([
            proc.status.then(({ success }) => success ? "served" : "refused"),
            proc.line((line) => /safe mode/i.test(line)).then(() =>
              "safe mode"
            ),
          ]).catch(() => "refused");
          const text = [...proc.out, ...proc.err].join("\n");
          assert.notEqual(said, "served", text);
          assert.match(text, /chmod|Remove it/, text);
          await Deno.chmod(path, was);
        },
      );
    }
  },
});

async function* everything(dir: string): AsyncGenerator<string> {
  yield dir;
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    if (isDirectory) yield* everything(`${dir}/${name}`);
    else yield `${dir}/${name}`;
  }
}
