/** Programs run by the real launcher over its real pipe. */
import assert from "node:assert/strict";
import {
  isAlive,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
  until,
} from "./processes.ts";

const ENTRY = `${root}/tests/process/stand_in_programs_launch.ts`;

async function start(
  state: string,
  run: [string, Record<string, unknown>][],
  commands: Record<string, unknown>,
): Promise<Proc> {
  const files = `${state}-files`;
  await Deno.mkdir(files, { recursive: true });
  await Deno.writeTextFile(`${state}/orders`, JSON.stringify({ run }));
  const config = { tools: { roots: [files], exec: { commands } } };
  await Deno.writeTextFile(`${state}/carapace.jsonc`, JSON.stringify(config), {
    mode: 0o600,
  });
  return new Proc(["run", ...LAUNCHER_FLAGS, ENTRY, "start"], {
    env: { CARAPACE_STATE_DIR: state, SOME_SECRET: "x" },
  });
}

async function said(proc: Proc, key: string) {
  return JSON.parse(await proc.line((line) => line.includes(`"${key}":`)));
}

Deno.test("launch runs the named commands of a service that may run nothing itself", async () => {
  await using folder = await scratch();
  const state = `${await Deno.realPath(folder.path)}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  const cwd = `${state}-files`;
  const commands = {
    env: {
      about: "its environment",
      run: "/usr/bin/printenv",
      cwd,
      env: { LANG: "C" },
    },
    list: {
      about: "a file",
      run: "/bin/cat",
      args: ["--", "{path}"],
      params: { path: { type: "path", below: cwd } },
      cwd,
    },
    sleep: {
      about: "waits",
      run: "/usr/bin/tail",
      args: ["-f", "/dev/null"],
      cwd,
    },
  };
  await using proc = await start(state, [
    ["env", {}],
    ["list", { path: "../state/carapace.jsonc" }],
    ["nonesuch", {}],
    ["sleep", {}],
  ], commands);
  const first = await said(proc, "pipe");
  assert.equal(first.pipe, true);
  assert.notEqual(first.run, "granted");
  assert.ok(
    !first.env.some((name: string) => /SECRET|NODE_/.test(name)),
    first.env,
  );
  const { result } = await said(proc, "result");
  assert.deepEqual(result, { out: "LANG=C\n", err: "", code: 0, why: "exit" });
  await said(proc, "ready");
  const refusals = proc.out.filter((line) => line.includes("refused"));
  assert.equal(refusals.length, 2);
  assert.match(refusals[0] ?? "", /not a plain path/);
  const children = async () => {
    const { stdout } = await new Deno.Command("pgrep", {
      args: ["-f", "tail -f /dev/null", "-P", String(proc.pid)],
    }).output();
    return new TextDecoder().decode(stdout).trim().split("\n").filter(Boolean);
  };
  await until("the program", async () => (await children()).length > 0);
  const [pid = "0"] = await children();
  proc.child.kill("SIGTERM");
  assert.equal(await proc.code(), 7);
  assert.equal(await isAlive(first.pid), false);
  await until("its end", async () => !await isAlive(Number(pid)));
});

Deno.test("launch gives no pipe when the configuration names no program", async () => {
  await using folder = await scratch();
  const state = `${await Deno.realPath(folder.path)}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  await using proc = await start(state, [["env", {}]], {});
  assert.equal((await said(proc, "pipe")).pipe, false);
  await said(proc, "ready");
});

Deno.test("the service ends when a launcher with a pipe is killed", async () => {
  await using folder = await scratch();
  const state = `${await Deno.realPath(folder.path)}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  const cwd = `${state}-files`;
  await using proc = await start(state, [], {
    x: { about: "x", run: "/usr/bin/printenv", cwd },
  });
  const { pid } = await said(proc, "pipe");
  await said(proc, "ready");
  proc.child.kill("SIGKILL");
  await until("the service's end", async () => !await isAlive(pid));
});

Deno.test("programs end when their launcher is killed, with what they started", async () => {
  await using folder = await scratch();
  const state = `${await Deno.realPath(folder.path)}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  const cwd = `${state}-files`;
  await Deno.mkdir(cwd);
  // It writes nothing, reads nothing and will not be ended: only SIGKILL does.
  const stubborn = `${cwd}/stubborn`;
  await Deno.writeTextFile(
    stubborn,
    [
      "#!/bin/sh",
      "trap '' TERM HUP INT PIPE",
      "(trap '' TERM HUP INT PIPE; while :; do tail -f /dev/null; done) &",
      // The launcher tells its keeper a moment after the start.
      "sleep 0.3",
      `echo "$$ $!" > ${cwd}/pids.new; mv ${cwd}/pids.new ${cwd}/pids`,
      "while :; do tail -f /dev/null; done",
    ].join("\n"),
    { mode: 0o755 },
  );
  await using proc = await start(state, [["sleep", {}]], {
    sleep: { about: "stays", run: stubborn, cwd },
  });
  const service = await said(proc, "pipe");
  let pids: number[] = [];
  await until("the program", async () => {
    const text = await Deno.readTextFile(`${cwd}/pids`).catch(() => "");
    pids = text.trim().split(" ").map(Number).filter((pid) => pid > 1);
    return pids.length === 2;
  });
  proc.child.kill("SIGKILL");
  for (const pid of [service.pid, ...pids]) {
    await until(`the end of ${pid}`, async () => !await isAlive(pid));
  }
});
