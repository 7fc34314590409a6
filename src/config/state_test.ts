import assert from "node:assert/strict";
import { recordEnv } from "./env.ts";
import { type Place, stateDir, systemPlace } from "./state.ts";

Deno.test("stateDir() is the named folder, the checkout's, or the platform's", async (t) => {
  const rows: [
    why: string,
    env: Record<string, string>,
    platform: Place["platform"],
    want: string,
  ][] = [
    ["named", { CARAPACE_STATE_DIR: "/s", HOME: "/h" }, "linux", "/s"],
    ["named, relative", { CARAPACE_STATE_DIR: "s" }, "linux", "/work/s"],
    ["Linux", { HOME: "/h" }, "linux", "/h/.local/state/carapace"],
    ["XDG", { HOME: "/h", XDG_STATE_HOME: "/x" }, "linux", "/x/carapace"],
    [
      "relative XDG is ignored",
      { HOME: "/h", XDG_STATE_HOME: "x" },
      "linux",
      "/h/.local/state/carapace",
    ],
    [
      "macOS",
      { HOME: "/h" },
      "darwin",
      "/h/Library/Application Support/carapace",
    ],
    ["Windows", { LOCALAPPDATA: "C:\\L" }, "windows", "C:\\L\\carapace"],
  ];
  for (const [why, env, platform, want] of rows) {
    await t.step(why, async () => {
      const place = { cwd: "/work", platform, program: "/opt/carapace" };
      assert.equal(await stateDir(recordEnv(env), place), want);
    });
  }
  await t.step("nothing to go by is refused", async () => {
    const place: Place = { cwd: "/", platform: "linux", program: "/opt" };
    await assert.rejects(stateDir(recordEnv({}), place), { code: "bad_input" });
  });
});

Deno.test("stateDir() trusts only the checkout it runs from", async () => {
  const env = recordEnv({ HOME: "/h" });
  const { program } = systemPlace();
  const cwd = program.replace(/\/$/, "");
  const place: Place = { cwd, platform: "linux", program };
  assert.equal(await stateDir(env, place), `${cwd}/.carapace`);
  const elsewhere = { ...place, program: "/opt/other" };
  assert.equal(await stateDir(env, elsewhere), "/h/.local/state/carapace");
});
