import assert from "node:assert/strict";
import { fakeBedrock } from "../../../tests/fakes/bedrock.ts";
import { say } from "../../../tests/fakes/vendor.ts";
import { PUBLIC_OWNER as label } from "../../core/label.ts";
import { silentLog } from "../../core/log.ts";
import type { Message, Part } from "../../core/message.ts";
import type { ModelRequest, ToolChoice } from "../../core/model.ts";
import { Secret } from "../../core/secret.ts";
import { systemClock } from "../../core/time.ts";
import { EgressConfig } from "../../egress/config.ts";
import { makeEgress } from "../../egress/egress.ts";
import { bedrockRow, makeBedrockProvider } from "./bedrock.ts";
import { findKeys, parseProfiles } from "./keys.ts";
import { AwsConfig } from "../config.ts";
import type { ProviderDeps } from "../vendor.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const NEVER = new AbortController().signal;
const CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA = "eu.amazon.nova-pro-v1:0";
const SCHEMA = { type: "object", properties: { where: { type: "string" } } };
const TOOLS = [
  { name: "look", description: "Looks", schema: SCHEMA },
  { name: "touch", description: "", schema: SCHEMA },
];
const text = (words: string): Part => ({ kind: "text", text: words, label });
const call = (id: string): Part => ({
  kind: "tool_call",
  id,
  name: "look",
  args: {},
  label,
});
const result = (callId: string, words = "seen", isError = false): Part => ({
  kind: "tool_result",
  callId,
  name: "look",
  text: words,
  isError,
  label,
});
const says = (role: Message["role"], ...parts: Part[]): Message => ({
  role,
  parts,
});
const BASE: ModelRequest = {
  model: CLAUDE,
  messages: [says("user", text("hi"))],
};

const secrets = (values: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      new Secret(value, `env ${name}`),
    ]),
  );

function depsFor(url: string, more: Partial<ProviderDeps> = {}): ProviderDeps {
  return {
    id: "it",
    baseUrl: new URL(url),
    apiKey: undefined,
    fetch,
    log: silentLog,
    ...more,
  };
}

/** What goes over the wire for a request. */
async function bodyOf(request: Partial<ModelRequest>): Promise<Json> {
  await using fake = await fakeBedrock({ script: [say("ok")] });
  const apiKey = new Secret("token", "env AWS_BEARER_TOKEN_BEDROCK");
  const provider = makeBedrockProvider(depsFor(fake.url, { apiKey }));
  await Array.fromAsync(provider.stream({ ...BASE, ...request }, NEVER));
  return fake.requests[0]?.body;
}

