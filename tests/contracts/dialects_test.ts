/**
 * What three dialects' clients are sent, held against those dialects' own types
 * (when this is type-checked) and their order of events (when it is run).
 */
import assert from "node:assert/strict";
import type Anthropic from "@anthropic-ai/sdk";
import type OpenAI from "openai";
import type {
  ChatJson,
  ChunkJson,
} from "../../src/gateway/api/chat_completions/answer.ts";
import type {
  MessageJson,
  MessagesEvent,
} from "../../src/gateway/api/messages/wire.ts";
import type {
  NumberedEvent,
  ResponseJson,
} from "../../src/gateway/api/responses/wire.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { fail, type Reply } from "../fakes/vendor.ts";

// --- types: each of these does not compile when it is not so ----------------

type Wire<T> = T extends { response: infer R }
  ? Omit<T, "response"> & { response: WireResponse<R> }
  : T;
/** `output_text` is made by the client, not sent. */
type WireResponse<R> = Omit<R, "output_text">;

/** `Ours` as it is; an error where it is no `Theirs`. */
type Fits<Theirs, Ours extends Theirs> = Ours;

export type Checked = [
  Fits<Wire<OpenAI.Responses.ResponseStreamEvent>, NumberedEvent>,
  Fits<WireResponse<OpenAI.Responses.Response>, ResponseJson>,
  Fits<Anthropic.RawMessageStreamEvent, MessagesEvent>,
  Fits<Anthropic.Message, MessageJson>,
  Fits<OpenAI.ChatCompletionChunk, ChunkJson>,
  Fits<OpenAI.ChatCompletion, ChatJson>,
];

// --- order --------------------------------------------------------------------

// deno-lint-ignore no-explicit-any
type Any = any;

interface Frame {
  event: string | undefined;
  data: string;
}

