/** A2, A3, B1: what a credential lends, and what of it outlives it. */
import assert from "node:assert/strict";
import { isSenderLive } from "../../src/agent/channel_inbox.ts";
import { peerAuthority } from "../../src/auth/principal.ts";
import { Tokens } from "../../src/auth/tokens.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import type { PairingGrant, SenderPlace } from "../../src/store/pairings.ts";
import {
  connectDevice,
  knock,
  makeDevice,
  pairDevice,
  tokenSocket,
} from "../fakes/device.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

const PLACE: SenderPlace = {
  channel: "net",
  account: "default",
  kind: "direct",
  conversation: "c",
  sender: "eve",
};

/** A sender that waits to be let in. */
async function waits({ house }: RealHouse, code: string): Promise<void> {
  const { pairings, journal } = house.store;
  const now = Date.now();
  await journal.commit([
    pairings.row({
      code,
      place: { ...PLACE, conversation: code },
      createdAt: now,
      expiresAt: now + 60_000,
    }),
  ]);
}

async function grants(
  { house }: RealHouse,
  ...given: Pick<PairingGrant, "place" | "as">[]
): Promise<void> {
  const { pairings, journal } = house.store;
  await journal.commit(
    given.map((one) => pairings.grantRow({ ...one, at: 0, by: "owner" })),
  );
}

Deno.test("A2: nobody lets in a sender that may do more than they", async (t) => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const rows: [string, string[], string, string][] = [
    ["who may only pair lets in no peer", ["pairing"], "approve", "AAAAAAAA"],
    [
      "an administrator's program makes no owner",
      ["admin"],
      "owner",
      "BBBBBBBB",
    ],
  ];
  for (const [name, scopes, act, code] of rows) {
    await t.step(name, async () => {
      await waits(house, code);
      using app = await tokenSocket(house, await house.token({ scopes }));
      const { error } = await app.call(`channel.pair.${act}`, { code });
      assert.equal(error?.code, "FORBIDDEN");
      const { payload } = await owner.call("channel.pair.list");
      assert.deepEqual(payload.grants, []);
      const done = await owner.call(`channel.pair.${act}`, { code });
      assert.equal(done.ok, true, JSON.stringify(done.error));
      await owner.call("channel.pair.revoke", {
        ...PLACE,
        conversation: code,
      });
    });
  }
  await t.step("nor sends the owner away", async () => {
    await grants(house, { place: PLACE, as: "owner" });
    using app = await tokenSocket(
      house,
      await house.token({ scopes: ["pairing"] }),
    );
    const { error } = await app.call("channel.pair.revoke", { ...PLACE });
    assert.equal(error?.code, "FORBIDDEN");
    const { ok } = await owner.call("channel.pair.revoke", { ...PLACE });
    assert.equal(ok, true);
  });
});

Deno.test("A3: an owner's chat that is sent away leaves nothing to their other places", async () => {
  await using house = await openRealHouse();
  const group: SenderPlace = { ...PLACE, kind: "group", conversation: "g" };
  await grants(house, { place: PLACE, as: "owner" }, {
    place: group,
    as: "peer",
  });
  const { pairings, journal } = house.house.store;
  const who = { network: "net", account: "default", id: "eve" };
  const asOwner = await peerAuthority({ ...who, as: "owner" });
  const asPeer = await peerAuthority(who);
  const isLive = (credential: string, policy: "pairing" | "open" = "pairing") =>
    isSenderLive(credential, {
      pairings,
      rules: () => [{ channel: "net", rules: { policy, listed: [] } }],
      credentialOf: async (one) => (await peerAuthority(one)).credential,
    });
  assert.equal(await isLive(asOwner.credential), true);
  assert.equal(await isLive(asPeer.credential), true);
  await journal.commit([pairings.grantDeletion(PLACE)]);
  assert.equal(await isLive(asOwner.credential), false);
  assert.equal(await isLive(asOwner.credential, "open"), false);
  assert.equal(await isLive(asPeer.credential), true);
});

Deno.test("A2: a device's token ends when the device does", async () => {
  await using house = await openRealHouse();
  const expiresInMs = 3_600_000;
  const short = await house.token({
    scopes: ["admin"],
    kind: "owner",
    integrity: "owner",
    expiresInMs,
  });
  using maker = await tokenSocket(house, short);
  const device = makeDevice();
  await pairDevice(house, maker, { device, scopes: ["operator.admin"] });
  using socket = await knock(house);
  const hello = await connectDevice(socket, device, {
    scopes: ["operator.admin"],
  });
  assert.equal(hello.ok, true);
  const { payload } = await socket.call("token.create", {
    name: "longer",
    scopes: ["read"],
  });
  const { tokens } = (await socket.call("token.list")).payload;
  const made = tokens.find((one: { id: string }) => one.id === payload.id);
  assert.ok(made.expiresAt <= Date.now() + expiresInMs, `${made.expiresAt}`);
});

Deno.test("A3: of texts that were made together none outlives the token", async () => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const { payload: { id } } = await owner.call("token.create", {
    name: "twice",
    scopes: ["read"],
  });
  const made = await Promise.all(
    Array.from({ length: 4 }, () => owner.call("token.rotate", { id })),
  );
  const texts: string[] = made.flatMap(({ payload }) => payload?.token ?? []);
  const isIn = async (token: string) => {
    using client = await knock(house);
    return (await client.connect({ auth: { token } })).ok;
  };
  const good = [];
  for (const text of texts) if (await isIn(text)) good.push(text);
  assert.equal(good.length, 1, "one text at a time");
  const [, late] = await Promise.all([
    owner.call("token.revoke", { id }),
    owner.call("token.rotate", { id }),
  ]);
  if (late.payload !== undefined) texts.push(late.payload.token);
  // As it is after a restart: nothing of this process counts.
  const { store } = house.house;
  const anew = new Tokens({ store, clock: systemClock, log: silentLog });
  const { hashToken } = await import("../../src/auth/tokens.ts");
  for (const text of texts) {
    assert.equal(await anew.find(hashToken(text)), undefined);
  }
});

Deno.test("B1: a message is the owner's to send, by whatever door", async () => {
  await using house = await openRealHouse({
    settings: {
      channels: {
        webhook: {
          hook: {
            url: "https://hook.test/",
            secret: new Secret("whsec_dGVzdA==", "test"),
          },
        },
      },
    },
  });
  const message = { to: "webhook:hook:", message: "hi", idempotencyKey: "1" };
  using app = await tokenSocket(house, await house.token());
  assert.equal((await app.call("send", message)).error?.code, "FORBIDDEN");
  using narrow = await tokenSocket(
    house,
    await house.token({
      kind: "owner",
      integrity: "owner",
      tools: ["memory_read"],
    }),
  );
  const { error } = await narrow.call("send", message);
  assert.equal(error?.code, "FORBIDDEN");
});

Deno.test("B1: what a policy would decide, and what waits to be sent, is the owner's to see", async () => {
  await using house = await openRealHouse();
  using app = await tokenSocket(
    house,
    await house.token({ scopes: ["admin"] }),
  );
  const rows: [string, Record<string, unknown>][] = [
    ["policy.explain", { tool: "web_fetch", sessionKey: "agent:main:main" }],
    ["policy.replay", { sessionKey: "agent:main:main" }],
    ["outbox.list", {}],
    ["outbox.show", { id: "out_1" }],
    ["outbox.retry", { id: "out_1" }],
    ["outbox.drop", { id: "out_1" }],
  ];
  for (const [method, params] of rows) {
    const { error } = await app.call(method, params);
    assert.equal(error?.code, "FORBIDDEN", method);
  }
});
