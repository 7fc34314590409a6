/**
 * I1: bounds as they ship, each at both sides of its border: what is just within
 * passes, one more is refused.
 */
import assert from "node:assert/strict";
import { METHODS } from "../../src/core/methods.ts";
import { EMPTY_SOURCES } from "../fakes/metrics.ts";
import { GATEWAY_LIMITS } from "../../src/gateway/limits.ts";
import { Metrics } from "../../src/ops/metrics.ts";
import {
  CLIENT,
  type FakeClient,
  type FakeGatewayHouse,
  openGatewayHouse,
  rawRequest,
} from "../fakes/gateway_house.ts";
import { silence } from "../fakes/turns.ts";

const TOKEN = "Authorization: Bearer owner-token";

/** The status of a body of so many bytes, stated and sent. */
async function body(
  house: FakeGatewayHouse,
  path: string,
  bytes: number,
): Promise<number> {
  const answer = await house.post(path, "{}".padEnd(bytes));
  await answer.body?.cancel();
  return answer.status;
}

Deno.test("I1: a body of stated length, at its route's limit and beyond", async () => {
  await using house = await openGatewayHouse();
  const rows: [string, number][] = [
    ["/v1/chat/completions", GATEWAY_LIMITS.apiBodyBytesMax],
    ["/v1/messages", GATEWAY_LIMITS.apiBodyBytesMax],
    ["/tools/invoke", GATEWAY_LIMITS.bodyBytesMax],
  ];
  for (const [path, bytesMax] of rows) {
    assert.equal(await body(house, path, bytesMax), 400, `${path}: not asked`);
    assert.equal(await body(house, path, bytesMax + 1), 413, path);
  }
});

Deno.test("I1: a path and a target, at their limits and beyond", async () => {
  await using house = await openGatewayHouse();
  const status = async (target: string) =>
    (await rawRequest(house.port, [
      `GET ${target} HTTP/1.1`,
      `Host: 127.0.0.1:${house.port}`,
      TOKEN,
    ])).status;
  const path = (chars: number) => `/${"a".repeat(chars - 1)}`;
  assert.equal(await status(path(GATEWAY_LIMITS.pathCharsMax)), 404);
  assert.equal(await status(path(GATEWAY_LIMITS.pathCharsMax + 1)), 400);
  // The target is counted with the scheme and the host before it.
  const before = `http://127.0.0.1:${house.port}/v1/models?`.length;
  const query = (chars: number) => `/v1/models?${"a".repeat(chars - before)}`;
  assert.equal(await status(query(GATEWAY_LIMITS.targetCharsMax)), 200);
  assert.equal(await status(query(GATEWAY_LIMITS.targetCharsMax + 1)), 414);
});

Deno.test("I1: a frame before the handshake, at its limit and beyond", async () => {
  await using house = await openGatewayHouse();
  const connect = JSON.stringify({
    type: "req",
    id: "1",
    method: "connect",
    params: {
      minProtocol: 3,
      maxProtocol: 4,
      client: CLIENT,
      auth: { token: "owner-token" },
    },
  });
  using within = await house.socket();
  within.send(connect.padEnd(65_536));
  assert.equal((await within.frame((f) => f.id === "1")).ok, true);
  using beyond = await house.socket();
  beyond.send(connect.padEnd(65_537));
  assert.equal((await beyond.closed).code, 1009);
});

