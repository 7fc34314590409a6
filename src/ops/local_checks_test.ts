import assert from "node:assert/strict";
import {
  checkClock,
  checkDisk,
  checkOpenFiles,
  checkStateDir,
  parseOpenFiles,
} from "./local_checks.ts";

async function scratch(): Promise<{ dir: string } & AsyncDisposable> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  return {
    dir,
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

Deno.test({
  name: "checkStateDir() wants a folder that only its owner can enter",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using place = await scratch();
    const dir = `${place.dir}/state`;
    const state = async () => (await checkStateDir(dir)).state;
    assert.equal(await state(), "warn");
    await Deno.writeTextFile(dir, "");
    assert.equal(await state(), "fail");
    await Deno.remove(dir);
    await Deno.mkdir(dir, { mode: 0o700 });
    assert.equal(await state(), "ok");
    await Deno.chmod(dir, 0o750);
    assert.equal(await state(), "warn");
    await Deno.chmod(dir, 0o770);
    assert.equal(await state(), "fail");
    await Deno.chmod(dir, 0o700);
    await Deno.writeTextFile(`${dir}/kv.db`, "", { mode: 0o600 });
    assert.equal(await state(), "ok");
    await Deno.chmod(`${dir}/kv.db`, 0o640);
    const found = await checkStateDir(dir);
    assert.equal(found.state, "fail");
    assert.equal(found.fix, `chmod go= '${dir}/kv.db'`);
  },
});

Deno.test("parseOpenFiles() reads the soft limit", () => {
  const line = (soft: string) =>
    `Max stack size   8388608  unlimited  bytes\nMax open files            ${soft}                 524288               files\n`;
  assert.equal(parseOpenFiles(line("256")), 256);
  assert.equal(parseOpenFiles(line("unlimited")), Infinity);
  assert.equal(parseOpenFiles("nothing"), undefined);
});

Deno.test("checkOpenFiles() believes the launcher, at both sides of what is enough", async () => {
  const found = async (told: string) => {
    const { state, detail } = await checkOpenFiles(told);
    return `${state}: ${detail}`;
  };
  assert.equal(await found("1023"), "warn: only 1023");
  assert.equal(await found("1024"), "ok: 1024");
  assert.equal(await found("undefined"), "ok: unlimited");
  for (const none of ["", "many", "-5", "1e9"]) {
    assert.equal(await found(none), await found(""));
  }
});

Deno.test("checkClock() compares with the gateway and with what was written", async () => {
  await using place = await scratch();
  const stateDir = place.dir;
  const now = Date.UTC(2026, 10, 22);
  const state = async (at: number, gatewayNow = at) =>
    (await checkClock(at, { stateDir, gatewayNow })).state;
  assert.equal(await state(now), "ok");
  assert.equal(await state(0), "fail");
  assert.equal(await state(now, now + 119_000), "ok");
  assert.equal(await state(now, now - 121_000), "fail");
  await Deno.writeTextFile(`${stateDir}/kv.db`, "");
  await Deno.utime(`${stateDir}/kv.db`, new Date(now), new Date(now + 61_000));
  assert.equal(await state(now), "warn");
});

Deno.test("checks that cannot look say so", async () => {
  assert.equal((await checkDisk("tests/.tmp/not/anywhere")).state, "skip");
  assert.ok(["ok", "warn", "skip"].includes((await checkOpenFiles()).state));
});
