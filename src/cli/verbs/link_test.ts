import assert from "node:assert/strict";
import { recordEnv } from "../../config/env.ts";
import { candidateDirs, commandScript, shellScript } from "./link.ts";

const isWindows = Deno.build.os === "windows";

Deno.test({
  name: "candidateDirs() prefers Deno's folder, then the user's own",
  ignore: isWindows,
  fn: () => {
    const dirs = (path: string) =>
      candidateDirs(recordEnv({ HOME: "/home/me", PATH: path }), { isWindows })
        .map(({ dir, isOnPath }) => `${dir}${isOnPath ? "" : " (new)"}`);
    assert.deepEqual(
      dirs("/usr/bin:/home/me/bin:/home/me/.deno/bin:/home/me/bin"),
      ["/home/me/.deno/bin", "/home/me/bin", "/usr/bin"],
    );
    assert.deepEqual(dirs("/usr/bin:/home/meme/bin"), [
      "/usr/bin",
      "/home/meme/bin",
      "/home/me/.deno/bin (new)",
    ]);
    assert.deepEqual(dirs(""), ["/home/me/.deno/bin (new)"]);
  },
});

Deno.test({
  name: "shellScript() hands every argument on, from paths with quotes in them",
  ignore: isWindows,
  fn: async () => {
    await Deno.mkdir("tests/.tmp", { recursive: true });
    const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
    try {
      const odd = `${await Deno.realPath(dir)}/it's $(touch x) "odd"`;
      await Deno.mkdir(`${odd}/src`, { recursive: true });
      await Deno.writeTextFile(`${odd}/deno.json`, "{}");
      await Deno.writeTextFile(
        `${odd}/src/launch.ts`,
        "console.log(JSON.stringify([Deno.env.get('CARAPACE_STATE_DIR'), ...Deno.args]))",
      );
      const script = shellScript({
        deno: Deno.execPath(),
        root: odd,
        stateDir: `${odd}/state`,
      });
      await Deno.writeTextFile(`${dir}/carapace`, script, { mode: 0o755 });
      const run = async (env: Record<string, string>) => {
        const { stdout } = await new Deno.Command(`${dir}/carapace`, {
          args: ["a b", "$HOME", "--x='y'"],
          env,
        }).output();
        return JSON.parse(new TextDecoder().decode(stdout));
      };
      assert.deepEqual(await run({ CARAPACE_STATE_DIR: "" }), [
        `${odd}/state`,
        "a b",
        "$HOME",
        "--x='y'",
      ]);
      assert.equal((await run({ CARAPACE_STATE_DIR: "/s" }))[0], "/s");
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});

Deno.test("commandScript() quotes every path", () => {
  const text = commandScript({
    deno: "C:\\Program Files\\deno.exe",
    root: "C:\\My Apps\\carapace",
    stateDir: "C:\\State Dir",
  });
  assert.match(text, /"C:\\Program Files\\deno.exe" run --no-prompt/);
  assert.match(text, /"C:\\My Apps\\carapace\\src\\launch.ts" %\*\r\n$/);
});
