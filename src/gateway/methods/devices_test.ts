import assert from "node:assert/strict";
import { connectDevice, makeDevice } from "../../../tests/fakes/device.ts";
import { FakeClient } from "../../../tests/fakes/gateway_house.ts";
import {
  openRealHouse,
  type RealHouse,
} from "../../../tests/fakes/real_house.ts";

function socketUrl(house: RealHouse): string {
  return `${house.url.replace("http", "ws")}/ws`;
}

async function knock(house: RealHouse): Promise<FakeClient> {
  const client = new FakeClient(socketUrl(house));
  await client.opened;
  return client;
}

async function ownerSocket(house: RealHouse): Promise<FakeClient> {
  const client = await knock(house);
  const { ok } = await client.connect({ auth: { token: house.owner } });
  assert.equal(ok, true);
  return client;
}

Deno.test("a device asks, the owner approves, and from then on its key suffices", async (t) => {
  await using house = await openRealHouse();
  using owner = await ownerSocket(house);
  const device = makeDevice();
  const wish = { scopes: ["operator.read", "operator.write"] };
  let deviceToken = "";
  await t.step(
    "an unknown key is not paired, and the owner hears",
    async () => {
      using socket = await knock(house);
      const { ok, error } = await connectDevice(socket, device, wish);
      assert.equal(ok, false);
      assert.equal(error.code, "NOT_PAIRED");
      assert.equal((await socket.closed).code, 1008);
      const asked = await owner.event("device.pair.requested");
      assert.equal(asked.requestId, error.details.requestId);
      assert.equal(asked.deviceId, device.id);
      assert.deepEqual(asked.scopes, ["chat", "read", "tools", "write"]);
    },
  );
  await t.step("the owner approves what was asked", async () => {
    const { payload: listed } = await owner.call("device.pair.list");
    assert.equal(listed.pending.length, 1);
    const [{ requestId }] = listed.pending;
    const { payload } = await owner.call("device.pair.approve", { requestId });
    assert.deepEqual(payload.device.scopes, ["chat", "read", "tools", "write"]);
    const told = await owner.event("device.pair.resolved");
    assert.equal(told.decision, "approved");
    const after = (await owner.call("device.pair.list")).payload;
    assert.deepEqual(after.pending, []);
    assert.equal(after.paired[0].deviceId, device.id);
  });
  for (const version of ["v2", "v3"] as const) {
    await t.step(`its signature lets it in, ${version}`, async () => {
      using socket = await knock(house);
      const asked = { ...wish, version };
      const { payload } = await connectDevice(socket, device, asked);
      assert.deepEqual(payload.auth.scopes, [
        "operator.chat",
        "operator.read",
        "operator.tools",
        "operator.write",
      ]);
      if (version === "v2") deviceToken = payload.auth.deviceToken;
      else assert.equal(payload.auth.deviceToken, undefined);
      assert.equal((await socket.call("token.list")).error.code, "FORBIDDEN");
      assert.equal((await socket.call("sessions.list")).ok, true);
    });
  }
  await t.step(
    "its token works with its signature, in either place",
    async () => {
      for (const auth of [{ deviceToken }, { token: deviceToken }]) {
        using socket = await knock(house);
        const { ok } = await connectDevice(socket, device, { ...wish, auth });
        assert.equal(ok, true);
      }
    },
  );
  await t.step("its token is nothing without its signature", async () => {
    using socket = await knock(house);
    const { error } = await socket.connect({ auth: { deviceToken } });
    assert.equal(error.code, "UNAUTHORIZED");
    const response = await fetch(`${house.url}/v1/models`, {
      headers: { authorization: `Bearer ${deviceToken}` },
    });
    await response.body?.cancel();
    assert.equal(response.status, 401);
    using other = await knock(house);
    const answer = await connectDevice(other, makeDevice(), {
      auth: { deviceToken },
    });
    assert.equal(answer.error.code, "UNAUTHORIZED");
  });
  await t.step(
    "its next token ends the present one when it is used",
    async () => {
      using old = await knock(house);
      await connectDevice(old, device, { auth: { deviceToken } });
      const { payload } = await owner.call("device.token.rotate", {
        deviceId: device.id,
      });
      using still = await knock(house);
      const before = await connectDevice(still, device, {
        auth: { deviceToken },
      });
      assert.equal(before.ok, true);
      using next = await knock(house);
      const auth = { deviceToken: payload.token };
      assert.equal((await connectDevice(next, device, { auth })).ok, true);
      assert.equal((await old.closed).code, 1008);
      using late = await knock(house);
      const after = await connectDevice(late, device, {
        auth: { deviceToken },
      });
      assert.equal(after.error.code, "UNAUTHORIZED");
      assert.equal((await next.call("sessions.list")).ok, true);
    },
  );
  await t.step("revoking it closes its sockets", async () => {
    using socket = await knock(house);
    await connectDevice(socket, device, wish);
    await owner.call("device.token.revoke", { deviceId: device.id });
    assert.equal((await socket.closed).code, 1008);
    using again = await knock(house);
    const { error } = await connectDevice(again, device, wish);
    assert.equal(error.code, "NOT_PAIRED");
  });
});

