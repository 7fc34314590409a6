/**
 * A1: what a key may spend is the key's own, at every door, whatever is made
 * with it, and also after a restart.
 */
import assert from "node:assert/strict";
import type { TokenRequest } from "../../src/auth/tokens.ts";
import {
  connectDevice,
  knock,
  makeDevice,
  tokenSocket,
} from "../fakes/device.ts";
import type { FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

/** A call comes to 70 cents and 25,000 tokens, and may come to 80 before. */
const DEAR = { text: "done", usage: { input: 20_000, output: 5_000 } };
const RATES = { input: 10, output: 100 };
const SETTINGS = {
  prices: { "openai:gpt-test": RATES, "anthropic:claude-test": RATES },
  agents: {
    main: { model: "openai:gpt-test" },
    work: { model: "anthropic:claude-test" },
  },
};
const messages = [{ role: "user", content: "hi" }];

interface Answer {
  /** Nothing was refused. */
  ok: boolean;
  said: string;
}

type Door = (house: RealHouse, token: string) => Promise<Answer>;

async function post(
  house: RealHouse,
  path: string,
  { token, body }: { token: string; body: unknown },
): Promise<Answer & { status: number }> {
  const answer = await fetch(`${house.url}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
    },
    body: JSON.stringify(body),
  });
  const { status } = answer;
  return { ok: status === 200, status, said: await answer.text() };
}

const http = (path: string, body: Record<string, unknown>): Door =>
async (
  house,
  token,
) => {
  const answer = await post(house, path, { token, body });
  assert.ok(answer.ok || answer.status === 429, `${answer.status}`);
  return answer;
};

async function turn(socket: FakeClient): Promise<Answer> {
  const sent = await socket.call("agent", {
    message: "hi",
    idempotencyKey: crypto.randomUUID(),
  });
  if (!sent.ok) return { ok: false, said: JSON.stringify(sent.error) };
  const { runId } = sent.payload;
  const { payload } = await socket.call("agent.wait", { runId });
  return { ok: payload.status === "ok", said: payload.error ?? "" };
}

const DOORS: Readonly<Record<string, Door>> = {
  "an agent over chat": http("/v1/chat/completions", {
    model: "carapace",
    messages,
  }),
  "an agent over responses": http("/v1/responses", {
    model: "carapace",
    input: "hi",
  }),
  "an agent over messages": http("/v1/messages", {
    model: "carapace",
    messages,
    max_tokens: 8_192,
  }),
  "an agent over WebSocket": async (house, token) => {
    using socket = await tokenSocket(house, token);
    return await turn(socket);
  },
  "a model over chat": http("/v1/chat/completions", {
    model: "openai:gpt-test",
    messages,
  }),
  "a model over responses": http("/v1/responses", {
    model: "openai:gpt-test",
    input: "hi",
  }),
  "a model over messages": http("/v1/messages", {
    model: "anthropic:claude-test",
    messages,
    max_tokens: 8_192,
  }),
};

function open(stateDir?: string): Promise<RealHouse> {
  return openRealHouse({
    script: () => DEAR,
    settings: SETTINGS,
    ...(stateDir === undefined ? {} : { stateDir }),
  });
}

async function makeKey(
  house: RealHouse,
  change: Partial<TokenRequest>,
): Promise<{ id: string; token: string }> {
  return await house.house.tokens.create({
    name: "key",
    scopes: ["write"],
    ...change,
  });
}

Deno.test("A1: a key's budget holds at each door, and another key goes on", async (t) => {
  await using house = await open();
  const budgets = {
    dollars: { usdPerDay: 1 },
    tokens: { tokensPerDay: 30_000 },
    both: { usdPerDay: 1, tokensPerDay: 1_000_000 },
  };
  for (const [name, door] of Object.entries(DOORS)) {
    for (const [meter, budget] of Object.entries(budgets)) {
      await t.step(`${name}: ${meter}`, async () => {
        const { id, token } = await makeKey(house, { budget });
        assert.deepEqual(await door(house, token).then(({ ok }) => ok), true);
        const asked = house.openai.requests.length +
          house.anthropic.requests.length;
        const { ok, said } = await door(house, token);
        assert.equal(ok, false, "refused");
        assert.match(said, new RegExp(`the budget of key .{0,2}${id}`));
        assert.equal(
          house.openai.requests.length + house.anthropic.requests.length,
          asked,
          "no vendor is asked",
        );
      });
    }
    // The day's own limit is not what refused.
    house.house.adopt(house.settings({ budgets: { usdPerDay: "off" } }));
    const { token } = await makeKey(house, {});
    for (const _ of [1, 2]) assert.ok((await door(house, token)).ok);
  }
});

Deno.test("A1: a budget of nothing lets nothing through", async () => {
  await using house = await open();
  for (const budget of [{ usdPerDay: 0 }, { tokensPerDay: 0 }]) {
    const { token } = await makeKey(house, { budget });
    for (const door of Object.values(DOORS)) {
      assert.equal((await door(house, token)).ok, false);
    }
  }
  assert.equal(house.openai.requests.length, 0);
  assert.equal(house.anthropic.requests.length, 0);
});

Deno.test("A1: what a key spent is spent after a restart too", async () => {
  await using first = await open();
  // The folder outlives the first house, and goes with it.
  const { id, token } = await makeKey(first, { budget: { usdPerDay: 1 } });
  const child = await childOf(first, { id, token }, { scopes: ["chat"] });
  const door = DOORS["an agent over chat"];
  assert.ok(door);
  assert.ok((await door(first, child)).ok);
  await first.house[Symbol.asyncDispose]();
  await using second = await open(first.stateDir);
  for (const key of [token, child]) {
    assert.equal((await door(second, key)).ok, false);
  }
  using owner = await tokenSocket(second, second.owner);
  const { budgets } = (await owner.call("usage.budget")).payload;
  const own = budgets.find(({ name }: { name?: string }) => name === id);
  assert.equal(own.meter, "usd");
  assert.equal(own.limit, 1);
  assert.equal(own.spent, 0.7);
});

/** A key made with another, over the wire. */
async function childOf(
  house: RealHouse,
  parent: { id: string; token: string },
  wish: Record<string, unknown>,
): Promise<string> {
  const { tokens } = house.house;
  const row = (await tokens.list()).find(({ id }) => id === parent.id);
  if (!row?.scopes.includes("admin")) {
    // Only an admin's key makes others: the same record, without the wire.
    const found = await house.house.identity.authenticator.find(parent.token);
    const { token } = await tokens.create(
      { name: "child", scopes: ["chat"], ...wish },
      found?.authority,
    );
    return token;
  }
  using socket = await tokenSocket(house, parent.token);
  const { ok, payload, error } = await socket.call("token.create", {
    name: "child",
    scopes: ["chat"],
    ...wish,
  });
  assert.ok(ok, JSON.stringify(error));
  return payload.token;
}

Deno.test("A1: whatever is made with a key spends of the key's budget", async (t) => {
  const admin = { scopes: ["admin"], budget: { usdPerDay: 1 } };
  const chat: Door = DOORS["an agent over chat"] ?? assert.fail();
  await t.step("more than its maker's is refused", async () => {
    await using house = await open();
    const parent = await makeKey(house, admin);
    using socket = await tokenSocket(house, parent.token);
    for (
      const [budget, isRefused] of [
        [{ usdPerDay: 1.000001 }, true],
        [{ usdPerDay: 1 }, false],
        // Of tokens its maker has as many as it likes.
        [{ tokensPerDay: 1_000_000 }, false],
        [{ usdPerDay: 2, tokensPerDay: 1 }, true],
      ] as const
    ) {
      const { ok, error } = await socket.call("token.create", {
        name: "child",
        scopes: ["chat"],
        budget,
      });
      assert.equal(ok, !isRefused, JSON.stringify(budget));
      if (isRefused) {
        assert.equal(error.code, "FORBIDDEN");
        assert.match(error.message, /a budget of [\d.]+ \$ a day/);
      }
    }
  });
  await t.step("two children have one budget between them", async () => {
    await using house = await open();
    const parent = await makeKey(house, admin);
    const first = await childOf(house, parent, {});
    const second = await childOf(house, parent, { budget: { usdPerDay: 1 } });
    assert.ok((await chat(house, first)).ok);
    for (const key of [second, first, parent.token]) {
      const { ok, said } = await chat(house, key);
      assert.equal(ok, false);
      assert.match(said, new RegExp(parent.id));
    }
  });
  await t.step("a child's child too, and its own is the less", async () => {
    await using house = await open();
    const parent = await makeKey(house, {
      ...admin,
      budget: { usdPerDay: 3 },
    });
    const middle = await childOf(house, parent, {
      scopes: ["admin"],
      budget: { usdPerDay: 1 },
    });
    using socket = await tokenSocket(house, middle);
    const { payload } = await socket.call("token.create", {
      name: "last",
      scopes: ["chat"],
    });
    assert.ok((await chat(house, payload.token)).ok);
    assert.equal((await chat(house, payload.token)).ok, false);
    assert.equal((await chat(house, middle)).ok, false);
    assert.ok((await chat(house, parent.token)).ok);
  });
  await t.step("a device it pairs", async () => {
    await using house = await open();
    const parent = await makeKey(house, {
      scopes: ["pairing", "write"],
      budget: { usdPerDay: 1 },
    });
    using socket = await tokenSocket(house, parent.token);
    const made = await socket.call("device.bootstrap.create", {
      scopes: ["write"],
    });
    const invited = makeDevice();
    using byCode = await knock(house);
    const auth = { bootstrapToken: made.payload.code };
    const scopes = ["operator.write"];
    assert.ok((await connectDevice(byCode, invited, { scopes, auth })).ok);
    const asking = makeDevice();
    using knocking = await knock(house);
    const asked = await connectDevice(knocking, asking, { scopes });
    const { requestId } = asked.error.details;
    assert.ok((await socket.call("device.pair.approve", { requestId })).ok);
    using approved = await knock(house);
    assert.ok((await connectDevice(approved, asking, { scopes })).ok);
    assert.ok((await turn(byCode)).ok);
    for (const device of [approved, byCode, socket]) {
      const { ok, said } = await turn(device);
      assert.equal(ok, false);
      assert.match(said, new RegExp(parent.id));
    }
  });
  await t.step("it takes no text of a key that has none", async () => {
    await using house = await open();
    const parent = await makeKey(house, admin);
    const other = await makeKey(house, { name: "other" });
    using socket = await tokenSocket(house, parent.token);
    for (const method of ["token.rotate", "token.revoke"]) {
      const { error } = await socket.call(method, { id: other.id });
      assert.equal(error.code, "FORBIDDEN", method);
      assert.match(error.message, /a budget/);
    }
  });
});

Deno.test("A1: a key sees its own budget, and no other's", async () => {
  await using house = await open();
  const own = await makeKey(house, { budget: { usdPerDay: 1 } });
  const other = await makeKey(house, { budget: { tokensPerDay: 7 } });
  using socket = await tokenSocket(house, own.token);
  const shown = (await socket.call("usage.budget")).payload.budgets;
  assert.deepEqual(
    shown.map((
      { scope, name, limit }: Record<string, unknown>,
    ) => [scope, name, limit]),
    [["key", own.id, 1]],
  );
  using owner = await tokenSocket(house, house.owner);
  const all = JSON.stringify((await owner.call("usage.status")).payload);
  for (const { id } of [own, other]) assert.ok(all.includes(id));
  const { tokens } = (await owner.call("token.list")).payload;
  const row = tokens.find(({ id }: { id: string }) => id === own.id);
  assert.deepEqual(row.budget, { usdPerDay: 1 });
  assert.equal(row.purses, undefined);
});
