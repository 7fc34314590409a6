import assert from "node:assert/strict";
import { fakeAnthropic } from "../../tests/fakes/anthropic.ts";
import { fakeOllama } from "../../tests/fakes/ollama.ts";
import { fakeOpenai } from "../../tests/fakes/openai.ts";
import { recordEnv } from "../config/env.ts";
import { silentLog } from "../core/log.ts";
import { Secret } from "../core/secret.ts";
import { systemClock } from "../core/time.ts";
import { ProvidersConfig } from "./config.ts";
import { parseOllamaHost } from "./ollama.ts";
import {
  chooseDefault,
  makeProviders,
  planProviders,
  type ProviderEntry,
  providerNeeds,
} from "./registry.ts";

type Vars = Record<string, string>;

const config = (value: unknown = {}) => ProvidersConfig.parse(value);

/** A door that says who went where, and lets no one out. */
function closedDoor(
  gone: string[] = [],
): (caller: string, url: URL) => typeof fetch {
  return (caller, url) => () => {
    gone.push(`${caller} ${url.host}`);
    return Promise.reject(new TypeError("Connection refused"));
  };
}

function make(
  value: unknown,
  vars: Vars,
  door = closedDoor(),
): Promise<ProviderEntry[]> {
  return makeProviders({
    config: config(value),
    env: recordEnv(vars),
    door,
    clock: systemClock,
    log: silentLog,
  });
}

Deno.test("planProviders() joins the configuration and the environment", async (t) => {
  const rows: [
    why: string,
    value: unknown,
    vars: Vars,
    want: [id: string, kind: string, url: string, key: string | undefined][],
  ][] = [
    ["nothing", {}, {}, []],
    ["a key", {}, { ANTHROPIC_API_KEY: "k" }, [
      [
        "anthropic",
        "anthropic",
        "https://api.anthropic.com/",
        "env ANTHROPIC_API_KEY",
      ],
    ]],
    ["an empty key is none", {}, { OPENAI_API_KEY: "" }, []],
    ["a base URL alone", {}, { OPENAI_BASE_URL: "http://127.0.0.1:9/v1" }, [
      ["openai", "openai", "http://127.0.0.1:9/v1", undefined],
    ]],
    ["both, in a fixed order", {}, {
      OPENAI_API_KEY: "k",
      ANTHROPIC_API_KEY: "k",
    }, [
      [
        "anthropic",
        "anthropic",
        "https://api.anthropic.com/",
        "env ANTHROPIC_API_KEY",
      ],
      ["openai", "openai", "https://api.openai.com/v1", "env OPENAI_API_KEY"],
    ]],
    ["a host of Ollama", {}, { OLLAMA_HOST: "box:1234" }, [
      ["ollama", "ollama", "http://box:1234/", undefined],
    ]],
    ["its key alone is no provider", {}, { OLLAMA_API_KEY: "k" }, []],
    [
      "a line with a key of its own, the environment's not used",
      {
        groq: {
          baseUrl: "https://api.groq.test/v1",
          apiKey: new Secret("s", "secret GROQ"),
        },
      },
      { OPENAI_API_KEY: "k" },
      [
        ["groq", "openai", "https://api.groq.test/v1", "secret GROQ"],
        ["openai", "openai", "https://api.openai.com/v1", "env OPENAI_API_KEY"],
      ],
    ],
    ["a key does not travel to a stranger", {
      other: { baseUrl: "https://o.test/v1" },
    }, {
      OPENAI_API_KEY: "k",
    }, [
      ["other", "openai", "https://o.test/v1", undefined],
      ["openai", "openai", "https://api.openai.com/v1", "env OPENAI_API_KEY"],
    ]],
    ["a line wins over the environment's address", {
      anthropic: { baseUrl: "https://p.test/" },
    }, {
      ANTHROPIC_API_KEY: "k",
      ANTHROPIC_BASE_URL: "https://q.test/",
    }, [[
      "anthropic",
      "anthropic",
      "https://p.test/",
      "env ANTHROPIC_API_KEY",
    ]]],
    ["Gemini by either name", {}, { GOOGLE_API_KEY: "k" }, [[
      "gemini",
      "gemini",
      "https://generativelanguage.googleapis.com/",
      "env GOOGLE_API_KEY",
    ]]],
    ["Gemini by both: the vendor's own", {}, {
      GEMINI_API_KEY: "k",
      GOOGLE_API_KEY: "k",
    }, [[
      "gemini",
      "gemini",
      "https://generativelanguage.googleapis.com/",
      "env GEMINI_API_KEY",
    ]]],
    ["a preset by its key", {}, { GROQ_API_KEY: "k" }, [
      ["groq", "openai", "https://api.groq.com/openai/v1", "env GROQ_API_KEY"],
    ]],
    ["presets by a line", { vllm: {}, openrouter: {}, lmstudio: {} }, {
      OPENROUTER_API_KEY: "k",
    }, [
      ["vllm", "openai", "http://127.0.0.1:8000/v1", undefined],
      [
        "openrouter",
        "openai",
        "https://openrouter.ai/api/v1",
        "env OPENROUTER_API_KEY",
      ],
      ["lmstudio", "openai", "http://127.0.0.1:1234/v1", undefined],
    ]],
    [
      "a local preset's key alone is no provider",
      {},
      { VLLM_API_KEY: "k" },
      [],
    ],
    ["an AWS account alone is no provider", {}, {
      AWS_ACCESS_KEY_ID: "a",
      AWS_SECRET_ACCESS_KEY: "b",
      AWS_REGION: "eu-central-1",
    }, []],
    ["a Bedrock key is, in its region", {}, {
      AWS_BEARER_TOKEN_BEDROCK: "k",
      AWS_REGION: "eu-central-1",
    }, [[
      "bedrock",
      "bedrock",
      "https://bedrock-runtime.eu-central-1.amazonaws.com/",
      "env AWS_BEARER_TOKEN_BEDROCK",
    ]]],
    [
      "the line's region before the environment's",
      { bedrock: { aws: { region: "us-west-2" } } },
      { AWS_REGION: "eu-central-1" },
      [[
        "bedrock",
        "bedrock",
        "https://bedrock-runtime.us-west-2.amazonaws.com/",
        undefined,
      ]],
    ],
    [
      "another name with a kind",
      { claude: { kind: "anthropic", baseUrl: "https://p.test/" } },
      {},
      [
        ["claude", "anthropic", "https://p.test/", undefined],
      ],
    ],
  ];
  for (const [why, value, vars, want] of rows) {
    await t.step(why, () => {
      const plans = planProviders(config(value), recordEnv(vars));
      assert.deepEqual(
        plans.map((
          one,
        ) => [one.id, one.row.kind, one.baseUrl.href, one.apiKey?.source]),
        want,
      );
    });
  }
});

