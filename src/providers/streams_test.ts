import assert from "node:assert/strict";
import fc from "fast-check";
import { anthropicFrames } from "../../tests/fakes/anthropic.ts";
import {
  bedrockFrames,
  crcOf,
  eventFrame,
  exceptionFrame,
} from "../../tests/fakes/bedrock.ts";
import { geminiFrames } from "../../tests/fakes/gemini.ts";
import { ollamaFrames } from "../../tests/fakes/ollama.ts";
import {
  openaiChatFrames,
  openaiResponsesFrames,
} from "../../tests/fakes/openai.ts";
import { bytesOf, type Frame, type Say } from "../../tests/fakes/vendor.ts";
import { AppError } from "../core/errors.ts";
import type { ModelEvent } from "../core/model.ts";
import { readEvents as readAnthropic } from "./anthropic.ts";
import { readEvents as readBedrock } from "./bedrock/stream.ts";
import type { Place } from "./errors.ts";
import { readEvents as readGemini } from "./gemini.ts";
import { readEvents as readOllama } from "./ollama.ts";
import { readEvents as readChat } from "./openai/chat.ts";
import { readEvents as readResponses } from "./openai/responses.ts";

const PLACE: Place = {
  id: "it",
  baseUrl: new URL("http://it.test/"),
  keySource: undefined,
  keyEnv: undefined,
};

const VENDORS: [
  name: string,
  frames: (say: Say) => Frame[],
  read: typeof readChat,
][] = [
  ["anthropic", anthropicFrames, readAnthropic],
  ["openai chat", openaiChatFrames, readChat],
  ["openai responses", openaiResponsesFrames, readResponses],
  ["gemini", geminiFrames, readGemini],
  ["bedrock", bedrockFrames, readBedrock],
  ["ollama", ollamaFrames, readOllama],
];

/** All bytes of an answer. */
function wireOf(frames: readonly Frame[]): Uint8Array<ArrayBuffer> {
  const parts = frames.map(bytesOf);
  const wire = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const part of parts) {
    wire.set(part, at);
    at += part.length;
  }
  return wire;
}

/** Events without the ids we make up where a vendor has none. */
function withoutIds(events: readonly ModelEvent[]): ModelEvent[] {
  return events.map((one) =>
    one.kind === "tool_call" ? { ...one, id: "" } : one
  );
}

