/**
 * The whole program on real processes: the launcher, the service behind it, and
 * the service alone under flags it should not accept.
 */
import assert from "node:assert/strict";
import { EXIT } from "../../src/core/exit.ts";
import { DRAIN_MS } from "../../src/house.ts";
import {
  freePort,
  isAlive,
  LAUNCHER_FLAGS,
  Proc,
  scratch,
  until,
} from "./processes.ts";

const TOKEN = "a-token-for-process-tests";

interface Running {
  proc: Proc;
  state: string;
  port: number;
}

interface StartOptions {
  config?: unknown;
  env?: Record<string, string>;
  port?: number;
}

async function writeConfig(state: string, config: unknown): Promise<void> {
  const text = typeof config === "string" ? config : JSON.stringify(config);
  // As an editor does it: a reader sees the old file or the new one.
  await Deno.writeTextFile(`${state}/new`, text, { mode: 0o600 });
  await Deno.rename(`${state}/new`, `${state}/carapace.jsonc`);
}

/** Starts as `deno task start` does. */
async function start(
  state: string,
  options: StartOptions = {},
): Promise<Running> {
  const { config, env = {}, port = freePort() } = options;
  if (config !== undefined) await writeConfig(state, config);
  const proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"],
    {
      env: {
        CARAPACE_STATE_DIR: state,
        CARAPACE_PORT: String(port),
        CARAPACE_TOKEN: TOKEN,
        ...env,
      },
    },
  );
  return { proc, state, port };
}

