/**
 * Promise 2: the service's flags are derived from its configuration and contain
 * nothing else, and it serves only after its forbidden acts were refused.
 */
import assert from "node:assert/strict";
import { client, servicePid, start } from "../process/gateways.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  readProc,
  root,
  scratch,
} from "../process/processes.ts";

async function flagsFor(env: Record<string, string>): Promise<string[]> {
  await using verb = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "permissions", "--json"],
    { env },
  );
  assert.equal(await verb.code(), 0, verb.err.join("\n"));
  return JSON.parse(verb.out.join("")).flags;
}

/** Each value of each flag by itself: `--allow-net=a,b` is two. */
function values(flags: readonly string[]): Set<string> {
  return new Set(flags.flatMap((flag) => {
    const [name, list] = flag.split("=", 2);
    return list === undefined
      ? [flag]
      : list.split(",").map((one) => `${name}=${one}`);
  }));
}

Deno.test("least privilege, computed", async (t) => {
  await using dir = await scratch();
  await using gateway = await start({ dir: dir.path });
  const env = {
    CARAPACE_STATE_DIR: dir.path,
    CARAPACE_PORT: String(gateway.port),
  };
  const flags = await flagsFor(env);

  await t.step({
    name: "the process runs with exactly the computed flags",
    ignore: Deno.build.os !== "linux",
    fn: async () => {
      using one = await client(gateway);
      const pid = await servicePid(one);
      const argv = (await readProc(`/proc/${pid}/cmdline`)).split("\0");
      const isPermission = (arg: string) => /^(-A|--(allow|deny)-)/.test(arg);
      assert.deepEqual(argv.filter(isPermission), flags.filter(isPermission));
      for (const flag of flags) assert.ok(argv.includes(flag), flag);
    },
  });
  await t.step("none of them is open, none runs a program", () => {
    const bare = flags.filter((flag) => /^(-A|--allow-[a-z]+)$/.test(flag));
    assert.deepEqual(bare, []);
    const kinds = new Set(flags.map((flag) => flag.split("=")[0]));
    for (const kind of ["--allow-run", "--allow-ffi", "--allow-import"]) {
      assert.ok(!kinds.has(kind), kind);
    }
    for (
      const wall of [
        "--no-prompt",
        "--cached-only",
        "--no-remote",
        "--ignore-env",
      ]
    ) {
      assert.ok(kinds.has(wall), wall);
    }
  });
  await t.step("a first start may use this and nothing else", () => {
    const of = (name: string) =>
      [...values(flags)].filter((one) => one.startsWith(`${name}=`))
        .map((one) => one.slice(name.length + 1)).sort();
    assert.deepEqual(
      of("--allow-net"),
      [
        `127.0.0.1:${gateway.port}`,
        // What the first-run screen offers.
        "127.0.0.1:11434",
        "api.anthropic.com:443",
        "api.openai.com:443",
        "generativelanguage.googleapis.com:443",
      ].sort(),
    );
    assert.deepEqual(of("--allow-write"), [dir.path]);
    const source = of("--allow-read").filter((path) => path !== dir.path);
    for (const path of source) {
      assert.ok(path.startsWith(`${root}/src/`), path);
    }
  });
  await t.step("one line of configuration is one entry", async () => {
    const more = values(
      await flagsFor({
        ...env,
        CARAPACE_CONFIG_JSON: '{"egress":{"hosts":["a.example"]}}',
      }),
    );
    const before = values(flags);
    assert.deepEqual([...more].filter((one) => !before.has(one)), [
      "--allow-net=a.example:443",
    ]);
    assert.deepEqual([...before].filter((one) => !more.has(one)), []);
  });
  await t.step("the forbidden acts were done, and refused", async () => {
    using one = await client(gateway);
    const { posture } = await one.call("status", {});
    assert.ok(posture.tried >= 12, `${posture.tried} acts`);
    assert.equal(posture.refused, posture.tried);
    assert.equal(posture.sandboxOff, false);
  });
  await t.step("it does not serve under any other sandbox", async () => {
    await using other = await scratch();
    await using open = new Proc([
      "run",
      "-A",
      "--no-prompt",
      "main.ts",
      "start",
    ], {
      env: {
        CARAPACE_STATE_DIR: other.path,
        CARAPACE_PORT: String(freePort()),
      },
    });
    assert.notEqual(await open.code(), 0);
    assert.doesNotMatch(open.out.join("\n"), /address/);
    assert.match(open.err.join("\n"), /sandbox/);
  });
});
