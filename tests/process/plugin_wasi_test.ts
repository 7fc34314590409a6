/**
 * A guest that imports the system interface of C and Go programs, in the real
 * sandbox: it gets the empty device, the time and chance, and nothing else.
 */
import assert from "node:assert/strict";
import { guest, manifestOf, tool } from "../fakes/plugins.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  scratch,
  until,
} from "./processes.ts";

const TOOLS = [
  "given",
  "files",
  "streams",
  "clock",
  "random",
  "random_flood",
  "sleep",
  "exit",
];
/** The interface's own numbers. */
const BADF = 8;
const NOTSUP = 58;
const NOSYS = 52;

Deno.test("a guest of WASI has an empty device and nothing else", async (t) => {
  await using dir = await scratch();
  const state = `${dir.path}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  const port = freePort();
  const run = (args: readonly string[]) =>
    new Proc(["run", ...LAUNCHER_FLAGS, "src/launch.ts", ...args], {
      env: {
        CARAPACE_STATE_DIR: state,
        CARAPACE_PORT: `${port}`,
        CARAPACE_TOKEN: "a-token-for-process-tests",
        SECRET_OF_THE_OWNER: "hunter2",
      },
    });
  const carapace = async (...args: string[]) => {
    await using proc = run(args);
    const code = await proc.code();
    return { code, out: proc.out.join("\n"), err: proc.err.join("\n") };
  };
  const folder = `${dir.path}/wasi`;
  await Deno.mkdir(folder);
  const bytes = await guest("wasi");
  const manifest = await manifestOf("wasi", bytes, {
    tools: TOOLS.map((name) => tool(name)),
    wants: { wasi: true },
  });
  await Deno.writeFile(`${folder}/wasi.wasm`, bytes);
  await Deno.writeTextFile(`${folder}/plugin.jsonc`, JSON.stringify(manifest));
  const install = ["plugin", "install", folder, "--allow-unsigned", "--yes"];

  await t.step("without a gateway it is ready by the same call", async () => {
    const { code, out, err } = await carapace(...install);
    assert.equal(code, 0, out + err);
    assert.match(out, /wasi 1\.0\.0 is ready/);
    assert.equal((await carapace("plugin", "remove", "wasi")).code, 0);
  });
  await using gateway = run(["start"]);
  await listening(port);
  await t.step("beside one, the gateway starts again for it", async () => {
    const { code, out, err } = await carapace(...install);
    assert.equal(code, 0, out + err);
    assert.match(out, /wasi 1\.0\.0 is ready/);
    await until(
      "the reason of the restart",
      () => gateway.err.some((line) => /\+.*\/dev\/null/.test(line)),
    );
    const { out: why } = await carapace("permissions", "--explain");
    for (const flag of ["read", "write"]) {
      assert.match(
        why,
        new RegExp(`--allow-${flag}\\s+/dev/null\\s+plugins.granted.wasi.wasi`),
      );
    }
  });
  const call = async (name: string) => {
    const { code, out, err } = await carapace("plugin", "call", "wasi", name);
    assert.equal(code, 0, err);
    return out;
  };
  await t.step("no arguments, no environment, no folder", async () => {
    assert.deepEqual(JSON.parse(await call("given")), {
      args: [0, 0],
      env: [0, 0],
      folders: [BADF],
    });
  });
  await t.step("no file is opened, looked at, made or removed", async () => {
    assert.deepEqual(JSON.parse(await call("files")), [BADF]);
  });
  await t.step("streams give nothing and keep nothing", async () => {
    const before = gateway.out.length;
    const { bytes, reads, writes } = JSON.parse(await call("streams"));
    assert.equal(bytes, 0);
    for (const came of [...reads, ...writes]) {
      assert.ok([0, BADF, NOTSUP].includes(came), `${came}`);
    }
    const said = [...gateway.out.slice(before), ...gateway.err].join("\n");
    assert.doesNotMatch(said, /AAAA/);
  });
  await t.step("the time is the time, and chance is chance", async () => {
    const ms = Number(await call("clock"));
    assert.ok(Math.abs(ms - Date.now()) < 60_000, `${ms}`);
    const seen = [await call("random"), await call("random")].join(" ");
    const words = seen.trim().split(/\s+/);
    assert.deepEqual([words.length, new Set(words).size], [8, 8]);
  });
  await t.step("chance without end is paid for", async () => {
    const { code, err } = await carapace(
      "plugin",
      "call",
      "wasi",
      "random_flood",
    );
    assert.equal(code, 1);
    assert.match(
      err,
      /fuel exhausted after 1\.0e9 units in tool "random_flood"/,
    );
  });
  await t.step("nobody sleeps on the host's thread", async () => {
    assert.equal(await call("sleep"), `${NOSYS}`);
  });
  await t.step("who ends itself ends itself", async () => {
    const { code, err } = await carapace("plugin", "call", "wasi", "exit");
    assert.equal(code, 1);
    assert.match(err, /tool "exit" trapped: it ended itself with code 3/);
    // And the next call finds a fresh guest.
    assert.equal(await call("sleep"), `${NOSYS}`);
  });
  await t.step("nobody calls it an experiment", () => {
    assert.doesNotMatch(gateway.err.join("\n"), /Experimental/);
  });
});
