/** The official client pointed at us: what it reads is what we promise. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { AppError } from "../../../core/errors.ts";
import { NO_USAGE } from "../../../core/message.ts";
import { ModelError } from "../../../core/model.ts";
import type { TurnEventBody } from "../../../core/turn.ts";
import { Converted } from "../../../../tests/fakes/converted.ts";
import {
  type FakeGatewayHouse,
  forwarding,
  openGatewayHouse,
  program,
} from "../../../../tests/fakes/gateway_house.ts";
import { fakeOpenai } from "../../../../tests/fakes/openai.ts";
import { fail, say } from "../../../../tests/fakes/vendor.ts";
import { silence } from "../../../../tests/fakes/turns.ts";

function client(house: FakeGatewayHouse, apiKey = "owner-token"): OpenAI {
  return new OpenAI({ baseURL: `${house.url}/v1`, apiKey, maxRetries: 0 });
}

const USER = [{ role: "user" as const, content: "hello there" }];

Deno.test("GET /v1/models lists agents and the models a token may use", async () => {
  await using house = await openGatewayHouse({
    providers: [new Converted(), forwarding("fake", "http://127.0.0.1:9")],
    principals: {
      small: program("tok_small", {
        agents: ["coder"],
        models: ["conv:conv-1"],
      }),
    },
  });
  const ids = async (key?: string) =>
    (await client(house, key).models.list()).data.map((one) => one.id);
  assert.deepEqual(await ids(), [
    "carapace",
    "carapace/main",
    "carapace/coder",
    "conv/conv-1",
    "fake/fake-1",
  ]);
  assert.deepEqual(await ids("small"), ["carapace/coder", "conv/conv-1"]);
});

Deno.test("agent names run the agent", async (t) => {
  await using house = await openGatewayHouse();
  const rows: [model: string, agent: string][] = [
    ["carapace", "main"],
    ["openclaw", "main"],
    ["openclaw/default", "main"],
    ["carapace/coder", "coder"],
    ["carapace:coder", "coder"],
    ["openclaw/coder", "coder"],
    ["openclaw:main", "main"],
    ["agent:coder", "coder"],
  ];
  for (const [model, agent] of rows) {
    await t.step(model, async () => {
      const answer = await client(house).chat.completions.create({
        model,
        messages: USER,
      });
      assert.equal(answer.model, model);
      assert.equal(answer.choices[0]?.message.content, "echo: hello there");
      assert.equal(answer.choices[0]?.finish_reason, "stop");
      assert.deepEqual(
        [answer.usage?.prompt_tokens, answer.usage?.completion_tokens],
        [7, 3],
      );
      assert.equal(house.turns.requests.at(-1)?.agentId, agent);
    });
  }
});

Deno.test("an agent's answer streams word by word, with usage when asked", async () => {
  await using house = await openGatewayHouse();
  const stream = await client(house).chat.completions.create({
    model: "carapace",
    messages: USER,
    stream: true,
    stream_options: { include_usage: true },
  });
  const deltas: string[] = [];
  let finish: string | null | undefined;
  let total: number | undefined;
  for await (const chunk of stream) {
    const [choice] = chunk.choices;
    if (choice?.delta.content) deltas.push(choice.delta.content);
    finish = choice?.finish_reason ?? finish;
    total = chunk.usage?.total_tokens ?? total;
  }
  assert.deepEqual(deltas, ["echo: ", "hello ", "there"]);
  assert.equal(finish, "stop");
  assert.equal(total, 10);
});

Deno.test("what a caller sends along is labelled, never system", async () => {
  await using house = await openGatewayHouse();
  await client(house, "app-token").chat.completions.create({
    model: "carapace",
    messages: [
      { role: "system", content: "be brief" },
      { role: "developer", content: "and kind" },
      { role: "user", content: "first" },
      {
        role: "assistant",
        content: "answer",
        tool_calls: [{
          id: "c1",
          type: "function",
          function: { name: "look", arguments: '{"at":1}' },
        }],
      },
      { role: "tool", tool_call_id: "c1", content: "seen" },
      {
        role: "user",
        content: [
          { type: "text", text: "what is this?" },
          {
            type: "image_url",
            image_url: { url: "data:image/png;base64,iVBORw0K" },
          },
        ],
      },
    ],
  });
  const [turn] = house.turns.requests;
  assert.equal(turn?.preamble, "be brief\n\nand kind");
  assert.equal(turn?.inbound.text, "what is this?");
  assert.equal(turn?.inbound.label.integrity, "untrusted");
  assert.equal(turn?.inbound.images[0]?.mime, "image/png");
  assert.equal(turn?.sessionKey, undefined);
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
  await client(house).chat.completions.create({
    model: "carapace",
    messages: [...USER, { role: "assistant", content: "hi" }, ...USER],
  });
  const owner = house.turns.requests[1];
  assert.equal(owner?.inbound.label.integrity, "owner");
  assert.deepEqual(
    owner?.history?.map(({ parts }) => parts[0]?.label.integrity),
    ["owner", "untrusted"],
  );
});

Deno.test("a caller's sessions are its own", async (t) => {
  await using house = await openGatewayHouse();
  const keyOf = async (
    apiKey: string,
    extra: { user?: string; headers?: Record<string, string> },
  ) => {
    await client(house, apiKey).chat.completions.create(
      {
        model: "carapace",
        messages: USER,
        ...(extra.user === undefined ? {} : { user: extra.user }),
      },
      extra.headers === undefined ? {} : { headers: extra.headers },
    );
    return house.turns.requests.at(-1)?.sessionKey;
  };
  const header = { "x-openclaw-session-key": "agent:main:main" };
  const rows: [why: string, key: string, extra: object, want: string][] = [
    [
      "the owner's user",
      "owner-token",
      { user: "ann" },
      "agent:main:openai:ann",
    ],
    [
      "a program's user",
      "app-token",
      { user: "ann" },
      "agent:main:client:token-tok_app:openai:ann",
    ],
    [
      "the owner names a session",
      "owner-token",
      { headers: header },
      "agent:main:main",
    ],
    [
      "a program names the owner's session and gets its own",
      "app-token",
      { headers: header },
      "agent:main:client:token-tok_app:main",
    ],
  ];
  for (const [why, key, extra, want] of rows) {
    await t.step(why, async () => assert.equal(await keyOf(key, extra), want));
  }
});

Deno.test("a caller's tools come back to it, and their results go on", async () => {
  await using house = await openGatewayHouse();
  house.turns.script = async function* (
    request,
  ): AsyncGenerator<TurnEventBody> {
    await Promise.resolve();
    if (request.inbound.text === "") {
      yield { kind: "reply", text: "it is 20 degrees", model: "m" };
      yield { kind: "end", reason: "done", usage: NO_USAGE };
      return;
    }
    yield {
      kind: "tool_call",
      callId: "call_1",
      name: "weather",
      args: { city: "Bern" },
    };
    yield {
      kind: "tool_call",
      callId: "call_2",
      name: "memory_read",
      args: {},
    };
    yield { kind: "reply", text: "", model: "m" };
    yield { kind: "end", reason: "done", usage: NO_USAGE };
  };
  const tools = [{
    type: "function" as const,
    function: { name: "weather", description: "d", parameters: {} },
  }];
  for (const stream of [false, true]) {
    const body = { model: "carapace", messages: USER, tools };
    const calls = [];
    let finish: string | null | undefined;
    if (stream) {
      const runner = client(house).chat.completions.stream(body);
      const final = await runner.finalChatCompletion();
      calls.push(...final.choices[0]?.message.tool_calls ?? []);
      finish = final.choices[0]?.finish_reason;
    } else {
      const answer = await client(house).chat.completions.create(body);
      calls.push(...answer.choices[0]?.message.tool_calls ?? []);
      finish = answer.choices[0]?.finish_reason;
    }
    assert.equal(finish, "tool_calls");
    assert.deepEqual(
      calls.map((call) =>
        call.type === "function" && [call.id, call.function.arguments]
      ),
      [["call_1", '{"city":"Bern"}']],
    );
  }
  assert.equal(house.turns.requests[0]?.clientTools?.[0]?.name, "weather");
  const answer = await client(house).chat.completions.create({
    model: "carapace",
    tools,
    messages: [
      ...USER,
      {
        role: "assistant",
        content: null,
        tool_calls: [{
          id: "call_1",
          type: "function",
          function: { name: "weather", arguments: "{}" },
        }],
      },
      { role: "tool", tool_call_id: "call_1", content: "20" },
    ],
  });
  assert.equal(answer.choices[0]?.message.content, "it is 20 degrees");
  const last = house.turns.requests.at(-1);
  assert.equal(last?.inbound.text, "");
  assert.equal(last?.history?.at(-1)?.role, "tool");
});

Deno.test("pass-through sends the body on, only the model's name replaced", async () => {
  await using vendor = await fakeOpenai({ script: () => say("one ", "two") });
  await using house = await openGatewayHouse({
    providers: [forwarding("fake", vendor.url)],
  });
  const raw = `{ "temperature":1.0, "messages" : [{"role":"user","content":` +
    `"\\"model\\": \\u00e9 ${"🦀"}"}],"model" : "fake/gpt-x" ,"odd":{"model":"a"}}`;
  const answer = await house.post("/v1/chat/completions", raw);
  assert.equal(answer.status, 200, await answer.clone().text());
  assert.equal((await answer.json()).choices[0].message.content, "one two");
  assert.equal(
    new TextDecoder().decode(vendor.requests[0]?.bytes),
    raw.replace('"fake/gpt-x"', '"gpt-x"'),
  );
  assert.equal(
    vendor.requests[0]?.headers.get("authorization"),
    "Bearer vendor-key",
  );
  assert.deepEqual(house.passed[0]?.usage, {
    ...NO_USAGE,
    inputTokens: 12,
    outputTokens: 7,
  });
  assert.equal(house.passed[0]?.model, "fake:gpt-x");
  const stream = await client(house).chat.completions.create({
    model: "fake:gpt-x",
    messages: USER,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.equal(text, "one two");
  assert.equal(house.passed.length, 2);
});

Deno.test("pass-through refuses a body with two models", async () => {
  await using house = await openGatewayHouse({
    providers: [forwarding("fake", "http://127.0.0.1:9")],
  });
  for (
    const body of [
      `{"model":"fake/a","model":"fake/b","messages":[]}`,
      `{"\\u006dodel":"fake/a","model":"fake/b","messages":[]}`,
    ]
  ) {
    const answer = await house.post("/v1/chat/completions", body);
    assert.equal(answer.status, 400);
    assert.match((await answer.json()).error.message, /more than once/);
  }
});

Deno.test("a provider of another dialect is asked in ours", async () => {
  const conv = new Converted();
  await using house = await openGatewayHouse({ providers: [conv] });
  conv.events = [
    { kind: "text", text: "look: " },
    { kind: "tool_call", id: "c1", name: "weather", args: { city: "Bern" } },
    {
      kind: "usage",
      usage: { ...NO_USAGE, inputTokens: 5, outputTokens: 2 },
    },
    { kind: "end", reason: "tool_calls" },
  ];
  const body: OpenAI.ChatCompletionCreateParamsNonStreaming = {
    model: "conv/conv-1",
    messages: [{ role: "system", content: "s" }, ...USER],
    temperature: 0.5,
    top_p: 0.9,
    stop: "END",
    max_tokens: 99,
    reasoning_effort: "low",
    tool_choice: { type: "function", function: { name: "weather" } },
    tools: [{
      type: "function",
      function: { name: "weather", description: "d", parameters: {} },
    }],
  };
  const answer = await client(house).chat.completions.create(body);
  assert.equal(answer.choices[0]?.message.content, "look: ");
  assert.equal(answer.choices[0]?.finish_reason, "tool_calls");
  const { messages, ...asked } = conv.asked[0] ?? assert.fail();
  assert.equal(messages.length, 1);
  assert.deepEqual(asked, {
    model: "conv-1",
    system: "s",
    temperature: 0.5,
    topP: 0.9,
    stop: ["END"],
    outputTokensMax: 99,
    thinkingTokens: 2048,
    toolChoice: { name: "weather" },
    tools: [{ name: "weather", description: "d", schema: {} }],
  });
  const final = await client(house).chat.completions
    .stream({ ...body, stream: true }).finalChatCompletion();
  const [call] = final.choices[0]?.message.tool_calls ?? [];
  assert.equal(call?.type === "function" && call.function.name, "weather");
  assert.deepEqual(house.passed.map((one) => one.usage.inputTokens), [5, 5]);
});

Deno.test("errors have OpenAI's shape and the right status", async (t) => {
  const conv = new Converted();
  await using vendor = await fakeOpenai();
  await using house = await openGatewayHouse({
    providers: [conv, forwarding("fake", vendor.url)],
    principals: {
      reader: program("tok_reader", { scopes: ["read"] }),
      small: program("tok_small", { models: [], agents: [] }),
    },
  });
  const end = (errorClass: string) => {
    house.turns.script = async function* () {
      await Promise.resolve();
      yield {
        kind: "end",
        reason: "error",
        message: "m",
        errorClass,
        usage: NO_USAGE,
      };
    };
    return "carapace";
  };
  const vendorSays = (status: number, retryAfter?: number) => {
    vendor.script = () =>
      fail(
        status,
        retryAfter === undefined ? {} : { retryAfter },
      );
    return "fake/x";
  };
  type Row = [
    why: string,
    model: () => string,
    want: [status: number, code: string],
    key?: string,
  ];
  const rows: Row[] = [
    ["no such token", () => "carapace", [401, "invalid_api_key"], "bad"],
    [
      "a token without the scope",
      () => "carapace",
      [403, "MISSING_SCOPE"],
      "reader",
    ],
    ["an agent it may not use", () => "carapace", [403, "forbidden"], "small"],
    [
      "a model it may not use",
      () => "conv/x",
      [403, "model_not_allowed"],
      "small",
    ],
    ["no such provider", () => "nope/x", [404, "model_not_found"]],
    ["no such agent", () => "carapace/nope", [404, "model_not_found"]],
    ["a bare name", () => "gpt-9", [404, "model_not_found"]],
    ["the run met a rate limit", () => end("rate"), [429, "rate"]],
    ["the run met an overload", () => end("overloaded"), [503, "overloaded"]],
    ["the run timed out", () => end("timeout"), [504, "timeout"]],
    ["the run failed", () => end("server"), [502, "server"]],
    ["the vendor's rate limit", () => vendorSays(429, 7), [
      429,
      "rate_limit_exceeded",
    ]],
    ["our key is wrong", () => vendorSays(401), [502, "auth"]],
    ["the vendor failed", () => vendorSays(500), [502, "server"]],
    ["a converted failure", () => {
      conv.failure = new ModelError("overloaded", "busy", {
        retryAfterMs: 3000,
      });
      return "conv/x";
    }, [503, "overloaded"]],
  ];
  for (const [why, model, [status, code], key] of rows) {
    for (const stream of [false, true]) {
      await t.step(`${why}${stream ? ", streamed" : ""}`, async () => {
        await assert.rejects(
          async () =>
            await client(house, key).chat.completions.create({
              model: model(),
              messages: USER,
              stream,
            }),
          (error: unknown) => {
            assert.ok(error instanceof OpenAI.APIError);
            assert.deepEqual([error.status, error.code], [status, code]);
            assert.doesNotMatch(error.message, /sk-fake/);
            return true;
          },
        );
      });
    }
  }
  await t.step("Retry-After is passed on", async () => {
    const answer = await house.post("/v1/chat/completions", {
      model: vendorSays(429, 7),
      messages: USER,
      stream: true,
    });
    assert.equal(answer.headers.get("retry-after"), "7");
    await answer.body?.cancel();
  });
});

Deno.test("a failure after the first token is an error frame, then the end", async () => {
  const conv = new Converted();
  await using vendor = await fakeOpenai({
    script: () => ({ ...say("a", "b", "c"), after: 2, then: "break" as const }),
  });
  await using house = await openGatewayHouse({
    providers: [conv, forwarding("fake", vendor.url)],
  });
  conv.events = [{ kind: "text", text: "half" }];
  conv.failure = new AppError("upstream", "it broke");
  for (const model of ["conv/x", "fake/x"]) {
    const answer = await house.post("/v1/chat/completions", {
      model,
      messages: USER,
      stream: true,
    });
    assert.equal(answer.status, 200);
    const frames = (await answer.text()).trim().split("\n\n");
    const last = JSON.parse(frames.at(-1)?.slice(6) ?? "");
    assert.equal(last.error.type, "server_error", model);
  }
});

Deno.test("a client that leaves ends the run and the provider's call", async (t) => {
  const conv = new Converted();
  conv.hangs = true;
  await using vendor = await fakeOpenai({
    script: () => ({ ...say("a", "b"), after: 1, then: "hang" as const }),
  });
  await using house = await openGatewayHouse({
    providers: [conv, forwarding("fake", vendor.url)],
    // The runtime sees a client leave only after headers, for larger requests.
    limits: { headMs: 10 },
  });
  house.turns.script = silence;
  const leave = async (model: string, stream: boolean) => {
    const controller = new AbortController();
    const asked = client(house).chat.completions.create(
      { model, messages: USER, stream },
      { signal: controller.signal },
    );
    setTimeout(() => controller.abort(), 30);
    await assert.rejects(async () => {
      const answer = await asked;
      if (Symbol.asyncIterator in answer) {
        for await (const _ of answer) { /* until it is cut */ }
        throw controller.signal.reason;
      }
    });
    return performance.now();
  };
  for (const stream of [false, true]) {
    await t.step(`an agent's run${stream ? ", streamed" : ""}`, async () => {
      const ended = Promise.withResolvers<void>();
      using _ = house.turns.watch((event) => {
        if (event.kind === "end") ended.resolve();
      });
      const leftAt = await leave("carapace", stream);
      await ended.promise;
      assert.ok(performance.now() - leftAt < 100);
    });
    await t.step(`a converted call${stream ? ", streamed" : ""}`, async () => {
      conv.cancelled = Promise.withResolvers();
      conv.events = stream ? [{ kind: "text", text: "x" }] : [];
      const leftAt = await leave("conv/x", stream);
      await conv.cancelled.promise;
      assert.ok(performance.now() - leftAt < 100);
    });
  }
  await t.step("a forwarded stream", async () => {
    const leftAt = await leave("fake/x", true);
    await vendor.requests.at(-1)?.closed;
    assert.ok(performance.now() - leftAt < 100);
  });
  assert.equal(house.gateway.counts().inFlight, 0);
});

