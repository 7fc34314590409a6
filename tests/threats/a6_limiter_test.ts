/** A6: one limiter before every check, and A7: one refusal for every reason. */
import assert from "node:assert/strict";
import { openIdentity } from "../../src/auth/open.ts";
import { Tokens } from "../../src/auth/tokens.ts";
import { AppError } from "../../src/core/errors.ts";
import { silentLog } from "../../src/core/log.ts";
import { openStore } from "../../src/store/store.ts";
import { FakeClock } from "../fakes/clock.ts";
import {
  connectDevice,
  knock,
  makeDevice,
  pairDevice,
  tokenSocket,
} from "../fakes/device.ts";
import { CLIENT } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

async function openRig() {
  const clock = new FakeClock();
  const store = await openStore({ dir: ":memory:", clock, log: silentLog });
  const tokens = new Tokens({ store, clock, log: silentLog });
  const identity = openIdentity({
    store,
    tokens,
    clock,
    log: silentLog,
    isAdmitted: () => Promise.resolve(false),
    plugins: () => [],
    onPairing: () => {},
  });
  return {
    clock,
    store,
    tokens,
    identity,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

/** The codes of many tries at once. */
async function codes(
  count: number,
  attempt: (n: number) => Promise<unknown>,
): Promise<Record<string, number>> {
  const results = await Promise.allSettled(
    Array.from({ length: count }, (_, n) => attempt(n)),
  );
  const seen: Record<string, number> = {};
  for (const one of results) {
    const code = one.status === "fulfilled"
      ? "in"
      : one.reason instanceof AppError
      ? one.reason.code
      : String(one.reason);
    seen[code] = (seen[code] ?? 0) + 1;
  }
  return seen;
}

const PARAMS = { minProtocol: 3, maxProtocol: 4, client: CLIENT };
const CHALLENGE = { nonce: "n", ts: 0 };

Deno.test("A6: two hundred tries at once are two hundred failures", async (t) => {
  for (const address of ["10.0.0.1", "127.0.0.1", "::1"]) {
    await t.step(address, async () => {
      await using rig = await openRig();
      const { authenticator } = rig.identity;
      const seen = await codes(
        200,
        (n) => authenticator.authenticate({ token: `wrong-${n}` }, { address }),
      );
      assert.deepEqual(seen, { unauthorized: 5, rate_limited: 195 });
    });
  }
});

Deno.test("A6: every kind of credential is charged to one account, by one address", async () => {
  await using rig = await openRig();
  const { authenticator, front } = rig.identity;
  const device = {
    id: "0".repeat(64),
    publicKey: "x",
    signature: "x",
    signedAt: 0,
    nonce: "n",
  };
  const tries = [
    { auth: { token: "wrong" } },
    { auth: { deviceToken: "card_wrong" } },
    { auth: { bootstrapToken: "cari_wrong" } },
    { device, auth: { deviceToken: "card_wrong" } },
    { device: { ...device, id: "1".repeat(64) } },
  ];
  const addresses = ["10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1"];
  const seen = await codes(
    15,
    (n) =>
      front.admit({ ...PARAMS, ...tries[n % tries.length] }, {
        address: addresses[n % addresses.length] ?? "",
        challenge: CHALLENGE,
      }),
  );
  assert.deepEqual(seen, { unauthorized: 5, rate_limited: 10 });
  const more = await codes(
    1,
    () =>
      authenticator.authenticate({ token: "wrong" }, { address: "10.0.0.1" }),
  );
  assert.deepEqual(more, { rate_limited: 1 });
});

Deno.test("A6: a device that is claimed from many addresses waits as a whole", async () => {
  await using rig = await openRig();
  const id = "0".repeat(64);
  const device = {
    id,
    publicKey: "x",
    signature: "x",
    signedAt: 0,
    nonce: "n",
  };
  const seen = await codes(
    20,
    (n) =>
      rig.identity.front.admit({ ...PARAMS, device }, {
        address: `10.0.0.${n}`,
        challenge: CHALLENGE,
      }),
  );
  assert.deepEqual(seen, { unauthorized: 5, rate_limited: 15 });
});

Deno.test("A6: what is right is never refused because others failed", async () => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const device = makeDevice();
  await pairDevice(house, owner, { device });
  const { payload } = await owner.call("device.bootstrap.create", {});
  for (let n = 0; n < 20; n++) {
    const response = await fetch(`${house.url}/v1/models`, {
      headers: { authorization: `Bearer wrong-${n}` },
    });
    await response.body?.cancel();
    assert.equal(response.status, n < 4 ? 401 : response.status);
  }
  using byToken = await tokenSocket(house, await house.token());
  assert.equal((await byToken.call("sessions.list")).ok, true);
  using bySignature = await knock(house);
  const hello = await connectDevice(bySignature, device);
  assert.equal(hello.ok, true);
  using byDeviceToken = await knock(house);
  const { deviceToken } = hello.payload.auth;
  const auth = { deviceToken };
  assert.equal((await connectDevice(byDeviceToken, device, { auth })).ok, true);
  using byCode = await knock(house);
  const code = { auth: { bootstrapToken: payload.code } };
  assert.equal((await connectDevice(byCode, makeDevice(), code)).ok, true);
});

Deno.test("A6: a flood of refusals is a row a minute", async () => {
  await using rig = await openRig();
  const { clock, store, identity } = rig;
  const refuse = () =>
    codes(300, (n) =>
      identity.authenticator.authenticate({ token: `w${n}` }, {
        address: `10.0.${n % 250}.1`,
      }));
  await refuse();
  await refuse();
  await clock.tick(60_000);
  await identity.keep();
  await store.probe();
  const rows = (await store.audit.list({ limit: 100 }))
    .filter(({ event }) => event === "auth.refused");
  assert.equal(rows.length, 2);
  const counts = rows.map(({ fields }) => fields["count"]);
  assert.equal(Number(counts[0]) + Number(counts[1]), 600);
});

/** What a stranger is told, without what is different by its nature. */
async function told(
  house: RealHouse,
  change: Parameters<typeof connectDevice>[2],
  device = makeDevice(),
): Promise<unknown> {
  using socket = await knock(house);
  const { error } = await connectDevice(socket, device, change);
  const { code, reason } = await socket.closed;
  return { error, code, reason };
}

Deno.test("A7: the refusal is the same for what is unknown, over, malformed or another's", async () => {
  const open = async () => {
    const house = await openRealHouse();
    const owner = await tokenSocket(house, house.owner);
    return { house, owner };
  };
  const cases: ((
    on: Awaited<ReturnType<typeof open>>,
  ) => Promise<unknown>)[] = [
    ({ house }) => told(house, { auth: { deviceToken: "card_unknown" } }),
    ({ house }) => told(house, { auth: { deviceToken: "\u0000" } }),
    ({ house }) => told(house, { auth: { token: "cara_unknown" } }),
    ({ house }) => told(house, { auth: { bootstrapToken: "cari_unknown" } }),
    ({ house }) => told(house, { device: { signature: "AAAA" } }),
    async ({ house, owner }) => {
      const device = makeDevice();
      await pairDevice(house, owner, { device });
      return await told(house, { auth: { deviceToken: "card_x" } }, device);
    },
    async ({ house, owner }) => {
      const device = makeDevice();
      await pairDevice(house, owner, { device });
      return await told(house, { signing: { nonce: "x" } }, device);
    },
    async ({ house }) => {
      const { tokens } = house.house;
      const made = await tokens.create({ name: "x", scopes: ["read"] });
      await tokens.revoke(made.id);
      return await told(house, { auth: { token: made.token } });
    },
    async ({ house, owner }) => {
      const { payload } = await owner.call("device.bootstrap.create", {});
      await owner.call("device.pair.reject", { requestId: payload.inviteId });
      return await told(house, { auth: { bootstrapToken: payload.code } });
    },
  ];
  const answers = new Set<string>();
  for (const one of cases) {
    const on = await open();
    await using _house = on.house;
    using _owner = on.owner;
    answers.add(JSON.stringify(await one(on)));
  }
  assert.equal(answers.size, 1, [...answers].join("\n"));
});

Deno.test("A7: a device that was never there and one that was ended are told the same", async () => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const ended = makeDevice();
  await pairDevice(house, owner, { device: ended });
  await owner.call("device.token.revoke", { deviceId: ended.id });
  const shape = (answer: unknown) =>
    JSON.stringify(answer).replaceAll(/pair_[0-9a-z]+/g, "pair_ID");
  assert.equal(
    shape(await told(house, {}, ended)),
    shape(await told(house, {})),
  );
});