Deno.test("planProviders() refuses an address that is none, by its name", () => {
  for (const value of ["nonsense", "ftp://x.test/", "https://"]) {
    assert.throws(
      () => planProviders(config(), recordEnv({ OPENAI_BASE_URL: value })),
      { code: "bad_input", message: /OPENAI_BASE_URL/ },
    );
  }
});

Deno.test("parseOllamaHost() reads what Ollama reads", async (t) => {
  const rows: [string, string][] = [
    ["", "http://127.0.0.1:11434/"],
    ["box", "http://box:11434/"],
    ["box:56789", "http://box:56789/"],
    ["box:80", "http://box/"],
    [":56789", "http://127.0.0.1:56789/"],
    ["1.2.3.4", "http://1.2.3.4:11434/"],
    ["0.0.0.0", "http://127.0.0.1:11434/"],
    ["0.0.0.0:8080", "http://127.0.0.1:8080/"],
    ["[::1]", "http://[::1]:11434/"],
    ["::1", "http://[::1]:11434/"],
    ["[::]:9000", "http://[::1]:9000/"],
    ["http://box", "http://box/"],
    ["https://box", "https://box/"],
    ["https://box:1/p/", "https://box:1/p/"],
    ['"box:5"', "http://box:5/"],
    ["box/", "http://box:11434/"],
  ];
  for (const [value, want] of rows) {
    await t.step(
      value || "nothing",
      () => assert.equal(parseOllamaHost(value).href, want),
    );
  }
});

Deno.test("makeProviders() speaks the API that fits the address", async (t) => {
  const rows: [why: string, value: unknown, vars: Vars, want: string][] = [
    ["its own service", {}, { OPENAI_API_KEY: "k" }, "openai_responses"],
    [
      "another address",
      {},
      { OPENAI_BASE_URL: "http://x.test/v1" },
      "openai_chat",
    ],
    [
      "said so",
      { openai: { api: "responses", baseUrl: "http://x.test/v1" } },
      {},
      "openai_responses",
    ],
    [
      "said otherwise",
      { openai: { api: "chat" } },
      { OPENAI_API_KEY: "k" },
      "openai_chat",
    ],
  ];
  for (const [why, value, vars, want] of rows) {
    await t.step(why, async () => {
      assert.equal((await make(value, vars))[0]?.provider.kind, want);
    });
  }
});

Deno.test("makeProviders() opens no door for the demo", async () => {
  const entries = await make({ demo: {} }, {}, (_, url) => {
    throw new TypeError(`a door to ${url}`);
  });
  assert.deepEqual(entries.map((one) => one.provider.id), ["demo"]);
});

