/**
 * A gateway that asks tailscaled who is calling: the launcher's own flags reach
 * its socket and nothing beside it, and a line that is taken away bites.
 */
import assert from "node:assert/strict";
import { recordEnv } from "../../src/config/env.ts";
import { permissionsFor, toFlags } from "../../src/permissions.ts";
import { Settings } from "../../src/settings.ts";
import { start } from "./gateways.ts";
import { freePort, Proc, root, scratch, until } from "./processes.ts";
import { carapace, good } from "./verbs.ts";

const OWNER = "owner@example.com";
/** On the machine that has this address, a real connection comes from it. */
const REAL = "100.64.0.1";
const hasReal = Deno.networkInterfaces().some(({ address }) =>
  address === REAL
);

async function tailscaled(socket: string, nodes: unknown = {}): Promise<Proc> {
  const proc = new Proc([
    "run",
    "--no-prompt",
    "--cached-only",
    "--no-lock",
    `--config=${root}/deno.json`,
    `--allow-read=${root},${socket}`,
    `--allow-write=${socket.replace(/\/[^/]*$/, "")}`,
    `--allow-net=unix:${socket}`,
    "--allow-env",
    `${root}/tests/process/tailscaled.ts`,
    socket,
    JSON.stringify(nodes),
  ]);
  await proc.line((line) => line === "up");
  return proc;
}

Deno.test("the computed flags reach tailscaled's socket and nothing beside it", async () => {
  await using state = await scratch();
  const own = `${state.path}/tailscaled.sock`;
  const other = `${state.path}/other.sock`;
  await using _own = await tailscaled(own);
  await using _other = await tailscaled(other);
  const settings = Settings.parse({
    gateway: {
      tls: { cert: "/c.pem", key: "/k.pem" },
      tailscale: { socket: own, users: {} },
    },
  });
  const flags = toFlags(permissionsFor("start", settings, {
    // The sockets must not be in the state directory, which is granted anyway.
    stateDir: `${state.path}/state`,
    sourceDir: root,
    configFiles: [],
    env: recordEnv({}),
    os: Deno.build.os,
  }));
  const ask = async (without: string) => {
    await using proc = new Proc([
      "run",
      ...flags.map((flag) => flag.replace(without, "")),
      `${root}/tests/process/ask_socket.ts`,
      own,
      other,
    ]);
    assert.equal(await proc.code(), 0, proc.err.join("\n"));
    return proc.out;
  };
  assert.deepEqual(await ask("nothing"), ["200", "NotCapable"]);
  assert.deepEqual(await ask(`,unix:${own}`), ["NotCapable", "NotCapable"]);
});

Deno.test("a gateway says whether its tailscaled answers, and how to repair it", async () => {
  await using state = await scratch();
  const dir = `${state.path}/state`;
  const socket = `${state.path}/tailscaled.sock`;
  await Deno.mkdir(dir, { mode: 0o700 });
  await good(dir, ["tls", "init"]);
  await good(dir, ["tls", "issue", "gw.example.com"]);
  await good(dir, ["tls", "use"]);
  const refused = await carapace(dir, [
    ...["config", "set", "gateway.tailscale.socket", "relative.sock"],
  ]);
  assert.notEqual(refused.code, 0);
  const line = {
    socket,
    users: { [OWNER]: { as: "owner", scopes: ["read"] } },
  };
  await good(dir, ["config", "set", "gateway.tailscale", JSON.stringify(line)]);
  const port = freePort();
  await good(dir, ["config", "set", "gateway.port", String(port)]);
  const explained = await good(dir, ["permissions", "--explain"]);
  for (const flag of ["--allow-net", "--allow-read", "--allow-write"]) {
    const value = flag === "--allow-net" ? `unix:${socket}` : socket;
    assert.ok(
      explained.split("\n").some((one) =>
        one.includes(flag) && one.includes(value) &&
        one.includes("gateway.tailscale.socket")
      ),
      `${flag}\n${explained}`,
    );
  }
  const check = async () => {
    const { out } = await carapace(dir, ["doctor", "--json"]);
    const { checks } = JSON.parse(out);
    const find = (name: string) =>
      checks.find((one: { name: string }) => one.name === name);
    return { tailscale: find("ready: tailscale"), sandbox: find("sandbox") };
  };
  await using _gateway = await start({ dir, port });
  const without = await check();
  assert.equal(without.tailscale.state, "fail");
  assert.ok(
    without.tailscale.detail.includes(socket),
    without.tailscale.detail,
  );
  assert.match(without.tailscale.fix, /tailscale status/);
  assert.equal(without.sandbox.state, "ok", without.sandbox.detail);
  await using proc = await tailscaled(socket);
  // What was found a moment ago is told again.
  const becomes = (state: string) =>
    until(
      `doctor's "${state}"`,
      async () => (await check()).tailscale.state === state,
    );
  await becomes("ok");
  proc.child.kill("SIGKILL");
  await proc.status;
  await becomes("fail");
});

