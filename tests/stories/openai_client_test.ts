/**
 * The official `openai` client, pointed at us, talks to every vendor there is:
 * the client's dialect in, the vendor's own wire out, and back again.
 */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { recordEnv } from "../../src/config/env.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock } from "../../src/core/time.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { ProvidersConfig } from "../../src/providers/config.ts";
import { makeProviders } from "../../src/providers/registry.ts";
import { makeRouter } from "../../src/providers/route.ts";
import { fakeAnthropic } from "../fakes/anthropic.ts";
import { fakeBedrock } from "../fakes/bedrock.ts";
import {
  type FakeGatewayHouse,
  openGatewayHouse,
} from "../fakes/gateway_house.ts";
import { fakeGemini } from "../fakes/gemini.ts";
import { fakeOllama } from "../fakes/ollama.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import {
  fail,
  type Fake,
  type FakeOptions,
  say,
  type Script,
} from "../fakes/vendor.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

/** A vendor, the variables that make it a provider, and where its wire has what. */
interface Vendor {
  fake(options: FakeOptions): Promise<Fake>;
  env(url: string): Record<string, string>;
  /** A model of the vendor's that has everything. */
  model: string;
  imageIn(body: Json): unknown;
  /** The tools' names in a request. */
  toolsIn(body: Json): string[];
  /** Whether the client's bytes go through as they are. */
  forwards: boolean;
}

/** Says so after a time; holds nothing open. */
function late(ms: number): Promise<"late"> {
  return new Promise((resolve) => {
    Deno.unrefTimer(setTimeout(() => resolve("late"), ms));
  });
}

const KEY = "sk-vendor-0123456789abcdef";
const IMAGE = "iVBORw0KGgo=";

const VENDORS: Readonly<Record<string, Vendor>> = {
  anthropic: {
    fake: fakeAnthropic,
    env: (url) => ({ ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: KEY }),
    model: "claude-sonnet-5-5",
    imageIn: (body) => body.messages[0].content[1].source.data,
    toolsIn: (body) => body.tools.map((one: Json) => one.name),
    forwards: false,
  },
  gemini: {
    fake: fakeGemini,
    env: (url) => ({ GOOGLE_GEMINI_BASE_URL: url, GEMINI_API_KEY: KEY }),
    model: "gemini-3.8-flash",
    imageIn: (body) => body.contents[0].parts[1].inlineData.data,
    toolsIn: (body) =>
      body.tools[0].functionDeclarations.map((one: Json) => one.name),
    forwards: false,
  },
  bedrock: {
    fake: fakeBedrock,
    env: (url) => ({
      AWS_ENDPOINT_URL_BEDROCK_RUNTIME: url,
      AWS_BEARER_TOKEN_BEDROCK: KEY,
    }),
    model: "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    imageIn: (body) => body.messages[0].content[1].image.source.bytes,
    toolsIn: (body) =>
      body.toolConfig.tools.flatMap((one: Json) => one.toolSpec?.name ?? []),
    forwards: false,
  },
  openai: {
    fake: fakeOpenai,
    env: (url) => ({ OPENAI_BASE_URL: url, OPENAI_API_KEY: KEY }),
    model: "gpt-test",
    imageIn: (body) =>
      body.messages[0].content[1].image_url.url.split(",").at(-1),
    toolsIn: (body) => body.tools.map((one: Json) => one.function.name),
    forwards: true,
  },
  ollama: {
    fake: fakeOllama,
    env: (url) => ({ OLLAMA_HOST: url, OLLAMA_API_KEY: KEY }),
    model: "fake:latest",
    imageIn: (body) =>
      body.messages[0].content[1].image_url.url.split(",").at(-1),
    toolsIn: (body) => body.tools.map((one: Json) => one.function.name),
    forwards: true,
  },
};

/** A gateway whose only provider is one vendor's, and a client of it. */
interface Story extends AsyncDisposable {
  fake: Fake;
  house: FakeGatewayHouse;
  client: OpenAI;
  /** The model's full name. */
  model: string;
}

