/** MCP against the servers of npm, as real processes of a real launcher's host. */
import assert from "node:assert/strict";
import type { McpProgram, ProgramEvent } from "../../src/core/command.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { ProgramHost } from "../../src/programs.ts";
import { openStore } from "../../src/store/store.ts";
import { McpConfig, mcpPrograms } from "../../src/tools/mcp/config.ts";
import { McpDesk } from "../../src/tools/mcp/desk.ts";
import { Registry } from "../../src/tools/registry.ts";
import { Runner } from "../../src/tools/runner.ts";
import { serverArgs } from "../fakes/mcp_servers.ts";
import { runTool } from "../fakes/tools.ts";
import { isAlive, scratch, until } from "./processes.ts";

// They are cached with these tests because they are in their graph.
const graph = [
  () => import("../fakes/mcp_server_filesystem.ts"),
  () => import("../fakes/mcp_server_everything.ts"),
];

interface Bench {
  desk: McpDesk;
  registry: Registry;
  events: ProgramEvent[];
}

async function withServers(
  servers: Record<string, unknown>,
  story: (bench: Bench) => Promise<void>,
): Promise<void> {
  assert.equal(graph.length, 2);
  await using stack = new AsyncDisposableStack();
  const config = McpConfig.parse({ servers }).servers;
  const programs: Record<string, McpProgram> = mcpPrograms(config);
  const listeners = new Set<(event: ProgramEvent) => void>();
  const events: ProgramEvent[] = [];
  const host = stack.use(
    new ProgramHost({ commands: {}, mcp: programs }, (event) => {
      events.push(event);
      for (const listener of listeners) listener(event);
    }),
  );
  const runner = stack.use(
    new Runner({
      send: (request) => void host.take(JSON.parse(JSON.stringify(request))),
      onEvent: (listener) => {
        listeners.add(listener);
        return { [Symbol.dispose]: () => void listeners.delete(listener) };
      },
    }),
  );
  const store = stack.use(
    await openStore({ dir: ":memory:", clock: systemClock, log: silentLog }),
  );
  const registry = new Registry([]);
  const desk = stack.use(
    new McpDesk({
      servers: config,
      egress: stack.use(
        makeEgress({
          config: EgressConfig.parse({}),
          clock: systemClock,
          log: silentLog,
        }),
      ),
      runner,
      registry,
      pins: store.mcpPins,
      tokens: store.mcpTokens,
      journal: store.journal,
      clock: systemClock,
      log: silentLog,
    }),
  );
  await desk.settled();
  assert.deepEqual(desk.list().map(({ why }) => why), [undefined]);
  await story({ desk, registry, events });
}

const env = { HOME: Deno.env.get("HOME") ?? "/", NO_COLOR: "1" };

function toolOf({ registry }: Bench, name: string) {
  const found = registry.find(name);
  assert.ok(found !== undefined, `no ${name}`);
  return found;
}

Deno.test("server-filesystem reads and writes where it may, and ends with its desk", async () => {
  await using folder = await scratch();
  const dir = await Deno.realPath(folder.path);
  await Deno.writeTextFile(`${dir}/a.txt`, "hello");
  let pid = 0;
  await withServers({
    files: {
      command: Deno.execPath(),
      args: [
        ...serverArgs("filesystem", [
          "--allow-env",
          "--allow-sys",
          "--allow-read",
          `--allow-write=${dir}`,
        ]),
        dir,
      ],
      cwd: dir,
      env,
      tools: ["read_text_file", "write_file", "list_directory"],
      effects: { read_text_file: "read_private" },
    },
  }, async (bench) => {
    const { registry } = bench;
    assert.deepEqual(registry.list(() => true).map(({ name }) => name).sort(), [
      "mcp_files_list_directory",
      "mcp_files_read_text_file",
      "mcp_files_write_file",
    ]);
    const read = toolOf(bench, "mcp_files_read_text_file");
    assert.deepEqual([read.effect, read.implied], ["read_private", undefined]);
    const list = toolOf(bench, "mcp_files_list_directory");
    assert.deepEqual([list.effect, list.implied], ["none", "outbound"]);
    assert.equal(toolOf(bench, "mcp_files_write_file").effect, "write");
    const out = await runTool(read, { path: `${dir}/a.txt` });
    assert.equal(out.text, "hello");
    assert.equal(out.label?.integrity, "untrusted");
    await runTool(toolOf(bench, "mcp_files_write_file"), {
      path: `${dir}/b.txt`,
      content: "written",
    });
    assert.equal(await Deno.readTextFile(`${dir}/b.txt`), "written");
    const outside = await runTool(read, { path: "/etc/passwd" });
    assert.equal(outside.isError, true);
    const { stdout } = await new Deno.Command("pgrep", {
      args: ["-f", `mcp_server_filesystem.ts ${dir}`],
    }).output();
    pid = Number(new TextDecoder().decode(stdout).trim().split("\n")[0]);
    assert.ok(await isAlive(pid));
  });
  await until("its end", async () => !await isAlive(pid));
});

Deno.test("server-everything: an echo, a secret in its environment, a cancel", async () => {
  await using folder = await scratch();
  await withServers({
    every: {
      command: Deno.execPath(),
      args: serverArgs("everything", [
        "--allow-env",
        "--allow-sys",
        "--allow-read",
      ]),
      cwd: folder.path,
      env: { ...env, SOME_TOKEN: new Secret("s3cr3t", "test") },
    },
  }, async (bench) => {
    const echo = await runTool(toolOf(bench, "mcp_every_echo"), {
      message: "hi",
    });
    assert.match(echo.text, /hi/);
    const names = bench.registry.list(() => true).map(({ name }) => name);
    const printer = names.find((name) => /env/i.test(name));
    assert.ok(printer !== undefined, names.join());
    const printed = await runTool(toolOf(bench, printer), {});
    assert.match(printed.text, /s3cr3t/);
    assert.doesNotMatch(printed.text, /CARAPACE|PATH=/);
    const long = names.find((name) => /long/i.test(name));
    if (long !== undefined) {
      const stop = new AbortController();
      const running = runTool(
        toolOf(bench, long),
        { duration: 60, steps: 60 },
        {
          signal: stop.signal,
        },
      );
      setTimeout(() => stop.abort(), 100);
      await assert.rejects(running);
    }
    // It says that its list changed; what is there then is still what was pinned.
    assert.ok(
      bench.desk.list()[0]?.tools.every(({ state }) => state === "ready"),
    );
  });
});