Deno.test("makeProviders() looks for a local server only when nothing is configured", async (t) => {
  await t.step("nothing there: the demo", async () => {
    const gone: string[] = [];
    const entries = await make({}, {}, closedDoor(gone));
    assert.deepEqual(gone, ["provider:ollama 127.0.0.1:11434"]);
    assert.equal(entries[0]?.because, "nothing else is configured");
    assert.deepEqual(entries.map((one) => one.provider.id), ["demo"]);
    assert.equal(chooseDefault(entries, recordEnv({})).model, "demo:demo");
  });
  await t.step("one there: that one", async () => {
    await using fake = await fakeOllama();
    const there = new URL(fake.url);
    const entries = await make({}, {}, () => (input, init) => {
      const url = new URL(String(input));
      url.host = there.host;
      return fetch(url, init);
    });
    assert.deepEqual(entries.map((one) => one.provider.id), ["ollama"]);
    const { model, because } = chooseDefault(entries, recordEnv({}));
    assert.equal(model, "ollama:auto");
    assert.match(because, /127\.0\.0\.1:11434/);
  });
  await t.step("a key: nobody is asked", async () => {
    const gone: string[] = [];
    await make({}, { OPENAI_API_KEY: "k" }, closedDoor(gone));
    assert.deepEqual(gone, []);
  });
});

Deno.test("chooseDefault() says which model and why", async (t) => {
  const rows: [
    why: string,
    value: unknown,
    vars: Vars,
    want: [string, RegExp],
  ][] = [
    ["a vendor's own", {}, { ANTHROPIC_API_KEY: "k" }, [
      "anthropic:claude-sonnet-5-5",
      /env ANTHROPIC_API_KEY/,
    ]],
    ["a copy's: ask it", {}, { OPENAI_BASE_URL: "http://x.test/v1" }, [
      "openai:auto",
      /env OPENAI_BASE_URL/,
    ]],
    ["the first a line names", { openai: { models: ["m1", "m2"] } }, {
      OPENAI_API_KEY: "k",
    }, [
      "openai:m1",
      /providers\.openai/,
    ]],
    ["named in full", {}, {
      OPENAI_API_KEY: "k",
      CARAPACE_MODEL: "openai:gpt-x",
    }, [
      "openai:gpt-x",
      /env CARAPACE_MODEL/,
    ]],
    ["named without its provider", {}, {
      OPENAI_BASE_URL: "http://x.test/v1",
      CARAPACE_MODEL: "meta/llama:8b",
    }, ["openai:meta/llama:8b", /CARAPACE_MODEL/]],
  ];
  for (const [why, value, vars, [model, because]] of rows) {
    await t.step(why, async () => {
      const chosen = chooseDefault(await make(value, vars), recordEnv(vars));
      assert.equal(chosen.model, model);
      assert.match(chosen.because, because);
    });
  }
});

Deno.test("providerNeeds() names hosts with ports, and names of the environment", () => {
  const needs = providerNeeds(
    config({ box: { baseUrl: "http://10.0.0.7:8000/v1" } }),
    recordEnv({ OPENAI_BASE_URL: "https://proxy.test/v1" }),
  );
  const values = (kind: string) =>
    needs.filter((one) => one.kind === kind).map((one) => one.value).sort();
  assert.deepEqual(values("net"), [
    "10.0.0.7:8000",
    "127.0.0.1:11434",
    "api.anthropic.com:443",
    "api.openai.com:443",
    "generativelanguage.googleapis.com:443",
    "proxy.test:443",
  ]);
  assert.deepEqual(values("env"), [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    "CARAPACE_MODEL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_GEMINI_BASE_URL",
    "GROQ_API_KEY",
    "LM_API_TOKEN",
    "MISTRAL_API_KEY",
    "OLLAMA_API_KEY",
    "OLLAMA_HOST",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENROUTER_API_KEY",
    "VENICE_API_KEY",
    "VLLM_API_KEY",
  ]);
  const box = needs.find((one) => one.value === "10.0.0.7:8000");
  assert.equal(box?.because, "providers.box");
});

