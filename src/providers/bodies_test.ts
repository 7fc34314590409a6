import assert from "node:assert/strict";
import { fakeOllama } from "../../tests/fakes/ollama.ts";
import { fakeOpenai } from "../../tests/fakes/openai.ts";
import type { Script } from "../../tests/fakes/vendor.ts";
import { PUBLIC_OWNER as label } from "../core/label.ts";
import { silentLog } from "../core/log.ts";
import type { Message, Part } from "../core/message.ts";
import type { ModelRequest, ToolChoice } from "../core/model.ts";
import { claudeTraits, toBody as toAnthropic } from "./anthropic.ts";
import { toTurns } from "./history.ts";
import { makeOllamaProvider, toBody as toOllama } from "./ollama.ts";
import { makeOpenaiProvider } from "./openai/openai.ts";
import { toBody as toChat } from "./openai/chat.ts";
import { toBody as toResponses } from "./openai/responses.ts";
import { isClosedSchema } from "./wire.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const says = (role: Message["role"], ...parts: Part[]): Message => ({
  role,
  parts,
});
const text = (words: string): Part => ({ kind: "text", text: words, label });
const call = (id: string, name = "look"): Part => ({
  kind: "tool_call",
  id,
  name,
  args: {},
  label,
});
const result = (callId: string, words = "seen"): Part => ({
  kind: "tool_result",
  callId,
  name: "look",
  text: words,
  isError: false,
  label,
});

const CLOSED = {
  type: "object",
  properties: { a: { type: "string" } },
  required: ["a"],
  additionalProperties: false,
};
const TOOLS = [
  { name: "look", description: "Looks", schema: CLOSED },
  { name: "touch", description: "Touches", schema: {} },
];
const BASE: ModelRequest = {
  model: "claude-sonnet-5-5",
  system: "Be brief",
  messages: [says("user", text("hi"))],
  tools: TOOLS,
};
const anthropic = (more: Partial<ModelRequest> = {}): Json =>
  toAnthropic({ ...BASE, ...more });

/** Where the cache markers are, as paths. */
function markers(value: unknown, path = ""): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "cache_control" ? [path] : markers(inner, `${path}/${key}`)
  );
}

Deno.test("anthropic marks tools, system, the last user turn and the end for the cache", () => {
  assert.deepEqual(markers(anthropic()).sort(), [
    "/messages/0/content/0",
    "/system/0",
    "/tools/1",
  ]);
  const loop = anthropic({
    messages: [
      says("user", text("first")),
      says("assistant", text("ok")),
      says("user", text("look"), text("well")),
      says("assistant", call("a"), call("b")),
      says("tool", result("a"), result("b")),
    ],
  });
  assert.deepEqual(markers(loop.messages), ["/2/content/1", "/4/content/1"]);
});

Deno.test("claudeTraits() reads the version out of a name", async (t) => {
  const rows: [model: string, adaptive: boolean, sampling: boolean][] = [
    ["claude-sonnet-5-5", true, false],
    ["claude-opus-5", true, false],
    ["claude-opus-4-8", true, false],
    ["claude-opus-4-7", true, false],
    ["claude-opus-4-6", true, true],
    ["claude-sonnet-4-6", true, true],
    ["claude-haiku-4-5-20251001", false, true],
    ["claude-sonnet-4-20250514", false, true],
    ["claude-3-7-sonnet-20250219", false, true],
    ["claude-3-haiku-20240307", false, true],
    ["claude-mythos-preview", true, false],
    ["anthropic/claude-opus-4.8", true, false],
    ["kimi-k2", false, true],
  ];
  for (const [model, adaptive, sampling] of rows) {
    await t.step(
      model,
      () => assert.deepEqual(claudeTraits(model), { adaptive, sampling }),
    );
  }
});

