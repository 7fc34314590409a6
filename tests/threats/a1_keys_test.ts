/**
 * A1: what a key was made with holds at every door: each restriction once with
 * what it allows and once with what it does not, over HTTP and WebSocket.
 */
import assert from "node:assert/strict";
import type { TokenRequest } from "../../src/auth/tokens.ts";
import { knock, tokenSocket } from "../fakes/device.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { fail, type Reply, say } from "../fakes/vendor.ts";

const SETTINGS = {
  agents: {
    main: { model: "openai:gpt-test" },
    work: { model: "anthropic:claude-test" },
    careful: {
      model: "openai:gpt-test",
      fallbacks: ["anthropic:claude-test"],
    },
  },
};

/** What a door is asked for. */
interface Ask {
  model?: string;
  headers?: Record<string, string>;
  agentId?: string;
  tool?: string;
  args?: Record<string, unknown>;
  method?: string;
  path?: string;
}

type Door = (house: RealHouse, token: string, ask: Ask) => Promise<boolean>;

const messages = [{ role: "user", content: "hi" }];

async function post(
  house: RealHouse,
  path: string,
  { token, headers, body }: {
    token: string;
    headers?: Record<string, string> | undefined;
    body: unknown;
  },
): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${house.url}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      ...headers,
    },
    body: JSON.stringify(body),
  });
  return { status: answer.status, text: await answer.text() };
}

/** 403 and 404 are refusals; what is neither a refusal nor an answer fails. */
function passed({ status, text }: { status: number; text: string }): boolean {
  assert.ok([200, 403, 404].includes(status), `${status} ${text}`);
  return status === 200;
}

function answered(
  { ok, error }: { ok: boolean; error?: { code: string; message: string } },
): boolean {
  if (!ok) assert.equal(`${error?.code}`, "FORBIDDEN", `${error?.message}`);
  return ok;
}

const DOORS = {
  chat: async (house, token, { model = "carapace", headers }) =>
    passed(
      await post(house, "/v1/chat/completions", {
        token,
        headers,
        body: { model, messages },
      }),
    ),
  responses: async (house, token, { model = "carapace", headers }) =>
    passed(
      await post(house, "/v1/responses", {
        token,
        headers,
        body: { model, input: "hi" },
      }),
    ),
  messages: async (house, token, { model = "carapace", headers }) =>
    passed(
      await post(house, "/v1/messages", {
        token,
        headers,
        body: { model, messages, max_tokens: 64 },
      }),
    ),
  ws: async (house, token, { agentId, model }) => {
    using socket = await tokenSocket(house, token);
    const sent = await socket.call("agent", {
      message: "hi",
      idempotencyKey: crypto.randomUUID(),
      ...(agentId === undefined ? {} : { agentId }),
      ...(model === undefined ? {} : { model }),
    });
    if (!answered(sent)) return false;
    const { payload } = await socket.call("agent.wait", {
      runId: sent.payload.runId,
      timeoutMs: 5_000,
    });
    return payload.status === "ok";
  },
  invoke: async (house, token, { tool = "", args = {} }) =>
    passed(
      await post(house, "/tools/invoke", { token, body: { tool, args } }),
    ),
  wsInvoke: async (house, token, { tool = "", args = {} }) => {
    using socket = await tokenSocket(house, token);
    const { ok, payload } = await socket.call("tools.invoke", {
      name: tool,
      args,
    });
    return ok === true && payload.ok === true;
  },
  mcp: async (house, token, { tool = "", args = {} }) => {
    const { status, text } = await post(house, "/mcp", {
      token,
      headers: { accept: "application/json, text/event-stream" },
      body: {
        jsonrpc: "2.0",
        id: 1,
        method: "tools/call",
        params: { name: tool, arguments: args },
      },
    });
    assert.equal(status, 200, text);
    const said = JSON.parse(text.replace(/^[\s\S]*?data: /, ""));
    return said.error === undefined && said.result.isError !== true;
  },
  method: async (house, token, { method = "" }) => {
    using socket = await tokenSocket(house, token);
    return answered(await socket.call(method, {}));
  },
} as const satisfies Record<string, Door>;

/** One restriction at one door: what passes under it and what does not. */
type Row = [
  door: keyof typeof DOORS,
  key: Partial<TokenRequest>,
  allowed: Ask,
  refused: Ask,
];

const onlyWork = { scopes: ["write"], agents: ["work"] };
const onlyGpt = { scopes: ["write"], models: ["openai:gpt-test"] };
const onlySlash = { scopes: ["write"], models: ["openai/gpt-test"] };
const onlyTime = { scopes: ["write", "tools"], tools: ["current_time"] };
const time = { tool: "current_time" };
const list = { tool: "memory_list" };

