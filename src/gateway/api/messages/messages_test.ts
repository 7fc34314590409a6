/** The Messages API's own client pointed at us. */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { AppError } from "../../../core/errors.ts";
import { NO_USAGE } from "../../../core/message.ts";
import { ModelError } from "../../../core/model.ts";
import type { TurnEventBody } from "../../../core/turn.ts";
import { Converted } from "../../../../tests/fakes/converted.ts";
import {
  type FakeGatewayHouse,
  openGatewayHouse,
  program,
} from "../../../../tests/fakes/gateway_house.ts";
import { silence } from "../../../../tests/fakes/turns.ts";

function client(house: FakeGatewayHouse, apiKey = "owner-token"): Anthropic {
  return new Anthropic({ baseURL: house.url, apiKey, maxRetries: 0 });
}

const ASK = {
  max_tokens: 100,
  messages: [{ role: "user" as const, content: "hello there" }],
};

Deno.test("an agent answers, whole and streamed, by key or bearer", async (t) => {
  await using house = await openGatewayHouse();
  await t.step("whole", async () => {
    const message = await client(house).messages.create({
      model: "carapace",
      ...ASK,
    });
    assert.deepEqual(message.content, [
      { type: "text", text: "echo: hello there", citations: null },
    ]);
    assert.equal(message.stop_reason, "end_turn");
    assert.deepEqual(
      [message.role, message.model, message.usage.input_tokens],
      ["assistant", "carapace", 7],
    );
    assert.match(message.id, /^msg_/);
  });
  await t.step("streamed", async () => {
    const stream = client(house).messages.stream({ model: "carapace", ...ASK });
    const deltas: string[] = [];
    stream.on("text", (text) => deltas.push(text));
    const message = await stream.finalMessage();
    assert.deepEqual(deltas, ["echo: ", "hello ", "there"]);
    assert.deepEqual(message.content[0]?.type, "text");
    assert.equal(message.usage.output_tokens, 3);
  });
  await t.step("a bearer token", async () => {
    const bearer = new Anthropic({
      baseURL: house.url,
      apiKey: null,
      authToken: "owner-token",
    });
    const message = await bearer.messages.create({ model: "carapace", ...ASK });
    assert.equal(message.stop_reason, "end_turn");
  });
  await t.step("models", async () => {
    const models = await Array.fromAsync(client(house).models.list());
    assert.deepEqual(models.map(({ id }) => id), [
      "carapace",
      "carapace/main",
      "carapace/coder",
    ]);
    assert.equal(
      (await client(house).models.retrieve("carapace")).type,
      "model",
    );
  });
  await t.step("counting", async () => {
    const { input_tokens } = await client(house).messages.countTokens({
      model: "carapace",
      messages: ASK.messages,
    });
    assert.ok(input_tokens > 3 && input_tokens < 20);
  });
});

Deno.test("what a caller sends along is labelled, never system", async () => {
  await using house = await openGatewayHouse();
  await client(house, "app-token").messages.create({
    model: "carapace",
    max_tokens: 10,
    system: [{ type: "text", text: "be brief" }],
    metadata: { user_id: "someone" },
    messages: [
      { role: "user", content: "first" },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "not ours", signature: "b3RoZXI" },
          { type: "text", text: "let me look" },
          { type: "tool_use", id: "t1", name: "look", input: { at: 1 } },
        ],
      },
      {
        role: "user",
        content: [
          {
            type: "tool_result",
            tool_use_id: "t1",
            is_error: true,
            content: [{ type: "text", text: "seen" }],
          },
          { type: "text", text: "what is this?" },
          {
            type: "image",
            source: {
              type: "base64",
              media_type: "image/png",
              data: "iVBORw0K",
            },
          },
        ],
      },
    ],
  });
  const [turn] = house.turns.requests;
  assert.equal(turn?.preamble, "be brief");
  assert.equal(turn?.inbound.text, "what is this?");
  assert.equal(turn?.inbound.label.integrity, "untrusted");
  assert.equal(turn?.inbound.images[0]?.mime, "image/png");
  assert.equal(turn?.sessionKey, undefined);
  assert.equal(turn?.outputTokensMax, 10);
  assert.deepEqual(
    turn?.history?.map(({ role, parts }) => [
      role,
      parts.map((part) => [part.kind, part.label.integrity]),
    ]),
    [
      ["user", [["text", "untrusted"]]],
      ["assistant", [["text", "untrusted"], ["tool_call", "untrusted"]]],
      ["tool", [["tool_result", "untrusted"]]],
    ],
  );
  const result = turn?.history?.at(-1)?.parts[0];
  assert.ok(result?.kind === "tool_result");
  assert.deepEqual([result.name, result.text, result.isError], [
    "look",
    "seen",
    true,
  ]);
});

