/**
 * Threats C1 to C4: shells, other programs than what was approved, environments,
 * and options smuggled in as operands; on real processes.
 */
import assert from "node:assert/strict";
import {
  type CommandTemplate,
  type ProgramEvent,
  type ProgramRequest,
  templateHash,
} from "../../src/core/command.ts";
import { ProgramHost } from "../../src/programs.ts";
import { execTool } from "../../src/tools/exec.ts";
import { Runner } from "../../src/tools/runner.ts";
import { ToolsConfig } from "../../src/tools/config.ts";
import { symlink } from "../fakes/symlink.ts";
import { runTool } from "../fakes/tools.ts";
import { fakeHouse } from "../fakes/house.ts";
import { calls, says } from "../fakes/models.ts";
import { isAlive, scratch, until } from "../process/processes.ts";

const NODE_LIKE = Deno.execPath();

/** A command that prints what it was given. */
function show(
  dir: string,
  change: Partial<CommandTemplate> = {},
): CommandTemplate {
  return {
    about: "shows its arguments",
    run: NODE_LIKE,
    args: [
      "eval",
      "console.log(JSON.stringify({args: Deno.args, cwd: Deno.cwd(), env: Object.keys(Deno.env.toObject())}))",
      "--",
      "{text}",
    ],
    params: { text: { type: "text", charsMax: 4000 } },
    cwd: dir,
    env: { DENO_NO_UPDATE_CHECK: "1", LANG: "C" },
    timeoutMs: 20_000,
    outputBytesMax: 65_536,
    ...change,
  };
}

interface Bench {
  dir: string;
  runner: Runner;
  host: ProgramHost;
  events: ProgramEvent[];
}

/** A launcher's host and the service's end of its pipe, in one process. */
async function withHost(
  make: (dir: string) => Record<string, CommandTemplate>,
  story: (bench: Bench) => Promise<void>,
): Promise<void> {
  await using folder = await scratch();
  const dir = await Deno.realPath(folder.path);
  const listeners = new Set<(event: ProgramEvent) => void>();
  const events: ProgramEvent[] = [];
  using host = new ProgramHost({ commands: make(dir), mcp: {} }, (event) => {
    events.push(event);
    for (const listener of listeners) listener(event);
  });
  using runner = new Runner({
    // As the pipe does: everything is JSON once.
    send: (request) => void host.take(JSON.parse(JSON.stringify(request))),
    onEvent: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  });
  await story({ dir, runner, host, events });
}

const { signal } = new AbortController();

Deno.test("C1: what a shell would read is one argument, letter by letter", async (t) => {
  await withHost((dir) => ({ show: show(dir) }), async ({ dir, runner }) => {
    const tool = execTool("show", show(dir), { runner, trusted: false });
    const attacks = [
      "; touch pwned",
      "$(touch pwned)",
      "`touch pwned`",
      "| touch pwned",
      "&& touch pwned",
      "> pwned",
      "a\ntouch pwned",
      "${IFS}touch${IFS}pwned",
      "-c touch pwned",
      "--allow-all",
      "'; touch pwned; '",
      '"; touch pwned; "',
      "%COMSPEC%",
      "\\\ntouch pwned",
      "<(touch pwned)",
      "!touch pwned",
      "~root",
      "*",
    ];
    for (const text of attacks) {
      await t.step(JSON.stringify(text), async () => {
        const out = await runTool(tool, { text });
        assert.deepEqual(JSON.parse(out.text).args, [text]);
      });
    }
    const left = await Array.fromAsync(Deno.readDir(dir), (e) => e.name);
    assert.deepEqual(left, []);
  });
});

Deno.test("C1: a shell or wrapper cannot be configured", async (t) => {
  const rows = [
    "/bin/sh",
    "/bin/bash",
    "/usr/bin/env",
    "/usr/bin/xargs",
    "/bin/busybox",
    "/usr/bin/sudo",
    "/usr/bin/timeout",
    "/usr/bin/flock",
    "/usr/bin/script",
    "/usr/bin/ssh",
    "C:\\Windows\\System32\\cmd.exe",
    "git",
    "../bin/git",
    "/usr/bin/../bin/sh",
  ];
  for (const run of rows) {
    await t.step(run, () => {
      const parsed = ToolsConfig.safeParse({
        roots: ["/srv"],
        exec: { commands: { x: { about: "x", run, cwd: "/srv" } } },
      });
      assert.ok(!parsed.success);
    });
  }
  await t.step("nor one that runs outside the roots", () => {
    for (
      const command of [
        { cwd: "/etc" },
        { cwd: "/srvother" },
        {
          cwd: "/srv",
          args: ["{p}"],
          params: { p: { type: "path", below: "/" } },
        },
      ]
    ) {
      const parsed = ToolsConfig.safeParse({
        roots: ["/srv"],
        exec: {
          commands: { x: { about: "x", run: "/usr/bin/git", ...command } },
        },
      });
      assert.ok(!parsed.success, JSON.stringify(command));
    }
  });
});

