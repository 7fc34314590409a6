/** The `@anthropic-ai/sdk` client, unmodified, against the whole house. */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { fail, say } from "../fakes/vendor.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

function client(house: RealHouse, apiKey = house.owner): Anthropic {
  return new Anthropic({ baseURL: house.url, apiKey, maxRetries: 0 });
}

function textBlock(text: string): Anthropic.TextBlock {
  return { type: "text", text, citations: null };
}

const MODELS = ["carapace", "anthropic:claude-test", "openai/gpt-test"];
const ASK = {
  max_tokens: 100,
  messages: [{ role: "user" as const, content: "how warm is it in Bern?" }],
};

Deno.test("agents and every vendor's models answer and stream", async (t) => {
  await using house = await openRealHouse({
    script: () => say("20 ", "degrees"),
  });
  const api = client(house);
  for (const model of MODELS) {
    await t.step(model, async () => {
      const whole = await api.messages.create({ model, ...ASK });
      assert.deepEqual(whole.content, [textBlock("20 degrees")]);
      assert.equal(whole.stop_reason, "end_turn");
      assert.deepEqual(
        [whole.usage.input_tokens, whole.usage.output_tokens],
        [12, 7],
      );
      const deltas: string[] = [];
      const stream = api.messages.stream({ model, ...ASK })
        .on("text", (text) => deltas.push(text));
      assert.equal(await stream.finalText(), "20 degrees");
      assert.deepEqual(deltas, ["20 ", "degrees"]);
    });
  }
  const ids = (await Array.fromAsync(api.models.list())).map(({ id }) => id);
  assert.ok(ids.includes("carapace") && ids.includes("anthropic/claude-test"));
});

Deno.test("the caller's tools come back to it, and their results go on", async (t) => {
  const tools: Anthropic.Tool[] = [{
    name: "weather",
    description: "The weather of a city",
    input_schema: {
      type: "object",
      properties: { city: { type: "string" } },
    },
  }];
  for (const model of MODELS) {
    await t.step(model, async () => {
      await using house = await openRealHouse({
        script: (_, nth) =>
          nth === 0
            ? {
              thinking: "hm",
              text: "let me look",
              calls: [{ name: "weather", args: { city: "Bern" } }],
            }
            : say("20 degrees"),
      });
      const api = client(house);
      const body = { model, ...ASK, tools };
      const first = await api.messages.stream(body).finalMessage();
      assert.equal(first.stop_reason, "tool_use");
      const call = first.content.find((block) => block.type === "tool_use");
      assert.ok(call?.type === "tool_use");
      assert.deepEqual([call.name, call.input], ["weather", { city: "Bern" }]);
      const second = await api.messages.create({
        ...body,
        messages: [
          ...ASK.messages,
          { role: "assistant", content: first.content },
          {
            role: "user",
            content: [{
              type: "tool_result",
              tool_use_id: call.id,
              content: "20",
            }],
          },
        ],
      });
      assert.deepEqual(second.content, [textBlock("20 degrees")]);
      const vendor = model.startsWith("anthropic")
        ? house.anthropic
        : house.openai;
      const sent = JSON.stringify(vendor.requests[1]?.body.messages);
      assert.ok(sent.includes("how warm") && sent.includes("let me look"));
      assert.match(sent, /tool_result|"role":"tool"/);
      if (model.startsWith("anthropic")) {
        assert.match(
          sent,
          /"signature":/,
          "the vendor's own thought went back",
        );
      }
    });
  }
});

Deno.test("errors are that client's own classes", async (t) => {
  await using house = await openRealHouse();
  const rows: [
    why: string,
    api: Anthropic,
    change: object,
    // deno-lint-ignore no-explicit-any
    error: any,
  ][] = [
    [
      "a wrong token",
      client(house, "cara_wrong"),
      {},
      Anthropic.AuthenticationError,
    ],
    [
      "no such model",
      client(house),
      { model: "nowhere:x" },
      Anthropic.NotFoundError,
    ],
    [
      "a bad field",
      client(house),
      { max_tokens: 0 },
      Anthropic.BadRequestError,
    ],
    [
      "a model that is not the token's",
      client(house, await house.token({ models: [] })),
      { model: "anthropic:claude-test" },
      Anthropic.PermissionDeniedError,
    ],
  ];
  for (const [why, api, change, error] of rows) {
    await t.step(why, async () => {
      await assert.rejects(
        api.messages.create({ model: "carapace", ...ASK, ...change }),
        error,
      );
    });
  }
  await t.step(
    "the vendor's refusal of our key is not the caller's",
    async () => {
      house.anthropic.script = [fail(401)];
      await assert.rejects(
        client(house).messages.create({
          model: "anthropic:claude-test",
          ...ASK,
        }),
        (error) => {
          assert.ok(error instanceof Anthropic.APIError);
          assert.equal(error.status, 502);
          return true;
        },
      );
    },
  );
});

Deno.test("a client that leaves stops the vendor's stream", async (t) => {
  await using house = await openRealHouse({
    script: () => ({ text: ["one", "two"], after: "two", then: "hang" }),
  });
  for (const model of MODELS) {
    await t.step(model, async () => {
      const stream = client(house).messages.stream({ model, ...ASK });
      stream.on("text", () => stream.abort());
      await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
      const vendor = model.startsWith("anthropic")
        ? house.anthropic
        : house.openai;
      await vendor.requests.at(-1)?.closed;
    });
  }
});

Deno.test("an Idempotency-Key makes one run of two requests", async () => {
  await using house = await openRealHouse({ script: () => say("once") });
  const options = { headers: { "Idempotency-Key": "k1" } };
  const ask = () =>
    client(house).messages.create({ model: "carapace", ...ASK }, options);
  await Promise.all([ask(), ask()]);
  const { content } = await ask();
  assert.deepEqual(content, [textBlock("once")]);
  assert.equal(house.openai.requests.length, 1);
});

Deno.test("tokens are counted without asking anybody", async () => {
  await using house = await openRealHouse();
  const { input_tokens } = await client(house).messages.countTokens({
    model: "anthropic:claude-test",
    system: "be brief",
    messages: ASK.messages,
  });
  assert.ok(input_tokens > 5 && input_tokens < 40);
  assert.equal(house.anthropic.requests.length, 0);
});
