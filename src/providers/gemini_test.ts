import assert from "node:assert/strict";
import { fakeGemini } from "../../tests/fakes/gemini.ts";
import { say } from "../../tests/fakes/vendor.ts";
import { PUBLIC_OWNER as label } from "../core/label.ts";
import { silentLog } from "../core/log.ts";
import type { Message, Part } from "../core/message.ts";
import type { ModelRequest, ToolChoice } from "../core/model.ts";
import { Secret } from "../core/secret.ts";
import { makeGeminiProvider } from "./gemini.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const SCHEMA = {
  type: "object",
  properties: { where: { type: "string" } },
  additionalProperties: false,
};
const NEVER = new AbortController().signal;
const text = (words: string): Part => ({ kind: "text", text: words, label });
const call = (id: string, more: Partial<Part> = {}): Part =>
  ({ kind: "tool_call", id, name: "look", args: {}, label, ...more }) as Part;
const result = (callId: string, isError = false): Part => ({
  kind: "tool_result",
  callId,
  name: "look",
  text: "seen",
  isError,
  label,
});
const signed = (thoughtSignature: string) => ({
  vendor: { kind: "gemini", data: { thoughtSignature } },
});
const BASE: ModelRequest = {
  model: "gemini-3.8-flash",
  messages: [{ role: "user", parts: [text("hi")] }],
};

/** What goes over the wire for a request. */
async function wireOf(
  request: Partial<ModelRequest>,
  basePath = "",
): Promise<{ path: string; url: string; headers: Headers; body: Json }> {
  await using fake = await fakeGemini({ script: [say("ok")] });
  const provider = makeGeminiProvider({
    id: "it",
    baseUrl: new URL(fake.url + basePath),
    apiKey: new Secret("AIza-test", "env GEMINI_API_KEY"),
    fetch,
    log: silentLog,
  });
  await Array.fromAsync(provider.stream({ ...BASE, ...request }, NEVER));
  const [sent] = fake.requests;
  assert.ok(sent);
  return sent;
}

Deno.test("gemini is asked at the path of its model, with the key in a header", async (t) => {
  const rows: [basePath: string, want: string][] = [
    ["", "/v1/models/gemini-3.8-flash:streamGenerateContent"],
    ["/", "/v1/models/gemini-3.8-flash:streamGenerateContent"],
    ["/v1beta", "/v1beta/models/gemini-3.8-flash:streamGenerateContent"],
    ["/proxy/v1/", "/proxy/v1/models/gemini-3.8-flash:streamGenerateContent"],
  ];
  for (const [basePath, want] of rows) {
    await t.step(basePath || "nothing", async () => {
      const { path, url, headers } = await wireOf({}, basePath);
      assert.equal(path, want);
      assert.equal(headers.get("x-goog-api-key"), "AIza-test");
      assert.ok(!url.includes("AIza"));
    });
  }
});

Deno.test("gemini is told everything in its words", async () => {
  const { body } = await wireOf({
    system: "Be brief",
    outputTokensMax: 100,
    temperature: 0.5,
    topP: 0.9,
    stop: ["END"],
    tools: [{ name: "look", description: "Looks", schema: SCHEMA }],
    responseSchema: { name: "r", schema: SCHEMA },
    thinkingTokens: 2000,
  });
  assert.deepEqual(body.systemInstruction.parts, [{ text: "Be brief" }]);
  assert.deepEqual(body.generationConfig, {
    maxOutputTokens: 2100,
    temperature: 0.5,
    topP: 0.9,
    stopSequences: ["END"],
    responseMimeType: "application/json",
    responseJsonSchema: SCHEMA,
    thinkingConfig: { includeThoughts: true, thinkingLevel: "LOW" },
  });
  assert.deepEqual(body.tools, [{
    functionDeclarations: [{
      name: "look",
      description: "Looks",
      parametersJsonSchema: SCHEMA,
    }],
  }]);
  assert.equal(body.toolConfig, undefined);
});

Deno.test("gemini thinks by a level, or up to 2.5 by a budget", async (t) => {
  const rows: [model: string, tokens: number, want: unknown][] = [
    ["gemini-3.8-flash", 20_000, { thinkingLevel: "HIGH" }],
    ["gemini-3-pro-preview", 8000, { thinkingLevel: "MEDIUM" }],
    ["gemini-2.5-flash", 8000, { thinkingBudget: 8000 }],
    ["gemini-2.5-pro", 100_000, { thinkingBudget: 24_576 }],
    ["gemini-2.5-flash-lite", 1, { thinkingBudget: 512 }],
    ["gemini-3.8-flash", 0, undefined],
  ];
  for (const [model, thinkingTokens, want] of rows) {
    await t.step(`${model} ${thinkingTokens}`, async () => {
      const { body } = await wireOf({ model, thinkingTokens });
      const { includeThoughts: _, ...config } =
        body.generationConfig?.thinkingConfig ?? {};
      assert.deepEqual(config, want ?? {});
    });
  }
});

