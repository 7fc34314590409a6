/**
 * A plugin's host may come to stand for this machine: the name was granted, the
 * address it resolves to was not. In the real sandbox, over the whole program.
 */
import assert from "node:assert/strict";
import { probe } from "../fakes/plugins.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  scratch,
} from "../process/processes.ts";

Deno.test("a granted name that resolves to this machine leads nowhere", async (t) => {
  let arrived = 0;
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => {
      arrived++;
      return new Response("the inside");
    },
  );
  const { port } = server.addr;
  // As a name with an unkind DNS: on most machines it is one for loopback.
  const name = Deno.hostname().toLowerCase();
  await using dir = await scratch();
  const state = `${dir.path}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  const gatewayPort = freePort();
  const run = (args: readonly string[]) =>
    new Proc(["run", ...LAUNCHER_FLAGS, "src/launch.ts", ...args], {
      env: {
        CARAPACE_STATE_DIR: state,
        CARAPACE_PORT: `${gatewayPort}`,
        CARAPACE_TOKEN: "a-token-for-process-tests",
      },
    });
  const carapace = async (...args: string[]): Promise<string> => {
    await using proc = run(args);
    const code = await proc.code();
    assert.equal(code, 0, [...proc.out, ...proc.err].join("\n"));
    return proc.out.join("\n");
  };
  const http = [name, "127.0.0.1"].map((host) => ({
    host,
    scheme: "http",
    port: host === name ? port : freePort(),
  }));
  const { manifest, bytes } = await probe({ wants: { http } });
  const folder = `${dir.path}/probe`;
  await Deno.mkdir(folder);
  await Deno.writeFile(`${folder}/probe.wasm`, bytes);
  await Deno.writeTextFile(`${folder}/plugin.jsonc`, JSON.stringify(manifest));
  await using _gateway = run(["start"]);
  await listening(gatewayPort);
  await carapace("plugin", "install", folder, "--allow-unsigned", "--yes");
  const ask = async (host: string) => {
    const url = `http://${host}:${port}/`;
    const request = JSON.stringify({ url });
    const args = JSON.stringify({ fn: "http", request });
    return JSON.parse(await carapace("plugin", "call", "probe", "host", args));
  };
  await t.step("by a name that was granted", async () => {
    const answer = await ask(name);
    assert.equal(answer.ok, false, JSON.stringify(answer));
    assert.equal(arrived, 0);
  });
  await t.step("by an address whose other port was granted", async () => {
    for (const host of ["127.0.0.1", "localhost", "[::1]", "2130706433"]) {
      const answer = await ask(host);
      assert.equal(answer.ok, false, JSON.stringify(answer));
      assert.match(answer.error, /Cannot/);
    }
    assert.equal(arrived, 0);
  });
});