Deno.test("bedrock signs with static and with session keys", async (t) => {
  const rows: [why: string, values: Record<string, string>][] = [
    ["static", {
      AWS_ACCESS_KEY_ID: "AKIAFAKE",
      AWS_SECRET_ACCESS_KEY: "fake/secret+key",
    }],
    ["session", {
      AWS_ACCESS_KEY_ID: "ASIAFAKE",
      AWS_SECRET_ACCESS_KEY: "fake/secret+key",
      AWS_SESSION_TOKEN: "session==",
    }],
  ];
  for (const [why, values] of rows) {
    await t.step(why, async () => {
      // The fake computes the signature again and refuses any other.
      await using fake = await fakeBedrock({ key: "fake/secret+key" });
      const provider = makeBedrockProvider(
        depsFor(fake.url, {
          secrets: secrets(values),
          region: "eu-central-1",
        }),
      );
      const model = "arn:aws:bedrock:eu-central-1:1:inference-profile/a.b-v1:0";
      await Array.fromAsync(
        provider.stream({ ...BASE, model, system: "Grüße 🦀" }, NEVER),
      );
      const [sent] = fake.requests;
      assert.match(
        sent?.headers.get("authorization") ?? "",
        new RegExp(
          `Credential=${
            values["AWS_ACCESS_KEY_ID"]
          }/\\d{8}/eu-central-1/bedrock/aws4_request`,
        ),
      );
      assert.equal(
        sent?.headers.get("x-amz-security-token") ?? undefined,
        values["AWS_SESSION_TOKEN"],
      );
      assert.equal(
        sent?.path,
        `/model/${encodeURIComponent(model)}/converse-stream`,
      );
      assert.ok((await provider.models(NEVER)).length === 2);
    });
  }
  await t.step(
    "behind the real door, which sets headers of its own",
    async () => {
      await using fake = await fakeBedrock({ key: "fake/secret+key" });
      using egress = makeEgress({
        config: EgressConfig.parse({}),
        clock: systemClock,
        log: silentLog,
      });
      const { hostname: host, port } = new URL(fake.url);
      const provider = makeBedrockProvider(depsFor(fake.url, {
        secrets: secrets(rows[1]?.[1] ?? {}),
        fetch: egress.door({
          caller: "provider:it",
          hosts: [{ host, port: Number(port), scheme: "http" }],
        }),
      }));
      await Array.fromAsync(provider.stream(BASE, NEVER));
      assert.equal((await provider.models(NEVER)).length, 2);
    },
  );
  await t.step("a wrong secret is a refused key, by its name", async () => {
    await using fake = await fakeBedrock({ key: "another" });
    const provider = makeBedrockProvider(
      depsFor(fake.url, { secrets: secrets(rows[0]?.[1] ?? {}) }),
    );
    await assert.rejects(Array.fromAsync(provider.stream(BASE, NEVER)), {
      class: "auth",
      message: /refused the key from env AWS_SECRET_ACCESS_KEY/,
    });
    await assert.rejects(provider.models(NEVER), { class: "auth" });
  });
});

Deno.test("bedrock's keys come from one place, whole", async (t) => {
  const on = (values: Record<string, string>, apiKey?: Secret) => ({
    id: "it",
    apiKey,
    secrets: secrets(values),
  });
  const env = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" };
  await t.step("a Bedrock key before all", async () => {
    const keys = await findKeys(on(env, new Secret("t", "x")), undefined);
    assert.equal(keys.kind, "bearer");
  });
  await t.step("a line before the environment, and nothing mixed", async () => {
    const aws = AwsConfig.parse({
      accessKeyId: new Secret("c", "x"),
      secretAccessKey: new Secret("d", "x"),
    });
    const keys = await findKeys(
      on({ ...env, AWS_SESSION_TOKEN: "s" }),
      aws,
    );
    assert.ok(keys.kind === "parts" && keys.session === undefined);
    assert.equal(keys.id.reveal(), "c");
  });
  await t.step("half a key is said", async () => {
    await assert.rejects(findKeys(on({ AWS_ACCESS_KEY_ID: "a" }), undefined), {
      class: "auth",
      message: /the environment has only half of a key/,
    });
  });
  await t.step("none", async () => {
    await assert.rejects(findKeys(on({}), undefined), {
      class: "auth",
      hint: /AWS_BEARER_TOKEN_BEDROCK.*AWS_ACCESS_KEY_ID.*providers\.it\.aws/,
    });
  });
});

