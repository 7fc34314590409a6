import assert from "node:assert/strict";
import { PUBLIC_OWNER } from "../core/label.ts";
import type { Message } from "../core/message.ts";
import type { ModelEvent } from "../core/model.ts";
import { findExpression, makeDemoProvider } from "./demo.ts";

const TOOLS = [
  { name: "current_time", description: "", schema: {} },
  {
    name: "math_eval",
    description: "",
    schema: { properties: { expression: { type: "string" } } },
  },
];

const user = (text: string): Message => ({
  role: "user",
  parts: [{ kind: "text", text, label: PUBLIC_OWNER }],
});

async function ask(
  messages: Message[],
  tools = TOOLS,
): Promise<{ words: string; chunks: number; events: ModelEvent[] }> {
  const events = await Array.fromAsync(
    makeDemoProvider({ id: "demo" }).stream(
      { model: "demo", messages, tools },
      new AbortController().signal,
    ),
  );
  const texts = events.flatMap((one) => one.kind === "text" ? [one.text] : []);
  return { words: texts.join(""), chunks: texts.length, events };
}

Deno.test("the demo says what it is first, in pieces, and always the same", async () => {
  const one = await ask([user("hello")]);
  assert.match(one.words, /^This is the demo provider/);
  assert.match(one.words, /ANTHROPIC_API_KEY/);
  assert.match(one.words, /You said: "hello"/);
  assert.ok(one.chunks > 5);
  assert.deepEqual(one.events.at(-1), { kind: "end", reason: "stop" });
  assert.deepEqual(await ask([user("hello")]), one);
});

Deno.test("the demo uses a tool and then its result", async (t) => {
  const rows: [question: string, tool: string, args: unknown][] = [
    ["What time is it?", "current_time", {}],
    ["what is 12 * (3 + 4)?", "math_eval", { expression: "12 * (3 + 4)" }],
  ];
  for (const [question, tool, args] of rows) {
    await t.step(question, async () => {
      const { words, events } = await ask([user(question)]);
      assert.match(words, /^This is the demo provider/);
      const call = events.find((one) => one.kind === "tool_call");
      assert.ok(call?.kind === "tool_call");
      assert.deepEqual([call.name, call.args], [tool, args]);
      assert.deepEqual(events.at(-1), { kind: "end", reason: "tool_calls" });
      const label = PUBLIC_OWNER;
      const next = await ask([user(question), {
        role: "assistant",
        parts: [{ ...call, args: {}, label }],
      }, {
        role: "tool",
        parts: [{
          kind: "tool_result",
          callId: call.id,
          name: tool,
          text: "84",
          isError: false,
          label,
        }],
      }]);
      assert.equal(next.words, `Demo provider: ${tool} says 84.`);
    });
  }
  await t.step("but not one it was not offered", async () => {
    const { events } = await ask([user("what is 1+1?")], []);
    assert.ok(events.every((one) => one.kind !== "tool_call"));
  });
});

Deno.test("findExpression() finds the arithmetic in a sentence", async (t) => {
  const rows: [string, string | undefined][] = [
    ["what is 1+1?", "1+1"],
    ["12 * (3 + 4)", "12 * (3 + 4)"],
    ["please (2 + 3) now", "(2 + 3)"],
    ["(is 2 * 3 right)", "2 * 3"],
    ["I have 3 apples", undefined],
    ["call me at 10", undefined],
    ["-5 + 2.5", "-5 + 2.5"],
    ["it is 7 / 2.", "7 / 2"],
    ["", undefined],
  ];
  for (const [words, want] of rows) {
    await t.step(
      words || "nothing",
      () => assert.equal(findExpression(words), want),
    );
  }
});
