/**
 * An operator at a real service, launcher and all: the configuration is written
 * through the gateway and followed, looked at and taken back with the command
 * line; the record of it is whole.
 */
import assert from "node:assert/strict";
import { client, providedBy, start } from "./gateways.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { LAUNCHER_FLAGS, root, scratch, until } from "./processes.ts";

async function carapace(
  dir: string,
  port: number,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, ...args],
    env: {
      CARAPACE_STATE_DIR: dir,
      CARAPACE_PORT: String(port),
      NO_COLOR: "1",
    },
  }).output();
  const [out = "", err = ""] = [stdout, stderr]
    .map((bytes) => new TextDecoder().decode(bytes));
  return { code, out, err };
}

Deno.test("what is written through the gateway is followed by it, and can be taken back", async (t) => {
  await using folder = await scratch();
  await using vendor = await fakeOpenai();
  const dir = folder.path;
  await using gateway = await start({ dir, env: providedBy(vendor) });
  const { port } = gateway;
  await t.step("hot: the agent has its new name", async () => {
    using owner = await client(gateway);
    const before = await owner.call("config.get", {});
    assert.equal(before.writable, true);
    await owner.call("config.patch", {
      raw: '{"agents":{"main":{"name":"Ada"}}}',
      baseHash: before.hash,
    });
    await until("the new name", async () => {
      const { agents } = await owner.call("agents.list", {});
      return agents[0]?.name === "Ada";
    });
  });
  await t.step(
    "by restart: the log is quieter, and the file is whole",
    async () => {
      using owner = await client(gateway);
      const { hash } = await owner.call("config.get", {});
      const { runtime: { pid } } = await owner.call("status", {});
      await owner.call("config.patch", {
        raw: '{"log":{"level":"warn"}}',
        baseHash: hash,
      });
      await until("the restart", async () => {
        try {
          using again = await client(gateway);
          const { config, valid } = await again.call("config.get", {});
          const { runtime } = await again.call("status", {});
          return valid && runtime.pid !== pid &&
            (config as { log: { level: string } }).log.level === "warn";
        } catch {
          return false; // between the two processes
        }
      });
    },
  );
  await t.step("the command line: revisions, diff, undo", async () => {
    const listed = await carapace(dir, port, "config", "revisions", "--json");
    assert.equal(listed.code, 0, listed.err);
    const { revisions } = JSON.parse(listed.out);
    assert.equal(revisions[0].current, true);
    assert.equal(revisions[0].via, "patch");
    const diff = await carapace(dir, port, "config", "diff");
    assert.equal(diff.code, 0, diff.err);
    assert.match(diff.out, /^\+.*"level": "warn"/m);
    const undone = await carapace(dir, port, "config", "undo");
    assert.equal(undone.code, 0, undone.err);
    const text = await Deno.readTextFile(`${dir}/carapace.jsonc`);
    assert.doesNotMatch(text, /warn/);
    assert.match(text, /Ada/);
  });
  await t.step("the audit log", async () => {
    await until("a whole record", async () => {
      const { code } = await carapace(dir, port, "audit", "verify");
      return code === 0;
    });
    const listed = await carapace(
      dir,
      port,
      "audit",
      "list",
      "--event",
      "config",
      "--json",
    );
    assert.equal(listed.code, 0, listed.err);
    const { rows } = JSON.parse(listed.out);
    assert.ok(rows.length >= 3, listed.out);
    const bad = await carapace(dir, port, "audit", "list", "--limit", "0");
    assert.equal(bad.code, 2);
  });
});