Deno.test("a signature holds for its own socket, text and time", async (t) => {
  await using house = await openRealHouse();
  const device = makeDevice();
  const other = makeDevice();
  const wrong: [why: string, options: Parameters<typeof connectDevice>[2]][] = [
    ["another nonce is signed", { signing: { nonce: "0".repeat(48) } }],
    ["another nonce is sent", { device: { nonce: "0".repeat(48) } }],
    ["no nonce", { device: { nonce: undefined } }],
    ["another role", { signing: { role: "node" } }],
    ["other scopes", { signing: { scopes: ["operator.admin"] } }],
    ["another client", { signing: { clientId: "cli" } }],
    ["another mode", { signing: { clientMode: "ui" } }],
    ["another platform", { signing: { platform: "macos" } }],
    ["another token", { signing: { token: "x" } }],
    ["another time", { signing: { signedAt: 1 } }],
    ["just too late", { skewMs: 120_001 }],
    ["just too early", { skewMs: -120_001 }],
    ["another key", { device: { publicKey: other.publicKey } }],
    ["another id", { device: { id: other.id } }],
    ["another's id and key", {
      device: { id: other.id, publicKey: other.publicKey },
    }],
    ["no key", { device: { publicKey: "AAAA" } }],
    ["no signature", { device: { signature: "" } }],
  ];
  for (const [why, options] of wrong) {
    await t.step(why, async () => {
      using socket = await knock(house);
      const { error } = await connectDevice(socket, device, options);
      assert.match(error.code, /UNAUTHORIZED|RATE_LIMITED/);
      assert.equal((await socket.closed).code, 1008);
    });
  }
  await t.step("at the limits of the time it holds", async () => {
    for (const skewMs of [-120_000, 120_000]) {
      using socket = await knock(house);
      const { error } = await connectDevice(socket, device, { skewMs });
      assert.equal(error.code, "NOT_PAIRED");
    }
  });
  await t.step("platform and family are lowered in v3", async () => {
    using socket = await knock(house);
    const { error } = await connectDevice(socket, device, {
      client: { platform: "MacOS", deviceFamily: "iPad" },
      signing: { platform: "macos", deviceFamily: "ipad" },
    });
    assert.equal(error.code, "NOT_PAIRED");
  });
  await t.step("a right token does not make up for a wrong one", async () => {
    using socket = await knock(house);
    const { error } = await connectDevice(socket, device, {
      auth: { token: house.owner },
      signing: { nonce: "0".repeat(48) },
    });
    assert.match(error.code, /UNAUTHORIZED|RATE_LIMITED/);
  });
});

Deno.test("a token beside a device suffices, and pairs nothing by itself", async () => {
  await using house = await openRealHouse();
  using owner = await ownerSocket(house);
  const device = makeDevice();
  using socket = await knock(house);
  const token = await house.token({ scopes: ["read"] });
  const { payload } = await connectDevice(socket, device, {
    scopes: ["operator.admin"],
    auth: { token },
  });
  assert.deepEqual(payload.auth.scopes, ["operator.read"]);
  assert.equal(payload.auth.deviceToken, undefined);
  const asked = await owner.event("device.pair.requested");
  assert.match(asked.via, /^tok_/);
  using alone = await knock(house);
  const { error } = await connectDevice(alone, device);
  assert.equal(error.code, "NOT_PAIRED");
});

Deno.test("a node has no scopes, and is asked for what was approved", async () => {
  await using house = await openRealHouse();
  using owner = await ownerSocket(house);
  const device = makeDevice();
  const declare = (commands: string[]) => ({
    role: "node" as const,
    scopes: ["operator.admin"],
    more: { caps: ["camera"], commands, permissions: { screen: true } },
  });
  {
    using socket = await knock(house);
    const answer = await connectDevice(
      socket,
      device,
      declare(["camera.snap"]),
    );
    assert.equal(answer.error.code, "NOT_PAIRED");
  }
  const asked = await owner.event("node.pair.requested");
  assert.deepEqual(asked.commands, ["camera.snap"]);
  assert.deepEqual(asked.scopes, []);
  const { requestId } = asked;
  assert.equal((await owner.call("node.pair.approve", { requestId })).ok, true);
  using socket = await knock(house);
  const wider = declare(["camera.snap", "system.run"]);
  const { payload } = await connectDevice(socket, device, wider);
  assert.equal(payload.auth.role, "node");
  assert.deepEqual(payload.auth.scopes, []);
  for (const method of ["chat.send", "sessions.list", "device.pair.list"]) {
    assert.equal((await socket.call(method, {})).error.code, "FORBIDDEN");
  }
  // The same key is no operator.
  using operator = await knock(house);
  const { error } = await connectDevice(operator, device);
  assert.equal(error.code, "NOT_PAIRED");
});