Deno.test("a caller's tools come back to it, and their results go on", async () => {
  await using house = await openGatewayHouse();
  house.turns.script = async function* (
    request,
  ): AsyncGenerator<TurnEventBody> {
    await Promise.resolve();
    const usage = NO_USAGE;
    if (request.inbound.text === "") {
      yield { kind: "reply", text: "20 degrees", model: "m" };
    } else {
      yield { kind: "text", text: "let me see" };
      const args = { city: "Bern" };
      yield { kind: "tool_call", callId: "t1", name: "weather", args };
      yield { kind: "reply", text: "let me see", model: "m" };
    }
    yield { kind: "end", reason: "done", usage };
  };
  const tools: Anthropic.Tool[] = [
    { name: "weather", input_schema: { type: "object" } },
  ];
  const body = { model: "carapace", ...ASK, tools };
  const whole = await client(house).messages.create(body);
  const streamed = await client(house).messages.stream(body).finalMessage();
  for (const message of [whole, streamed]) {
    assert.equal(message.stop_reason, "tool_use");
    assert.deepEqual(message.content, [
      { type: "text", text: "let me see", citations: null },
      {
        type: "tool_use",
        id: "t1",
        name: "weather",
        input: { city: "Bern" },
        caller: { type: "direct" },
      },
    ]);
  }
  const done = await client(house).messages.create({
    ...body,
    messages: [
      ...ASK.messages,
      { role: "assistant", content: whole.content },
      {
        role: "user",
        content: [{ type: "tool_result", tool_use_id: "t1", content: "20" }],
      },
    ],
  });
  assert.deepEqual(done.content, [{
    type: "text",
    text: "20 degrees",
    citations: null,
  }]);
  const last = house.turns.requests.at(-1);
  assert.equal(last?.inbound.text, "");
  assert.equal(last?.history?.at(-1)?.role, "tool");
});

Deno.test("any vendor's model answers, and gets its own thoughts back", async () => {
  const conv = new Converted();
  await using house = await openGatewayHouse({ providers: [conv] });
  const vendor = { kind: "conv", data: { sealed: "é🦀" } };
  conv.events = [
    { kind: "thinking", text: "hm" },
    { kind: "thinking", text: "", vendor },
    { kind: "thinking", text: "", vendor },
    { kind: "text", text: "20" },
    { kind: "tool_call", id: "c1", name: "weather", args: { city: "Bern" } },
    {
      kind: "usage",
      usage: {
        inputTokens: 9,
        outputTokens: 2,
        cachedTokens: 3,
        cacheWriteTokens: 1,
      },
    },
    { kind: "end", reason: "tool_calls" },
  ];
  const body: Anthropic.MessageCreateParamsNonStreaming = {
    model: "conv/conv-1",
    ...ASK,
    system: "s",
    stop_sequences: ["END"],
    thinking: { type: "enabled", budget_tokens: 2048 },
    tool_choice: { type: "any" },
    tools: [{
      name: "weather",
      description: "d",
      input_schema: { type: "object" },
    }],
  };
  const whole = await client(house).messages.create(body);
  const streamed = await client(house).messages.stream(body).finalMessage();
  const { messages, ...asked } = conv.asked[0] ?? assert.fail();
  assert.equal(messages.length, 1);
  assert.deepEqual(asked, {
    model: "conv-1",
    system: "s",
    stop: ["END"],
    outputTokensMax: 100,
    thinkingTokens: 2048,
    toolChoice: "required",
    tools: [{ name: "weather", description: "d", schema: { type: "object" } }],
  });
  for (const message of [whole, streamed]) {
    assert.deepEqual(
      message.content.map((block) => block.type),
      ["thinking", "redacted_thinking", "text", "tool_use"],
    );
    assert.deepEqual(
      [message.usage.input_tokens, message.usage.cache_read_input_tokens],
      [5, 3],
    );
    await client(house).messages.create({
      ...body,
      messages: [
        ...ASK.messages,
        { role: "assistant", content: message.content },
        {
          role: "user",
          content: [{ type: "tool_result", tool_use_id: "c1", content: "20" }],
        },
      ],
    });
    const [, mine] = conv.asked.at(-1)?.messages ?? [];
    assert.deepEqual(
      mine?.parts.flatMap((part) =>
        part.kind === "thinking" ? [[part.text, part.vendor]] : []
      ),
      [["hm", vendor], ["", vendor]],
    );
  }
  assert.equal(house.passed.length, 4);
});