async function framesOf(
  house: RealHouse,
  path: string,
  body: object,
): Promise<Frame[]> {
  const answer = await fetch(`${house.url}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${house.owner}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({ stream: true, ...body }),
  });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text.split("\n\n").filter((one) => one !== "").map((one) => {
    const fields = one.split("\n");
    const find = (name: string) =>
      fields.find((line) => line.startsWith(`${name}: `))
        ?.slice(name.length + 2);
    return { event: find("event"), data: find("data") ?? "" };
  }).filter(({ data }) => data !== "");
}

const SCHEMA = { type: "object", properties: { city: { type: "string" } } };
const MODELS = ["carapace", "anthropic:claude-test", "openai:gpt-test"];
const CALLS = [
  { name: "weather", args: { city: "Bern" } },
  { name: "weather", args: { city: "Rom" } },
];
/** What the model says, and how the answer ends in each dialect. */
const ENDS: readonly (readonly [
  name: string,
  reply: Reply,
  responses: string,
  messages: string,
  chat: string,
])[] = [
  ["words", { text: ["20 ", "degrees"] }, "completed", "end_turn", "stop"],
  [
    "thoughts, words and two calls",
    { thinking: "hm", text: "let me look", calls: CALLS },
    "completed",
    "tool_use",
    "tool_calls",
  ],
  ["calls alone", { calls: CALLS }, "completed", "tool_use", "tool_calls"],
  [
    "words cut at their limit",
    { text: "20 deg", stop: "length" },
    "incomplete",
    "max_tokens",
    "length",
  ],
];

async function eachEnd(
  t: Deno.TestContext,
  story: (
    asked: { house: RealHouse; model: string; end: (typeof ENDS)[number] },
  ) => Promise<void>,
): Promise<void> {
  for (const end of ENDS) {
    await using house = await openRealHouse({ script: () => end[1] });
    for (const model of MODELS) {
      await t.step(`${model}: ${end[0]}`, () => story({ house, model, end }));
    }
  }
}

/** Checks one stream of the Responses API; its last event. */
function checkResponses(frames: readonly Frame[]): Any {
  const events: Any[] = frames.map(({ data }) => JSON.parse(data));
  const items: Any[] = [];
  let open: Any;
  let parts = 0;
  let text = "";
  for (const [n, event] of events.entries()) {
    assert.equal(event.type, frames[n]?.event);
    assert.equal(event.sequence_number, n);
    if ("response" in event) {
      assert.equal(event.response.id, events[0].response.id);
      continue;
    }
    assert.equal(event.output_index, items.length, "one item after the other");
    if (event.type === "response.output_item.added") {
      assert.equal(open, undefined);
      open = event.item;
      parts = 0;
      continue;
    }
    assert.equal(event.item_id ?? event.item.id, open.id, "ids are stable");
    const index = event.content_index ?? event.summary_index;
    if (event.type.endsWith("part.added")) {
      assert.equal(index, parts++);
      text = "";
    } else if (index !== undefined) assert.equal(index, parts - 1);
    if (event.type.endsWith(".delta")) {
      if (index === undefined && parts++ === 0) text = "";
      text += event.delta;
    }
    if (/(text|arguments)\.done$/.test(event.type)) {
      assert.equal(event.text ?? event.arguments, text, "the deltas together");
    }
    if (event.type === "response.output_item.done") {
      assert.equal(event.item.type, open.type);
      items.push(event.item);
      open = undefined;
    }
  }
  assert.deepEqual(events.slice(0, 2).map(({ type }) => type), [
    "response.created",
    "response.in_progress",
  ]);
  const last = events.at(-1);
  assert.equal(open, undefined);
  assert.deepEqual(last.response.output, items);
  assert.equal(new Set(items.map(({ id }) => id)).size, items.length);
  return last;
}

Deno.test("responses: events are numbered, placed and named as documented", async (t) => {
  await eachEnd(t, async ({ house, model, end: [, reply, status] }) => {
    const last = checkResponses(
      await framesOf(house, "/v1/responses", {
        model,
        input: "how warm is it?",
        tools: [{ type: "function", name: "weather", parameters: SCHEMA }],
      }),
    );
    assert.equal(last.type, `response.${status}`);
    assert.equal(last.response.status, status);
    assert.ok(last.response.usage.total_tokens > 0);
    const { text, calls = [] } = reply as { text?: string; calls?: [] };
    const of = (type: string) =>
      last.response.output.filter((one: Any) => one.type === type);
    assert.equal(of("function_call").length, calls.length);
    assert.equal(of("message").length, text === undefined ? 0 : 1);
    assert.equal(
      last.response.incomplete_details?.reason,
      status === "incomplete" ? "max_output_tokens" : undefined,
    );
  });
  await t.step("failed, in this API's own words", async () => {
    await using house = await openRealHouse({
      script: [{ text: ["one", "two"], after: 3, then: "break" }],
    });
    const last = checkResponses(
      await framesOf(house, "/v1/responses", {
        model: "openai:gpt-test",
        input: "x",
      }),
    );
    assert.equal(last.type, "response.failed");
    assert.equal(last.response.error.code, "server_error");
    assert.notEqual(last.response.error.message, "");
  });
});

/** Checks one stream of the Messages API; its blocks and how it stopped. */
function checkMessages(
  frames: readonly Frame[],
): { blocks: Any[]; stop: string; usage: Any } {
  const events: Any[] = frames.map(({ data }) => JSON.parse(data));
  for (const [n, { type }] of events.entries()) {
    assert.equal(type, frames[n]?.event);
  }
  assert.equal(events[0].type, "message_start");
  assert.deepEqual(events[0].message.content, []);
  assert.equal(events[0].message.stop_reason, null);
  assert.deepEqual(events.slice(-2).map(({ type }) => type), [
    "message_delta",
    "message_stop",
  ]);
  const blocks: Any[] = [];
  let isOpen = false;
  const inner = events.slice(1, -2).filter(({ type }) => type !== "ping");
  assert.equal(
    events[1].type,
    "ping",
    "somebody is there before the first word",
  );
  for (const event of inner) {
    if (event.type === "content_block_start") {
      assert.ok(!isOpen);
      isOpen = true;
      assert.equal(event.index, blocks.length);
      blocks.push({ ...event.content_block, deltas: [] });
      continue;
    }
    assert.ok(isOpen);
    assert.equal(event.index, blocks.length - 1);
    if (event.type === "content_block_stop") isOpen = false;
    else {
      assert.equal(event.type, "content_block_delta");
      blocks.at(-1).deltas.push(event.delta);
    }
  }
  assert.ok(!isOpen);
  const { delta, usage } = events.at(-2);
  return { blocks, stop: delta.stop_reason, usage };
}

const KIND: Readonly<Record<string, readonly string[]>> = {
  text: ["text_delta"],
  thinking: ["thinking_delta", "signature_delta"],
  tool_use: ["input_json_delta"],
};

Deno.test("messages: events come in the documented order, one block after the other", async (t) => {
  const tools = [{ name: "weather", input_schema: SCHEMA }];
  const messages = [{ role: "user", content: "how warm is it?" }];
  await eachEnd(t, async ({ house, model, end: [, reply, , stop] }) => {
    const told = checkMessages(
      await framesOf(house, "/v1/messages", {
        model,
        max_tokens: 100,
        tools,
        messages,
      }),
    );
    assert.equal(told.stop, stop);
    assert.ok(told.usage.output_tokens > 0);
    const { calls = [] } = reply as { calls?: typeof CALLS };
    const used = told.blocks.filter(({ type }) => type === "tool_use");
    assert.equal(used.length, calls.length);
    for (const [n, block] of used.entries()) {
      const json = block.deltas.map((one: Any) => one.partial_json).join("");
      assert.deepEqual(JSON.parse(json), calls[n]?.args);
    }
    for (const { type, deltas } of told.blocks) {
      for (const delta of deltas) {
        assert.ok(KIND[type]?.includes(delta.type), `${delta.type} in ${type}`);
      }
    }
  });
  await t.step(
    "a failure in the middle is an error event, the last",
    async () => {
      await using house = await openRealHouse({
        script: [{ text: ["one", "two"], after: 3, then: "break" }],
      });
      const frames = await framesOf(house, "/v1/messages", {
        model: "openai:gpt-test",
        max_tokens: 100,
        messages,
      });
      const last = frames.at(-1);
      assert.equal(last?.event, "error");
      const { type, error } = JSON.parse(last?.data ?? "");
      assert.equal(type, "error");
      assert.match(error.type, /^(api_error|overloaded_error|timeout_error)$/);
      assert.equal(frames.filter(({ event }) => event === "error").length, 1);
    },
  );
  await t.step("a failure before it is a status", async () => {
    await using house = await openRealHouse({ script: [fail(400)] });
    await assert.rejects(
      framesOf(house, "/v1/messages", {
        model: "openai:gpt-test",
        max_tokens: 100,
        messages,
      }),
      /invalid_request_error/,
    );
  });
});

Deno.test("chat: one role, calls by index, one finish, then usage where it was asked for", async (t) => {
  const tools = [{
    type: "function",
    function: { name: "weather", parameters: SCHEMA },
  }];
  const messages = [{ role: "user", content: "how warm is it?" }];
  for (const include_usage of [true, false]) {
    await eachEnd(t, async ({ house, model, end: [, reply, , , finish] }) => {
      const frames = await framesOf(house, "/v1/chat/completions", {
        model,
        messages,
        tools,
        stream_options: { include_usage },
      });
      assert.equal(frames.pop()?.data, "[DONE]");
      const chunks: Any[] = frames.map(({ data }) => JSON.parse(data));
      assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
      if (include_usage) {
        const { choices, usage } = chunks.pop();
        assert.deepEqual(choices, []);
        assert.ok(usage.total_tokens > 0);
      }
      for (const { usage } of chunks) assert.equal(usage ?? null, null);
      const deltas = chunks.map(({ choices: [one] }) => one.delta);
      assert.equal(deltas[0].role, "assistant");
      const finishes = chunks.map(({ choices: [one] }) => one.finish_reason);
      assert.deepEqual(finishes.filter((one) => one !== null), [finish]);
      assert.equal(finishes.at(-1), finish);
      const { calls = [] } = reply as { calls?: typeof CALLS };
      const args = calls.map(() => "");
      const ids = new Set<string>();
      for (const { tool_calls = [] } of deltas) {
        for (const { index, id, function: said } of tool_calls) {
          if (id !== undefined) ids.add(id);
          args[index] += said.arguments ?? "";
        }
      }
      assert.deepEqual(
        args.map((one) => JSON.parse(one)),
        calls.map((one) => one.args),
      );
      assert.equal(ids.size, calls.length);
    });
  }
});
