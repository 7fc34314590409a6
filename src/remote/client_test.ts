import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeGateway, untilAborted } from "../../tests/fakes/gateway.ts";
import { AppError } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import { Secret } from "../core/secret.ts";
import { type Clock, systemClock } from "../core/time.ts";
import type { TurnEventBody } from "../core/turn.ts";
import { GatewayClient } from "./client.ts";
import type { GatewayAddress } from "./handshake.ts";
import { RunFollower } from "./run_events.ts";
import { runTurn, type TurnNotice } from "./run_turn.ts";

/** The machine's clock whose waits are over at once, but one event loop turn later. */
const quick: Clock = {
  now: systemClock.now,
  sleep: (ms, signal) =>
    systemClock.sleep(ms >= 10_000 ? ms : Math.min(ms, 5), signal),
};

function addressOf(gateway: FakeGateway, token = "test-token"): GatewayAddress {
  return {
    url: gateway.url,
    token: new Secret(token, "test"),
    tokenHint: "make a token",
  };
}

function connect(gateway: FakeGateway): Promise<GatewayClient> {
  return GatewayClient.connect(addressOf(gateway), { clock: quick });
}

async function textOfTurn(
  client: GatewayClient,
  message = "hi",
  clock: Clock = quick,
) {
  const seen: TurnNotice[] = [];
  let text = "";
  const turn = runTurn(
    client,
    { sessionKey: "agent:main:main", message },
    { clock },
  );
  for await (const event of turn) {
    seen.push(event);
    if (event.kind === "text") text += event.text;
  }
  const end = seen.at(-1);
  assert.ok(end?.kind === "end");
  return { seen, text, end };
}

Deno.test("GatewayClient.connect() shakes hands with the token and no scopes of its own", async () => {
  await using gateway = new FakeGateway();
  using client = await connect(gateway);
  assert.equal(client.hello.server.host, "fake");
  const [params] = gateway.connects;
  assert.equal(params?.client.id, "cli");
  assert.equal(params?.client.mode, "cli");
  assert.equal(params?.scopes, undefined);
});

Deno.test("GatewayClient.connect() says what is wrong and what to do", async (t) => {
  await t.step("a wrong token", async () => {
    await using gateway = new FakeGateway();
    await assert.rejects(
      GatewayClient.connect(addressOf(gateway, "wrong"), { clock: quick }),
      (error: AppError) =>
        error.code === "unauthorized" && error.hint === "make a token" &&
        error.details?.["exit"] === 6 && !error.message.includes("wrong"),
    );
  });
  await t.step("nobody there", async () => {
    const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const { port } = listener.addr;
    listener.close();
    await assert.rejects(
      GatewayClient.connect(
        { url: `ws://127.0.0.1:${port}/ws`, token: undefined, tokenHint: "" },
        { clock: quick },
      ),
      (error: AppError) =>
        error.details?.["exit"] === 5 &&
        error.message ===
          `Cannot reach the gateway at ws://127.0.0.1:${port}/ws: nothing listens there` &&
        error.hint?.includes("deno task start") === true,
    );
  });
  await t.step("something else there", async () => {
    await using server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      () => new Response("hello"),
    );
    await assert.rejects(
      GatewayClient.connect({
        url: `ws://127.0.0.1:${server.addr.port}/ws`,
        token: undefined,
        tokenHint: "",
      }, { clock: quick }),
      /something answers there, but not as a gateway/,
    );
  });
  await t.step("something that opens a socket and says nothing", async () => {
    await using server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      (request) => Deno.upgradeWebSocket(request).response,
    );
    await assert.rejects(
      GatewayClient.connect({
        url: `ws://127.0.0.1:${server.addr.port}/ws`,
        token: undefined,
        tokenHint: "",
      }, { clock: quick, handshakeMs: 30 }),
      /no answer within 30 ms/,
    );
  });
});

Deno.test("call() checks the answer and carries the gateway's hint", async (t) => {
  await using gateway = new FakeGateway({
    methods: {
      "token.list": () => ({ tokens: [{ id: 7 }] }),
      "token.revoke": () => {
        throw new AppError("not_found", 'There is no token "x"', {
          hint: 'Run "carapace token list"',
        });
      },
    },
  });
  using client = await connect(gateway);
  await t.step("an answer of another shape", async () => {
    await assert.rejects(
      client.call("token.list", {}),
      /"token.list": tokens.0/,
    );
  });
  await t.step("a refusal", async () => {
    await assert.rejects(
      client.call("token.revoke", { id: "x" }),
      { code: "not_found", hint: 'Run "carapace token list"' },
    );
  });
  await t.step("frames nobody can read are skipped", async () => {
    for (const text of ["nonsense", "[]", '{"type":"x"}', '{"type":"res"}']) {
      gateway.sendRaw(text);
    }
    assert.equal((await textOfTurn(client)).text, "You said: hi");
  });
});