Deno.test("anthropic asks for thinking as the model takes it", () => {
  const asked = {
    thinkingTokens: 6000,
    outputTokensMax: 1000,
    temperature: 0.5,
  };
  const now = anthropic(asked);
  assert.deepEqual(now.thinking, { type: "adaptive", display: "summarized" });
  assert.equal(now.output_config.effort, "medium");
  assert.equal(now.max_tokens, 7000);
  assert.equal(now.temperature, undefined);
  const old = anthropic({ ...asked, model: "claude-haiku-4-5" });
  assert.deepEqual(old.thinking, { type: "enabled", budget_tokens: 6000 });
  assert.equal(old.max_tokens, 7000);
  assert.equal(old.temperature, undefined);
  const none = anthropic({
    model: "claude-haiku-4-5",
    temperature: 1.7,
    topP: 1,
  });
  assert.equal(none.thinking, undefined);
  assert.equal(none.temperature, 1);
  assert.equal(none.top_p, undefined);
  assert.equal(anthropic({ temperature: 0.5 }).temperature, undefined);
  const forced = anthropic({ ...asked, toolChoice: "required" });
  assert.equal(forced.thinking, undefined);
});

Deno.test("anthropic with a budget does not begin to think in the middle of a tool exchange", () => {
  const body = anthropic({
    model: "claude-haiku-4-5",
    thinkingTokens: 2000,
    messages: [
      says("user", text("look")),
      says("assistant", call("a")),
      says("tool", result("a")),
    ],
  });
  assert.equal(body.thinking, undefined);
});

Deno.test("every vendor is told the tool choice in its words", async (t) => {
  const rows: [ToolChoice, Json, Json, Json][] = [
    ["auto", undefined, undefined, undefined],
    ["none", { type: "none" }, "none", "none"],
    ["required", { type: "any" }, "required", "required"],
    [
      { name: "look" },
      { type: "tool", name: "look" },
      { type: "function", function: { name: "look" } },
      { type: "function", name: "look" },
    ],
  ];
  for (const [toolChoice, a, chat, responses] of rows) {
    await t.step(JSON.stringify(toolChoice), () => {
      const request = { ...BASE, toolChoice };
      assert.deepEqual(anthropic({ toolChoice }).tool_choice, a);
      assert.deepEqual(toChat(request, true)["tool_choice"], chat);
      assert.deepEqual(toResponses(request)["tool_choice"], responses);
      const hasTools = toOllama(request)["tools"] !== undefined;
      assert.equal(hasTools, toolChoice !== "none");
    });
  }
});

Deno.test("every vendor is asked for structured output in its words", () => {
  const request = { ...BASE, responseSchema: { name: "r", schema: CLOSED } };
  assert.deepEqual(
    anthropic(request).output_config.format,
    { type: "json_schema", schema: CLOSED },
  );
  assert.deepEqual(toChat(request, true)["response_format"], {
    type: "json_schema",
    json_schema: { name: "r", schema: CLOSED, strict: true },
  });
  assert.deepEqual((toResponses(request) as Json).text.format.strict, true);
  assert.deepEqual(toOllama(request)["format"], CLOSED);
  assert.equal(isClosedSchema({ ...CLOSED, required: [] }), false);
  assert.equal(
    isClosedSchema({
      type: "array",
      items: { ...CLOSED, additionalProperties: true },
    }),
    false,
  );
});

Deno.test("openai responses keeps nothing at the vendor and asks for sealed reasoning", () => {
  const body: Json = toResponses({
    ...BASE,
    thinkingTokens: 20_000,
    stop: ["x"],
  });
  assert.equal(body.store, false);
  assert.deepEqual(body.include, ["reasoning.encrypted_content"]);
  assert.deepEqual(body.reasoning, { effort: "high", summary: "auto" });
  assert.equal(body.instructions, "Be brief");
  assert.equal(body.stop, undefined);
});