Deno.test("I1: a frame's levels and values, at their limits and beyond", async () => {
  await using house = await openGatewayHouse();
  const frame = (params: string) =>
    `{"type":"req","id":"1","method":"sessions.list","params":${params}}`;
  const nested = (levels: number) =>
    `{"a":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
  const wide = (values: number) => `{"a":[${"0,".repeat(values - 1)}0]}`;
  // The frame itself is one level; of its values there are six beside the list.
  const rows: [string, string][] = [
    [nested(31), nested(32)],
    [wide(9_994), wide(9_995)],
  ];
  for (const [within, beyond] of rows) {
    using client = await house.socket({ token: "owner-token" });
    client.send(frame(within));
    // Read, whatever is said to it then.
    const { type } = await client.frame((f) => f.id === "1");
    assert.equal(type, "res");
    client.send(frame(beyond));
    assert.equal((await client.closed).code, 1008);
  }
});

Deno.test("I1: one socket's requests, at their number and beyond", async () => {
  await using house = await openGatewayHouse();
  house.turns.script = silence;
  using client = await house.socket({ token: "owner-token" });
  const { payload } = await client.call("chat.send", {
    sessionKey: "agent:main:main",
    message: "x",
    idempotencyKey: "1",
  });
  const { runId } = payload;
  const max = GATEWAY_LIMITS.requestsPerSocketMax;
  for (let n = 0; n < max - 1; n++) {
    const params = { runId, timeoutMs: 60_000 };
    client.send({ type: "req", id: `w${n}`, method: "agent.wait", params });
  }
  assert.equal((await client.call("sessions.list", {})).ok, true, "the last");
  client.send({
    type: "req",
    id: "full",
    method: "agent.wait",
    params: { runId, timeoutMs: 60_000 },
  });
  const beyond = await client.call("sessions.list", {});
  assert.equal(beyond.error.code, "RATE_LIMITED");
  await client.call("chat.abort", { sessionKey: "agent:main:main" });
});

Deno.test("I1: every socket there is, and one more", async () => {
  await using house = await openGatewayHouse();
  const { socketsMax } = GATEWAY_LIMITS;
  const knock = () =>
    rawRequest(house.port, [
      "GET /ws HTTP/1.1",
      `Host: 127.0.0.1:${house.port}`,
      TOKEN,
      "Upgrade: websocket",
      "Connection: Upgrade",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]);
  const named: unknown = { headers: { authorization: "Bearer owner-token" } };
  const open: WebSocket[] = [];
  let left = socketsMax;
  await Promise.all(Array.from({ length: 16 }, async () => {
    while (left-- > 0) {
      const url = `ws://127.0.0.1:${house.port}/ws`;
      const socket = new WebSocket(url, named as string[]);
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new TypeError("it was not taken"));
      });
      open.push(socket);
    }
  }));
  assert.equal(house.gateway.counts().sockets, socketsMax);
  const { status, head } = await knock();
  assert.equal(status, 503);
  assert.match(head, /\r\nretry-after: 2\r\n/i);
  const [one] = open;
  const gone = new Promise((resolve) => {
    if (one !== undefined) one.onclose = resolve;
  });
  one?.close();
  await gone;
  assert.equal((await knock()).status, 101, "a place that is free again");
  for (const socket of open) socket.close();
});

Deno.test("I1: connections that one presence lists, and one more", async () => {
  await using house = await openGatewayHouse({
    limits: { preAuthSocketsMax: 500, preAuthPerAddressMax: 500 },
  });
  const max = GATEWAY_LIMITS.presenceEntriesMax;
  const clients: FakeClient[] = [];
  const join = async () =>
    void clients.push(await house.socket({ token: "owner-token" }));
  await Promise.all(Array.from({ length: max }, join));
  const listed = async () =>
    (await clients[0]?.call("system-presence"))?.payload;
  const first = await listed();
  assert.equal(first.length, max);
  await join();
  const second = await listed();
  assert.deepEqual(
    METHODS["system-presence"].output.parse(second).map((one) => one.connId),
    METHODS["system-presence"].output.parse(first).map((one) => one.connId),
    "the oldest are listed",
  );
  for (const client of clients) client[Symbol.dispose]();
});

Deno.test("I1: label values of one series, and one more", async () => {
  let count: (call: { id: string; outcome: string }) => void = () => {};
  using metrics = new Metrics({
    ...EMPTY_SOURCES,
    watchPlugins: (listener) => {
      count = listener;
      return { [Symbol.dispose]: () => {} };
    },
  });
  for (let n = 0; n < 500; n++) count({ id: `p${n}`, outcome: "done" });
  const lines = async () =>
    (await metrics.text()).text.split("\n")
      .filter((line) => line.startsWith("carapace_plugin_calls_total{"));
  assert.equal((await lines()).length, 500);
  assert.ok(!(await lines()).some((line) => line.includes('"other"')));
  for (const id of ["p500", "p501"]) count({ id, outcome: "done" });
  assert.deepEqual((await lines()).filter((line) => !/"p\d/.test(line)), [
    'carapace_plugin_calls_total{plugin="other",outcome="other"} 2',
  ]);
  assert.equal((await lines()).length, 501);
});