async function statusOf(port: number, path: string): Promise<number> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`);
    await answer.body?.cancel();
    return answer.status;
  } catch {
    return 0; // nobody listens yet, or no longer
  }
}

/** It answers, and its banner says that the token is known. */
async function isUp({ proc, port }: Running): Promise<void> {
  let hasEnded = false;
  void proc.status.then(() => hasEnded = true);
  await until(
    "the service's start",
    async () =>
      hasEnded || proc.out.some((line) => line.includes(`:${port}`)) &&
        await statusOf(port, "/health/live") === 200,
  );
  assert.ok(!hasEnded, [...proc.out, ...proc.err].join("\n"));
}

async function post(port: number, content: string): Promise<Response> {
  return await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${TOKEN}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({
      model: "carapace",
      messages: [{ role: "user", content }],
    }),
  });
}

async function ask(port: number, content: string): Promise<string> {
  const answer = await post(port, content);
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return JSON.parse(text).choices[0].message.content;
}

/** The service's process id: the launcher's only child. */
async function servicePid(launcher: number): Promise<number> {
  const { stdout } = await new Deno.Command("ps", {
    args: ["-o", "pid=", "--ppid", String(launcher)],
  }).output();
  return Number(new TextDecoder().decode(stdout).trim());
}

/** The flags the launcher computes, as the verb prints them. */
async function flagsOf(env: Record<string, string>): Promise<string[]> {
  await using proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "permissions", "--flags"],
    { env },
  );
  assert.equal(await proc.code(), 0, proc.err.join("\n"));
  return proc.out.filter((line) => line.startsWith("--"));
}

/** The service alone, under flags of the test's choosing. */
async function alone(
  state: string,
  options: {
    change?(flags: string[]): string[];
    env?: Record<string, string>;
    args?: string[];
  } = {},
): Promise<Running> {
  const { change = (flags) => flags, env = {}, args = [] } = options;
  const port = freePort();
  const all = {
    CARAPACE_STATE_DIR: state,
    CARAPACE_PORT: String(port),
    CARAPACE_TOKEN: TOKEN,
    ...env,
  };
  const flags = change(await flagsOf(all));
  const proc = new Proc(["run", ...flags, "main.ts", "start", ...args], {
    env: all,
  });
  return { proc, state, port };
}

/** Permission checks that were asked for, but never granted to anyone. */
function outside(rows: readonly Row[], flags: readonly string[]): Row[] {
  const list = (name: string) =>
    flags.find((flag) => flag.startsWith(`--allow-${name}=`))
      ?.split("=")[1]?.split(",") ?? [];
  return rows.filter(({ permission, value = "" }) => {
    if (permission === "env") return false;
    const granted = list(permission);
    if (permission === "read" || permission === "write") {
      return !granted.some((path) =>
        value === path || value.startsWith(`${path}/`)
      );
    }
    const host = URL.parse(value)?.host ?? value;
    return !granted.includes(host) && !granted.includes(value);
  });
}

interface Row {
  permission: string;
  value?: string;
}

Deno.test("service asks the sandbox for nothing outside its manifest", async () => {
  await using state = await scratch();
  await using logs = await scratch();
  const audit = `${logs.path}/audit.jsonl`;
  let flags: string[] = [];
  const running = await alone(state.path, {
    change: (computed) => flags = computed,
    env: { DENO_AUDIT_PERMISSIONS: audit },
  });
  await using proc = running.proc;
  await isUp(running);
  assert.match(await ask(running.port, "what time is it?"), /\d{4}/);
  assert.ok(await ask(running.port, "what is 6 * 7?"));
  proc.child.kill("SIGTERM");
  assert.equal(await proc.code(), 0);
  const text = await Deno.readTextFile(audit);
  const rows: Row[] = text.trim().split("\n").map((line) => JSON.parse(line));
  assert.ok(rows.length > 20, "the audit was written");
  // What posture tries on purpose is outside by design; nothing else may be.
  const posture =
    /carapace-posture-|\.posture-|^10\.255\.255\.254:9$|^127\.0\.0\.1:0$|^\/etc\/passwd$|^networkInterfaces$|carapace-posture\.invalid/;
  const asked = outside(rows, flags)
    .filter(({ value = "" }) => !posture.test(value));
  assert.deepEqual(asked, []);
});

Deno.test("service names the one flag that is missing", async (t) => {
  const rows: [
    why: string,
    change: (flags: string[]) => string[],
    line: RegExp,
  ][] = [
    [
      "its address",
      (flags) =>
        flags.map((flag) =>
          flag.replace(/^--allow-net=127\.0\.0\.1:\d+,/, "--allow-net=")
        ),
      /missing: --allow-net=127\.0\.0\.1:\d+$/,
    ],
    [
      "its state directory",
      (flags) => flags.filter((flag) => !/^--allow-write/.test(flag)),
      /missing: --allow-write=\/\S+$/,
    ],
  ];
  for (const [why, change, line] of rows) {
    await t.step(why, async () => {
      await using state = await scratch();
      const { proc } = await alone(state.path, { change });
      await using _ended = proc;
      assert.notEqual(await proc.code(), 0);
      const said = proc.err.filter((text) => text.includes("missing:"));
      assert.equal(said.length, 1, proc.err.join("\n"));
      assert.match(said[0] ?? "", line);
    });
  }
});

Deno.test("service refuses to serve under -A, and says how to start", async (t) => {
  // --cached-only, so that nobody is asked for a package.
  const change = () => ["-A", "--cached-only"];
  await t.step("by default", async () => {
    await using state = await scratch();
    const { proc } = await alone(state.path, { change });
    await using _ended = proc;
    assert.notEqual(await proc.code(), 0);
    const text = proc.err.join("\n");
    assert.match(text, /did not refuse to .*start a program/);
    assert.match(text, /deno task start/);
  });
  await t.step("but for --unsafe-sandbox-off, which it shows", async () => {
    await using state = await scratch();
    const running = await alone(state.path, {
      change,
      args: ["--unsafe-sandbox-off"],
    });
    await using proc = running.proc;
    await isUp(running);
    await proc.line((line) => /sandbox\b.*\boff\b/i.test(line));
  });
});

Deno.test("service sends nothing through a proxy that the environment names", async () => {
  await using state = await scratch();
  const diverted: string[] = [];
  let reached = 0;
  const quiet = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  await using proxy = Deno.serve(quiet, ({ method, url }) => {
    diverted.push(`${method} ${url}`);
    return new Response("", { status: 502 });
  });
  await using local = Deno.serve(quiet, () => {
    reached++;
    return Response.json({ models: [] });
  });
  const url = `http://127.0.0.1:${proxy.addr.port}`;
  const running = await start(state.path, {
    env: {
      HTTP_PROXY: url,
      http_proxy: url,
      HTTPS_PROXY: url,
      ALL_PROXY: url,
      OLLAMA_HOST: `127.0.0.1:${local.addr.port}`,
    },
  });
  await using proc = running.proc;
  await isUp(running);
  const answer = await post(running.port, "hello");
  await answer.body?.cancel();
  assert.ok(reached > 0, "the model's server was asked, directly");
  assert.deepEqual(diverted, []);
  proc.child.kill("SIGTERM");
  await proc.code();
});