const ROWS: readonly Row[] = [
  ["chat", onlyWork, { model: "carapace/work" }, { model: "carapace" }],
  ["responses", onlyWork, { model: "carapace/work" }, { model: "carapace" }],
  ["messages", onlyWork, { model: "carapace/work" }, { model: "carapace" }],
  ["chat", onlyWork, { model: "carapace/work" }, {
    model: "carapace/work",
    headers: { "x-carapace-agent-id": "main" },
  }],
  ["chat", onlyWork, { model: "carapace/work" }, {
    model: "carapace/work",
    headers: { "x-openclaw-session-key": "agent:main:main" },
  }],
  ["ws", onlyWork, { agentId: "work" }, { agentId: "main" }],
  ["chat", onlyGpt, { model: "openai:gpt-test" }, {
    model: "anthropic:claude-test",
  }],
  ["chat", onlyGpt, { model: "openai/gpt-test" }, {
    model: "anthropic/claude-test",
  }],
  ["responses", onlyGpt, { model: "openai:gpt-test" }, {
    model: "anthropic:claude-test",
  }],
  ["messages", onlyGpt, { model: "openai:gpt-test" }, {
    model: "anthropic:claude-test",
  }],
  ["chat", onlyGpt, { headers: { "x-carapace-model": "openai:gpt-test" } }, {
    headers: { "x-carapace-model": "anthropic:claude-test" },
  }],
  ["chat", onlyGpt, { headers: { "x-carapace-model": "openai/gpt-test" } }, {
    headers: { "x-carapace-model": "anthropic/claude-test" },
  }],
  ["responses", onlySlash, {
    headers: { "x-openclaw-model": "openai/gpt-test" },
  }, { headers: { "x-openclaw-model": "anthropic/claude-test" } }],
  ["chat", onlySlash, { model: "openai:gpt-test" }, {
    model: "anthropic:claude-test",
  }],
  ["ws", onlySlash, { model: "openai/gpt-test" }, {
    model: "anthropic/claude-test",
  }],
  ["messages", onlyGpt, {
    headers: { "x-openclaw-model": "openai:gpt-test" },
  }, { headers: { "x-openclaw-model": "anthropic:claude-test" } }],
  // An agent's own model is no way round either.
  ["chat", onlyGpt, { model: "carapace" }, { model: "carapace/work" }],
  ["ws", onlyGpt, { agentId: "main" }, { agentId: "work" }],
  ["ws", onlyGpt, { model: "openai:gpt-test" }, {
    model: "anthropic:claude-test",
  }],
  ["invoke", onlyTime, time, list],
  ["wsInvoke", onlyTime, time, list],
  ["mcp", onlyTime, time, list],
  ["method", { scopes: ["read"] }, { method: "sessions.list" }, {
    method: "token.list",
  }],
  ["method", { scopes: ["pairing"] }, { method: "device.pair.list" }, {
    method: "approval.list",
  }],
];

Deno.test("A1: each restriction of a key, at each door", async (t) => {
  await using house = await openRealHouse({
    script: () => say("done"),
    settings: SETTINGS,
  });
  for (const [door, key, allowed, refused] of ROWS) {
    const { scopes = [], ...limits } = key;
    const named = JSON.stringify(Object.values(limits)[0] ?? scopes);
    await t.step(`${door}: ${named} ${JSON.stringify(refused)}`, async () => {
      const token = await house.token(key);
      assert.equal(await DOORS[door](house, token, allowed), true, "allowed");
      const asked = house.anthropic.requests.length;
      assert.equal(await DOORS[door](house, token, refused), false, "refused");
      assert.equal(
        house.anthropic.requests.length,
        asked,
        "no vendor is asked",
      );
    });
  }
});

Deno.test("A1: a fallback is no way to a model the key may not use", async () => {
  let down = false;
  await using house = await openRealHouse({
    script: (): Reply => down ? fail(503) : say("done"),
    settings: { ...SETTINGS, guard: {} },
  });
  const token = await house.token(onlyGpt);
  const ask = { model: "carapace/careful" };
  assert.ok(await DOORS.chat(house, token, ask));
  down = true;
  const { status } = await post(house, "/v1/chat/completions", {
    token,
    body: { ...ask, messages },
  });
  assert.ok(status >= 500, `${status}`);
  assert.equal(house.anthropic.requests.length, 0);
});

