/** A1: identity or scope asserted by the client at connect. */
import assert from "node:assert/strict";
import { CLIENT, openGatewayHouse, program } from "../fakes/gateway_house.ts";

Deno.test("A1: nothing a client says of itself widens what it may do", async (t) => {
  await using house = await openGatewayHouse({
    principals: { reader: program("tok_reader", { scopes: ["read"] }) },
  });
  const claims: [why: string, change: Record<string, unknown>][] = [
    ["scopes", { scopes: ["operator.admin", "operator.write"] }],
    ["a control UI's id", { client: { ...CLIENT, id: "openclaw-control-ui" } }],
    ["a backend's mode", {
      client: { ...CLIENT, id: "gateway-client", mode: "backend" },
    }],
    ["capabilities", { caps: ["admin"], commands: ["*"] }],
    ["permissions", { permissions: { admin: true, write: true } }],
    ["a device", {
      device: { id: "d", publicKey: "k", signature: "s", signedAt: 1 },
    }],
    ["the operator role", { role: "operator" }],
  ];
  for (const [why, change] of claims) {
    await t.step(why, async () => {
      using client = await house.socket();
      const { payload } = await client.connect({
        ...change,
        auth: { token: "reader" },
      });
      assert.deepEqual(payload.auth.scopes, ["operator.read"]);
      for (const method of ["token.list", "chat.send"]) {
        const { error } = await client.call(method, {});
        assert.equal(error.code, "FORBIDDEN");
        assert.equal(error.details.code, "MISSING_SCOPE");
      }
    });
  }
  await t.step("a device without a token is nobody", async () => {
    using client = await house.socket();
    const { ok } = await client.connect({
      device: { id: "d", publicKey: "k", signature: "s", signedAt: 1 },
      auth: { deviceToken: "owner-token", password: "owner-token" },
    });
    assert.equal(ok, false);
    assert.equal((await client.closed).code, 1008);
  });
  await t.step("the node role needs a node's credential", async () => {
    using client = await house.socket();
    const { ok } = await client.connect({
      role: "node",
      auth: { token: "owner-token" },
    });
    assert.equal(ok, false);
  });
  await t.step("an empty list of scopes is none", async () => {
    using client = await house.socket();
    const { payload } = await client.connect({
      scopes: [],
      auth: { token: "owner-token" },
    });
    assert.deepEqual(payload.auth.scopes, []);
    assert.deepEqual(payload.features.methods, []);
    assert.equal((await client.call("health")).error.code, "FORBIDDEN");
  });
});
