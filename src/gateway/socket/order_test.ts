/**
 * One connection's requests: in order within a session, however its key is
 * written, and not held up by another session's. On real sockets.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  FakeClient,
  openGatewayHouse,
} from "../../../tests/fakes/gateway_house.ts";
import { openRealHouse } from "../../../tests/fakes/real_house.ts";
import { say } from "../../../tests/fakes/vendor.ts";

/** Ways to write the keys of three sessions; the owner's. */
const KEYS = [
  ["main", "agent:main:main", "agent:main"],
  ["agent:main:work", "work"],
  [
    "telegram:dm:ann",
    "agent:main:telegram:default:dm:ann",
    "telegram:direct:ann",
  ],
] as const;

const Sends = fc.array(
  fc.record({
    session: fc.nat(KEYS.length - 1),
    spelling: fc.nat(2),
    method: fc.constantFrom("chat.send", "agent"),
    /** Turns of the loop that its start takes. */
    delay: fc.nat(3),
  }),
  { minLength: 1, maxLength: 30 },
);

let ids = 0;

function send(
  client: FakeClient,
  { method, sessionKey, message }: {
    method: string;
    sessionKey: string;
    message: string;
  },
) {
  return client.call(method, {
    sessionKey,
    message,
    idempotencyKey: `k${++ids}`,
  });
}

Deno.test("requests keep their order in a session, whatever its key is called", async () => {
  await using house = await openGatewayHouse({
    limits: { ownerTurnsPerSecond: 100_000, ownerTurnsBurst: 100_000 },
  });
  using client = await house.socket({ token: "owner-token" });
  const start = house.turns.start.bind(house.turns);
  const started: { key: string; text: string }[] = [];
  const delays = new Map<string, number>();
  house.turns.start = async (request) => {
    const { text } = request.inbound;
    for (let n = delays.get(text) ?? 0; n > 0; n--) {
      await new Promise((done) => setTimeout(done));
    }
    started.push({ key: request.sessionKey ?? "", text });
    return await start(request);
  };
  await fc.assert(
    fc.asyncProperty(Sends, async (sends) => {
      started.length = 0;
      delays.clear();
      await Promise.all(sends.map(({ session, spelling, method, delay }, n) => {
        const spellings = KEYS[session] ?? KEYS[0];
        const sessionKey = spellings[spelling % spellings.length] ?? "main";
        delays.set(`${n}`, delay);
        return send(client, { method, sessionKey, message: `${n}` });
      }));
      assert.equal(started.length, sends.length);
      const bySession = Map.groupBy(started, ({ key }) => key);
      assert.ok(bySession.size <= KEYS.length);
      for (const turns of bySession.values()) {
        const order = turns.map(({ text }) => Number(text));
        assert.deepEqual(order, order.toSorted((a, b) => a - b));
      }
    }),
    { numRuns: 25 },
  );
});

Deno.test("a session that is held up holds up no other, and nothing that is read", async () => {
  await using house = await openGatewayHouse();
  using client = await house.socket({ token: "owner-token" });
  const start = house.turns.start.bind(house.turns);
  const held = Promise.withResolvers<void>();
  const order: string[] = [];
  house.turns.start = async (request) => {
    if (request.sessionKey === "agent:main:main") await held.promise;
    order.push(request.inbound.text);
    return await start(request);
  };
  const first = send(client, {
    method: "chat.send",
    sessionKey: "main",
    message: "first",
  });
  const second = send(client, {
    method: "agent",
    sessionKey: "agent:main:main",
    message: "second",
  });
  const other = await send(client, {
    method: "chat.send",
    sessionKey: "work",
    message: "other",
  });
  assert.equal(other.ok, true);
  assert.equal((await client.call("health")).ok, true);
  assert.equal(
    (await client.call("chat.history", { sessionKey: "main" })).ok,
    true,
  );
  assert.deepEqual(order, ["other"]);
  held.resolve();
  await Promise.all([first, second]);
  assert.deepEqual(order, ["other", "first", "second"]);
});

Deno.test("what was changed of a session is so for what is sent after it, without waiting", async () => {
  await using house = await openRealHouse({ script: () => say("ok") });
  using client = new FakeClient(`${house.url.replace("http", "ws")}/ws`);
  await client.connect({ auth: { token: house.owner } });
  const ask = async (message: string) => {
    const sent = { method: "agent", sessionKey: "main", message };
    const { payload: { runId } } = await send(client, sent);
    return await client.call("agent.wait", { runId });
  };
  await ask("hello");
  // A change that takes its time is still done before what was sent after it.
  const { operations } = house.house.desk;
  const run = operations.run.bind(operations);
  operations.run = async (...asked) => {
    for (let n = 0; n < 20; n++) await new Promise((done) => setTimeout(done));
    return await run(...asked);
  };
  const key = "agent:main:main";
  for (let n = 0; n < 2; n++) {
    const [model, vendor] = n % 2 === 0
      ? ["anthropic:claude-test", house.anthropic]
      : ["openai:gpt-test", house.openai];
    const before = vendor.requests.length;
    await Promise.all([
      client.call("sessions.patch", { key, model }),
      ask(`${n}`),
    ]);
    assert.equal(vendor.requests.length, before + 1, model);
  }
  const [{ payload: begun }, , { payload: told }] = await Promise.all([
    client.call("sessions.reset", { key: "main" }),
    ask("anew"),
    client.call("chat.history", { sessionKey: "main" }),
  ]);
  assert.equal(begun.ok, true);
  assert.notEqual(told.sessionId, "");
  const { payload } = await client.call("chat.history", { sessionKey: "main" });
  assert.deepEqual(
    payload.messages.map(({ role }: { role: string }) => role),
    ["user", "assistant"],
  );
});
