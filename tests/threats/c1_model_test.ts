/**
 * Threats C1, C3 and C4 with a model that tries: shells in arguments, options in
 * operands, environments and programs of its own; on a real process that says
 * exactly what reached it.
 */
import assert from "node:assert/strict";
import type { CommandTemplate, ProgramEvent } from "../../src/core/command.ts";
import { ProgramHost } from "../../src/programs.ts";
import { execTool } from "../../src/tools/exec.ts";
import { Runner } from "../../src/tools/runner.ts";
import { fakeHouse } from "../fakes/house.ts";
import { calls, says, type Step } from "../fakes/models.ts";
import { scratch } from "../process/processes.ts";

interface Bench {
  dir: string;
  /** Calls a tool as a model does; its result, and whether a program ran. */
  tryCall(
    name: string,
    args: unknown,
  ): Promise<{ text: string; isError: boolean; ran: boolean }>;
}

/** A house with `exec_show`, which prints its arguments and environment. */
async function withModel(
  change: Partial<CommandTemplate>,
  story: (bench: Bench) => Promise<void>,
): Promise<void> {
  await using folder = await scratch();
  const dir = await Deno.realPath(folder.path);
  await Deno.writeTextFile(
    `${dir}/show`,
    '#!/bin/sh\nfor a in "$@"; do printf "<%s>" "$a"; done; echo; /usr/bin/env\n',
    { mode: 0o755 },
  );
  const template: CommandTemplate = {
    about: "shows its arguments",
    run: `${dir}/show`,
    args: ["--title", "{text}"],
    params: { text: { type: "text", charsMax: 4000 } },
    cwd: dir,
    env: { LANG: "C" },
    timeoutMs: 20_000,
    outputBytesMax: 65_536,
    ...change,
  };
  const listeners = new Set<(event: ProgramEvent) => void>();
  let started = 0;
  using host = new ProgramHost({ commands: { show: template }, mcp: {} }, (
    event,
  ) => {
    if (event.op === "started") started++;
    for (const listener of listeners) listener(event);
  });
  using runner = new Runner({
    send: (request) => void host.take(JSON.parse(JSON.stringify(request))),
    onEvent: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  });
  const script: Step[] = [];
  await using house = await fakeHouse({
    tools: [execTool("show", template, { runner, trusted: true })],
    forever: (request, signal) => {
      const step = script.shift() ?? says("ok");
      return typeof step === "function" ? step(request, signal) : step;
    },
  });
  await story({
    dir,
    tryCall: async (name, args) => {
      const before = started;
      script.push(calls([name, args]), says("ok"));
      const events = await house.say("go", {
        sessionKey: `agent:main:${crypto.randomUUID()}`,
      });
      const result = events.find((event) => event.kind === "tool_result");
      assert.ok(result?.kind === "tool_result");
      const { text, isError } = result;
      return { text, isError, ran: started > before };
    },
  });
}

Deno.test("C1: what a model writes for a shell reaches the program as one argument, or nothing does", async (t) => {
  await withModel({}, async ({ dir, tryCall }) => {
    const mark = `${dir}/pwned`;
    const payloads = [
      `; touch ${mark}`,
      `&& touch ${mark}`,
      `| tee ${mark}`,
      `> ${mark}`,
      `$(touch ${mark})`,
      `\`touch ${mark}\``,
      `$((\`touch ${mark}\`))`,
      `'; touch ${mark} #`,
      `"; touch ${mark} #`,
      `\n touch ${mark}`,
      `\\\n; touch ${mark}`,
      `<(touch ${mark})`,
      `<<EOF\n$(touch ${mark})\nEOF`,
      `\${IFS}touch\${IFS}${mark}`,
      `{touch,${mark}}`,
      `%COMSPEC% /c echo > ${mark}`,
      `^& echo x > ${mark}`,
      `env -S "touch ${mark}"`,
      `busybox touch ${mark}`,
      `-exec touch ${mark} ;`,
      `--output=${mark}`,
      `-o${mark}`,
      "* ~ $HOME ?",
      "\u2028touch",
      "\u0000touch",
      "\u001b]0;x\u0007",
      "\r\ntouch",
    ];
    for (const payload of payloads) {
      await t.step(JSON.stringify(payload), async () => {
        const { text, isError, ran } = await tryCall("exec_show", {
          text: payload,
        });
        if (ran) {
          assert.ok(text.startsWith(`<--title><${payload}>\n`), text);
        } else assert.ok(isError);
        await assert.rejects(Deno.stat(mark), Deno.errors.NotFound);
      });
    }
  });
});

Deno.test("C1: a model names no program that is not configured", async (t) => {
  await withModel({}, async ({ tryCall }) => {
    for (
      const [name, args] of [
        ["exec", { command: "id" }],
        ["exec_bash", { text: "id" }],
        ["bash", { command: "id" }],
        ["exec_show;id", { text: "x" }],
        ["exec_show\n", { text: "x" }],
        ["exec_SHOW", { text: "x" }],
        ["exec_constructor", {}],
        ["exec___proto__", {}],
      ] as const
    ) {
      await t.step(JSON.stringify(name), async () => {
        const { text, isError, ran } = await tryCall(name, args);
        assert.ok(isError && !ran, text);
      });
    }
  });
});

Deno.test("C3: a model adds no variable, folder, program or time to a command", async (t) => {
  await withModel({}, async ({ tryCall }) => {
    for (
      const more of [
        { env: { LD_PRELOAD: "/tmp/x.so" } },
        { cwd: "/" },
        { run: "/bin/sh" },
        { args: ["-c", "id"] },
        { timeoutMs: 1e9 },
        { plan: {} },
        { approved: true },
        { elevated: true },
        JSON.parse('{"__proto__":{"run":"/bin/sh"},"x":1}'),
      ]
    ) {
      await t.step(JSON.stringify(more), async () => {
        const { text, isError, ran } = await tryCall("exec_show", {
          text: "x",
          ...more,
        });
        assert.ok(isError && !ran, text);
      });
    }
    const { text } = await tryCall("exec_show", { text: "x" });
    const names = text.split("\n").slice(1).map((line) => line.split("=")[0]);
    // A shell sets the last three by itself; nothing of this process is there.
    const own = ["LANG", "PWD", "OLDPWD", "SHLVL", "_"];
    assert.deepEqual(names.filter((name) => !own.includes(name ?? "")), []);
  });
});

Deno.test("C4: a model's operand is no option, and its path stays below its folder", async (t) => {
  await withModel({ args: ["{text}"] }, async ({ tryCall }) => {
    for (const text of ["-rf", "--", "-", "--upload-pack=x", "-c"]) {
      await t.step(text, async () => {
        const said = await tryCall("exec_show", { text });
        assert.ok(said.isError && !said.ran, said.text);
      });
    }
    assert.ok((await tryCall("exec_show", { text: "a-b" })).ran);
  });
  await using folder = await scratch();
  const below = await Deno.realPath(folder.path);
  const params = { text: { type: "path", below } } as const;
  await withModel({ args: ["--", "{text}"], params }, async ({ tryCall }) => {
    for (
      const text of [
        "../x",
        "a/../../x",
        "/etc/passwd",
        `${below}/../x`,
        `${below}x`,
        "~/x",
        "a\u0000b",
        ".",
        "a//b",
      ]
    ) {
      await t.step(text, async () => {
        const said = await tryCall("exec_show", { text });
        const isInside = said.text.startsWith(`<--><${below}/~/x>`);
        assert.ok(said.isError && !said.ran || isInside, said.text);
      });
    }
  });
});
