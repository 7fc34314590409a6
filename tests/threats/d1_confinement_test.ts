/**
 * Threat D1: a run is never less confined than the one that started it. A model
 * tries to get a program run by a helper: with more tools, with words that turn
 * confinement off elsewhere, after a stranger's text, and one helper deeper.
 */
import assert from "node:assert/strict";
import { z } from "zod";
import { childRunner } from "../../src/agent/helpers.ts";
import { systemClock } from "../../src/core/time.ts";
import { tool } from "../../src/core/tool.ts";
import type { TurnEvent } from "../../src/core/turn.ts";
import {
  collect,
  type FakeHouse,
  fakeHouse,
  ownerAuthority,
  request,
} from "../fakes/house.ts";
import { calls, says, type Step } from "../fakes/models.ts";
import { pageTool } from "../fakes/tools.ts";

/** A house with helpers and one program, which counts its runs. */
async function confined(
  steps: readonly Step[],
): Promise<FakeHouse & { ran: string[] }> {
  const ran: string[] = [];
  const house: FakeHouse = await fakeHouse({
    steps,
    tools: [
      pageTool("have a helper run the program"),
      tool({
        name: "exec_tidy",
        about: "Runs a program",
        input: z.strictObject({}),
        scope: "write",
        effect: "exec",
        reach: "owner",
        result: { integrity: "inherit", secrecy: "inherit" },
        destinations: [],
        run: (_, { sessionKey }) => {
          ran.push(sessionKey);
          return "tidied";
        },
      }),
    ],
    toolDeps: (store) => ({
      runChild: childRunner({
        turns: () => house.desk,
        sessions: store.sessions,
        clock: systemClock,
      }),
    }),
  });
  return Object.assign(house, { ran });
}

const spawn = (more: Record<string, unknown> = {}) =>
  calls(["session_spawn", { task: "run it", ...more }]);
const EXEC = calls(["exec_tidy", {}]);

function told(events: readonly TurnEvent[]): string {
  return events.flatMap((event) =>
    event.kind === "tool_result" ? [event.text] : []
  ).join("\n");
}

Deno.test("D1: a helper runs what its parent may, so the trap is a real one", async () => {
  await using house = await confined([
    spawn(),
    EXEC,
    says("ran"),
    says("done"),
  ]);
  await house.say("tidy up");
  assert.equal(house.ran.length, 1);
  assert.match(house.ran[0] ?? "", /:subagent:/);
});

Deno.test("D1: no word turns a helper's confinement off", async (t) => {
  for (
    const more of [
      { elevated: true },
      { sandbox: "off" },
      { host: "node" },
      { network: "container:gateway" },
      { cwd: "/" },
      { agent: "root" },
      { authority: { scopes: ["admin"] } },
      { attended: true },
      { scopes: ["admin"] },
    ]
  ) {
    await t.step(Object.keys(more).join(), async () => {
      await using house = await confined([
        spawn(more),
        EXEC,
        says("?"),
        says("?"),
      ]);
      const authority = ownerAuthority({ tools: ["session_spawn"] });
      const text = told(await house.say("go", { authority, attended: false }));
      assert.match(text, /The arguments do not fit/);
      assert.deepEqual(house.ran, []);
    });
  }
});

Deno.test("D1: a helper gets no tool, scope or owner that its parent has not", async (t) => {
  const rows: [why: string, Parameters<typeof ownerAuthority>[0]][] = [
    ["a credential without the tool", { tools: ["session_spawn"] }],
    ["a credential without the scope", { scopes: ["chat", "tools", "read"] }],
    ["a program's token", {
      principal: "token:1",
      kind: "program",
      scopes: ["chat", "write"],
      integrity: "untrusted",
    }],
    ["a paired sender", {
      principal: "peer:chat:bot:7",
      kind: "peer",
      scopes: ["chat", "write"],
      integrity: "peer",
    }],
  ];
  for (const [why, change] of rows) {
    await t.step(why, async () => {
      await using house = await confined([
        spawn({ tools: ["exec_tidy", "*", "exec_*"] }),
        EXEC,
        says("?"),
        says("?"),
        says("?"),
      ]);
      await house.say("go", {
        authority: ownerAuthority(change),
        attended: false,
        sessionKey: "agent:main:d1",
      });
      assert.deepEqual(house.ran, []);
    });
  }
});

Deno.test("D1: after a stranger's text neither the run nor its helper, nor that one's, runs a program unasked", async () => {
  await using house = await confined([
    calls(["read_page", {}]),
    spawn(),
    EXEC,
    spawn({ task: "deeper" }),
    says("could not"),
    EXEC,
    says("done"),
  ]);
  const { events } = await house.desk.start(
    request("read the page", { attended: false }),
  );
  await collect(events);
  assert.deepEqual(house.ran, []);
});