function eventsOf(
  read: typeof readChat,
  wire: Frame,
  sizes: readonly number[] = [Infinity],
): Promise<ModelEvent[]> {
  const bytes = bytesOf(wire);
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
          const wire = wireOf(frames(say));
          const whole = await eventsOf(read, wire);
          assert.deepEqual(
            withoutIds(await eventsOf(read, wire, sizes)),
            withoutIds(whole),
          );
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
    const wire = wireOf(frames({
      text: ["Grüße ", "🦀"],
      calls: [{ name: "look", args: { where: "up" } }],
    }));
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
        withoutIds(all).filter((one) =>
          one.kind !== "usage" && one.kind !== "thinking"
        );
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

Deno.test("bedrock's redacted thoughts come through whole", async () => {
  const wire = wireOf(bedrockFrames({ redacted: "c2VjcmV0", text: "a" }));
  const thought = (await eventsOf(readBedrock, wire)).find((one) =>
    one.kind === "thinking" && one.vendor !== undefined
  );
  assert.deepEqual(thought?.kind === "thinking" && thought.vendor?.data, {
    redactedContent: "c2VjcmV0",
  });
});

Deno.test("gemini's ends, signatures and blocks", async (t) => {
  const chunk = (parts: unknown[], more: object = {}) =>
    `data: ${
      JSON.stringify({ candidates: [{ content: { parts }, ...more }] })
    }\n\n`;
  const rows: [why: string, wire: string, want: unknown[]][] = [
    [
      "a signature on the last words",
      chunk([{ text: "a" }]) +
      chunk([{ text: "b", thoughtSignature: "c2ln" }], {
        finishReason: "STOP",
      }),
      [
        "text a",
        "text b",
        'thought {"text":"","thoughtSignature":"c2ln"}',
        "end stop",
      ],
    ],
    [
      "an old model that stops with every chunk",
      chunk([{ text: "a" }], {
        finishReason: "STOP",
      }) + chunk([{ text: "b" }], { finishReason: "STOP" }),
      [
        "text a",
        "text b",
        "end stop",
      ],
    ],
    [
      "a blocked prompt",
      'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n',
      [
        "end refused",
      ],
    ],
    [
      "words, then safety",
      chunk([{ text: "a" }]) +
      chunk([], { finishReason: "SAFETY" }),
      ["text a", "end refused"],
    ],
    ["an end nobody knows", chunk([{ text: "a" }], { finishReason: "NEW" }), [
      "text a",
      "end stop",
    ]],
    [
      "odd fields",
      'data: {"candidates":7,"usageMetadata":null}\n\n' +
      chunk([null, 3, { text: 4 }, { inlineData: {} }, { text: "a" }], {
        finishReason: "STOP",
      }),
      ["text a", "end stop"],
    ],
    [
      "a call in Python",
      chunk([], {
        finishReason: "MALFORMED_FUNCTION_CALL",
        finishMessage:
          "Malformed function call: print(default_api.look(where='up'))",
      }),
      ["bad look (where='up'))", "end tool_calls"],
    ],
    [
      "an unknown call",
      chunk([], {
        finishReason: "UNEXPECTED_TOOL_CALL",
        finishMessage: "Unexpected tool call: fly{}",
      }),
      ["bad fly {}", "end tool_calls"],
    ],
  ];
  for (const [why, wire, want] of rows) {
    await t.step(why, async () => {
      const seen = (await eventsOf(readGemini, wire)).flatMap((event) => {
        switch (event.kind) {
          case "text":
            return [`text ${event.text}`];
          case "thinking":
            return event.vendor === undefined
              ? []
              : [`thought ${JSON.stringify(event.vendor.data)}`];
          case "tool_call":
            return [
              `${event.malformed ? "bad" : "call"} ${event.name} ${event.args}`,
            ];
          case "end":
            return [`end ${event.reason}`];
          case "usage":
            return [];
        }
      });
      assert.deepEqual(seen, want);
    });
  }
  await t.step("an end without a word is the server's failure", async () => {
    const wire = chunk([], { finishReason: "OTHER" });
    await assert.rejects(eventsOf(readGemini, wire), {
      class: "server",
      message: /stopped without an answer: OTHER/,
    });
  });
  await t.step("a bad call that cannot be read at all is too", async () => {
    const wire = chunk([], { finishReason: "MALFORMED_FUNCTION_CALL" });
    await assert.rejects(eventsOf(readGemini, wire), { class: "server" });
  });
  await t.step("arguments nested without end", async () => {
    const deep = `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`;
    const wire = chunk([], { finishReason: "STOP" }).replace(
      '"parts":[]',
      `"parts":[{"functionCall":{"name":"look","args":${deep}}}]`,
    );
    const [call] = (await eventsOf(readGemini, wire)).filter((one) =>
      one.kind === "tool_call"
    );
    assert.ok(call?.malformed);
  });
  await t.step("an error in the stream", async () => {
    const wire = chunk([{ text: "a" }]) +
      'data: {"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"slow"}}\n\n';
    await assert.rejects(eventsOf(readGemini, wire), { class: "rate" });
  });
});

Deno.test("bedrock's stream: exceptions, bad frames, and what is not there yet", async (t) => {
  const [start, ...rest] = bedrockFrames({ text: ["a", "b"] });
  assert.ok(start);
  const changed = (at: number, bytes: Uint8Array<ArrayBuffer>) => {
    const copy = bytes.slice();
    const place = at < 0 ? copy.length + at : at;
    copy[place] = (copy[place] ?? 0) ^ 1;
    return copy;
  };
  const failures: [why: string, frames: Frame[], want: object][] = [
    ["a wrong prelude", [changed(0, start)], { message: /no event stream/ }],
    ["a wrong payload", [changed(-8, start)], { message: /wrong checksum/ }],
    ["a wrong checksum", [changed(-1, start)], { message: /wrong checksum/ }],
    ["throttled", [start, exceptionFrame("throttlingException", "Slow down")], {
      class: "rate",
      message: /Slow down/,
    }],
    [
      "too long",
      [exceptionFrame(
        "validationException",
        "Input is too long for requested model.",
      )],
      { class: "context_overflow" },
    ],
    ["invalid", [exceptionFrame("validationException", "Bad field")], {
      class: "bad_request",
    }],
    ["the model broke", [
      exceptionFrame("modelStreamErrorException", "The model broke"),
    ], { class: "server" }],
    ["an error without a shape", [
      eventFrame({
        ":message-type": "error",
        ":error-code": "InternalFailure",
        ":error-message": "An internal server error occurred",
      }, new Uint8Array()),
    ], { class: "server", message: /An internal server error occurred/ }],
    ["no JSON in a frame", [
      eventFrame(
        { ":message-type": "event", ":event-type": "messageStart" },
        new TextEncoder().encode("{no"),
      ),
    ], { class: "server" }],
    ["cut before the end", [start, ...rest.slice(0, -2)], { class: "network" }],
  ];
  for (const [why, frames, want] of failures) {
    await t.step(why, async () => {
      await assert.rejects(eventsOf(readBedrock, wireOf(frames)), want);
    });
  }
  await t.step("an impossible length is not waited for", async () => {
    const frame = new Uint8Array(16);
    const view = new DataView(frame.buffer);
    view.setUint32(0, 0xffffffff);
    view.setUint32(8, crcOf(frame.subarray(0, 8)));
    await assert.rejects(eventsOf(readBedrock, frame), {
      class: "server",
      message: /impossible length/,
    });
  });
  await t.step("no usage at the end is no failure", async () => {
    const events = await eventsOf(
      readBedrock,
      wireOf([start, ...rest.slice(0, -1)]),
    );
    assert.deepEqual(events.at(-1), { kind: "end", reason: "stop" });
  });
  await t.step("an event nobody knows yet", async () => {
    const odd = eventFrame({
      ":message-type": "event",
      ":event-type": "novelty",
    }, new Uint8Array());
    const events = await eventsOf(readBedrock, wireOf([start, odd, ...rest]));
    assert.deepEqual(events.at(-1), { kind: "end", reason: "stop" });
  });
});

Deno.test("bytes at random never hang a reader, and fail as what they are", async () => {
  for (const [, frames, read] of VENDORS) {
    const whole = wireOf(frames({ text: ["one ", "two"], thinking: "hm" }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), {
          minLength: 1,
          maxLength: 8,
        }),
        async (changes) => {
          const wire = whole.slice();
          for (const [at, byte] of changes) wire[at] = byte;
          try {
            await eventsOf(read, wire);
          } catch (error) {
            assert.ok(error instanceof AppError, String(error));
          }
        },
      ),
      { numRuns: 100 },
    );
  }
});