Deno.test("providerNeeds() grants an AWS account's names and files only where a line asks", () => {
  const file = "/home/me/.aws/credentials";
  const of = (value: unknown, vars: Vars = {}) =>
    providerNeeds(config(value), recordEnv(vars)).filter((one) =>
      /aws|AWS/.test(String(one.value))
    ).map((one) => `${one.kind} ${one.value} (${one.because})`);
  const usual = [
    "env AWS_BEARER_TOKEN_BEDROCK (AWS Bedrock's usual name)",
    "env AWS_ENDPOINT_URL_BEDROCK_RUNTIME (AWS Bedrock's usual name)",
  ];
  assert.deepEqual(of({}, { AWS_ACCESS_KEY_ID: "a" }), usual);
  const line = {
    bedrock: { aws: { region: "eu-west-1", profileFile: file } },
  };
  const because = "(providers.bedrock)";
  assert.deepEqual(of(line), [
    `net bedrock-runtime.eu-west-1.amazonaws.com:443 ${because}`,
    `net bedrock.eu-west-1.amazonaws.com:443 ${because}`,
    `env AWS_ACCESS_KEY_ID ${because}`,
    `env AWS_SECRET_ACCESS_KEY ${because}`,
    `env AWS_SESSION_TOKEN ${because}`,
    `env AWS_REGION ${because}`,
    `env AWS_DEFAULT_REGION ${because}`,
    `read ${file} (providers.bedrock.aws.profileFile)`,
    ...usual,
  ]);
  const other = { openai: { aws: { profileFile: file } } };
  assert.deepEqual(of(other), usual);
});

Deno.test("providerNeeds() grants a preset's host only where something asks", () => {
  const hosts = (value: unknown, vars: Vars = {}) =>
    providerNeeds(config(value), recordEnv(vars)).filter((one) =>
      one.kind === "net"
    ).map((one) => one.value);
  assert.ok(!hosts({}).includes("openrouter.ai:443"));
  assert.ok(hosts({ openrouter: {} }).includes("openrouter.ai:443"));
  assert.ok(hosts({}, { GROQ_API_KEY: "k" }).includes("api.groq.com:443"));
});

Deno.test("a provider without its key says which to set, and calls nobody", async () => {
  const gone: string[] = [];
  const ids = ["anthropic", "openai", "gemini", "groq", "openrouter"];
  for (const id of ids) {
    const [entry] = await make({ [id]: {} }, {}, closedDoor(gone));
    const signal = new AbortController().signal;
    const request = { model: "m", messages: [] };
    await assert.rejects(
      Array.fromAsync(entry?.provider.stream(request, signal) ?? []),
      { class: "auth", hint: new RegExp(`Set ${id.toUpperCase()}_API_KEY`) },
    );
  }
  assert.deepEqual(gone, []);
});

Deno.test("forward() sends the bytes as they are, with the key, and streams the answer on", async () => {
  await using fake = await fakeOpenai({ script: [{ text: ["a", "b"] }] });
  const key = "sk-forward";
  const [entry] = await make({}, {
    OPENAI_BASE_URL: fake.url,
    OPENAI_API_KEY: key,
  }, () => fetch);
  const forward = entry?.provider.forward;
  assert.ok(forward);
  const signal = new AbortController().signal;
  const odd = '{ "stream":true,  "model":"x","zzz":[1, 2.50] }';
  const body = new TextEncoder().encode(odd);
  const response = await forward("/chat/completions", body, signal);
  const { bytes, headers } = fake.requests[0] ?? {};
  assert.equal(new TextDecoder().decode(bytes), odd);
  assert.equal(headers?.get("authorization"), `Bearer ${key}`);
  assert.match(response.headers.get("content-type") ?? "", /event-stream/);
  assert.match(await response.text(), /"a".*"b".*\[DONE\]/s);
  const embedded = await forward(
    "/embeddings",
    new TextEncoder().encode('{"input":"x","model":"e"}'),
    signal,
  );
  assert.equal((await embedded.json()).data.length, 1);
  fake.script = [{ status: 429 }];
  const refused = await forward("/chat/completions", body, signal);
  assert.equal(refused.status, 429);
  assert.match(await refused.text(), /Rate limit/);
  await assert.rejects(forward("/files", body, signal), { code: "not_found" });
});

Deno.test("a key goes only to its own provider's requests", async () => {
  await using anthropic = await fakeAnthropic();
  await using openai = await fakeOpenai();
  const entries = await make({}, {
    ANTHROPIC_BASE_URL: anthropic.url,
    ANTHROPIC_API_KEY: "sk-a",
    OPENAI_BASE_URL: openai.url,
    OPENAI_API_KEY: "sk-o",
  }, () => fetch);
  const signal = new AbortController().signal;
  for (const { provider } of entries) {
    await Array.fromAsync(
      provider.stream({ model: "m", messages: [] }, signal),
    );
  }
  const [a] = anthropic.requests;
  const [o] = openai.requests;
  assert.equal(a?.headers.get("authorization"), "Bearer sk-a");
  assert.equal(a?.headers.get("x-api-key"), "sk-a");
  assert.equal(o?.headers.get("authorization"), "Bearer sk-o");
  const all = JSON.stringify([a, o].map((one) => [...one?.headers ?? []]));
  assert.equal(all.match(/sk-o/g)?.length, 1);
});
