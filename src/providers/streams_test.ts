import assert from "node:assert/strict";
import fc from "fast-check";
import { anthropicFrames } from "../../tests/fakes/anthropic.ts";
import { ollamaFrames } from "../../tests/fakes/ollama.ts";
import {
  openaiChatFrames,
  openaiResponsesFrames,
} from "../../tests/fakes/openai.ts";
import type { Say } from "../../tests/fakes/vendor.ts";
import type { ModelEvent } from "../core/model.ts";
import { readEvents as readAnthropic } from "./anthropic.ts";
import type { Place } from "./errors.ts";
import { readEvents as readOllama } from "./ollama.ts";
import { readEvents as readChat } from "./openai_chat.ts";
import { readEvents as readResponses } from "./openai_responses.ts";

const PLACE: Place = {
  id: "it",
  baseUrl: new URL("http://it.test/"),
  keySource: undefined,
  keyEnv: undefined,
};

const VENDORS: [
  name: string,
  frames: (say: Say) => string[],
  read: typeof readChat,
][] = [
  ["anthropic", anthropicFrames, readAnthropic],
  ["openai chat", openaiChatFrames, readChat],
  ["openai responses", openaiResponsesFrames, readResponses],
  ["ollama", ollamaFrames, readOllama],
];

function eventsOf(
  read: typeof readChat,
  wire: string,
  sizes: readonly number[] = [Infinity],
): Promise<ModelEvent[]> {
  const bytes = new TextEncoder().encode(wire);
  let at = 0;
  let n = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      const size = sizes[n++ % sizes.length] ?? 1;
      controller.enqueue(bytes.slice(at, at + size));
      at += size;
    },
  });
  return Array.fromAsync(
    read(new Response(body), PLACE, new AbortController().signal),
  );
}

const words = fc.string({ unit: "grapheme", minLength: 1, maxLength: 10 })
  .map((one) => one.toWellFormed());
const answer: fc.Arbitrary<Say> = fc.record({
  text: fc.array(words, { minLength: 1, maxLength: 6 }),
  thinking: words,
  calls: fc.array(
    fc.record({
      name: fc.constantFrom("look", "touch"),
      args: fc.dictionary(
        fc.string({ maxLength: 5 }).filter((key) => key !== "__proto__"),
        words,
        { maxKeys: 3 },
      ),
    }),
    { maxLength: 3 },
  ),
}, { requiredKeys: ["text"] });

for (const [name, frames, read] of VENDORS) {
  Deno.test(`${name}: the same events however the bytes are cut`, async () => {
    await fc.assert(
      fc.asyncProperty(
        answer,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        async (say, sizes) => {
          const wire = frames(say).join("");
          const whole = await eventsOf(read, wire);
          assert.deepEqual(await eventsOf(read, wire, sizes), whole);
          const said = whole.map((one) => one.kind === "text" ? one.text : "");
          assert.equal(said.join(""), [say.text].flat().join(""));
          const calls = whole.filter((one) => one.kind === "tool_call");
          assert.deepEqual(
            calls.map((one) => one.args),
            say.calls?.map((one) => ({ ...one.args as object })) ?? [],
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  Deno.test(`${name}: a stream cut anywhere fails or is whole, never wrong`, async () => {
    const wire = frames({
      text: ["Grüße ", "🦀"],
      calls: [{ name: "look", args: { where: "up" } }],
    }).join("");
    const whole = await eventsOf(read, wire);
    for (let length = 0; length < wire.length; length += 7) {
      const events: ModelEvent[] = [];
      try {
        events.push(...await eventsOf(read, wire.slice(0, length)));
      } catch {
        continue;
      }
      // What a server says after its end (usage, a sentinel) may be missing.
      const spoken = (all: ModelEvent[]) =>
        all.filter((one) => one.kind !== "usage" && one.kind !== "thinking");
      assert.deepEqual(spoken(events), spoken(whole));
    }
  });
}

Deno.test("openai chat reads what copies of the API send", async (t) => {
  const chunk = (delta: unknown, finish: string | null = null) =>
    `data: ${
      JSON.stringify({ choices: [{ delta, finish_reason: finish }] })
    }\n\n`;
  const fn = (args: unknown, name?: string) => ({ name, arguments: args });
  const rows: [why: string, wire: string, want: unknown[]][] = [
    [
      "no [DONE], no usage",
      chunk({ content: "a" }) + chunk({}, "stop"),
      ["text a", "end stop"],
    ],
    [
      "a call that ends with stop",
      chunk(
        { tool_calls: [{ index: 0, id: "1", function: fn("{}", "f") }] },
        "stop",
      ) + "data: [DONE]\n\n",
      ["call f {}", "end tool_calls"],
    ],
    [
      "calls without an index",
      chunk({ tool_calls: [{ id: "1", function: fn('{"a":1}', "f") }] }) +
      chunk({ tool_calls: [{ id: "2", function: fn('{"b":', "g") }] }) +
      chunk({ tool_calls: [{ function: fn("2}") }] }, "tool_calls"),
      ['call f {"a":1}', 'call g {"b":2}', "end tool_calls"],
    ],
    [
      "arguments as an object",
      chunk({
        tool_calls: [{ index: 0, id: "1", function: fn({ a: 1 }, "f") }],
      }, "tool_calls"),
      ['call f {"a":1}', "end tool_calls"],
    ],
    [
      "reasoning under its other name",
      chunk({ reasoning: "hm" }) + chunk({ content: "a" }, "stop"),
      ["thinking hm", 'thought {"reasoning":"hm"}', "text a", "end stop"],
    ],
    [
      "comments and odd fields",
      ": OPENROUTER PROCESSING\n\n" +
      chunk({ content: "a", audio: null, content_parts: 7 }) +
      'data: {"choices":null}\n\n' + chunk({}, "stop"),
      ["text a", "end stop"],
    ],
    [
      "[DONE] without a reason",
      chunk({ content: "a" }) + "data: [DONE]\n\n",
      ["text a", "end stop"],
    ],
    [
      "a spoken refusal",
      chunk({ refusal: "I cannot" }) + chunk({}, "stop"),
      ["text I cannot", "end refused"],
    ],
  ];
  for (const [why, wire, want] of rows) {
    await t.step(why, async () => {
      const events = await eventsOf(readChat, wire);
      const seen = events.flatMap((event) => {
        switch (event.kind) {
          case "text":
            return [`text ${event.text}`];
          case "thinking":
            return event.vendor !== undefined
              ? [`thought ${JSON.stringify(event.vendor.data)}`]
              : event.text === ""
              ? []
              : [`thinking ${event.text}`];
          case "tool_call":
            return [`call ${event.name} ${JSON.stringify(event.args)}`];
          case "end":
            return [`end ${event.reason}`];
          case "usage":
            return [];
        }
      });
      assert.deepEqual(seen, want);
    });
  }
});

Deno.test("anthropic's redacted thoughts come through whole", async () => {
  const wire = anthropicFrames({ redacted: "c2VjcmV0", text: "a" }).join("");
  const thought = (await eventsOf(readAnthropic, wire)).find((one) =>
    one.kind === "thinking" && one.vendor !== undefined
  );
  assert.deepEqual(thought?.kind === "thinking" && thought.vendor?.data, {
    type: "redacted_thinking",
    data: "c2VjcmV0",
  });
});
