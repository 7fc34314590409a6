/** I1: resource exhaustion at the door. */
import assert from "node:assert/strict";
import {
  type FakeClient,
  openGatewayHouse,
  rawRequest,
} from "../fakes/gateway_house.ts";
import { silence } from "../fakes/turns.ts";

function upgrade(port: number, ...more: string[]): string[] {
  return [
    "GET /ws HTTP/1.1",
    `Host: 127.0.0.1:${port}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ...more,
  ];
}

Deno.test("I1: sockets that have not said who they are share a small pool", async (t) => {
  await using house = await openGatewayHouse();
  const open: FakeClient[] = [];
  await t.step("four from one address, not five", async () => {
    for (let n = 0; n < 4; n++) open.push(await house.socket());
    const { status, head } = await rawRequest(
      house.port,
      upgrade(house.port),
    );
    assert.equal(status, 503);
    assert.match(head, /retry-after/i);
    assert.equal(house.gateway.counts().preAuth, 4);
  });
  await t.step("a token in the upgrade needs no place in it", async () => {
    const { status } = await rawRequest(
      house.port,
      upgrade(house.port, "Authorization: Bearer owner-token"),
    );
    assert.equal(status, 101);
    const wrong = await rawRequest(
      house.port,
      upgrade(house.port, "Authorization: Bearer wrong"),
    );
    assert.equal(wrong.status, 401);
  });
  await t.step(
    "who authenticates makes room, and so does who leaves",
    async () => {
      const [first, second] = open;
      await first?.connect({ auth: { token: "owner-token" } });
      assert.equal(house.gateway.counts().preAuth, 3);
      second?.socket.close();
      await second?.closed;
      open.push(await house.socket(), await house.socket());
      const { status } = await rawRequest(house.port, upgrade(house.port));
      assert.equal(status, 503);
    },
  );
  for (const client of open) client[Symbol.dispose]();
});

Deno.test("I1: sockets are bounded in all", async () => {
  await using house = await openGatewayHouse({ limits: { socketsMax: 2 } });
  using _one = await house.socket({ token: "owner-token" });
  using _two = await house.socket({ token: "owner-token" });
  const { status } = await rawRequest(
    house.port,
    upgrade(house.port, "Authorization: Bearer owner-token"),
  );
  assert.equal(status, 503);
});

Deno.test("I1: a large frame closes its socket, before and after the handshake", async () => {
  await using house = await openGatewayHouse();
  using before = await house.socket();
  before.send("x".repeat(65_537));
  assert.equal((await before.closed).code, 1009);
  using after = await house.socket({ token: "owner-token" });
  const frame = { type: "req", id: "1", method: "health", params: {} };
  after.send(JSON.stringify(frame).padEnd(524_288));
  assert.equal((await after.frame((f) => f.id === "1")).ok, true);
  after.send(JSON.stringify(frame).padEnd(524_289));
  assert.equal((await after.closed).code, 1009);
  using wide = await house.socket({ token: "owner-token" });
  wide.send("é".repeat(300_000));
  assert.equal((await wide.closed).code, 1009);
});

Deno.test("I1: a stated length over the limit is refused before the body comes", async () => {
  await using house = await openGatewayHouse();
  const { status } = await rawRequest(house.port, [
    "POST /v1/chat/completions HTTP/1.1",
    `Host: 127.0.0.1:${house.port}`,
    "Authorization: Bearer owner-token",
    "Content-Type: application/json",
    `Content-Length: ${4_194_305}`,
  ]);
  assert.equal(status, 413);
});

Deno.test("I1: a body that does not come is not waited for", async () => {
  await using house = await openGatewayHouse({ limits: { bodyMs: 50 } });
  const { status } = await rawRequest(house.port, [
    "POST /v1/chat/completions HTTP/1.1",
    `Host: 127.0.0.1:${house.port}`,
    "Authorization: Bearer owner-token",
    "Content-Type: application/json",
    "Content-Length: 100",
  ]);
  assert.equal(status, 408);
  assert.equal(house.gateway.counts().inFlight, 0);
});

Deno.test("I1: one socket's requests and one identity's turns are bounded", async () => {
  await using house = await openGatewayHouse({
    limits: { requestsPerSocketMax: 2, turnsPerSecond: 0.01, turnsBurst: 2 },
  });
  house.turns.script = silence;
  using client = await house.socket({ token: "app-token" });
  const turn = (n: number) => ({
    sessionKey: "main",
    message: "x",
    idempotencyKey: String(n),
  });
  const { payload } = await client.call("chat.send", turn(1));
  const waits = [1, 2].map(() =>
    client.call("agent.wait", { runId: payload.runId, timeoutMs: 60_000 })
      .catch(() => undefined)
  );
  const third = await client.call("agent.wait", { runId: payload.runId });
  assert.equal(third.error.code, "RATE_LIMITED");
  assert.equal(house.gateway.counts().inFlight, 2);
  using other = await house.socket({ token: "app-token" });
  assert.equal((await other.call("chat.send", turn(2))).ok, true);
  const late = await other.call("chat.send", turn(3));
  assert.equal(late.error.code, "RATE_LIMITED");
  assert.ok(late.error.retryAfterMs > 0);
  await other.call("chat.abort", { sessionKey: "main" });
  const outcomes = await Promise.all(waits);
  assert.deepEqual(outcomes.map((one) => one?.payload.status), [
    "error",
    "error",
  ]);
});

Deno.test("I1: one identity's requests are bounded, by HTTP and WebSocket together", async () => {
  await using house = await openGatewayHouse({
    limits: { readsPerSecond: 0.01, readsBurst: 3 },
  });
  const headers = { authorization: "Bearer app-token" };
  using client = await house.socket({ token: "app-token" });
  assert.equal((await client.call("health")).ok, true);
  assert.equal((await client.call("health")).ok, true);
  for (const want of [200, 429]) {
    const answer = await house.get("/v1/models", { headers });
    assert.equal(answer.status, want);
    await answer.body?.cancel();
  }
  assert.equal((await client.call("health")).error.code, "RATE_LIMITED");
  // Another identity is not charged for it.
  using app = await house.socket({ token: "owner-token" });
  assert.equal((await app.call("health")).ok, true);
});
