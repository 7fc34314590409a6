/** B1: an effect reached through another door than the one that checks. */
import assert from "node:assert/strict";
import { openGatewayHouse, program } from "../fakes/gateway_house.ts";
import { openRealHouse } from "../fakes/real_house.ts";
import { METHODS } from "../../src/core/methods.ts";
import { ROUTES } from "../../src/gateway/routes.ts";

Deno.test("B1: every method and route states its scope, and it is checked", async (t) => {
  await using house = await openGatewayHouse({
    principals: {
      nothing: program("tok_nothing", { scopes: [] }),
    },
  });
  using client = await house.socket({ token: "nothing" });
  for (const [method, { scope }] of Object.entries(METHODS)) {
    await t.step(method, async () => {
      const { error } = await client.call(method, {});
      assert.equal(error.code, "FORBIDDEN");
      if (scope === "node") assert.equal(error.details.code, "NODE_ONLY");
      else assert.equal(error.details.scope, `operator.${scope}`);
    });
  }
  for (const { method, path, scope } of ROUTES) {
    if (scope === "public" || scope === "handshake") continue;
    // Who may ask there is what a plugin's manifest declares.
    if (scope === "manifest") continue;
    await t.step(`${method} ${path}`, async () => {
      const answer = await fetch(`${house.url}${path}`, {
        method,
        headers: { authorization: "Bearer nothing" },
      });
      assert.equal(answer.status, 403);
      await answer.body?.cancel();
    });
  }
});

Deno.test("B1: the agent's model and agent are not chosen past the token's limits", async (t) => {
  await using house = await openGatewayHouse({
    principals: {
      chat: program("tok_chat", { scopes: ["chat"] }),
      narrow: program("tok_narrow", {
        scopes: ["write"],
        agents: ["coder"],
        models: ["a:b"],
      }),
    },
  });
  const ask = async (token: string, headers: Record<string, string>) => {
    const answer = await house.post(
      "/v1/chat/completions",
      { model: "carapace/coder", messages: [{ role: "user", content: "x" }] },
      { headers: { authorization: `Bearer ${token}`, ...headers } },
    );
    await answer.body?.cancel();
    return answer.status;
  };
  const rows: [token: string, headers: Record<string, string>, want: number][] =
    [
      ["chat", { "x-openclaw-model": "a:b" }, 403],
      ["narrow", { "x-openclaw-model": "a:c" }, 403],
      ["narrow", { "x-carapace-model": "a/b" }, 200],
      ["narrow", { "x-carapace-agent-id": "main" }, 403],
      ["narrow", { "x-carapace-session-key": "agent:main:main" }, 403],
      ["narrow", {}, 200],
    ];
  for (const [token, headers, want] of rows) {
    await t.step(`${token} ${JSON.stringify(headers)}`, async () => {
      assert.equal(await ask(token, headers), want);
    });
  }
  await t.step("by WebSocket", async () => {
    using chat = await house.socket({ token: "chat" });
    using narrow = await house.socket({ token: "narrow" });
    const turn = { message: "x", idempotencyKey: "1", model: "a:b" };
    assert.equal((await chat.call("agent", turn)).error.code, "FORBIDDEN");
    const { error } = await narrow.call("agent", { ...turn, agentId: "main" });
    assert.equal(error.code, "FORBIDDEN");
  });
  const models = house.turns.requests.map((request) => request.model);
  assert.deepEqual(models, ["a/b", undefined]);
});

Deno.test("B1: a tool by name does no more than its token may", async (t) => {
  await using house = await openRealHouse({
    settings: {
      tools: { deny: ["current_time"] },
      guard: { policy: [{ tool: "memory_list", verdict: "deny" }] },
    },
  });
  const invoke = async (
    token: string,
    tool: string,
    args: object = {},
    more: object = {},
  ) => {
    const answer = await fetch(`${house.url}/tools/invoke`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({ tool, args, ...more }),
    });
    return { status: answer.status, body: await answer.json() };
  };
  const note = { text: "remember me" };
  const program = await house.token();
  const owners = await house.token({ integrity: "owner" });
  const rows: [
    why: string,
    token: string,
    tool: string,
    args: object,
    status: number,
  ][] = [
    ["what it may", program, "math_eval", { expression: "6*7" }, 200],
    ["wrong arguments", program, "math_eval", { nope: 1 }, 400],
    ["no such tool", program, "nonesuch", {}, 404],
    ["a denied tool", house.owner, "current_time", {}, 404],
    ["a tool that policy hides", house.owner, "memory_list", {}, 404],
    [
      "a tool that is not the token's",
      await house.token({ tools: ["memory_read"] }),
      "math_eval",
      { expression: "1" },
      404,
    ],
    ["no scope", await house.token({ scopes: ["chat"] }), "math_eval", {}, 403],
    ["a wrong token", "cara_wrong", "math_eval", {}, 401],
    [
      "a write of a program's words, nobody to ask",
      program,
      "memory_write",
      note,
      403,
    ],
    ["the owner's own words", owners, "memory_write", note, 200],
  ];
  for (const [why, token, tool, args, status] of rows) {
    await t.step(why, async () => {
      const got = await invoke(token, tool, args);
      assert.equal(got.status, status, JSON.stringify(got.body));
      if (status === 200) assert.equal(got.body.ok, true);
      else if (why !== "no scope" && why !== "a wrong token") {
        assert.equal(got.body.ok, false);
        assert.ok(got.body.error.message.length > 5);
      }
    });
  }
  await t.step("another agent than the token's", async () => {
    const narrow = await house.token({ agents: ["other"] });
    const args = { expression: "1" };
    assert.equal((await invoke(narrow, "math_eval", args)).status, 403);
    const named = { agentId: "main" };
    const got = await invoke(narrow, "math_eval", args, named);
    assert.equal(got.status, 403);
  });
  await t.step("a key from outside names no session", async () => {
    const args = { expression: "1" };
    const named = { sessionKey: "agent:main:main" };
    assert.equal((await invoke(program, "math_eval", args, named)).status, 200);
    const main = await house.house.store.sessions.find("agent:main:main");
    assert.equal(main, undefined);
  });
  await t.step("a revoked token's call does not end well", async () => {
    const { id, token } = await house.house.tokens.create({
      name: "short",
      scopes: ["write"],
    });
    await house.house.tokens.revoke(id);
    assert.equal((await invoke(token, "math_eval")).status, 401);
  });
  await t.step("every call is in the store as a turn", async () => {
    const got = await invoke(program, "math_eval", { expression: "2+2" });
    const run = await house.house.store.runs.find(got.body.runId);
    assert.equal(run?.state, "done");
    assert.equal(run?.options?.invoked, true);
    assert.equal(run?.authority.integrity, "untrusted");
  });
});

Deno.test("B1: by MCP the same tools are refused in the same words", async () => {
  await using house = await openRealHouse();
  const token = await house.token();
  const rpc = async (method: string, params: object) => {
    const answer = await fetch(`${house.url}/mcp`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const text = await answer.text();
    return JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? text);
  };
  const { result } = await rpc("tools/call", {
    name: "memory_write",
    arguments: { text: "x" },
  });
  assert.equal(result.isError, true);
  assert.match(result.content[0].text, /nobody is there to ask/);
  // Nobody becomes somebody else by what a request says of itself.
  const forged = await rpc("tools/call", {
    name: "memory_write",
    arguments: { text: "x" },
    _meta: { principal: "owner", authority: { integrity: "owner" } },
  });
  assert.equal(forged.result.isError, true);
});