Deno.test("toTurns() keeps calls and results together", async (t) => {
  const shape = (messages: Message[]) =>
    toTurns(messages).map((turn) =>
      turn.role === "tool"
        ? `tool:${
          turn.results.map((one) => one.callId + (one.isError ? "!" : ""))
        }`
        : `${turn.role}:${turn.parts.map((part) => part.kind)}`
    );
  const user = says("user", text("u"));
  const rows: [why: string, messages: Message[], want: string[]][] = [
    ["results in two messages", [
      user,
      says("assistant", call("a"), call("b")),
      says("tool", result("a")),
      says("tool", result("b")),
    ], ["user:text", "assistant:tool_call,tool_call", "tool:a,b"]],
    ["a lost result", [
      user,
      says("assistant", call("a"), call("b")),
      says("tool", result("b")),
      user,
    ], [
      "user:text",
      "assistant:tool_call,tool_call",
      "tool:b,a!",
      "user:text",
    ]],
    ["a result without its call", [user, says("tool", result("x")), user], [
      "user:text,text",
    ]],
    ["a result twice", [
      user,
      says("assistant", call("a")),
      says("tool", result("a"), result("a")),
    ], ["user:text", "assistant:tool_call", "tool:a"]],
    ["a call at the very end", [user, says("assistant", call("a"))], [
      "user:text",
      "assistant:tool_call",
      "tool:a!",
    ]],
    ["nothing said", [says("user", text("")), says("assistant")], []],
    ["an image with a result", [
      user,
      says("assistant", call("a")),
      says("tool", result("a"), {
        kind: "image",
        mime: "image/png",
        data: "AA==",
        label,
      }),
    ], ["user:text", "assistant:tool_call", "tool:a", "user:image"]],
  ];
  for (const [why, messages, want] of rows) {
    await t.step(why, () => assert.deepEqual(shape(messages), want));
  }
});

async function chatAgainst(
  script: Script,
  request: Partial<ModelRequest>,
): Promise<Json[]> {
  await using fake = await fakeOpenai({ script });
  const provider = makeOpenaiProvider({
    id: "it",
    baseUrl: new URL(fake.url),
    apiKey: undefined,
    fetch,
    log: silentLog,
  }, {});
  const signal = new AbortController().signal;
  for (let n = 0; n < 2; n++) {
    await Array.fromAsync(provider.stream({ ...BASE, ...request }, signal));
  }
  return fake.requests.map(({ body }) => body);
}

Deno.test("openai chat gives up parameters a server refuses, and remembers", async () => {
  const refuse = (param: string, message: string) => ({
    status: 400,
    body: {
      error: {
        message,
        type: "invalid_request_error",
        param,
        code: "unsupported_parameter",
      },
    },
  });
  const bodies = await chatAgainst(({ body }) => {
    if (body.max_tokens !== undefined) {
      return refuse(
        "max_tokens",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
      );
    }
    if (body.temperature !== undefined) {
      return refuse(
        "temperature",
        "Unsupported value: 'temperature' does not support 0.5 with this model.",
      );
    }
    if (body.stream_options !== undefined) {
      return {
        status: 422,
        body: {
          detail: [{
            type: "extra_forbidden",
            loc: ["body", "stream_options"],
          }],
        },
      };
    }
    return { text: "ok" };
  }, { temperature: 0.5, outputTokensMax: 100 });
  assert.equal(bodies.length, 5);
  for (const body of bodies.slice(3)) {
    assert.equal(body.max_completion_tokens, 100);
    assert.equal(body.max_tokens, undefined);
    assert.equal(body.temperature, undefined);
    assert.equal(body.stream_options, undefined);
  }
});

Deno.test("openai chat does not try a bad request again", async () => {
  let asked = 0;
  await assert.rejects(chatAgainst(() => {
    asked++;
    return { status: 400 };
  }, { temperature: 0.5 }));
  assert.equal(asked, 1);
});

Deno.test("ollama leaves out what the model cannot do, once told", async () => {
  await using fake = await fakeOllama({
    script: ({ body }) =>
      body.think !== undefined
        ? { status: 400, body: { error: '"m" does not support thinking' } }
        : body.tools !== undefined
        ? {
          status: 400,
          body: {
            error: "registry.ollama.ai/library/m:latest does not support tools",
          },
        }
        : { text: "ok" },
  });
  const logged: unknown[] = [];
  const provider = makeOllamaProvider({
    id: "it",
    baseUrl: new URL(fake.url),
    apiKey: undefined,
    fetch,
    log: (...line) => logged.push(line),
  });
  const request = { ...BASE, model: "m", thinkingTokens: 100 };
  const signal = new AbortController().signal;
  for (let n = 0; n < 2; n++) {
    await Array.fromAsync(provider.stream(request, signal));
  }
  assert.equal(fake.requests.length, 4);
  assert.equal(logged.length, 2);
});
