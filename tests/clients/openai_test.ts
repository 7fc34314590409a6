/** The `openai` client, unmodified, against the whole house. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { fail, say } from "../fakes/vendor.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

function client(house: RealHouse, apiKey = house.owner): OpenAI {
  return new OpenAI({ baseURL: `${house.url}/v1`, apiKey, maxRetries: 0 });
}

const WEATHER = {
  type: "function" as const,
  name: "weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
};

const RED_DOT =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

Deno.test("models: the list, one by name, and none", async () => {
  await using house = await openRealHouse();
  const api = client(house);
  const ids = (await Array.fromAsync(api.models.list())).map(({ id }) => id);
  assert.deepEqual(ids, [
    "carapace",
    "carapace/main",
    "openai/gpt-test",
    "anthropic/claude-test",
  ]);
  assert.equal((await api.models.retrieve("carapace")).owned_by, "carapace");
  assert.equal(
    (await api.models.retrieve("openai:gpt-test")).owned_by,
    "openai",
  );
  await assert.rejects(api.models.retrieve("nowhere:x"), OpenAI.NotFoundError);
});

Deno.test("embeddings are passed on, and are no agent's", async () => {
  await using house = await openRealHouse();
  const api = client(house);
  const { data } = await api.embeddings.create({
    model: "openai/gpt-embed",
    input: "x",
    encoding_format: "float",
  });
  assert.deepEqual(data[0]?.embedding, [0.1, 0.2, 0.3]);
  assert.equal(house.openai.requests[0]?.body.model, "gpt-embed");
  for (const model of ["carapace", "anthropic:claude-test"]) {
    await assert.rejects(
      api.embeddings.create({ model, input: "x" }),
      OpenAI.BadRequestError,
    );
  }
  const narrow = client(house, await house.token({ models: [] }));
  await assert.rejects(
    narrow.embeddings.create({ model: "openai/gpt-embed", input: "x" }),
    OpenAI.PermissionDeniedError,
  );
});

Deno.test("responses: an agent answers, whole and streamed, and goes on", async (t) => {
  await using house = await openRealHouse({
    script: [say("Nice to ", "meet you, Ann"), say("You are Ann"), say("Hm")],
  });
  const api = client(house);
  const first = await api.responses.create({
    model: "carapace",
    instructions: "be brief",
    input: "I am Ann",
    metadata: { a: "b" },
  });
  await t.step("whole", () => {
    assert.equal(first.output_text, "Nice to meet you, Ann");
    assert.equal(first.status, "completed");
    assert.deepEqual(
      [first.usage?.input_tokens, first.usage?.output_tokens],
      [12, 7],
    );
    assert.match(first.id, /^resp_/);
    assert.deepEqual(first.metadata, { a: "b" });
  });
  const types: string[] = [];
  let numbers = -1;
  const stream = api.responses.stream({
    model: "carapace",
    previous_response_id: first.id,
    input: [{ role: "user", content: "who am I?" }],
  });
  for await (const event of stream) {
    types.push(event.type);
    assert.equal(event.sequence_number, ++numbers);
  }
  const second = await stream.finalResponse();
  await t.step("streamed", () => {
    assert.equal(second.output_text, "You are Ann");
    assert.equal(second.previous_response_id, first.id);
    assert.deepEqual(types, [
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
  });
  const shown = () =>
    house.openai.requests.at(-1)?.body.messages
      .filter((m: { role: string }) => m.role !== "system")
      .map((m: { role: string; content: unknown }) => m.role);
  await t.step("the second was shown the first", () => {
    assert.deepEqual(shown(), ["user", "assistant", "user"]);
  });
  await t.step("a branch from the first does not hold the second", async () => {
    const branch = await api.responses.create({
      model: "carapace",
      previous_response_id: first.id,
      input: "and from here?",
    });
    assert.equal(branch.output_text, "Hm");
    assert.deepEqual(shown(), ["user", "assistant", "user"]);
    const text = JSON.stringify(house.openai.requests.at(-1)?.body.messages);
    assert.ok(text.includes("I am Ann") && !text.includes("who am I?"));
  });
  await t.step("stored, fetched, deleted, its own only", async () => {
    const again = await api.responses.retrieve(first.id);
    assert.equal(again.output_text, "Nice to meet you, Ann");
    const other = client(house, await house.token());
    await assert.rejects(
      other.responses.retrieve(first.id),
      OpenAI.NotFoundError,
    );
    await assert.rejects(
      other.responses.create({
        model: "carapace",
        previous_response_id: first.id,
        input: "x",
      }),
      { status: 400, code: "previous_response_not_found" },
    );
    await api.responses.delete(first.id);
    await assert.rejects(
      api.responses.retrieve(first.id),
      OpenAI.NotFoundError,
    );
  });
  await t.step("a session that goes takes its answers along", async () => {
    const own = await api.responses.create({ model: "carapace", input: "x" });
    const { responses, sessions } = house.house.store;
    const { session } = await responses.find(own.id) ?? {};
    const row = await sessions.find(session?.key ?? "");
    assert.ok(row !== undefined);
    await sessions.purge(row);
    await assert.rejects(
      api.responses.retrieve(own.id),
      OpenAI.NotFoundError,
    );
  });
  await t.step("store: false keeps nothing", async () => {
    const unkept = await api.responses.create({
      model: "carapace",
      input: "x",
      store: false,
    });
    await assert.rejects(
      api.responses.create({
        model: "carapace",
        previous_response_id: unkept.id,
        input: "x",
      }),
      { status: 400 },
    );
  });
});

Deno.test("responses: the caller's functions come back to it, and their outputs go on", async (t) => {
  for (
    const model of ["carapace", "openai:gpt-test", "anthropic:claude-test"]
  ) {
    await t.step(model, async () => {
      await using house = await openRealHouse({
        script: (_, nth) =>
          nth === 0
            ? {
              text: "let me look",
              calls: [{ name: "weather", args: { city: "Bern" } }],
            }
            : say("20 degrees"),
      });
      const api = client(house);
      const stream = api.responses.stream({
        model,
        input: "how warm is it in Bern?",
        tools: [WEATHER],
      });
      const first = await stream.finalResponse();
      const call = first.output.find((item) => item.type === "function_call");
      assert.ok(call?.type === "function_call");
      assert.equal(call.name, "weather");
      assert.deepEqual(JSON.parse(call.arguments), { city: "Bern" });
      assert.equal(first.output_text, "let me look");
      const second = await api.responses.create({
        model,
        previous_response_id: first.id,
        tools: [WEATHER],
        input: [{
          type: "function_call_output",
          call_id: call.call_id,
          output: "20",
        }],
      });
      assert.equal(second.output_text, "20 degrees");
      const vendor = model.startsWith("anthropic")
        ? house.anthropic
        : house.openai;
      const sent = JSON.stringify(vendor.requests.at(-1)?.body.messages);
      assert.ok(sent.includes("how warm"), sent);
      assert.match(sent, /tool_result|"role":"tool"/);
    });
  }
});

Deno.test("responses: everything sent at once, with images and reasoning", async () => {
  await using house = await openRealHouse({
    script: [{ thinking: "hm", text: "a red dot" }],
  });
  const api = client(house);
  const body: OpenAI.Responses.ResponseCreateParamsNonStreaming = {
    model: "anthropic:claude-test",
    store: false,
    include: ["reasoning.encrypted_content"],
    reasoning: { effort: "low" },
    input: [{
      role: "user",
      content: [
        { type: "input_text", text: "what is this?" },
        { type: "input_image", image_url: RED_DOT, detail: "auto" },
      ],
    }],
  };
  const first = await api.responses.create(body);
  assert.deepEqual(first.output.map(({ type }) => type), [
    "reasoning",
    "message",
  ]);
  const sent = house.anthropic.requests[0]?.body;
  assert.equal(sent.messages[0].content[1].type, "image");
  assert.notEqual(sent.thinking, undefined);
  await api.responses.create({
    ...body,
    input: [
      ...body.input as OpenAI.Responses.ResponseInput,
      ...first.output as OpenAI.Responses.ResponseInput,
      { role: "user", content: "sure?" },
    ],
  });
  const [, assistant] = house.anthropic.requests[1]?.body.messages ?? [];
  assert.equal(assistant.content.at(-1).text, "a red dot");
});

Deno.test("responses: what is not done here is refused, failures have a shape", async (t) => {
  await using house = await openRealHouse();
  const api = client(house);
  const rows: [why: string, change: object, status: number, code: string][] = [
    ["background", { background: true }, 400, "invalid_value"],
    ["hosted tools", { tools: [{ type: "web_search" }] }, 400, "invalid_value"],
    ["a conversation", { conversation: "conv_1" }, 400, "invalid_value"],
    [
      "an unknown item",
      { input: [{ type: "computer_call_output" }] },
      400,
      "invalid_value",
    ],
    ["nothing to answer", { input: [] }, 400, "invalid_value"],
    ["no such model", { model: "nowhere:x" }, 404, "model_not_found"],
    ["no such agent", { model: "carapace/nobody" }, 404, "model_not_found"],
  ];
  for (const [why, change, status, code] of rows) {
    await t.step(why, async () => {
      await assert.rejects(
        api.responses.create({ model: "carapace", input: "x", ...change }),
        { status, code },
      );
    });
  }
  await t.step("a vendor that refuses", async () => {
    house.openai.script = [fail(400)];
    await assert.rejects(
      api.responses.create({ model: "openai:gpt-test", input: "x" }),
      OpenAI.BadRequestError,
    );
  });
  await t.step("a stream that breaks off says so", async () => {
    house.openai.script = [{ text: ["one", "two"], after: 3, then: "break" }];
    const stream = await api.responses.create({
      model: "openai:gpt-test",
      input: "x",
      stream: true,
    });
    const types: string[] = [];
    for await (const event of stream) types.push(event.type);
    assert.equal(types.at(-1), "response.failed");
  });
});

Deno.test("chat: a session by `user` goes on with the caller's tool results", async () => {
  await using house = await openRealHouse({
    script: (_, nth) =>
      nth === 0
        ? { calls: [{ name: "weather", args: { city: "Bern" } }] }
        : say(nth === 1 ? "20 degrees" : "still 20"),
  });
  const api = client(house, await house.token({ scopes: ["chat"] }));
  const tools: OpenAI.ChatCompletionTool[] = [{
    type: "function",
    function: { name: "weather", parameters: WEATHER.parameters },
  }];
  const base = { model: "carapace", user: "ann", tools };
  const asked: OpenAI.ChatCompletionMessageParam[] = [
    { role: "user", content: "how warm is it?" },
  ];
  const first = await api.chat.completions.create({ ...base, messages: asked });
  const message = first.choices[0]?.message ?? assert.fail();
  const [call] = message.tool_calls ?? [];
  assert.equal(first.choices[0]?.finish_reason, "tool_calls");
  asked.push(message, {
    role: "tool",
    tool_call_id: call?.id ?? "",
    content: "20",
  });
  const second = await api.chat.completions.create({
    ...base,
    messages: asked,
  });
  assert.equal(second.choices[0]?.message.content, "20 degrees");
  const roles = () =>
    house.openai.requests.at(-1)?.body.messages
      .map((m: { role: string }) => m.role)
      .filter((role: string) => role !== "system");
  assert.deepEqual(roles(), ["user", "assistant", "tool"]);
  await api.chat.completions.create({
    ...base,
    messages: [...asked, { role: "user", content: "and now?" }],
  });
  assert.deepEqual(roles(), [
    "user",
    "assistant",
    "tool",
    "assistant",
    "user",
  ]);
});

Deno.test("an Idempotency-Key makes one run of two requests, in every dialect", async (t) => {
  await using house = await openRealHouse({ script: () => say("once") });
  const api = client(house);
  for (const dialect of ["chat", "responses"] as const) {
    await t.step(dialect, async () => {
      const before = house.openai.requests.length;
      const options = { headers: { "Idempotency-Key": `key-${dialect}` } };
      const ask = async () => {
        if (dialect === "responses") {
          const body = { model: "carapace", input: "hi" };
          return (await api.responses.create(body, options)).output_text;
        }
        const answer = await api.chat.completions.create({
          model: "carapace",
          messages: [{ role: "user", content: "hi" }],
        }, options);
        return answer.choices[0]?.message.content;
      };
      assert.deepEqual(await Promise.all([ask(), ask()]), ["once", "once"]);
      assert.equal(await ask(), "once");
      assert.equal(house.openai.requests.length, before + 1);
      const other = client(house, await house.token());
      await other.chat.completions.create({
        model: "carapace",
        messages: [{ role: "user", content: "hi" }],
      }, options);
      assert.equal(house.openai.requests.length, before + 2, "another's key");
    });
  }
});

Deno.test("a client that leaves stops the vendor's stream, in every way of asking", async (t) => {
  await using house = await openRealHouse({
    script: () => ({ text: ["one", "two"], after: "two", then: "hang" }),
  });
  const api = client(house);
  for (
    const model of ["carapace", "openai:gpt-test", "anthropic:claude-test"]
  ) {
    await t.step(model, async () => {
      const stream = await api.responses.create({
        model,
        input: "x",
        stream: true,
      });
      for await (const event of stream) {
        if (event.type === "response.output_text.delta") break;
      }
      stream.controller.abort();
      const vendor = model.startsWith("anthropic")
        ? house.anthropic
        : house.openai;
      await vendor.requests.at(-1)?.closed;
    });
  }
});
