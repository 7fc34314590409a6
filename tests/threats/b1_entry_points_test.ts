/** B1: an effect reached through another door than the one that checks. */
import assert from "node:assert/strict";
import { openGatewayHouse, program } from "../fakes/gateway_house.ts";
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
      assert.equal(error.details.scope, `operator.${scope}`);
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