Deno.test("service and launcher end together", async (t) => {
  await t.step("SIGTERM to the launcher ends both, cleanly", async () => {
    await using state = await scratch();
    const running = await start(state.path);
    await using proc = running.proc;
    await isUp(running);
    const pid = await servicePid(proc.pid);
    proc.child.kill("SIGTERM");
    assert.equal(await proc.code(), 0);
    assert.equal(await isAlive(pid), false);
  });
  await t.step("a stop is clean from the first answer on", async () => {
    await using state = await scratch();
    const { proc, port } = await start(state.path);
    await using _proc = proc;
    await until(
      "an answer",
      async () => await statusOf(port, "/health/live") === 200,
    );
    proc.child.kill("SIGTERM");
    assert.equal(await proc.code(), 0);
  });
  await t.step("whoever stops it again does not wait for a turn", async () => {
    await using state = await scratch();
    const asked = Promise.withResolvers<void>();
    const over = Promise.withResolvers<Response>();
    await using vendor = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => {
        if (request.method === "POST") asked.resolve();
        return over.promise;
      },
    );
    // The vendor's end waits for its answers: they come however this goes.
    using held = new DisposableStack();
    held.defer(() => over.resolve(new Response()));
    const { proc, port } = await start(state.path, {
      env: {
        OPENAI_BASE_URL: `http://127.0.0.1:${vendor.addr.port}/v1`,
        OPENAI_API_KEY: "fake",
        CARAPACE_MODEL: "openai:gpt-test",
      },
    });
    await using _proc = proc;
    await isUp({ proc, port, state: state.path });
    const turn = post(port, "hi").catch(() => undefined);
    await asked.promise;
    const end = performance.now() + DRAIN_MS / 2;
    let hasEnded = false;
    void proc.status.then(() => hasEnded = true);
    await until("an end before the turn's", () => {
      try {
        if (!hasEnded) proc.child.kill("SIGTERM");
      } catch (error) {
        // It ended in this very moment.
        if (!(error instanceof TypeError)) throw error;
      }
      return hasEnded;
    });
    assert.ok(performance.now() < end);
    assert.equal(await proc.code(), EXIT.interrupted);
    await turn;
  });
  await t.step("SIGKILL to the launcher ends the service", async () => {
    await using state = await scratch();
    const running = await start(state.path);
    await using proc = running.proc;
    await isUp(running);
    const pid = await servicePid(proc.pid);
    proc.child.kill("SIGKILL");
    await until("the service's end", async () => !await isAlive(pid));
    // And its state directory is free for the next one.
    const next = await start(state.path);
    await using again = next.proc;
    await isUp(next);
    again.child.kill("SIGTERM");
    assert.equal(await again.code(), 0);
  });
  await t.step("SIGKILL to the service ends the launcher", async () => {
    await using state = await scratch();
    const running = await start(state.path);
    await using proc = running.proc;
    await isUp(running);
    Deno.kill(await servicePid(proc.pid), "SIGKILL");
    assert.equal(await proc.code(), 128 + 9);
  });
});

Deno.test("service restarts with wider flags when its configuration asks", async () => {
  await using state = await scratch();
  const running = await start(state.path, { config: {} });
  await using proc = running.proc;
  await isUp(running);
  const before = await servicePid(proc.pid);
  await writeConfig(state.path, { egress: { hosts: ["added.example.com"] } });
  const line = await proc.line((l) => l.startsWith("restarting"), proc.err);
  assert.equal(line, "restarting with: +added.example.com:443");
  await until("another service", async () => {
    const now = await servicePid(proc.pid);
    return now !== 0 && now !== before &&
      await statusOf(running.port, "/health/live") === 200;
  });
  proc.child.kill("SIGTERM");
  assert.equal(await proc.code(), 0);
});

Deno.test("service comes up in safe mode when its configuration is bad", async (t) => {
  const rows: [why: string, config: unknown, message: RegExp][] = [
    ["not JSON", "{ ", /carapace\.jsonc:1/],
    ["an unknown key", { gatway: {} }, /gatway/],
    [
      "a root that would be a flag",
      { tools: { roots: ["/x --allow-run"] } },
      /Cannot grant "\/x --allow-run"/,
    ],
    [
      "a root that holds the state directory",
      { tools: { roots: ["/"] } },
      /Cannot grant "\/" to file tools/,
    ],
  ];
  for (const [why, config, message] of rows) {
    await t.step(why, async () => {
      await using state = await scratch();
      const running = await start(state.path, { config });
      await using proc = running.proc;
      await isUp(running);
      assert.match(proc.err.join("\n"), message);
      assert.equal(await statusOf(running.port, "/health/ready"), 503);
      const pid = await servicePid(proc.pid);
      await writeConfig(state.path, {});
      await until(
        "its repair",
        async () => await statusOf(running.port, "/health/ready") === 200,
      );
      assert.notEqual(await servicePid(proc.pid), pid);
      proc.child.kill("SIGTERM");
      assert.equal(await proc.code(), 0);
    });
  }
});

Deno.test("a variable that a changed configuration names first is said to need a start", async () => {
  await using state = await scratch();
  const running = await start(state.path, {
    config: {},
    env: { MY_KEY_OF_THIS_TEST: "sk-set-when-it-started-0123456789" },
  });
  await using proc = running.proc;
  await isUp(running);
  await writeConfig(state.path, {
    providers: { openai: { apiKey: "${MY_KEY_OF_THIS_TEST}" } },
  });
  const line = await proc.line((text) => text.includes("refused"), proc.err);
  assert.match(line, /MY_KEY_OF_THIS_TEST.*stop and start/);
  assert.doesNotMatch(line, /sk-set/);
  assert.equal(await ask(running.port, "what is 2+2?").then(() => "ok"), "ok");
});