Deno.test("bedrock reads a profile of the file that is named, and no other", async (t) => {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const path = `${await Deno.realPath(dir)}/credentials`;
  await Deno.writeTextFile(
    path,
    `# a comment
[default]
aws_access_key_id = one
aws_secret_access_key=two=2

[profile work]
AWS_ACCESS_KEY_ID = three
aws_secret_access_key = four
aws_session_token = five
s3 =
  aws_access_key_id = nested

[sso]
sso_start_url = https://example.test
`,
  );
  const find = (profile: string, profileFile = path) =>
    findKeys(
      { id: "it", apiKey: undefined, secrets: {} },
      AwsConfig.parse({ profile, profileFile }),
    );
  try {
    const rows: [profile: string, want: (string | undefined)[]][] = [
      ["default", ["one", "two=2", undefined]],
      ["work", ["three", "four", "five"]],
    ];
    for (const [profile, want] of rows) {
      await t.step(profile, async () => {
        const keys = await find(profile);
        assert.ok(keys.kind === "parts");
        const { id, secret, session } = keys;
        assert.deepEqual(
          [id, secret, session].map((one) => one?.reveal()),
          want,
        );
        assert.equal(secret.source, `profile ${profile}`);
      });
    }
    await t.step("one that is not there", async () => {
      await assert.rejects(find("other"), {
        class: "auth",
        message: /has no profile "other"/,
      });
    });
    await t.step("one that holds no key", async () => {
      await assert.rejects(find("sso"), { message: /no program or sign-on/ });
    });
    await t.step("no such file, or a folder", async () => {
      await assert.rejects(find("default", `${path}.no`), {
        class: "auth",
        message: /cannot be read/,
      });
      await assert.rejects(find("default", await Deno.realPath(dir)), {
        message: /cannot be read: it is not a file/,
      });
    });
    await t.step("a relative path is a mistake of the configuration", () => {
      assert.throws(() => AwsConfig.parse({ profileFile: ".aws/credentials" }));
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
  assert.deepEqual([...parseProfiles("a = b\n]\n[").keys()], []);
});

Deno.test("bedrock's address follows the region", () => {
  const host = (region?: string) => bedrockRow.regional?.(region).host;
  assert.equal(host(), "bedrock-runtime.us-east-1.amazonaws.com");
  assert.equal(
    host("eu-central-1"),
    "bedrock-runtime.eu-central-1.amazonaws.com",
  );
  assert.equal(
    host("cn-north-1"),
    "bedrock-runtime.cn-north-1.amazonaws.com.cn",
  );
  const also = (url: string) =>
    bedrockRow.alsoAt?.(new URL(url)).map((one) => one.host);
  assert.deepEqual(also("https://bedrock-runtime.eu-west-1.amazonaws.com"), [
    "bedrock.eu-west-1.amazonaws.com",
  ]);
  assert.deepEqual(also("http://127.0.0.1:1/"), []);
  assert.deepEqual(also("https://bedrock-runtime.example.com/"), []);
  assert.equal(AwsConfig.safeParse({ region: "x.evil.test/" }).success, false);
});

/** Where the cache points are, as paths. */
function points(value: unknown, path = ""): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "cachePoint" ? [path] : points(inner, `${path}/${key}`)
  );
}

Deno.test("bedrock marks what each family may cache", async (t) => {
  const request = {
    system: "Be brief",
    tools: TOOLS,
    messages: [
      says("user", text("look")),
      says("assistant", call("a")),
      says("tool", result("a")),
    ],
  };
  const rows: [model: string, want: string[]][] = [
    [CLAUDE, [
      "/messages/0/content/1",
      "/messages/2/content/1",
      "/system/1",
      "/toolConfig/tools/2",
    ]],
    [NOVA, [
      "/messages/0/content/1",
      "/messages/2/content/1",
      "/system/1",
    ]],
    ["anthropic.claude-3-haiku-20240307-v1:0", []],
    ["meta.llama4-scout-17b-instruct-v1:0", []],
  ];
  for (const [model, want] of rows) {
    await t.step(model, async () => {
      const body = await bodyOf({ ...request, model });
      assert.deepEqual(points(body).sort(), want);
    });
  }
});

Deno.test("bedrock asks each family to think as it can", async (t) => {
  const rows: [model: string, want: unknown, maxTokens: number][] = [
    [CLAUDE, { thinking: { type: "enabled", budget_tokens: 6000 } }, 7000],
    [
      "global.anthropic.claude-opus-5-v1:0",
      {
        thinking: { type: "adaptive", display: "summarized" },
        output_config: { effort: "medium" },
      },
      7000,
    ],
    [
      "us.amazon.nova-2-lite-v1:0",
      { reasoningConfig: { type: "enabled", maxReasoningEffort: "medium" } },
      7000,
    ],
    ["openai.gpt-oss-120b-1:0", { reasoning_effort: "medium" }, 7000],
    ["meta.llama4-scout-17b-instruct-v1:0", undefined, 1000],
  ];
  for (const [model, want, maxTokens] of rows) {
    await t.step(model, async () => {
      const body = await bodyOf({
        model,
        thinkingTokens: 6000,
        outputTokensMax: 1000,
      });
      assert.deepEqual(body.additionalModelRequestFields, want);
      assert.equal(body.inferenceConfig.maxTokens, maxTokens);
    });
  }
});

Deno.test("bedrock is told the tool choice, and tools even where there are none", async (t) => {
  const rows: [ToolChoice, unknown][] = [
    ["auto", undefined],
    ["required", { any: {} }],
    [{ name: "look" }, { tool: { name: "look" } }],
  ];
  for (const [toolChoice, want] of rows) {
    await t.step(JSON.stringify(toolChoice), async () => {
      const body = await bodyOf({ tools: TOOLS, toolChoice });
      assert.deepEqual(body.toolConfig.toolChoice, want);
      assert.equal(body.toolConfig.tools[1].toolSpec.description, "touch");
    });
  }
  await t.step("none", async () => {
    const body = await bodyOf({ tools: TOOLS, toolChoice: "none" });
    assert.equal(body.toolConfig, undefined);
  });
  await t.step("none, but calls in the conversation", async () => {
    const body = await bodyOf({
      model: NOVA,
      messages: [
        says("user", text("look")),
        says("assistant", call("a")),
        says("tool", result("a")),
      ],
    });
    assert.deepEqual(
      body.toolConfig.tools.map((one: Json) => one.toolSpec.name),
      ["look"],
    );
  });
});

Deno.test("bedrock gets no blank text, no strange ids, no stranger's thought", async () => {
  const id = `call:${"x".repeat(80)}`;
  const { messages } = await bodyOf({
    tools: TOOLS,
    messages: [
      says("user", text(" \n"), text("look")),
      says(
        "assistant",
        {
          kind: "thinking",
          text: "hm",
          vendor: {
            kind: "anthropic",
            data: { type: "thinking", thinking: "hm", signature: "s" },
          },
          label,
        },
        text("  "),
        call(id),
      ),
      says("tool", result(id, "", true)),
    ],
  });
  assert.equal(messages[0].content[0].text, "look");
  const [use] = messages[1].content;
  assert.match(use.toolUse.toolUseId, /^[A-Za-z0-9_-]{64}$/);
  assert.deepEqual(messages[2].content[0].toolResult, {
    toolUseId: use.toolUse.toolUseId,
    content: [{ text: "(empty)" }],
    status: "error",
  });
});

Deno.test("bedrock's redacted thought goes back as bytes, to the family that sealed it", async () => {
  const request = {
    tools: TOOLS,
    messages: [
      says("user", text("look")),
      says("assistant", {
        kind: "thinking",
        text: "",
        vendor: { kind: "bedrock", data: { redactedContent: "c2VjcmV0" } },
        label,
      }, call("a")),
      says("tool", result("a")),
    ],
  };
  const sealed = (await bodyOf(request)).messages[1].content[0];
  assert.deepEqual(sealed.reasoningContent, { redactedContent: "c2VjcmV0" });
  const other = await bodyOf({ ...request, model: NOVA });
  assert.ok(!JSON.stringify(other).includes("reasoningContent"));
});

Deno.test("bedrock is asked for structured output", async () => {
  const body = await bodyOf({ responseSchema: { name: "r", schema: SCHEMA } });
  assert.deepEqual(body.outputConfig.textFormat, {
    type: "json_schema",
    structure: { jsonSchema: { name: "r", schema: JSON.stringify(SCHEMA) } },
  });
});