Deno.test("gemini is told the tool choice", async (t) => {
  const rows: [ToolChoice, unknown][] = [
    ["none", { mode: "NONE" }],
    ["required", { mode: "ANY" }],
    [{ name: "look" }, { mode: "ANY", allowedFunctionNames: ["look"] }],
  ];
  for (const [toolChoice, want] of rows) {
    await t.step(JSON.stringify(toolChoice), async () => {
      const tools = [{ name: "look", description: "", schema: SCHEMA }];
      const { body } = await wireOf({ toolChoice, tools });
      assert.deepEqual(body.toolConfig.functionCallingConfig, want);
    });
  }
});

Deno.test("gemini's signatures stay on the parts they came on", async (t) => {
  const talk = (...steps: Message["parts"][]): Message[] => [
    { role: "user", parts: [text("look")] },
    ...steps.flatMap((parts): Message[] => [
      { role: "assistant", parts },
      {
        role: "tool",
        parts: parts.flatMap((part) =>
          part.kind === "tool_call" ? [result(part.id)] : []
        ),
      },
    ]),
  ];
  const signatures = async (request: Partial<ModelRequest>) => {
    const { body } = await wireOf(request);
    return body.contents.filter((one: Json) => one.role === "model").map((
      one: Json,
    ) => one.parts.map((part: Json) => part.thoughtSignature ?? null));
  };
  const SKIP = "skip_thought_signature_validator";
  const rows: [why: string, request: Partial<ModelRequest>, want: unknown][] = [
    ["calls made together: the first is signed", {
      messages: talk([call("a", signed("one")), call("b")]),
    }, [["one", null]]],
    ["one after the other: each is", {
      messages: talk([call("a", signed("one"))], [call("b", signed("two"))]),
    }, [["one"], ["two"]]],
    ["another model's calls, in this exchange", {
      messages: talk([call("a"), call("b")], [call("c", signed("two"))]),
    }, [[SKIP, null], ["two"]]],
    ["another model's calls, for an older model", {
      model: "gemini-2.5-flash",
      messages: talk([call("a")]),
    }, [[null]]],
    ["another model's calls, before the user spoke again", {
      messages: [
        ...talk([call("a")]),
        { role: "user", parts: [text("thanks")] },
      ],
    }, [[null]]],
    ["words", {
      messages: [
        { role: "user", parts: [text("hi")] },
        {
          role: "assistant",
          parts: [text("hello"), {
            kind: "thinking",
            text: "",
            vendor: {
              kind: "gemini",
              data: { text: "", thoughtSignature: "w" },
            },
            label,
          }],
        },
        { role: "user", parts: [text("again")] },
      ],
    }, [[null, "w"]]],
  ];
  for (const [why, request, want] of rows) {
    await t.step(why, async () => {
      assert.deepEqual(await signatures(request), want);
    });
  }
});

Deno.test("gemini reads a failed call's result as an error", async () => {
  const { body } = await wireOf({
    messages: [
      { role: "user", parts: [text("look")] },
      { role: "assistant", parts: [call("a"), call("b")] },
      { role: "tool", parts: [result("a"), result("b", true)] },
    ],
  });
  assert.deepEqual(
    body.contents[2].parts.map((part: Json) => part.functionResponse),
    [
      { id: "a", name: "look", response: { output: "seen" } },
      { id: "b", name: "look", response: { error: "seen" } },
    ],
  );
});

Deno.test("gemini is not asked nothing", async () => {
  await assert.rejects(wireOf({ messages: [] }), { class: "bad_request" });
});

Deno.test("gemini lists what generates, by its own name", async () => {
  await using fake = await fakeGemini({ models: ["gemini-a"] });
  const provider = makeGeminiProvider({
    id: "it",
    baseUrl: new URL(fake.url),
    apiKey: undefined,
    fetch,
    log: silentLog,
  });
  assert.deepEqual(await provider.models(NEVER), [
    { id: "gemini-a", label: "Gemini gemini-a" },
  ]);
});

Deno.test("gemini counts thoughts as output and what a tool brought as input", async () => {
  const chunk = {
    candidates: [{
      content: { parts: [{ text: "x" }] },
      finishReason: "STOP",
    }],
    usageMetadata: {
      promptTokenCount: 100,
      toolUsePromptTokenCount: 10,
      cachedContentTokenCount: 80,
      candidatesTokenCount: 5,
      thoughtsTokenCount: 30,
      totalTokenCount: 145,
    },
  };
  await using fake = await fakeGemini({
    script: [{ raw: `data: ${JSON.stringify(chunk)}\n\n` }],
  });
  const provider = makeGeminiProvider({
    id: "it",
    baseUrl: new URL(fake.url),
    apiKey: undefined,
    fetch,
    log: silentLog,
  });
  const events = await Array.fromAsync(provider.stream(BASE, NEVER));
  const usage = events.find((event) => event.kind === "usage");
  assert.deepEqual(usage?.kind === "usage" && usage.usage, {
    inputTokens: 110,
    outputTokens: 35,
    cachedTokens: 80,
    cacheWriteTokens: 0,
  });
});
