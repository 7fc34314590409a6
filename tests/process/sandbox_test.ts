/** Preflight and posture under the computed flags, and under worse ones. */
import assert from "node:assert/strict";
import { recordEnv } from "../../src/config/env.ts";
import {
  type Facts,
  holesOf,
  isBare,
  needsOf,
  permissionsFor,
  toFlags,
} from "../../src/permissions.ts";
import { Settings } from "../../src/settings.ts";
import { freePort, Proc, root, scratch } from "./processes.ts";

async function runUnder(
  stateDir: string,
  options: {
    config?: Record<string, unknown>;
    port?: number;
    change?: (flags: string[]) => string[];
    env?: Record<string, string>;
  } = {},
) {
  const { config = {}, port = freePort(), change, env = {} } = options;
  const settings = Settings.parse(config);
  const facts: Facts = {
    stateDir,
    sourceDir: root,
    configFiles: [],
    env: recordEnv({ CARAPACE_PORT: String(port) }),
    os: Deno.build.os,
  };
  const permissions = permissionsFor("start", settings, facts);
  const flags = toFlags(permissions);
  const about = {
    sourceDir: root,
    host: settings.gateway.host,
    port,
    stateDir,
    needs: needsOf(permissions),
    holes: holesOf(permissions.net).v4,
    isOpen: isBare(permissions.net),
  };
  await using proc = new Proc(
    [
      "run",
      ...change === undefined ? flags : change(flags),
      `${root}/tests/process/sandboxed.ts`,
      JSON.stringify(about),
    ],
    { env },
  );
  assert.equal(await proc.code(), 0, proc.err.join("\n"));
  return { ...JSON.parse(proc.out.at(-1) ?? "{}"), port };
}

/** What an open door would let through; nobody is asked for a package. */
const OPEN_ENV = {
  PATH: "/usr/bin",
  NPM_CONFIG_REGISTRY: "http://127.0.0.1:9",
};

async function leftovers(): Promise<string[]> {
  const names: string[] = [];
  for (const dir of ["/", `${root}/src`]) {
    for await (const { name } of Deno.readDir(dir)) {
      if (name.includes("posture-")) names.push(name);
    }
  }
  return names;
}

Deno.test("posture: every act is refused under the computed flags, quickly", async () => {
  await using state = await scratch();
  const { posture, postureMs, preflight, dropped } = await runUnder(
    `${state.path}/new`,
  );
  assert.deepEqual(posture.failures, []);
  assert.ok(posture.tried >= 12);
  assert.equal(posture.refused, posture.tried);
  assert.deepEqual(preflight, { missing: [], problems: [] });
  assert.deepEqual(dropped, ["env", "run"]);
  console.log(`  posture took ${postureMs.toFixed(1)} ms`);
});

Deno.test("posture: egress.open still refuses private addresses", async () => {
  await using state = await scratch();
  const config = { egress: { open: true } };
  const { posture } = await runUnder(state.path, { config });
  assert.deepEqual(posture.failures, []);
});

Deno.test("posture: under -A nothing is refused, and nothing is left behind", async () => {
  await using state = await scratch();
  const { posture } = await runUnder(state.path, {
    change: () => ["-A"],
    env: OPEN_ENV,
  });
  assert.equal(posture.refused, 0);
  assert.equal(posture.failures.length, posture.tried);
  assert.deepEqual(await leftovers(), []);
});

Deno.test("posture: each single door left open is named", async (t) => {
  const bare = (name: string) => (flags: string[]) => [
    ...flags.filter((flag) =>
      !flag.endsWith(`-${name}`) &&
      !flag.includes(`-${name}=`)
    ),
    `--allow-${name}`,
  ];
  const rows: [
    why: string,
    change: (flags: string[]) => string[],
    act: RegExp,
  ][] = [
    ["read", bare("read"), /read a file outside/],
    ["write", bare("write"), /create a file outside.*its own source/],
    ["run", bare("run"), /^start a program/],
    ["ffi", bare("ffi"), /^load a native library/],
    ["sys", bare("sys"), /^list the network's interfaces/],
    ["the environment", bare("env"), /^see the environment/],
    [
      "the network",
      bare("net"),
      /private address; connect to an unlisted host; listen/,
    ],
    [
      "code from elsewhere",
      (flags) => flags.filter((f) => !/^--(no-remote|cached-only)$/.test(f)),
      /^import an npm package; import code by URL/,
    ],
  ];
  for (const [why, change, act] of rows) {
    await t.step(why, async () => {
      await using state = await scratch();
      const { posture } = await runUnder(state.path, {
        change,
        env: OPEN_ENV,
      });
      const acts = posture.failures.map((f: { act: string }) => f.act);
      assert.match(acts.join("; "), act);
    });
  }
});

Deno.test("preflight names exactly the flag that is missing", async (t) => {
  const without = (name: string) => (flags: string[]) =>
    flags.filter((flag) => !flag.startsWith(`${name}=`));
  await using state = await scratch();
  const rows: [flag: string, want: (port: number) => RegExp][] = [
    ["--allow-read", () => new RegExp(`^--allow-read=${state.path}(,|$)`)],
    ["--allow-write", () => new RegExp(`^--allow-write=${state.path}$`)],
    ["--allow-net", (port) => new RegExp(`^--allow-net=127.0.0.1:${port},`)],
    ["--allow-env", () => /^--allow-env=CARAPACE_STATE_DIR,/],
  ];
  for (const [flag, want] of rows) {
    await t.step(flag, async () => {
      const { preflight, port } = await runUnder(state.path, {
        change: without(flag),
      });
      assert.equal(preflight.missing.length, 1);
      assert.match(preflight.missing[0], want(port));
      assert.deepEqual(preflight.problems, []);
    });
  }
  await t.step("one host of several", async () => {
    const { preflight } = await runUnder(state.path, {
      change: (flags) =>
        flags.map((flag) => flag.replace("api.openai.com:443,", "")),
    });
    assert.deepEqual(preflight.missing, ["--allow-net=api.openai.com:443"]);
  });
});

Deno.test("preflight says when a denied range covers the address, or it is taken", async () => {
  await using state = await scratch();
  const covered = await runUnder(state.path, {
    change: (flags) =>
      flags.map((flag) =>
        flag.startsWith("--deny-net=") ? `${flag},127.0.0.0/8` : flag
      ),
  });
  assert.deepEqual(covered.preflight.missing, []);
  assert.match(covered.preflight.problems[0].why, /denied range/);
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { preflight } = await runUnder(state.path, { port: taken.addr.port });
  assert.match(preflight.problems[0].why, /another program listens/);
});