Deno.test("C1: the launcher believes no request beyond its own templates", async (t) => {
  await withHost(
    (dir) => ({ show: show(dir) }),
    async ({ dir, host, events }) => {
      const hash = await templateHash(show(dir));
      const other = await templateHash(show(dir, { run: "/bin/sh" }));
      const values = { text: "x" };
      const requests: [name: string, request: unknown][] = [
        ["an unknown command", { op: "run", command: "sh", hash, values }],
        ["a name of every object", {
          op: "run",
          command: "constructor",
          hash,
          values,
        }],
        ["another template", {
          op: "run",
          command: "show",
          hash: other,
          values,
        }],
        ["no hash", { op: "run", command: "show", values }],
        ["a template of its own", {
          op: "run",
          command: "show",
          hash,
          template: show(dir, { run: "/bin/sh" }),
          run: "/bin/sh",
          args: ["-c", "touch pwned"],
          env: { LD_PRELOAD: "x" },
          values: { text: 1 },
        }],
        ["more values", {
          op: "run",
          command: "show",
          hash,
          values: { text: "x", cwd: "/" },
        }],
        ["no values", { op: "run", command: "show", hash }],
        ["an unknown server", { op: "open", server: "x", secrets: {} }],
        ["another act", { op: "spawn", command: "/bin/sh" }],
        ["nothing", null],
        ["a text", "run"],
      ];
      for (const [n, [name, request]] of requests.entries()) {
        await t.step(name, async () => {
          const id = n + 1000;
          await host.take(
            typeof request === "object" && request !== null
              ? { id, ...request }
              : request,
          );
          const said = events.filter((event) => event.id === id);
          assert.ok(
            said.every(({ op }) => op === "refused"),
            JSON.stringify(said),
          );
        });
      }
      assert.ok(events.every(({ op }) => op === "refused"));
      assert.equal(events.length, 9);
    },
  );
});

Deno.test("C2: what was configured at the start is what runs, or nothing", async (t) => {
  await using folder = await scratch();
  const dir = await Deno.realPath(folder.path);
  const program = `${dir}/program`;
  await Deno.writeTextFile(program, "#!/bin/sh\necho first\n", { mode: 0o755 });
  await t.step("a program that was swapped", async () => {
    await withHost(
      () => ({ p: show(dir, { run: program, args: [], params: {} }) }),
      async ({ runner }) => {
        const template = show(dir, { run: program, args: [], params: {} });
        const first = await runner.run("p", template, { values: {}, signal });
        assert.equal(first.out, "first\n");
        await Deno.remove(program);
        await Deno.writeTextFile(program, "#!/bin/sh\necho second\n", {
          mode: 0o755,
        });
        await assert.rejects(
          runner.run("p", template, { values: {}, signal }),
          /not the program it was/,
        );
      },
    );
  });
  await t.step("a path argument that is, or is behind, a link", async () => {
    await Deno.mkdir(`${dir}/root/sub`, { recursive: true });
    await Deno.writeTextFile(`${dir}/secret`, "no");
    await symlink(`${dir}/secret`, `${dir}/root/link`);
    await symlink(dir, `${dir}/root/up`);
    const template = show(dir, {
      cwd: `${dir}/root`,
      params: { text: { type: "path", below: `${dir}/root` } },
    });
    await withHost(() => ({ p: template }), async ({ runner }) => {
      const run = (text: string) =>
        runner.run("p", template, { values: { text }, signal });
      for (const path of ["link", "up/secret", `${dir}/root/up/secret`]) {
        await assert.rejects(run(path), /is a link/);
      }
      await assert.rejects(run("../secret"), /not a plain path/);
      await assert.rejects(run(`${dir}/secret`), /not below/);
      const good = await run("sub/new.txt");
      assert.deepEqual(JSON.parse(good.out).args, [`${dir}/root/sub/new.txt`]);
    });
  });
  await t.step("a working folder that became a link", async () => {
    const template = show(`${dir}/work`);
    await symlink("/", `${dir}/work`);
    await withHost(() => ({ p: template }), async ({ runner }) => {
      await assert.rejects(
        runner.run("p", template, { values: { text: "x" }, signal }),
        /behind a link/,
      );
    });
  });
});

Deno.test("C3: a program has the environment its line names, and no other", async () => {
  const print = (dir: string) =>
    show(dir, { run: "/usr/bin/printenv", args: [], params: {} });
  await withHost((dir) => ({ p: print(dir) }), async ({ dir, runner }) => {
    const { out } = await runner.run("p", print(dir), { values: {}, signal });
    assert.deepEqual(out.trim().split("\n").sort(), [
      "DENO_NO_UPDATE_CHECK=1",
      "LANG=C",
    ]);
  });
  for (
    const name of [
      "LD_PRELOAD",
      "BASH_ENV",
      "NODE_OPTIONS",
      "GIT_SSH",
      "a b",
      "X=Y",
    ]
  ) {
    const parsed = ToolsConfig.safeParse({
      roots: ["/srv"],
      exec: {
        commands: {
          x: {
            about: "x",
            run: "/usr/bin/git",
            cwd: "/srv",
            env: { [name]: "x" },
          },
        },
      },
    });
    assert.ok(!parsed.success, name);
  }
});