Deno.test("errors have that dialect's shape", async (t) => {
  const conv = new Converted();
  await using house = await openGatewayHouse({
    providers: [conv],
    principals: { small: program("tok_small", { models: [], agents: [] }) },
  });
  const rows: [
    why: string,
    key: string,
    change: Partial<Anthropic.MessageCreateParamsNonStreaming>,
    status: number,
    type: string,
    message: RegExp,
  ][] = [
    ["no token", "wrong", {}, 401, "authentication_error", /token/],
    [
      "no model",
      "owner-token",
      { model: "nowhere/x" },
      404,
      "not_found_error",
      /nowhere\/x/,
    ],
    ["no agent", "small", {}, 403, "permission_error", /agent "main"/],
    [
      "no allowed model",
      "small",
      { model: "conv/conv-1" },
      403,
      "permission_error",
      /may not/,
    ],
    [
      "a bad field",
      "owner-token",
      { max_tokens: -1 },
      400,
      "invalid_request_error",
      /^max_tokens/,
    ],
    [
      "a tool of the vendor's",
      "owner-token",
      { tools: [{ type: "web_search_20250305", name: "web_search" }] },
      400,
      "invalid_request_error",
      /caller's own/,
    ],
    [
      "an image's address",
      "owner-token",
      {
        messages: [{
          role: "user",
          content: [{
            type: "image",
            source: { type: "url", url: "https://a.example/x.png" },
          }],
        }],
      },
      400,
      "invalid_request_error",
      /base64/,
    ],
  ];
  for (const [why, key, change, status, type, message] of rows) {
    await t.step(why, async () => {
      await assert.rejects(
        client(house, key).messages.create({
          model: "carapace",
          ...ASK,
          ...change,
        }),
        (error) => {
          assert.ok(error instanceof Anthropic.APIError);
          assert.equal(error.status, status);
          // deno-lint-ignore no-explicit-any
          const body = error.error as any;
          assert.deepEqual([body.type, body.error.type], ["error", type]);
          assert.match(body.error.message, message);
          return true;
        },
      );
    });
  }
  await t.step("a run that fails", async () => {
    house.turns.refusal = new AppError("rate_limited", "Too much", {
      retryAfterMs: 3000,
    });
    await assert.rejects(
      client(house).messages.create({ model: "carapace", ...ASK }),
      (error) => {
        assert.ok(error instanceof Anthropic.RateLimitError);
        assert.equal(error.headers.get("retry-after"), "3");
        return true;
      },
    );
    house.turns.refusal = undefined;
  });
  await t.step("a stream that fails after its first words", async () => {
    conv.events = [{ kind: "text", text: "one" }];
    conv.failure = new ModelError("overloaded", "It is overloaded");
    const stream = client(house).messages.stream({
      model: "conv/conv-1",
      ...ASK,
    });
    const said: string[] = [];
    stream.on("text", (text) => said.push(text));
    await assert.rejects(stream.finalMessage(), /overloaded_error/);
    assert.deepEqual(said, ["one"]);
  });
});

Deno.test("an answer that fails after its headers were sent says so inside", async () => {
  await using house = await openGatewayHouse({ limits: { headMs: 1 } });
  const gate = Promise.withResolvers<void>();
  house.turns.script = async function* (): AsyncGenerator<TurnEventBody> {
    await gate.promise;
    yield {
      kind: "end",
      reason: "error",
      message: "It broke",
      usage: NO_USAGE,
    };
  };
  const raw = (path: string, stream: boolean) =>
    house.post(path, {
      model: "carapace",
      max_tokens: 5,
      stream,
      ...path.endsWith("messages")
        ? { messages: ASK.messages }
        : { input: "hello" },
    });
  const answers = await Promise.all([
    raw("/v1/messages", true),
    raw("/v1/messages", false),
    raw("/v1/responses", true),
    raw("/v1/responses", false),
  ]);
  gate.resolve();
  const [event, whole, responses, response] = await Promise.all(
    answers.map((answer) => answer.text()),
  );
  assert.deepEqual(answers.map(({ status }) => status), [200, 200, 200, 200]);
  assert.match(event ?? "", /event: error\ndata: \{"type":"error",/);
  assert.equal(JSON.parse(whole ?? "").error.message, "It broke");
  assert.match(responses ?? "", /event: error\ndata: \{"type":"error",/);
  assert.equal(JSON.parse(response ?? "").error.message, "It broke");
});

Deno.test("a client that leaves ends the run and the vendor's call", async () => {
  const conv = new Converted();
  conv.events = [{ kind: "text", text: "one" }];
  conv.hangs = true;
  await using house = await openGatewayHouse({
    providers: [conv],
    limits: { headMs: 50 },
  });
  const first = client(house).messages.stream({ model: "conv/conv-1", ...ASK });
  first.on("text", () => first.abort());
  await assert.rejects(first.finalMessage(), Anthropic.APIUserAbortError);
  await conv.cancelled.promise;
  house.turns.script = silence;
  const controller = new AbortController();
  const second = client(house).messages.create({ model: "carapace", ...ASK }, {
    signal: controller.signal,
  });
  second.catch(() => {});
  while (house.turns.requests.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  controller.abort();
  await assert.rejects(second, Anthropic.APIUserAbortError);
  const [turn] = house.turns.requests;
  while (turn?.signal?.aborted !== true) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
});