Deno.test("bodies are bounded before they are read", async (t) => {
  await using house = await openGatewayHouse({
    limits: { apiBodyBytesMax: 1000, apiNodesMax: 50 },
  });
  const rows: [why: string, body: string, status: number][] = [
    ["one byte over", `{"model":"${"x".repeat(990)}"}`, 413],
    [
      "too deep",
      `{"model":"carapace","x":${"[".repeat(32)}${"]".repeat(32)}}`,
      400,
    ],
    ["too many values", `{"model":"carapace","x":[${"1,".repeat(60)}1]}`, 413],
    ["not JSON", `{"model":"carapace"`, 400],
    ["not an object", `["carapace"]`, 400],
    ["no model", `{"messages":[]}`, 400],
    [
      "an image by address",
      JSON.stringify({
        model: "carapace",
        messages: [{
          role: "user",
          content: [{
            type: "image_url",
            image_url: { url: "http://a.test/x" },
          }],
        }],
      }),
      400,
    ],
  ];
  for (const [why, body, status] of rows) {
    await t.step(why, async () => {
      const answer = await house.post("/v1/chat/completions", body);
      assert.equal(answer.status, status);
      assert.equal(typeof (await answer.json()).error.message, "string");
    });
  }
  await t.step("a chunked body over the limit", async () => {
    const chunk = new TextEncoder().encode(" ".repeat(600));
    const answer = await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: "Bearer owner-token",
        "content-type": "application/json",
      },
      body: ReadableStream.from([chunk, chunk]),
    });
    assert.equal(answer.status, 413);
    await answer.body?.cancel();
  });
  await t.step("another content type", async () => {
    const answer = await house.post("/v1/chat/completions", "{}", {
      headers: { "content-type": "text/plain" },
    });
    assert.equal(answer.status, 415);
    await answer.body?.cancel();
  });
});