Deno.test("C4: an operand is never an option", async () => {
  const template = (dir: string) => show(dir, { args: ["{text}"] });
  await withHost(
    (dir) => ({ p: template(dir) }),
    async ({ dir, runner, events }) => {
      const tool = execTool("p", template(dir), { runner, trusted: false });
      await assert.rejects(
        runTool(tool, { text: "--version" }),
        /read as an option/,
      );
      // And the launcher says so itself.
      await assert.rejects(
        runner.run("p", template(dir), { values: { text: "-A" }, signal }),
        /read as an option/,
      );
      assert.ok(!events.some(({ op }) => op === "started"));
    },
  );
});

Deno.test("A program ends when its call does: cancelled, too long, too loud", async (t) => {
  const busy = (dir: string, change: Partial<CommandTemplate> = {}) =>
    show(dir, {
      run: "/usr/bin/tail",
      args: ["-f", "{text}"],
      params: { text: { type: "path", below: dir } },
      ...change,
    });
  await t.step("cancelled within a moment, with what it started", async () => {
    await withHost(
      (dir) => ({ p: busy(dir) }),
      async ({ dir, runner, events }) => {
        await Deno.writeTextFile(`${dir}/f`, "hello");
        const stop = new AbortController();
        const running = runner.run("p", busy(dir), {
          values: { text: "f" },
          signal: stop.signal,
        });
        await until(
          "its first words",
          () => events.some(({ op }) => op === "out"),
        );
        const begun = performance.now();
        stop.abort();
        await assert.rejects(running, { name: "AbortError" });
        assert.ok(performance.now() - begun < 1_500);
        assert.ok(events.some((e) => e.op === "ended" && e.why === "killed"));
      },
    );
  });
  await t.step("too long", async () => {
    await withHost(
      (dir) => ({ p: busy(dir, { timeoutMs: 200 }) }),
      async ({ dir, runner }) => {
        await Deno.writeTextFile(`${dir}/f`, "hello");
        const ended = await runner.run("p", busy(dir, { timeoutMs: 200 }), {
          values: { text: "f" },
          signal,
        });
        assert.equal(ended.why, "timeout");
      },
    );
  });
  await t.step("too loud", async () => {
    const loud = (dir: string) =>
      busy(dir, {
        run: "/usr/bin/yes",
        args: [],
        params: {},
        outputBytesMax: 10_000,
      });
    await withHost((dir) => ({ p: loud(dir) }), async ({ dir, runner }) => {
      const ended = await runner.run("p", loud(dir), { values: {}, signal });
      assert.equal(ended.why, "output");
      assert.ok(ended.out.length <= 10_000);
    });
  });
  await t.step("when the service is gone", async () => {
    let pid = 0;
    await withHost((dir) => ({
      p: show(dir, {
        args: ["eval", "console.log(Deno.pid); setInterval(() => {}, 1000)"],
        params: {},
      }),
    }), async ({ host, events, dir }) => {
      const template = show(dir, {
        args: ["eval", "console.log(Deno.pid); setInterval(() => {}, 1000)"],
        params: {},
      });
      const request: ProgramRequest = {
        op: "run",
        id: 1,
        command: "p",
        hash: await templateHash(template),
        values: {},
      };
      const taking = host.take(request);
      await until("its number", () => events.some(({ op }) => op === "out"));
      const out = events.find(({ op }) => op === "out");
      pid = Number(out?.op === "out" ? out.text : 0);
      assert.ok(await isAlive(pid));
      host[Symbol.dispose]();
      await taking;
    });
    assert.equal(await isAlive(pid), false);
  });
});

Deno.test("exec is asked about wherever untrusted text was read, and its output is untrusted", async () => {
  await withHost(
    (dir) => ({ show: show(dir) }),
    async ({ dir, runner, events }) => {
      await using house = await fakeHouse({
        tools: [execTool("show", show(dir), { runner, trusted: false })],
        steps: [
          calls(["exec_show", { text: "one" }]),
          calls(["exec_show", { text: "two" }]),
          says("done"),
        ],
      });
      const told = await house.say("run it", { attended: false });
      const verdicts = told.flatMap((e) =>
        e.kind === "decision" ? [e.verdict] : []
      );
      // The first in a clean conversation; its output soils it.
      assert.deepEqual(verdicts, ["allow", "deny"]);
      assert.equal(events.filter(({ op }) => op === "started").length, 1);
    },
  );
});
