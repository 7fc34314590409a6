/**
 * Threat C2: what the owner allowed is what runs. Programs, scripts, folders and
 * arguments are exchanged between the question and the run; on real processes.
 */
import assert from "node:assert/strict";
import type { CommandTemplate, ProgramEvent } from "../../src/core/command.ts";
import { ProgramHost } from "../../src/programs.ts";
import { execTool } from "../../src/tools/exec.ts";
import { Runner } from "../../src/tools/runner.ts";
import { fakeHouse, request } from "../fakes/house.ts";
import { calls, says } from "../fakes/models.ts";
import { symlink } from "../fakes/symlink.ts";
import { scratch } from "../process/processes.ts";

const ASK = [{ verdict: "ask", tool: "exec_*", args: [] }] as const;

interface Bench {
  dir: string;
  template: CommandTemplate;
  runner: Runner;
  events: ProgramEvent[];
}

/** `DIR/program DIR/script VALUE` in `DIR/work`, behind a launcher's host. */
async function withProgram(
  story: (bench: Bench) => Promise<void>,
): Promise<void> {
  await using folder = await scratch();
  const dir = await Deno.realPath(folder.path);
  await Deno.writeTextFile(
    `${dir}/program`,
    '#!/bin/sh\necho ran; pwd; cat "$1"; echo "$2"\n',
    { mode: 0o755 },
  );
  await Deno.writeTextFile(`${dir}/script`, "one\n");
  await Deno.writeTextFile(`${dir}/other`, "two\n");
  await symlink(`${dir}/script`, `${dir}/link`);
  await Deno.mkdir(`${dir}/work`);
  await Deno.writeTextFile(`${dir}/work/data.txt`, "data\n");
  const template: CommandTemplate = {
    about: "runs a script",
    run: `${dir}/program`,
    args: [`${dir}/link`, "{file}"],
    params: { file: { type: "path", below: `${dir}/work` } },
    cwd: `${dir}/work`,
    env: { LANG: "C" },
    timeoutMs: 20_000,
    outputBytesMax: 65_536,
  };
  const listeners = new Set<(event: ProgramEvent) => void>();
  const events: ProgramEvent[] = [];
  using host = new ProgramHost({ commands: { p: template }, mcp: {} }, (e) => {
    events.push(e);
    for (const listener of listeners) listener(e);
  });
  using runner = new Runner({
    send: (request) => void host.take(JSON.parse(JSON.stringify(request))),
    onEvent: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  });
  await story({ dir, template, runner, events });
}

const { signal } = new AbortController();
const values = { file: "data.txt" };

/** What can be exchanged, and how. */
const SWAPS: [what: string, swap: (dir: string) => Promise<void>][] = [
  ["the program", async (dir) => {
    await Deno.rename(`${dir}/program`, `${dir}/was`);
    await Deno.copyFile(`${dir}/was`, `${dir}/program`);
    await Deno.writeTextFile(`${dir}/program`, "echo more\n", { append: true });
  }],
  ["the program's bytes, with its size and time kept", async (dir) => {
    const before = await Deno.stat(`${dir}/program`);
    const text = await Deno.readTextFile(`${dir}/program`);
    await Deno.writeTextFile(`${dir}/program`, text.replace("ran", "RAN"));
    assert.ok(before.mtime !== null && before.atime !== null);
    await Deno.utime(`${dir}/program`, before.atime, before.mtime);
    const after = await Deno.stat(`${dir}/program`);
    assert.deepEqual([after.size, after.ino, after.mtime], [
      before.size,
      before.ino,
      before.mtime,
    ]);
  }],
  ["the script's text", async (dir) => {
    await Deno.writeTextFile(`${dir}/script`, "ONE\n");
  }],
  ["the script, by the link to it", async (dir) => {
    await Deno.remove(`${dir}/link`);
    await symlink(`${dir}/other`, `${dir}/link`);
  }],
  ["the argument's file, by a link", async (dir) => {
    await Deno.remove(`${dir}/work/data.txt`);
    await symlink(`${dir}/other`, `${dir}/work/data.txt`);
  }],
  ["the argument's text", async (dir) => {
    await Deno.writeTextFile(`${dir}/work/data.txt`, "else\n");
  }],
  ["the folder", async (dir) => {
    await Deno.rename(`${dir}/work`, `${dir}/gone`);
    await Deno.mkdir(`${dir}/work`);
    await Deno.copyFile(`${dir}/gone/data.txt`, `${dir}/work/data.txt`);
  }],
  ["the folder, by a link", async (dir) => {
    await Deno.rename(`${dir}/work`, `${dir}/gone`);
    await symlink(`${dir}/gone`, `${dir}/work`);
  }],
];