Deno.test({
  name:
    "a line that is taken away closes a real login's socket within a second",
  ignore: !hasReal,
  fn: async () => {
    await using state = await scratch();
    const dir = `${state.path}/state`;
    const socket = `${state.path}/tailscaled.sock`;
    const port = freePort();
    await Deno.mkdir(dir, { mode: 0o700 });
    await good(dir, ["tls", "init"]);
    await good(dir, ["tls", "issue", REAL]);
    await good(dir, ["tls", "use", "--host", REAL]);
    const set = (path: string, value: unknown) =>
      good(dir, ["config", "set", path, JSON.stringify(value)]);
    await set("gateway.port", port);
    const user = { as: "owner", scopes: ["read", "chat"] };
    const tailscale = { socket, users: { [OWNER]: user } };
    await set("gateway.tailscale", tailscale);
    // Another machine's answer about this address: its own is nobody's.
    const nodes = { [REAL]: { login: OWNER } };
    await using asked = await tailscaled(socket, nodes);
    await using gateway = await start({ dir, port });
    const knock = () =>
      new Proc([
        "run",
        "--no-prompt",
        `--cert=${dir}/tls/ca.pem`,
        `--allow-net=${REAL}:${port}`,
        `${root}/tests/process/tailnet_client.ts`,
        `https://${REAL}:${port}`,
      ]);
    await using client = knock();
    assert.equal(
      await client.line((line) => line.startsWith("login")),
      `login ${OWNER}`,
    );
    assert.deepEqual(client.out.slice(0, 2), [
      "http 200",
      "connect operator.chat,operator.read",
    ]);
    await asked.line((line) => line.startsWith(`asked ${REAL}:`));
    // Written in place: what another process takes to start does not count.
    const file = `${dir}/carapace.jsonc`;
    const text = await Deno.readTextFile(file);
    const startedAt = performance.now();
    await Deno.writeTextFile(file, text.replace(OWNER, "other@example.com"));
    await client.line((line) => line === "closed 1008");
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs < 1_000, `${tookMs} ms`);
    await using again = knock();
    assert.equal(
      await again.line((line) => line.startsWith("connect")),
      "connect UNAUTHORIZED",
    );
    assert.equal(again.out[0], "http 401");
    // It went on: nothing but these lines changed.
    assert.ok(!gateway.proc.err.some((line) => line.includes("restarting")));

    await Deno.writeTextFile(file, text);
    const adopted = () =>
      gateway.proc.err.filter((line) => line.includes("config.adopted")).length;
    await until("the first lines again", () => adopted() === 2);
    await using last = knock();
    await last.line((line) => line === `login ${OWNER}`);
    // Without the socket's line it needs a restart, which the end comes before.
    const { gateway: { tailscale: _, ...kept }, ...more } = JSON.parse(text);
    await Deno.writeTextFile(file, JSON.stringify({ ...more, gateway: kept }));
    assert.equal(
      await last.line((line) => line.startsWith("closed")),
      "closed 1008",
    );
  },
});
