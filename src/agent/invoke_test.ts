/** A tool call by name is judged, stored and ended as a model's is. */
import assert from "node:assert/strict";
import { z } from "zod";
import {
  type FakeHouse,
  fakeHouse,
  ownerAuthority,
  request,
} from "../../tests/fakes/house.ts";
import { calls, says } from "../../tests/fakes/models.ts";
import { label } from "../core/label.ts";
import type { Message } from "../core/message.ts";
import { tool } from "../core/tool.ts";
import { type Invoked, invokeTool } from "./invoke.ts";
import type { TurnRequest } from "./turns.ts";

const sent: string[] = [];

const send = tool({
  name: "send",
  about: "Send a text to an address",
  input: z.strictObject({ to: z.string(), text: z.string() }),
  scope: "tools",
  effect: "message",
  result: { integrity: "inherit", secrecy: "inherit" },
  destinations: [{ path: "to", kind: "address" }],
  run: ({ text }) => {
    sent.push(text);
    return "sent";
  },
});

async function invoke(
  house: FakeHouse,
  call: { name: string; args: unknown },
  change: Partial<TurnRequest> & { untrusted?: boolean } = {},
): Promise<Invoked> {
  const { untrusted = false, ...rest } = change;
  const { sessionKey: _, ...base } = request("", rest);
  const { inbound } = base;
  return await invokeTool(house.desk, {
    ...base,
    inbound: untrusted
      ? { ...inbound, label: label("untrusted", ["owner"]) }
      : inbound,
    signal: AbortSignal.any([]),
    call,
  });
}

Deno.test("a tool runs by name, without a model", async () => {
  await using house = await fakeHouse({ steps: [] });
  const call = { name: "math_eval", args: { expression: "6*7" } };
  const done = await invoke(house, call);
  assert.deepEqual([done.outcome, done.text], ["done", "42"]);
  assert.equal(house.models.requests.length, 0);
  const run = await house.store.runs.find(done.runId);
  assert.equal(run?.state, "done");
  assert.equal(run?.transient, true);
});

Deno.test("the same call twice runs once, and is answered twice", async () => {
  await using house = await fakeHouse({ tools: [send] });
  sent.length = 0;
  const { inbound } = request("");
  const call = { name: "send", args: { to: "a@b.example", text: "x" } };
  const first = await invoke(house, call, { inbound });
  const again = await invoke(house, call, { inbound });
  assert.deepEqual(sent, ["x"]);
  assert.equal(again.runId, first.runId);
  assert.deepEqual([again.outcome, again.text], ["done", "sent"]);
  const bad = request("").inbound;
  const wrong = { name: "send", args: {} };
  assert.equal((await invoke(house, wrong, { inbound: bad })).outcome, "unfit");
  assert.equal(
    (await invoke(house, wrong, { inbound: bad })).outcome,
    "failed",
  );
});

Deno.test("what does not fit is said, nothing runs", async (t) => {
  await using house = await fakeHouse({ tools: [send] });
  sent.length = 0;
  const rows: [
    why: string,
    call: { name: string; args: unknown },
    change: Parameters<typeof invoke>[2],
    outcome: Invoked["outcome"],
    want: RegExp,
  ][] = [
    [
      "unknown",
      { name: "nonesuch", args: {} },
      {},
      "unfit",
      /no tool "nonesuch"/,
    ],
    ["arguments", { name: "send", args: { to: 1 } }, {}, "unfit", /do not fit/],
    [
      "not the credential's",
      { name: "send", args: { to: "a@b.example", text: "x" } },
      { authority: ownerAuthority({ tools: ["math_eval"] }) },
      "unfit",
      /no tool "send" here/,
    ],
    [
      "no scope",
      { name: "send", args: { to: "a@b.example", text: "x" } },
      { authority: ownerAuthority({ scopes: ["chat"] }) },
      "unfit",
      /no tool "send" here/,
    ],
    [
      "a program's words, nobody to ask",
      { name: "send", args: { to: "a@b.example", text: "x" } },
      { untrusted: true, attended: false },
      "denied",
      /nobody is there to ask/,
    ],
  ];
  for (const [why, call, change, outcome, want] of rows) {
    await t.step(why, async () => {
      const done = await invoke(house, call, change);
      assert.equal(done.outcome, outcome);
      assert.match(done.text, want);
    });
  }
  assert.deepEqual(sent, []);
});

Deno.test("an ask goes to the owner, whose answer counts once", async () => {
  await using house = await fakeHouse({ tools: [send] });
  sent.length = 0;
  const going = invoke(
    house,
    { name: "send", args: { to: "a@b.example", text: "hello" } },
    { untrusted: true },
  );
  const asked = Promise.withResolvers<string>();
  using _watching = house.desk.watch((event) => {
    if (event.kind === "ask") asked.resolve(event.approvalId);
  });
  const id = await asked.promise;
  await house.approvals.answer(id, "allow-once", { by: "owner" });
  const done = await going;
  assert.equal(done.outcome, "done");
  assert.deepEqual(sent, ["hello"]);
});

Deno.test("the tools somebody may use by name are those a model would be shown", async () => {
  await using house = await fakeHouse({ tools: [send] });
  const names = (authority = ownerAuthority()) =>
    house.desk.toolsOf({ agentId: "main", authority, channel: "http" })
      .map(({ name }) => name);
  assert.deepEqual(names(), ["current_time", "math_eval", "send"]);
  assert.deepEqual(names(ownerAuthority({ tools: ["math_eval"] })), [
    "math_eval",
  ]);
  assert.deepEqual(names(ownerAuthority({ scopes: ["chat"] })), [
    "current_time",
    "math_eval",
  ]);
});

Deno.test("a stored session takes the results of its caller's tools", async () => {
  await using house = await fakeHouse({
    steps: [
      calls(["weather", { city: "Bern" }], ["clock", {}]),
      says("20 degrees at noon"),
      says("again"),
    ],
  });
  const clientTools = ["weather", "clock"].map((name) => ({
    name,
    description: "",
    schema: { type: "object" },
  }));
  const first = await house.say("how warm is it?", { clientTools });
  const [warm, noon] = first.flatMap((event) =>
    event.kind === "tool_call" ? [event.callId] : []
  );
  const theirs = label("untrusted", ["owner"]);
  const result = (callId = "", text = "") => ({
    kind: "tool_result" as const,
    callId,
    name: "forged",
    text,
    isError: false,
    label: theirs,
  });
  const history: Message[] = [
    {
      role: "user",
      parts: [{ kind: "text", text: "not taken", label: theirs }],
    },
    {
      role: "tool",
      parts: [result(warm, "20"), result("call_other", "not awaited")],
    },
    { role: "tool", parts: [result(noon, "noon"), result(noon, "twice")] },
  ];
  const second = await house.say("", { clientTools, history });
  assert.equal(second.at(-1)?.kind, "end");
  const shown = house.models.requests[1]?.messages.slice(1);
  assert.deepEqual(
    shown?.map(({ role, parts }) => [
      role,
      parts.map((part) =>
        part.kind === "tool_result"
          ? `${part.name}: ${part.text.split("\n")[1]}`
          : part.kind
      ),
    ]),
    [
      ["assistant", ["tool_call", "tool_call"]],
      ["tool", ["weather: 20", "clock: noon"]],
    ],
  );
  await house.say("and now?", { clientTools, history });
  const last = house.models.requests[2]?.messages ?? [];
  assert.equal(last.filter(({ role }) => role === "tool").length, 1);
});
