import assert from "node:assert/strict";
import { AppError } from "../core/errors.ts";
import { type Log, silentLog } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import { lockState, openKeyFile, readHolder } from "./files.ts";
import { openStore } from "./store.ts";
import { symlink } from "../../tests/fakes/symlink.ts";

const clock: Clock = { now: () => 1, sleep: () => Promise.resolve() };
const isWindows = Deno.build.os === "windows";

async function scratch(): Promise<{ dir: string } & AsyncDisposable> {
  const parent = new URL("../../tests/.tmp/", import.meta.url).pathname;
  await Deno.mkdir(parent, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: parent, prefix: "files-" });
  return {
    dir,
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

async function open(
  dir: string,
  log: Log = silentLog,
  how: { mayBeRead?: boolean } = {},
) {
  return await openStore({ dir, clock, log, ...how });
}

Deno.test({
  name: "openStore() makes every file for its owner only",
  ignore: isWindows,
  fn: async () => {
    await using home = await scratch();
    const dir = `${home.dir}/state`;
    const lines: string[] = [];
    {
      await using store = await open(dir, (_level, event) => lines.push(event));
      await store.probe();
      const modes: string[] = [];
      for await (const { name } of Deno.readDir(dir)) {
        const { mode } = await Deno.stat(`${dir}/${name}`);
        modes.push(`${name} ${((mode ?? 0) & 0o777).toString(8)}`);
      }
      assert.deepEqual(modes.sort(), [
        "kv.db 600",
        "kv.db-shm 600",
        "kv.db-wal 600",
        "lock 600",
        "store.key 600",
      ]);
      const { mode } = await Deno.stat(dir);
      assert.equal((mode ?? 0) & 0o777, 0o700);
    }
    assert.deepEqual(lines, []);
    await using _again = await open(dir);
  },
});

Deno.test({
  name:
    "openStore() refuses what others may write or read; in a container it warns of the last",
  ignore: isWindows,
  fn: async (t) => {
    const shared = { mayBeRead: true };
    type Row = [path: string, mode: number, want: string, how?: typeof shared];
    const rows: Row[] = [
      ["", 0o720, "forbidden"],
      ["", 0o720, "forbidden", shared],
      ["", 0o702, "forbidden"],
      ["", 0o755, "forbidden"],
      ["", 0o710, "forbidden"],
      ["", 0o755, "warn", shared],
      ["", 0o700, "ok"],
      ["/kv.db", 0o620, "forbidden"],
      ["/kv.db", 0o602, "forbidden"],
      ["/kv.db", 0o644, "forbidden"],
      ["/kv.db", 0o640, "forbidden"],
      ["/kv.db", 0o644, "warn", shared],
      ["/kv.db", 0o600, "ok"],
      ["/store.key", 0o640, "forbidden"],
      ["/store.key", 0o604, "forbidden"],
      ["/store.key", 0o640, "forbidden", shared],
    ];
    for (const [path, mode, want, how = {}] of rows) {
      await t.step(
        `${path || "the directory"} at ${mode.toString(8)}`,
        async () => {
          await using home = await scratch();
          {
            await using _store = await open(home.dir);
          }
          await Deno.chmod(home.dir + path, mode);
          const warned: string[] = [];
          const log: Log = (level, event) =>
            level === "warn" && warned.push(event);
          let got = "ok";
          try {
            await using _store = await open(home.dir, log, how);
            if (warned.length > 0) got = "warn";
          } catch (error) {
            assert.ok(error instanceof AppError);
            assert.match(error.hint ?? "", /^Run: chmod [67]00 "/);
            got = error.code;
          }
          assert.equal(got, want);
          assert.equal(readHolder(home.dir), undefined);
        },
      );
    }
  },
});

Deno.test({
  name: "openStore() refuses a database that is a link",
  ignore: isWindows,
  fn: async () => {
    await using home = await scratch();
    await Deno.writeTextFile(`${home.dir}/elsewhere`, "");
    await Deno.mkdir(`${home.dir}/state`, { mode: 0o700 });
    await symlink(`${home.dir}/elsewhere`, `${home.dir}/state/kv.db`);
    await assert.rejects(open(`${home.dir}/state`), { code: "forbidden" });
  },
});

Deno.test("openKeyFile() refuses a damaged key", async () => {
  await using home = await scratch();
  const key = await openKeyFile(home.dir);
  assert.equal(key.length, 32);
  assert.deepEqual(await openKeyFile(home.dir), key);
  await Deno.writeFile(`${home.dir}/store.key`, key.slice(1));
  await assert.rejects(openKeyFile(home.dir), { code: "forbidden" });
});

Deno.test("lockState() is held once in a process and freed when disposed", async () => {
  await using home = await scratch();
  const text = "pid 1, http://127.0.0.1:18789";
  {
    using lock = lockState(home.dir, text);
    assert.equal(readHolder(home.dir), text);
    assert.throws(() => lockState(home.dir, "pid 2"), {
      code: "locked",
      message: `Cannot use "${home.dir}": it is held by ${text}`,
    });
    lock.describe("pid 1,\nelsewhere");
    assert.equal(readHolder(home.dir), "pid 1, elsewhere");
    // The store opens under the lock this process holds, once.
    await using _store = await open(home.dir);
    await assert.rejects(open(home.dir), { code: "locked" });
  }
  assert.equal(readHolder(home.dir), undefined);
  using _again = lockState(home.dir, "pid 3");
});

Deno.test("lockState() refuses a second process, and frees what kill -9 left", async () => {
  await using home = await scratch();
  const code = `
    import { lockState } from ${
    JSON.stringify(new URL("./files.ts", import.meta.url).href)
  };
    const lock = lockState(${JSON.stringify(home.dir)}, "pid " + Deno.pid);
    console.log("held");
    await new Promise((done) => setTimeout(done, 60_000));
    lock[Symbol.dispose]();
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", code],
    cwd: new URL("../../", import.meta.url),
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  await assert.rejects(open(home.dir), {
    code: "locked",
    message: `Cannot use "${home.dir}": it is held by pid ${child.pid}`,
  });
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  await using _store = await open(home.dir);
});