Deno.test("C2: what changed between the question and the answer does not run", async (t) => {
  for (const [what, swap] of SWAPS) {
    await t.step(what, async () => {
      await withProgram(async ({ dir, template, runner, events }) => {
        await using house = await fakeHouse({
          policy: ASK.map((line) => ({ ...line, args: [] })),
          tools: [execTool("p", template, { runner, trusted: false })],
          steps: [calls(["exec_p", values]), says("done")],
        });
        const run = await house.desk.start(request("run it"));
        let last = "";
        for await (const event of run.events) {
          if (event.kind === "ask") {
            await swap(dir);
            await house.approvals.answer(event.approvalId, "allow-once", {
              by: "owner",
            });
          } else if (event.kind === "decision") last = event.verdict;
        }
        assert.equal(last, "deny");
        assert.ok(!events.some(({ op }) => op === "started"), what);
        // Its answer was for what was asked, and is not left to be used later.
        const again = await house.approvals.pending();
        assert.equal(again.length, 0);
      });
    });
  }
});

Deno.test("C2: what changed between the answer and the run does not run", async (t) => {
  for (const [what, swap] of SWAPS) {
    await t.step(what, async () => {
      await withProgram(async ({ dir, template, runner, events }) => {
        const plan = await runner.plan("p", template, { values, signal });
        await swap(dir);
        await assert.rejects(
          runner.run("p", template, { values, signal, plan }),
          /than what was approved|not the program|is a link|behind a link/,
        );
        assert.ok(!events.some(({ op }) => op === "started"));
      });
    });
  }
  await t.step(
    "other arguments, environment or folder in the plan",
    async () => {
      await withProgram(async ({ template, runner, events }) => {
        const plan = await runner.plan("p", template, { values, signal });
        for (
          const change of [
            { args: ["x"] },
            { env: { LD_PRELOAD: "x" } },
            { cwd: { ...plan.cwd, ino: 1 } },
            { files: [] },
            { program: { ...plan.program, path: "/bin/sh" } },
          ]
        ) {
          await assert.rejects(
            runner.run("p", template, {
              values,
              signal,
              plan: { ...plan, ...change },
            }),
            /than what was approved/,
          );
        }
        assert.ok(!events.some(({ op }) => op === "started"));
      });
    },
  );
});

Deno.test("C2: the card of a program shows all that runs, and that runs once", async () => {
  await withProgram(async ({ dir, template, runner, events }) => {
    await using house = await fakeHouse({
      policy: ASK.map((line) => ({ ...line, args: [] })),
      tools: [execTool("p", template, { runner, trusted: false })],
      steps: [calls(["exec_p", values]), says("done")],
    });
    const run = await house.desk.start(request("run it"));
    let card: string[] = [];
    let text = "";
    for await (const event of run.events) {
      if (event.kind === "ask") {
        card = event.card;
        assert.deepEqual(event.answers, ["allow-once", "deny"]);
        await house.approvals.answer(event.approvalId, "allow-once", {
          by: "owner",
        });
      } else if (event.kind === "tool_result") text = event.text;
    }
    const { program } = await runner.plan("p", template, { values, signal });
    const bytes = await Deno.readFile(`${dir}/program`);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    assert.equal(program.digest, `sha256:${hash.toHex()}`);
    const shown = card.join("\n");
    for (
      const part of [
        `runs: "${dir}/program" (${program.digest})`,
        `with the arguments: ["${dir}/link","${dir}/work/data.txt"]`,
        `in the folder: "${dir}/work"`,
        'environment: LANG="C"',
        `the file: "${dir}/script" (sha256:`,
        `the file: "${dir}/work/data.txt" (sha256:`,
      ]
    ) assert.ok(shown.includes(part), `${part}\nis not in\n${shown}`);
    assert.equal(text, `ran\n${dir}/work\none\n${dir}/work/data.txt`);
    assert.equal(events.filter(({ op }) => op === "started").length, 1);
  });
});

Deno.test("C2: a program that cannot run is not asked about", async () => {
  await withProgram(async ({ dir, template, runner }) => {
    await Deno.remove(`${dir}/program`);
    await using house = await fakeHouse({
      policy: ASK.map((line) => ({ ...line, args: [] })),
      tools: [execTool("p", template, { runner, trusted: false })],
      steps: [calls(["exec_p", values]), says("done")],
    });
    const events = await house.say("run it");
    assert.ok(!events.some(({ kind }) => kind === "ask"));
    const last = events.findLast((e) => e.kind === "decision");
    assert.ok(last?.kind === "decision" && last.verdict === "deny");
  });
});