Deno.test("events() yields what the gateway sends until it is disposed", async () => {
  await using gateway = new FakeGateway();
  using client = await connect(gateway);
  const names: string[] = [];
  {
    using events = client.events();
    gateway.broadcast("tick", { ts: 1 });
    gateway.broadcast("shutdown", {});
    for await (const notice of events) {
      if (notice.kind === "event") names.push(notice.event);
      if (names.length === 2) break;
    }
  }
  assert.deepEqual(names, ["tick", "shutdown"]);
});

function textScript(parts: number, cutAfter: readonly number[]) {
  return async function* (
    { gateway }: { gateway: FakeGateway },
  ): AsyncGenerator<TurnEventBody> {
    let text = "";
    for (let n = 0; n < parts; n++) {
      text += `${n},`;
      yield { kind: "text", text: `${n},` };
      if (cutAfter.includes(n)) gateway.cut();
      // Lets the client lose the socket before, while and after events come.
      await systemClock.sleep(n % 4);
    }
    yield { kind: "reply", text, model: "fake:count" };
  };
}

Deno.test("runTurn() goes on after lost connections, without gap or repetition", async (t) => {
  const want = Array.from({ length: 20 }, (_, n) => `${n},`).join("");
  for (const cuts of [[], [0], [19], [3, 4, 11], [0, 9, 18, 19]]) {
    await t.step(`cut after ${cuts.join(" ") || "nothing"}`, async () => {
      await using gateway = new FakeGateway({ script: textScript(20, cuts) });
      using client = await connect(gateway);
      const { text, end, seen } = await textOfTurn(client);
      assert.equal(text, want);
      assert.equal(end.state, "final");
      assert.equal(end.reply, want);
      if (cuts.length > 0) assert.ok(seen.some((e) => e.kind === "back"));
    });
  }
});

Deno.test("runTurn() gets the outcome when the events are gone", async () => {
  await using gateway = new FakeGateway({
    script: async function* ({ gateway }) {
      yield { kind: "text", text: "begun" };
      gateway.cut(1013);
      gateway.refuse(2);
      await systemClock.sleep(1);
      yield { kind: "reply", text: "all of it", model: "fake:x" };
      yield {
        kind: "end",
        reason: "done",
        usage: {
          inputTokens: 1,
          outputTokens: 1,
          cachedTokens: 0,
          cacheWriteTokens: 0,
        },
      };
      gateway.forget();
    },
  });
  using client = await connect(gateway);
  const { end } = await textOfTurn(client);
  assert.equal(end.state, "final");
  assert.equal(end.reply, "all of it");
});

Deno.test("runTurn() sends a message once, though its answer was lost", async () => {
  let starts = 0;
  await using gateway = new FakeGateway({
    script: async function* ({ gateway }) {
      starts++;
      gateway.cut(); // before the response to chat.send is sent
      yield await Promise.resolve({ kind: "text", text: "one" });
      yield { kind: "reply", text: "one", model: "fake:x" };
    },
  });
  using client = await connect(gateway);
  const { text } = await textOfTurn(client);
  assert.equal(starts, 1);
  assert.equal(text, "one");
  assert.equal(
    gateway.requests.filter((r) => r.method === "chat.send").length,
    2,
  );
});

Deno.test("runTurn() connects first when the connection was lost meanwhile", async () => {
  await using gateway = new FakeGateway();
  using client = await connect(gateway);
  gateway.cut();
  using events = client.events();
  for await (const notice of events) if (notice.kind === "lost") break;
  const { text, seen } = await textOfTurn(client, "hi", systemClock);
  assert.equal(text, "You said: hi");
  assert.ok(!seen.some(({ kind }) => kind === "lost" || kind === "back"));
  assert.equal(gateway.connects.length, 2);
});

Deno.test("runTurn() says so when the gateway that was lost stays away", async () => {
  await using gateway = new FakeGateway();
  using client = await connect(gateway);
  using events = client.events();
  await gateway[Symbol.asyncDispose]();
  for await (const notice of events) if (notice.kind === "lost") break;
  using turn = Object.assign(
    runTurn(client, { sessionKey: "agent:main:main", message: "hi" }, {
      clock: quick,
    }),
    { [Symbol.dispose]: () => client[Symbol.dispose]() },
  );
  const { value } = await turn.next();
  assert.deepEqual(value, {
    kind: "lost",
    reason: "The gateway does not answer",
  });
});

