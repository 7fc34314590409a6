/** `ai` with `@ai-sdk/openai-compatible`, unmodified, against the whole house. */
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  embed,
  generateObject,
  generateText,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { z } from "zod";
import { say } from "../fakes/vendor.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

function provider(house: RealHouse, apiKey = house.owner) {
  return createOpenAICompatible({
    name: "carapace",
    baseURL: `${house.url}/v1`,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}

const MODELS = ["carapace", "openai/gpt-test", "anthropic/claude-test"];

Deno.test("text, whole and streamed, with usage", async (t) => {
  await using house = await openRealHouse({ script: () => say("Hel", "lo") });
  for (const id of MODELS) {
    await t.step(id, async () => {
      const model = provider(house)(id);
      const whole = await generateText({ model, prompt: "hi" });
      assert.equal(whole.text, "Hello");
      assert.equal(whole.usage.inputTokens, 12);
      assert.equal(whole.finishReason, "stop");
      const stream = streamText({ model, prompt: "hi" });
      const deltas = await Array.fromAsync(stream.textStream);
      assert.deepEqual(deltas, ["Hel", "lo"]);
      assert.equal((await stream.usage).outputTokens, 7);
    });
  }
});

Deno.test("its tools run on its side, step by step", async (t) => {
  for (const id of MODELS) {
    await t.step(id, async () => {
      await using house = await openRealHouse({
        script: (_, nth) =>
          nth === 0
            ? { calls: [{ name: "weather", args: { city: "Bern" } }] }
            : say("20 degrees"),
      });
      const asked: string[] = [];
      const result = streamText({
        model: provider(house)(id),
        prompt: "how warm is it in Bern?",
        stopWhen: stepCountIs(3),
        tools: {
          weather: tool({
            description: "The weather of a city",
            inputSchema: z.object({ city: z.string() }),
            execute: ({ city }) => {
              asked.push(city);
              return Promise.resolve("20");
            },
          }),
        },
      });
      assert.equal(await result.text, "20 degrees");
      assert.deepEqual(asked, ["Bern"]);
    });
  }
});

Deno.test("an object of a schema, an image, embeddings", async (t) => {
  await using house = await openRealHouse({
    script: () => say('{"city":"Bern"}'),
  });
  await t.step("object", async () => {
    const { object } = await generateObject({
      model: provider(house)("openai/gpt-test"),
      schema: z.object({ city: z.string() }),
      prompt: "the capital of Switzerland",
    });
    assert.deepEqual(object, { city: "Bern" });
    const { body } = house.openai.requests.at(-1) ?? {};
    assert.equal(body.response_format.type, "json_schema");
  });
  await t.step("image", async () => {
    await generateText({
      model: provider(house)("carapace"),
      messages: [{
        role: "user",
        content: [
          { type: "text", text: "what is this?" },
          {
            type: "image",
            image: Uint8Array.fromBase64("iVBORw0KGgo="),
            mediaType: "image/png",
          },
        ],
      }],
    });
    const sent = JSON.stringify(house.openai.requests.at(-1)?.body.messages);
    assert.match(sent, /data:image\/png;base64,iVBORw0KGgo=/);
  });
  await t.step("embeddings", async () => {
    const { embedding } = await embed({
      model: provider(house).embeddingModel("openai/gpt-embed"),
      value: "x",
    });
    assert.deepEqual(embedding, [0.1, 0.2, 0.3]);
  });
});

Deno.test("failures, and leaving", async (t) => {
  await using house = await openRealHouse({
    script: () => ({ text: ["one", "two"], after: "two", then: "hang" }),
  });
  await t.step("a wrong token", async () => {
    await assert.rejects(
      generateText({
        model: provider(house, "cara_wrong")("carapace"),
        prompt: "hi",
        maxRetries: 0,
      }),
      (error) => APICallError.isInstance(error) && error.statusCode === 401,
    );
  });
  await t.step("no such agent", async () => {
    await assert.rejects(
      generateText({
        model: provider(house)("carapace/nobody"),
        prompt: "hi",
        maxRetries: 0,
      }),
      /Cannot find agent/,
    );
  });
  await t.step("leaving", async () => {
    const controller = new AbortController();
    const { textStream } = streamText({
      model: provider(house)("carapace"),
      prompt: "hi",
      abortSignal: controller.signal,
      onError: () => {},
    });
    for await (const text of textStream) {
      if (text === "one") controller.abort();
    }
    await house.openai.requests.at(-1)?.closed;
  });
});