async function openStory(
  id: string,
  vendor: Vendor,
  script: Script,
): Promise<Story> {
  await using opening = new AsyncDisposableStack();
  const fake = opening.use(await vendor.fake({ script, key: KEY }));
  const egress = opening.use(makeEgress({
    config: EgressConfig.parse({}),
    clock: systemClock,
    log: silentLog,
  }));
  const entries = await makeProviders({
    config: ProvidersConfig.parse({}),
    env: recordEnv(vendor.env(fake.url)),
    door: (caller, { hostname: host, port }) =>
      egress.door({
        caller,
        hosts: [{ host, port: Number(port), scheme: "http" }],
      }),
    clock: systemClock,
    log: silentLog,
  });
  assert.deepEqual(entries.map((one) => one.provider.id), [id]);
  const router = makeRouter({
    entries: entries.map((one) => ({ ...one, retriesMax: 0 })),
    clock: systemClock,
    log: silentLog,
    random: Math.random,
  });
  const house = opening.use(await openGatewayHouse({ deps: { router } }));
  const client = new OpenAI({
    baseURL: `${house.url}/v1`,
    apiKey: "app-token",
    maxRetries: 0,
  });
  const stack = opening.move();
  return {
    fake,
    house,
    client,
    model: `${id}/${vendor.model}`,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

const USER = { role: "user" as const, content: "hello there" };
const TOOLS = ["look", "touch"].map((name) => ({
  type: "function" as const,
  function: {
    name,
    description: `To ${name}`,
    parameters: {
      type: "object",
      properties: { where: { type: "string" } },
      required: ["where"],
    },
  },
}));

for (const [id, vendor] of Object.entries(VENDORS)) {
  const story = (
    what: string,
    script: Script,
    tell: (on: Story) => Promise<void>,
  ) =>
    Deno.test(`openai's client to ${id}: ${what}`, async () => {
      await using on = await openStory(id, vendor, script);
      await tell(on);
    });

  story("the models are listed under the provider's name", [], async (on) => {
    const { data } = await on.client.models.list();
    assert.ok(data.some((one) => one.id.startsWith(`${id}/`)));
  });

  story("an answer streams, with its usage", [{
    text: ["Grüße ", "🦀 ", "you"],
    usage: { input: 20, output: 5 },
  }], async ({ client, model, fake }) => {
    const stream = await client.chat.completions.create({
      model,
      messages: [{ role: "system", content: "Be brief" }, USER],
      max_completion_tokens: 100,
      stream: true,
      stream_options: { include_usage: true },
    });
    let words = "";
    let finish: string | undefined;
    let usage: OpenAI.CompletionUsage | undefined;
    for await (const chunk of stream) {
      words += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(words, "Grüße 🦀 you");
    assert.equal(finish, "stop");
    assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [20, 5]);
    assert.match(JSON.stringify(fake.requests[0]?.body), /Be brief/);
  });

  story("an answer comes whole", [say("Hello ", "you")], async (on) => {
    const answer = await on.client.chat.completions.create({
      model: on.model,
      messages: [USER],
    });
    assert.equal(answer.choices[0]?.message.content, "Hello you");
    assert.equal(answer.choices[0]?.finish_reason, "stop");
    assert.ok((answer.usage?.total_tokens ?? 0) > 0);
  });

  story("tools are called in parallel and their results come back", [
    {
      calls: [
        { name: "look", args: { where: "up" }, id: "call_one" },
        { name: "touch", args: { where: "down" }, id: "call_two" },
      ],
    },
    say("It is blue."),
  ], async ({ client, model, fake }) => {
    const first = await client.chat.completions.create({
      model,
      messages: [USER],
      tools: TOOLS,
      tool_choice: "required",
    });
    const [choice] = first.choices;
    assert.equal(choice?.finish_reason, "tool_calls");
    const calls = (choice?.message.tool_calls ?? []).filter((one) =>
      one.type === "function"
    );
    assert.deepEqual(
      calls.map((one) => [
        one.id,
        one.function.name,
        JSON.parse(one.function.arguments),
      ]),
      [
        ["call_one", "look", { where: "up" }],
        ["call_two", "touch", { where: "down" }],
      ],
    );
    const second = await client.chat.completions.create({
      model,
      messages: [
        USER,
        { role: "assistant", content: null, tool_calls: calls },
        ...calls.map((one) => ({
          role: "tool" as const,
          tool_call_id: one.id,
          content: `seen by ${one.id}`,
        })),
      ],
      tools: TOOLS,
    });
    assert.equal(second.choices[0]?.message.content, "It is blue.");
    assert.deepEqual(vendor.toolsIn(fake.requests[0]?.body), ["look", "touch"]);
    const sent = JSON.stringify(fake.requests[1]?.body);
    assert.match(sent, /seen by call_one.*seen by call_two/);
  });

  story("an image goes to the vendor", [say("A dot.")], async (on) => {
    await on.client.chat.completions.create({
      model: on.model,
      messages: [{
        role: "user",
        content: [
          { type: "text", text: "what is this?" },
          {
            type: "image_url",
            image_url: { url: `data:image/png;base64,${IMAGE}` },
          },
        ],
      }],
    });
    assert.equal(vendor.imageIn(on.fake.requests[0]?.body), IMAGE);
  });

  story("a cut answer and a length limit say so", [
    { text: "long", stop: "length" },
  ], async ({ client, model }) => {
    const answer = await client.chat.completions.create({
      model,
      messages: [USER],
    });
    assert.equal(answer.choices[0]?.finish_reason, "length");
  });

  story("a rate limit is the client's own class of error", [
    fail(429, { retryAfter: 7 }),
  ], async ({ client, model }) => {
    await assert.rejects(
      client.chat.completions.create({ model, messages: [USER] }),
      (error) => error instanceof OpenAI.RateLimitError,
    );
  });

  story("a refused vendor key is not the client's mistake, and is not shown", [
    fail(401),
  ], async ({ client, model }) => {
    await assert.rejects(
      client.chat.completions.create({ model, messages: [USER] }),
      (error) =>
        error instanceof OpenAI.APIError && (error.status ?? 0) >= 500 &&
        !error.message.includes(KEY),
    );
  });

  story("an unknown model is not found", [fail(404)], async (on) => {
    await assert.rejects(
      on.client.chat.completions.create({ model: on.model, messages: [USER] }),
      (error) => error instanceof OpenAI.NotFoundError,
    );
  });

  story("the key stays between us and the vendor", [say("x")], async (on) => {
    const { client, model, fake } = on;
    await client.chat.completions.create({ model, messages: [USER] });
    const headers = JSON.stringify([...fake.requests[0]?.headers ?? []]);
    assert.ok(headers.includes(KEY));
    assert.ok(!headers.includes("app-token"));
  });

  if (vendor.forwards) continue;

  story("an answer that breaks off is an error, after its words", [{
    text: ["first ", "second ", "third"],
    after: "second",
    then: "break",
  }], async ({ client, model }) => {
    let words = "";
    await assert.rejects(async () => {
      const stream = await client.chat.completions.create({
        model,
        messages: [USER],
        stream: true,
      });
      for await (const chunk of stream) {
        words += chunk.choices[0]?.delta.content ?? "";
      }
    }, (error) => error instanceof OpenAI.APIError);
    assert.match(words, /^first /);
  });

  const gate = Promise.withResolvers<void>();
  story("a client that leaves closes the vendor's socket", [{
    text: ["one ", "two"],
    before: (wire) => wire.includes("two") ? gate.promise : undefined,
  }], async ({ client, model, fake }) => {
    const stream = await client.chat.completions.create({
      model,
      messages: [USER],
      stream: true,
    });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break;
    }
    const closed = fake.requests[0]?.closed.then(() => "closed" as const);
    // A server may only notice when it writes: after a while it does.
    if (await Promise.race([closed, late(2_000)]) !== "closed") gate.resolve();
    assert.equal(await Promise.race([closed, late(10_000)]), "closed");
    gate.resolve();
  });

  story("an answer's schema goes to the vendor", [say("{}")], async (on) => {
    await on.client.chat.completions.create({
      model: on.model,
      messages: [USER],
      response_format: {
        type: "json_schema",
        json_schema: {
          name: "place",
          schema: {
            type: "object",
            properties: { latitude_of_it: { type: "number" } },
          },
        },
      },
    });
    assert.match(
      JSON.stringify(on.fake.requests[0]?.body),
      /latitude_of_it/,
    );
  });
}
