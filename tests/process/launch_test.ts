/** The launcher on real processes, with a stand-in for the program behind it. */
import assert from "node:assert/strict";
import {
  freePort,
  isAlive,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
  until,
} from "./processes.ts";

const ENTRY = `${root}/tests/process/stand_in_launch.ts`;

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

async function startStandIn(
  state: string,
  options: {
    orders?: string;
    config?: string;
    env?: Record<string, string>;
    args?: string[];
  } = {},
): Promise<Proc> {
  const { orders = "", config, env = {}, args = ["start"] } = options;
  await Deno.writeTextFile(`${state}/orders`, orders);
  if (config !== undefined) {
    await Deno.writeTextFile(`${state}/carapace.jsonc`, config, {
      mode: 0o600,
    });
  }
  return new Proc(["run", ...LAUNCHER_FLAGS, ENTRY, ...args], {
    env: { CARAPACE_STATE_DIR: state, ...env },
  });
}

async function said(proc: Proc, key: string) {
  return JSON.parse(await proc.line((line) => line.includes(`"${key}":`)));
}

Deno.test("launch gives the service a built environment, no run, and --supervised", async () => {
  await using state = await scratch();
  await using proc = await startStandIn(state.path, {
    env: {
      HTTP_PROXY: "http://127.0.0.1:9",
      HTTPS_PROXY: "http://127.0.0.1:9",
      OTEL_DENO: "true",
      LD_LIBRARY_PATH: "/tmp",
      NODE_OPTIONS: "--no-warnings",
      SOME_SECRET: "x",
      CARAPACE_TOKEN: "a-token-of-twenty-four-characters",
    },
    args: ["start", "--quiet"],
  });
  const { args, env, run, net } = await said(proc, "args");
  assert.deepEqual(args, ["start", "--supervised", "--quiet"]);
  assert.deepEqual(Object.keys(env).sort(), [
    "CARAPACE_STATE_DIR",
    "CARAPACE_TOKEN",
    "NO_COLOR",
  ]);
  assert.equal(env.CARAPACE_STATE_DIR, await Deno.realPath(state.path));
  assert.notEqual(run, "granted");
  assert.notEqual(net, "granted");
});

Deno.test("launch passes signals on, once, and ends with the service's code", async (t) => {
  for (const [name, code] of [["SIGTERM", 7], ["SIGINT", 7]] as const) {
    await t.step(name, async () => {
      await using state = await scratch();
      await using proc = await startStandIn(state.path);
      const { pid } = await said(proc, "pid");
      await said(proc, "ready");
      proc.child.kill(name);
      proc.child.kill(name);
      assert.equal(await proc.code(), code);
      assert.equal(await isAlive(pid), false);
      const signals = proc.out.filter((line) => line.includes('"signal"'));
      assert.deepEqual(signals, [`{"signal":"${name}"}`]);
    });
  }
  await t.step("SIGHUP reaches the service and both go on", async () => {
    await using state = await scratch();
    await using proc = await startStandIn(state.path);
    await said(proc, "ready");
    proc.child.kill("SIGHUP");
    assert.deepEqual(await said(proc, "signal"), { signal: "SIGHUP" });
    proc.child.kill("SIGTERM");
    assert.equal(await proc.code(), 7);
  });
});

Deno.test("launch killed with SIGKILL takes the service with it", async () => {
  await using state = await scratch();
  await using proc = await startStandIn(state.path);
  const { pid } = await said(proc, "pid");
  await said(proc, "ready");
  proc.child.kill("SIGKILL");
  await until("the service's end", async () => !await isAlive(pid));
  assert.ok(
    await exists(`${state.path}/gone`),
    "the pipe's end was the reason",
  );
});

Deno.test("launch starts again after 75 with what the configuration now needs", async () => {
  await using state = await scratch();
  await using proc = await startStandIn(state.path, { orders: "widen 3" });
  assert.equal(await proc.code(), 3);
  const starts = proc.out.map((line) => JSON.parse(line));
  assert.deepEqual(starts.map(({ extra }) => extra), ["prompt", "granted"]);
  assert.deepEqual(proc.err, ["restarting with: +added.example.com:443"]);
});

Deno.test("launch gives up when a service does nothing but ask for permissions", async () => {
  await using state = await scratch();
  const orders = Array(9).fill("75").join(" ");
  await using proc = await startStandIn(state.path, { orders });
  assert.equal(await proc.code(), 1);
  assert.equal(proc.out.length, 6);
  assert.match(proc.err.at(-1) ?? "", /asked for new permissions 6 times/);
});

