/** A8: "loopback means trusted", and headers that say where one comes from. */
import assert from "node:assert/strict";
import { openGatewayHouse } from "../fakes/gateway_house.ts";

Deno.test("A8: a loopback caller authenticates, whatever its headers say", async (t) => {
  await using house = await openGatewayHouse();
  const headers: Record<string, string>[] = [
    {},
    { "x-forwarded-for": "127.0.0.1" },
    { "x-forwarded-for": "::1, 10.0.0.1" },
    { "x-real-ip": "127.0.0.1" },
    { forwarded: "for=127.0.0.1" },
    { "tailscale-user-login": "owner@example.com" },
    { "x-webauth-user": "owner" },
    { "x-forwarded-host": "localhost", "x-forwarded-proto": "https" },
    { "cf-access-authenticated-user-email": "owner@example.com" },
    { cookie: "token=owner-token" },
    { "x-api-key": "owner" },
    { "x-token": "owner-token" },
    { authorization: "Basic b3duZXItdG9rZW4=" },
    { authorization: "owner-token" },
    { authorization: "Bearer owner-token extra" },
    { "sec-websocket-protocol": "owner-token" },
  ];
  for (const own of headers) {
    await t.step(JSON.stringify(own), async () => {
      for (const path of ["/v1/models", "/v1/models?token=owner-token"]) {
        const answer = await fetch(`${house.url}${path}`, { headers: own });
        assert.equal(answer.status, 401);
        await answer.body?.cancel();
      }
    });
  }
});

Deno.test("A8: X-Api-Key is read where that dialect's clients send it, and nowhere else", async (t) => {
  await using house = await openGatewayHouse();
  const status = async (path: string, headers: Record<string, string>) => {
    const answer = await fetch(`${house.url}${path}`, { headers });
    await answer.body?.cancel();
    return answer.status;
  };
  const key = { "x-api-key": "owner-token" };
  for (const path of ["/v1/messages", "/v1/messages/count_tokens"]) {
    await t.step(path, async () => assert.equal(await status(path, key), 405));
  }
  for (
    const path of [
      "/v1/chat/completions",
      "/v1/responses",
      "/v1/embeddings",
      "/v1/messagesx",
      "/v1/messages-x",
      "/tools/invoke",
      "/mcp",
      "/openapi.json",
    ]
  ) {
    await t.step(path, async () => assert.equal(await status(path, key), 401));
  }
  await t.step("two tokens that differ are none", async () => {
    const both = { ...key, authorization: "Bearer app-token" };
    assert.equal(await status("/v1/models", both), 401);
    const same = { ...key, authorization: "Bearer owner-token" };
    assert.equal(await status("/v1/models", same), 200);
  });
});

Deno.test("A8: the address that is judged is the socket's, not a header's", async () => {
  const addresses: string[] = [];
  await using house = await openGatewayHouse({
    deps: {
      authenticate: (_, { address }) => {
        addresses.push(address);
        return Promise.reject(new DOMException("no", "AbortError"));
      },
    },
  });
  const answer = await fetch(`${house.url}/v1/models`, {
    headers: { "x-forwarded-for": "203.0.113.9", authorization: "Bearer x" },
  });
  await answer.body?.cancel();
  assert.deepEqual(addresses, ["127.0.0.1"]);
});
