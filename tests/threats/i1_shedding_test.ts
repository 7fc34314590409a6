/** I1: what is refused first when there is too much, and what never is. */
import assert from "node:assert/strict";
import { METHODS } from "../../src/core/methods.ts";
import { loadOfMethod } from "../../src/gateway/in_flight.ts";
import {
  type FakeGatewayHouse,
  openGatewayHouse,
  program,
  rawRequest,
} from "../fakes/gateway_house.ts";
import { silence } from "../fakes/turns.ts";

/** Eight in all: six until strangers, seven until work is refused. */
const LIMITS = { inFlightMax: 8, inFlightPerPrincipalMax: 8 };

/** Keeps so many requests of the owner in flight until the house closes. */
async function occupy(house: FakeGatewayHouse, count: number): Promise<string> {
  house.turns.script = silence;
  const client = await house.socket({ token: "owner-token" });
  const sent = await client.call("chat.send", {
    sessionKey: "agent:main:main",
    message: "x",
    idempotencyKey: "1",
  });
  const { runId } = sent.payload;
  for (let n = 0; n < count; n++) {
    const params = { runId, timeoutMs: 60_000 };
    client.send({ type: "req", id: `w${n}`, method: "agent.wait", params });
  }
  // Answered at once, and after what came before it on this socket.
  await client.call("health");
  assert.equal(house.gateway.counts().inFlight, count);
  return runId;
}

const knock = (house: FakeGatewayHouse, ...more: string[]) =>
  rawRequest(house.port, [
    "GET /ws HTTP/1.1",
    `Host: 127.0.0.1:${house.port}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ...more,
  ]);

async function statusOf(answer: Promise<Response>): Promise<number> {
  const { status, body } = await answer;
  await body?.cancel();
  return status;
}

const chat = (house: FakeGatewayHouse, stream = true) =>
  statusOf(house.post("/v1/chat/completions", {
    model: "nobody:none",
    messages: [{ role: "user", content: "x" }],
    stream,
  }));

Deno.test("I1: strangers are refused first, then work, then reads, and stopping never", async (t) => {
  await t.step("up to three quarters everything is taken", async () => {
    await using house = await openGatewayHouse({ limits: LIMITS });
    await occupy(house, 5);
    assert.equal((await knock(house)).status, 101);
    assert.equal(await chat(house), 404, "let in, and no such model");
  });
  await t.step("from there no stranger's socket", async () => {
    await using house = await openGatewayHouse({ limits: LIMITS });
    await occupy(house, 6);
    const { status, head } = await knock(house);
    assert.equal(status, 503);
    assert.match(head, /\r\nretry-after: 1\r\n/i);
    const named = await knock(house, "Authorization: Bearer owner-token");
    assert.equal(named.status, 101);
    assert.equal(await chat(house), 404);
  });
  await t.step("from seven eighths no work", async () => {
    await using house = await openGatewayHouse({ limits: LIMITS });
    // Connected before: whoever comes now is told to come later.
    using client = await house.socket({ token: "owner-token" });
    await occupy(house, 7);
    assert.equal(await chat(house), 503);
    assert.equal(await chat(house, false), 503);
    assert.equal(await statusOf(house.get("/v1/models")), 200);
    const refused = await client.call("agent", {
      message: "x",
      idempotencyKey: "2",
    });
    assert.equal(refused.error.code, "UNAVAILABLE");
    assert.ok(refused.error.retryAfterMs > 0);
    assert.equal((await client.call("sessions.list", {})).ok, true);
  });
  await t.step("when it is full, only what is urgent", async () => {
    await using house = await openGatewayHouse({ limits: LIMITS });
    using owner = await house.socket({ token: "owner-token" });
    const runId = await occupy(house, 8);
    assert.equal(await statusOf(house.get("/v1/models")), 503);
    assert.equal(await statusOf(house.get("/health/ready")), 200);
    assert.equal(await statusOf(house.get("/health/live")), 200);
    const read = await owner.call("sessions.list", {});
    assert.equal(read.error.code, "UNAVAILABLE");
    assert.equal((await owner.call("health")).ok, true);
    assert.equal((await owner.call("status")).ok, true);
    const stopped = await owner.call("chat.abort", {
      sessionKey: "agent:main:main",
    });
    assert.deepEqual(stopped.payload.runIds, [runId]);
  });
});

Deno.test("I1: what is urgent and what is work is known of every method", () => {
  const urgent = Object.keys(METHODS).filter((name) =>
    loadOfMethod(name) === "urgent"
  );
  assert.deepEqual(urgent.sort(), [
    "approval.list",
    "approval.resolve",
    "chat.abort",
    "device.token.revoke",
    "exec.approval.resolve",
    "health",
    "status",
    "token.revoke",
  ]);
  for (const method of ["chat.send", "agent", "plugins.call"]) {
    assert.equal(loadOfMethod(method), "work");
  }
});

Deno.test("I1: one principal does not take every place, and can still stop", async () => {
  await using house = await openGatewayHouse({
    limits: { inFlightMax: 100, inFlightPerPrincipalMax: 2 },
    principals: { other: program("tok_other") },
  });
  house.turns.script = silence;
  using client = await house.socket({ token: "app-token" });
  const sent = await client.call("chat.send", {
    sessionKey: "main",
    message: "x",
    idempotencyKey: "1",
  });
  const { runId } = sent.payload;
  const wait = { runId, timeoutMs: 60_000 };
  for (const id of ["w1", "w2"]) {
    client.send({ type: "req", id, method: "agent.wait", params: wait });
  }
  await client.call("health");
  // Not on this socket, and not by HTTP either.
  using second = await house.socket({ token: "app-token" });
  assert.equal(
    (await second.call("agent.wait", wait)).error.code,
    "RATE_LIMITED",
  );
  const headers = { authorization: "Bearer app-token" };
  const answer = await house.get("/v1/models", { headers });
  assert.equal(answer.status, 429);
  assert.equal(answer.headers.get("retry-after"), "1");
  await answer.body?.cancel();
  const other = { authorization: "Bearer other" };
  assert.equal(
    await statusOf(house.get("/v1/models", { headers: other })),
    200,
  );
  const stopped = await second.call("chat.abort", { sessionKey: "main" });
  assert.equal(stopped.ok, true);
  assert.equal((await client.frame((f) => f.id === "w2")).ok, true);
  // What is over gives its places back.
  assert.equal(await statusOf(house.get("/v1/models", { headers })), 200);
  assert.equal(house.gateway.counts().inFlight, 0);
});

Deno.test("I1: who has used up its requests can still stop and approve", async () => {
  await using house = await openGatewayHouse({
    limits: {
      readsPerSecond: 0.01,
      readsBurst: 1,
      urgentPerSecond: 0.01,
      urgentBurst: 2,
    },
  });
  using client = await house.socket({ token: "app-token" });
  assert.equal((await client.call("health")).ok, true);
  assert.equal((await client.call("health")).error.code, "RATE_LIMITED");
  const stop = () => client.call("chat.abort", { sessionKey: "main" });
  assert.equal((await stop()).ok, true);
  assert.equal((await stop()).ok, true);
  assert.equal((await stop()).error.code, "RATE_LIMITED");
});
