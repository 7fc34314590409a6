/**
 * The command line as a process: what it prints where, and what it exits with.
 * Children run with the narrow permissions a verb has.
 */
import assert from "node:assert/strict";
import { EXIT } from "../../src/cli/verb.ts";
import { VERBS } from "../../src/cli/verbs.ts";
import { AppError } from "../../src/core/errors.ts";
import { VERSION } from "../../src/core/version.ts";
import type { TurnEventBody } from "../../src/core/turn.ts";
import { FakeGateway, type FakeRun, untilAborted } from "../fakes/gateway.ts";

const root = new URL("../../", import.meta.url);
const decoder = new TextDecoder();

async function scratch(): Promise<{ dir: string } & AsyncDisposable> {
  await Deno.mkdir(new URL("tests/.tmp", root), { recursive: true });
  const dir = await Deno.makeTempDir({
    dir: new URL("tests/.tmp", root).pathname,
  });
  return {
    dir,
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

const ENV = [
  "CARAPACE_STATE_DIR",
  "CARAPACE_PORT",
  "CARAPACE_URL",
  "CARAPACE_TOKEN",
  "CARAPACE_CONFIG_PATH",
  "CARAPACE_CONFIG_JSON",
  "CARAPACE_PASSPHRASE",
  "NO_COLOR",
  "TERM",
];

interface Setting {
  stateDir: string;
  port?: number;
  token?: string;
  env?: Record<string, string>;
}

function argsOf({ stateDir, port = 1 }: Setting, args: readonly string[]) {
  return [
    "run",
    "--no-prompt",
    "--frozen",
    "--cached-only",
    "--no-remote",
    "--no-check",
    `--allow-net=127.0.0.1:${port}`,
    `--allow-read=${stateDir}`,
    `--allow-write=${stateDir}`,
    `--allow-env=${ENV.join(",")}`,
    "--ignore-env",
    "main.ts",
    ...args,
  ];
}

function envOf({ stateDir, port = 1, token, env }: Setting) {
  return {
    CARAPACE_STATE_DIR: stateDir,
    CARAPACE_PORT: String(port),
    CARAPACE_URL: "",
    CARAPACE_TOKEN: token ?? "test-token",
    NO_COLOR: "",
    ...env,
  };
}

function spawn(setting: Setting, args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: argsOf(setting, args),
    env: envOf(setting),
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function run(setting: Setting, args: readonly string[], input = "") {
  const child = spawn(setting, args);
  const writer = child.stdin.getWriter();
  // A child that exits at once may have closed its end already.
  await writer.write(new TextEncoder().encode(input)).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

async function* script(run: FakeRun): AsyncGenerator<TurnEventBody> {
  switch (run.message) {
    case "fail":
      yield {
        kind: "end",
        reason: "error",
        message: "The key was refused",
        hint: "Set another",
        usage: {
          inputTokens: 0,
          outputTokens: 0,
          cachedTokens: 0,
          cacheWriteTokens: 0,
        },
      };
      return;
    case "slow":
      yield { kind: "text", text: "working" };
      return await untilAborted(run.signal);
    default: {
      yield { kind: "thinking", text: "hm" };
      yield { kind: "tool_call", callId: "c", name: "current_time", args: {} };
      yield {
        kind: "tool_result",
        callId: "c",
        name: "current_time",
        text: "noon\x1b[2J",
        isError: false,
      };
      const reply = `You said: ${run.message}`;
      yield { kind: "text", text: reply };
      yield { kind: "reply", text: reply, model: "fake:echo" };
    }
  }
}

Deno.test("main.ts answers for itself without a gateway", async (t) => {
  await using place = await scratch();
  const setting = { stateDir: place.dir };
  await t.step("--help lists every verb", async () => {
    const { code, out, err } = await run(setting, ["--help"]);
    assert.equal(code, EXIT.ok);
    assert.equal(err, "");
    for (const { name, about } of VERBS) {
      assert.ok(out.includes(`  ${name}`) && out.includes(about), name);
    }
  });
  await t.step("nothing at all is help on standard error", async () => {
    const { code, out, err } = await run(setting, []);
    assert.deepEqual([code, out], [EXIT.usage, ""]);
    assert.match(err, /^Carapace/);
  });
  await t.step("--version", async () => {
    assert.deepEqual(await run(setting, ["--version"]), {
      code: EXIT.ok,
      out: `${VERSION}\n`,
      err: "",
    });
  });
  await t.step("a mistyped verb", async () => {
    assert.deepEqual(await run(setting, ["chta"]), {
      code: EXIT.usage,
      out: "",
      err: 'error: Unknown verb "chta"\nhint:  Did you mean "carapace chat"?\n',
    });
  });
  await t.step("a mistyped option shows the usage", async () => {
    const { code, err } = await run(setting, ["sessions", "--serch", "x"]);
    assert.equal(code, EXIT.usage);
    assert.match(err, /Unknown option "--serch"\n\n {2}carapace sessions/);
  });
});

Deno.test("VERB --help says usage, examples and exit codes, for every verb", async (t) => {
  await using place = await scratch();
  for (const { name } of VERBS) {
    await t.step(name, async () => {
      const { code, out, err } = await run(
        { stateDir: place.dir },
        [name, "--help"],
      );
      assert.equal(code, EXIT.ok, err);
      assert.match(out, new RegExp(`Usage\n {2}carapace ${name}`));
      assert.match(out, /Examples\n {2}(.|\n)*Exit codes\n +0 {2}done/);
    });
  }
});

Deno.test("a gateway verb without its gateway exits 5, with a wrong token 6", async (t) => {
  await using place = await scratch();
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  await t.step("nobody listens", async () => {
    assert.deepEqual(await run({ stateDir: place.dir, port }, ["status"]), {
      code: EXIT.unreachable,
      out: "",
      err:
        `error: Cannot reach the gateway at ws://127.0.0.1:${port}/ws: nothing listens there\n` +
        'hint:  Start it with "deno task start", or set CARAPACE_URL to where it runs\n',
    });
  });
  await using gateway = new FakeGateway();
  await t.step("a wrong token, which is not shown", async () => {
    const { code, err } = await run(
      { stateDir: place.dir, port: gateway.port, token: "s3cr3t-but-wrong" },
      ["status"],
    );
    assert.equal(code, EXIT.unauthorized);
    assert.match(err, /refused the token \(CARAPACE_TOKEN\)\nhint: {2}/);
    assert.ok(!err.includes("s3cr3t"));
  });
  await t.step(
    "the token file is used, and only when nobody else reads it",
    async () => {
      const path = `${place.dir}/cli-token`;
      const setting = { stateDir: place.dir, port: gateway.port, token: "" };
      const none = await run(setting, ["chat", "hi"]);
      assert.equal(none.code, EXIT.unauthorized);
      assert.match(none.err, /wants a token and there is none/);
      await Deno.writeTextFile(path, `${gateway.token}\n`, { mode: 0o600 });
      assert.equal((await run(setting, ["chat", "hi"])).code, EXIT.ok);
      if (Deno.build.os === "windows") return;
      await Deno.chmod(path, 0o644);
      const open = await run(setting, ["chat", "hi"]);
      assert.equal(open.code, EXIT.failed);
      assert.match(open.err, /its mode is 0644/);
    },
  );
});

Deno.test("chat from a pipe", async (t) => {
  await using place = await scratch();
  await using gateway = new FakeGateway({ script });
  const setting = { stateDir: place.dir, port: gateway.port };
  await t.step("prints the reply and nothing else", async () => {
    assert.deepEqual(await run(setting, ["chat"], "hi\n"), {
      code: EXIT.ok,
      out: "You said: hi\n",
      err: "",
    });
  });
  await t.step("joins words and standard input", async () => {
    const { out } = await run(
      setting,
      ["chat", "read", "this:", "-"],
      "notes\n",
    );
    assert.equal(out, "You said: read this:\n\nnotes\n");
  });
  await t.step("does not pass on what steers a terminal", async () => {
    const { out } = await run(setting, ["chat"], "\x1b]0;x\x07\u202e");
    assert.equal(out, "You said: ␛]0;x␇<U+202E>\n");
  });
  await t.step("says why a run failed, and exits 1", async () => {
    assert.deepEqual(await run(setting, ["chat", "fail"]), {
      code: EXIT.failed,
      out: "",
      err: "error: The key was refused\nhint:  Set another\n",
    });
  });
  await t.step("refuses an empty message", async () => {
    const { code, err } = await run(setting, ["chat"], " \n");
    assert.equal(code, EXIT.usage);
    assert.match(err, /Cannot send an empty message/);
  });
  await t.step("--json is an event a line", async () => {
    const { code, out } = await run(setting, ["chat", "--json", "hi"]);
    assert.equal(code, EXIT.ok);
    assert.ok(!out.includes("\x1b"));
    const events = out.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(events.map((event) => event.kind), [
      "started",
      "thinking",
      "tool_call",
      "tool_result",
      "text",
      "end",
    ]);
    assert.equal(events.at(-1).reply, "You said: hi");
  });
  await t.step(
    "a model of one's own goes by the method that takes one",
    async () => {
      await run(setting, [
        "chat",
        "--model",
        "openai:x",
        "--agent",
        "work",
        "hi",
      ]);
      const last = gateway.requests.at(-1);
      assert.equal(last?.method, "agent");
      assert.equal(last?.params["model"], "openai:x");
      assert.equal(last?.params["sessionKey"], "agent:work:main");
    },
  );
  await t.step("Ctrl-C stops the run", async () => {
    if (Deno.build.os === "windows") return;
    const child = spawn(setting, ["chat", "--json", "slow"]);
    await child.stdin.close();
    const reader = child.stdout.getReader();
    let seen = "";
    while (!seen.includes("working")) { // the child ends if it never comes
      const { value, done } = await reader.read();
      if (done) break;
      seen += decoder.decode(value);
    }
    child.kill("SIGINT");
    while (!(await reader.read()).done);
    assert.equal((await child.status).code, EXIT.interrupted);
    await child.stderr.cancel();
    assert.equal(gateway.requests.at(-1)?.method, "chat.abort");
  });
});

Deno.test("verbs of the gateway print for people, and --json for programs", async (t) => {
  await using place = await scratch();
  const now = Date.now();
  const session = {
    key: "agent:main:main",
    kind: "direct",
    updatedAt: now - 3_600_000,
    sessionId: "s1",
    agentId: "main",
    inputTokens: 10,
    outputTokens: 5,
    lastMessage: "hello\nthere \x1b[2J",
  };
  const status = {
    ts: now,
    version: "0.1.0",
    uptimeMs: 65_000,
    runtime: { name: "deno", version: "2.9.6", pid: 7, rssBytes: 1e8 },
    channels: {},
    sessions: { count: 1, recent: [session] },
    model: { id: "demo:demo", because: "nothing else is configured" },
    runs: { running: 0, queued: 2 },
    posture: { tried: 12, refused: 12, sandboxOff: false, grants: {} },
  };
  const tokens: Record<string, unknown>[] = [];
  await using gateway = new FakeGateway({
    methods: {
      status: () => status,
      "device.pair.list": () => ({
        pending: [],
        paired: [],
        invites: [],
      }),
      "sessions.list": () => ({ ts: now, count: 1, sessions: [session] }),
      "token.create": (params) => {
        tokens.push({ id: "tok_1", createdAt: now, ...params });
        return { id: "tok_1", token: "the-token-itself" };
      },
      "token.list": () => ({
        tokens: tokens.map(({ id, name, scopes, createdAt }) => ({
          id,
          name,
          scopes,
          createdAt,
        })),
      }),
      "usage.budget": () => ({ ts: now, budgets: [] }),
      "token.revoke": (params) => {
        if (params["id"] === "tok_1") return { ok: true, id: "tok_1" };
        throw new AppError("not_found", 'There is no token "x"', {
          hint: 'Run "carapace token list"',
        });
      },
    },
  });
  const setting = { stateDir: place.dir, port: gateway.port };
  const json = async (...args: string[]) =>
    JSON.parse((await run(setting, [...args, "--json"])).out);
  await t.step("status", async () => {
    const { code, out, err } = await run(setting, ["status"]);
    assert.equal(code, EXIT.ok, err);
    assert.match(out, /^up +1 min 5 s, process 7$/m);
    assert.match(out, /^sandbox +on, 12 of 12 forbidden acts refused$/m);
    assert.deepEqual(await json("status"), status);
  });
  await t.step("sessions", async () => {
    const { out } = await run(setting, ["sessions"]);
    assert.equal(
      out,
      "SESSION          USED     TOKENS  LAST MESSAGE\n" +
        "agent:main:main  1 h ago  15      hello there ␛[2J\n",
    );
    assert.equal((await json("sessions")).sessions[0].key, session.key);
    const params = gateway.requests.at(-1)?.params;
    assert.equal(params?.["limit"], 50);
  });
  await t.step(
    "token create prints the token alone on standard output",
    async () => {
      const { code, out, err } = await run(setting, [
        "token",
        "create",
        "phone",
        "--scopes",
        "read, operator.chat",
        "--expires",
        "30d",
      ]);
      assert.deepEqual([code, out], [EXIT.ok, "the-token-itself\n"]);
      assert.match(err, /^tok_1 "phone" may read, chat and expires /);
      const params = gateway.requests.at(-1)?.params;
      assert.deepEqual(params?.["scopes"], ["read", "chat"]);
      assert.equal(params?.["expiresInMs"], 30 * 86_400_000);
    },
  );
  await t.step("token list and revoke", async () => {
    const { out } = await run(setting, ["token", "list"]);
    assert.match(out, /^tok_1 +phone +read,chat +never +never$/m);
    const revoked = await run(setting, ["token", "revoke", "tok_1"]);
    assert.equal(revoked.code, EXIT.ok);
    const unknown = await run(setting, ["token", "revoke", "x"]);
    assert.equal(unknown.code, EXIT.failed);
    assert.match(unknown.err, /There is no token "x"\nhint: {2}Run "carapace/);
  });
  await t.step("token refuses what it does not know", async () => {
    for (
      const [args, why] of [
        [["create", "a", "--scopes", "reed"], /Did you mean "read"/],
        [["create", "a", "--expires", "soon"], /Cannot read the duration/],
        [["create"], /The argument NAME is missing/],
        [["crate"], /Unknown action "crate"/],
        [[], /create, list, rotate or revoke/],
      ] as const
    ) {
      const { code, err } = await run(setting, ["token", ...args]);
      assert.equal(code, EXIT.usage);
      assert.match(err, why);
    }
  });
  await t.step(
    "doctor finds nothing wrong, and says what it could not see",
    async () => {
      await Deno.chmod(place.dir, 0o700);
      const { code, out } = await run(setting, ["doctor", "--json"]);
      assert.equal(code, EXIT.ok, out);
      const found = JSON.parse(out);
      const states = new Map(
        found.checks.map((
          c: { name: string; state: string },
        ) => [c.name, c.state]),
      );
      assert.equal(states.get("config"), "ok");
      assert.equal(states.get("gateway"), "ok");
      assert.equal(states.get("sandbox"), "ok");
      assert.equal(states.get("ready: store"), "ok");
      assert.equal(states.get("clock"), "ok");
      assert.equal(states.get("open files"), "skip");
    },
  );
});

Deno.test("doctor works without a gateway and exits 1 with the fix", async () => {
  await using place = await scratch();
  await Deno.writeTextFile(`${place.dir}/carapace.jsonc`, '{"gatway": {}}', {
    mode: 0o600,
  });
  const { code, out } = await run({ stateDir: place.dir }, ["doctor"]);
  assert.equal(code, EXIT.failed);
  assert.match(out, /✗ config +.*gatway/);
  assert.match(
    out,
    /✗ gateway +Cannot reach(.*\n)+? +→ Start it with "deno task/,
  );
});