Deno.test("runTurn() stops the run when its signal aborts", async () => {
  await using gateway = new FakeGateway({
    script: async function* ({ signal }) {
      yield { kind: "text", text: "thinking about it" };
      await untilAborted(signal);
    },
  });
  using client = await connect(gateway);
  const stop = new AbortController();
  const states: string[] = [];
  const turn = runTurn(
    client,
    { sessionKey: "agent:main:main", message: "hi" },
    { clock: quick, signal: stop.signal },
  );
  for await (const event of turn) {
    if (event.kind === "text") stop.abort();
    if (event.kind === "end") states.push(event.state);
  }
  assert.deepEqual(states, ["aborted"]);
  assert.equal(gateway.requests.at(-1)?.method, "chat.abort");
});

Deno.test("GatewayClient gives up when the gateway stays away", async () => {
  const gateway = new FakeGateway({
    script: async function* ({ signal }) {
      yield { kind: "text", text: "x" };
      await untilAborted(signal);
    },
  });
  using client = await GatewayClient.connect(addressOf(gateway), {
    clock: quick,
    reconnectMs: 40,
  });
  const turn = textOfTurn(client);
  const refused = assert.rejects(turn, { code: "unavailable" });
  await systemClock.sleep(10);
  await gateway[Symbol.asyncDispose]();
  await refused;
  await assert.rejects(client.call("status", {}), { code: "unavailable" });
});

Deno.test("GatewayClient reconnects for the next call, and stops at a revoked token", async () => {
  const options = { token: "test-token", methods: { health: healthy } };
  await using gateway = new FakeGateway(options);
  using client = await connect(gateway);
  gateway.cut();
  assert.equal((await client.call("health", {})).status, "ok");
  options.token = "another";
  gateway.cut(1008);
  await assert.rejects(client.call("health", {}), { code: "unauthorized" });
});

function healthy() {
  return {
    ts: 1,
    status: "ok",
    channels: {},
    sessions: { count: 0 },
    ws: { connections: 1 },
  };
}

Deno.test("GatewayClient notices a gateway that fell silent", async () => {
  await using gateway = new FakeGateway({
    tickIntervalMs: 1000,
    methods: { health: healthy },
  });
  let now = 0;
  const clock: Clock = {
    now: () => now,
    sleep: (ms, signal) => {
      now += ms;
      return systemClock.sleep(1, signal);
    },
  };
  using client = await GatewayClient.connect(addressOf(gateway), { clock });
  using events = client.events();
  for await (const notice of events) {
    if (notice.kind === "lost") break;
  }
  assert.equal((await client.call("health", {})).status, "ok");
  assert.ok(client.epoch >= 2);
});

Deno.test("GatewayClient looks after a gateway at its own pace, whatever that one says", async (t) => {
  for (const tickIntervalMs of [2 ** 40, 2 ** 31, 0, -5]) {
    await t.step(String(tickIntervalMs), async () => {
      await using gateway = new FakeGateway({ tickIntervalMs });
      const slept = Promise.withResolvers<number>();
      const clock: Clock = {
        now: () => 0,
        sleep: (ms, signal) => {
          slept.resolve(ms);
          return systemClock.sleep(60_000, signal);
        },
      };
      using _client = await GatewayClient.connect(addressOf(gateway), {
        clock,
      });
      const ms = await slept.promise;
      // A timer of more than 2^31 ms is over at once, again and again.
      assert.ok(ms >= 1_000 && ms <= 600_000, `${ms}`);
    });
  }
});

Deno.test("RunFollower skips what was seen, wherever the stream was cut", () => {
  const runId = makeId("run", 1);
  const run = { runId, sessionKey: "agent:main:main" };
  const event = (seq: number) => ({
    runId,
    seq,
    stream: "assistant",
    ts: 0,
    data: { text: `${seq};` },
  });
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 30 }),
    fc.array(fc.nat(30), { maxLength: 5 }),
    (length, cuts) => {
      const follower = new RunFollower(run);
      let text = "";
      const play = (from: number, to: number) => {
        for (let seq = from + 1; seq <= to; seq++) {
          const got = follower.take("agent", event(seq));
          if (got?.kind === "text") text += got.text;
        }
      };
      for (const cut of cuts) {
        play(follower.resume()?.seq ?? 0, Math.min(cut, length));
      }
      play(follower.resume()?.seq ?? 0, length);
      assert.equal(
        text,
        Array.from({ length }, (_, n) => `${n + 1};`).join(""),
      );
    },
  ));
});