Deno.test("A1: a model is shown the tools its key may use, and no other runs", async () => {
  await using house = await openRealHouse({
    script: () => say("done"),
    settings: SETTINGS,
  });
  const shown = async (change: Partial<TokenRequest>) => {
    const token = await house.token({ scopes: ["write", "tools"], ...change });
    assert.ok(await DOORS.chat(house, token, {}));
    const { bytes } = house.openai.requests.at(-1) ?? {};
    const { tools = [] } = JSON.parse(new TextDecoder().decode(bytes));
    return tools.map((one: { function: { name: string } }) =>
      one.function.name
    );
  };
  assert.deepEqual(await shown({ tools: ["current_time"] }), ["current_time"]);
  assert.deepEqual(await shown({ tools: [] }), []);
  assert.ok((await shown({})).length > 1);
});

Deno.test("A1: a key ends with its time: its requests, its socket, its stream", async () => {
  await using house = await openRealHouse({
    script: () => ({ text: ["one", "two"], after: "two", then: "hang" }),
  });
  const { tokens } = house.house;
  const made = await tokens.create({
    name: "brief",
    scopes: ["write"],
    expiresInMs: 3_000,
  });
  using socket = await tokenSocket(house, made.token);
  const response = await fetch(`${house.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${made.token}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({ model: "carapace", stream: true, messages }),
  });
  assert.equal(response.status, 200);
  const ending = response.text().catch(() => "");
  // Bounded by the expiry: what keeps time asks again and again.
  while (!tokens.hasEnded(made.id)) {
    await tokens.endExpired();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal((await socket.closed).code, 1008);
  await ending;
  const late = await post(house, "/v1/chat/completions", {
    token: made.token,
    body: { model: "carapace", messages },
  });
  assert.equal(late.status, 401);
  using again = await knock(house);
  const { error } = await again.connect({ auth: { token: made.token } });
  assert.equal(error.code, "UNAUTHORIZED");
});

Deno.test("A1: the list says when a key was last used, and never its text", async () => {
  await using house = await openRealHouse({ script: () => say("done") });
  const token = await house.token({ name: "seen", scopes: ["write"] });
  using owner = await tokenSocket(house, house.owner);
  const seen = async () => {
    const { payload } = await owner.call("token.list");
    assert.ok(!JSON.stringify(payload).includes(token));
    assert.ok(!JSON.stringify(payload).includes("sha256"));
    return payload.tokens.find(({ name }: { name: string }) => name === "seen");
  };
  assert.equal((await seen()).lastUsedAt, undefined);
  const before = Date.now();
  assert.ok(await DOORS.chat(house, token, {}));
  // The note is not waited for: the list after the next commit has it.
  while ((await seen()).lastUsedAt === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.ok((await seen()).lastUsedAt >= before);
});

/** A model that writes a memory when it is first asked, and then says so. */
const WRITES = (request: { body: { messages: { role: string }[] } }): Reply =>
  request.body.messages.some(({ role }) => role === "tool")
    ? say("done")
    : { calls: [{ name: "memory_write", args: { text: "what was asked" } }] };

Deno.test("A1: whose words a key's are decides what they lead to, at each door", async (t) => {
  await using house = await openRealHouse({
    script: WRITES,
    settings: SETTINGS,
  });
  const told = () => {
    const { bytes } = house.openai.requests.at(-1) ?? {};
    const text = new TextDecoder().decode(bytes);
    assert.match(text, /Remembered as|Not allowed/);
    return text.includes("Remembered as");
  };
  const byModel = (door: Door) => async (token: string) => {
    assert.ok(await door(house, token, {}));
    return told();
  };
  const tool = "memory_write";
  const args = { text: "what was asked" };
  const doors: Record<string, (token: string) => Promise<boolean>> = {
    chat: byModel(DOORS.chat),
    responses: byModel(DOORS.responses),
    ws: byModel(DOORS.ws),
    invoke: (token) => DOORS.invoke(house, token, { tool, args }),
    wsInvoke: (token) => DOORS.wsInvoke(house, token, { tool, args }),
    mcp: (token) => DOORS.mcp(house, token, { tool, args }),
  };
  for (const [name, door] of Object.entries(doors)) {
    await t.step(`${name}: integrity`, async () => {
      const key = { scopes: ["write", "tools"] };
      const owners = await house.token({ ...key, integrity: "owner" });
      assert.equal(await door(owners), true, "the owner's words");
      for (const other of [{ integrity: "untrusted" as const }, {}]) {
        const token = await house.token({ ...key, ...other });
        assert.equal(await door(token), false, "a program's words");
      }
    });
  }
});