Deno.test("launch believes who asks often, when each service served for a while", async () => {
  await using state = await scratch();
  const orders = [...Array(6).fill("settled"), "3"].join(" ");
  await using proc = await startStandIn(state.path, { orders });
  assert.equal(await proc.code(), 3);
  assert.equal(proc.out.length, 7);
});

Deno.test("launch tells the doctor how many files may be open, and no caller does", async (t) => {
  for (const [limit, state] of [[600, "warn"], [1_500, "ok"]] as const) {
    await t.step(`${limit}`, async () => {
      await using dir = await scratch();
      await using proc = new Proc([
        ...["-c", `ulimit -n ${limit}; exec "$@"`, "sh", Deno.execPath()],
        ...["run", ...LAUNCHER_FLAGS, "src/launch.ts", "doctor", "--json"],
      ], {
        command: "sh",
        env: { CARAPACE_STATE_DIR: dir.path, CARAPACE_OPEN_FILES: "99999" },
      });
      await proc.code();
      const { checks } = JSON.parse(proc.out.join(""));
      const check = checks.find((one: { name: string }) =>
        one.name === "open files"
      );
      assert.equal(check.state, state, JSON.stringify(check));
      assert.match(check.detail, new RegExp(`^(only )?${limit}$`));
    });
  }
});

Deno.test("launch starts a bad configuration in safe mode and names each problem", async (t) => {
  const rows: [why: string, config: string, message: RegExp][] = [
    ["not JSON", "{", /carapace\.jsonc:1:/],
    ["an unknown key", `{ "gatway": {} }`, /gatway/],
    [
      "a root that would be a flag",
      `{ "tools": { "roots": ["/x --allow-run"] } }`,
      /carapace\.jsonc:1.*tools\.roots: Cannot grant "\/x --allow-run"/,
    ],
    [
      "a variable that steers the runtime",
      `{ "agents": { "main": { "name": "\${HTTP_PROXY}" } } }`,
      /"HTTP_PROXY"/,
    ],
  ];
  for (const [why, config, message] of rows) {
    await t.step(why, async () => {
      await using state = await scratch();
      await using proc = await startStandIn(state.path, {
        config,
        orders: "4",
        env: { HTTP_PROXY: "http://127.0.0.1:9" },
      });
      assert.equal(await proc.code(), 4);
      assert.match(proc.err[0] ?? "", message);
      assert.match(proc.err.at(-1) ?? "", /safe mode/);
      const { run, env } = JSON.parse(proc.out[0] ?? "{}");
      assert.notEqual(run, "granted");
      assert.equal(env.HTTP_PROXY, undefined);
    });
  }
});

Deno.test("launch is started by tasks that switch the runtime's update check off", async () => {
  // Without it the runtime connects to its vendor, through HTTP_PROXY too.
  const { tasks } = JSON.parse(await Deno.readTextFile(`${root}/deno.json`));
  const launching = Object.values<{ command?: string }>(tasks)
    .map(({ command = "" }) => command)
    .filter((command) => /deno run .*src\/launch\.ts/.test(command));
  assert.ok(launching.length >= 3);
  for (const command of launching) {
    assert.match(command, /^export DENO_NO_UPDATE_CHECK=1 && /);
  }
});

Deno.test("launch lets no proxy variable divert the service's requests", async () => {
  await using state = await scratch();
  let diverted = 0;
  await using proxy = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => {
      diverted++;
      return new Response("from the proxy");
    },
  );
  const port = freePort();
  await using _target = Deno.serve(
    { hostname: "127.0.0.1", port, onListen: () => {} },
    () => new Response("from the target"),
  );
  await Deno.writeTextFile(`${state.path}/target`, String(port));
  const url = `http://127.0.0.1:${proxy.addr.port}`;
  await using proc = await startStandIn(state.path, {
    orders: "fetch",
    // The granted port is the target's, so the only question is the way there.
    env: {
      CARAPACE_PORT: String(port),
      HTTP_PROXY: url,
      http_proxy: url,
      ALL_PROXY: url,
    },
  });
  assert.deepEqual(await said(proc, "fetched"), { fetched: "from the target" });
  assert.equal(diverted, 0);
});
