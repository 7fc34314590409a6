/** A2: pairing and minting wider than the minter. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { openIdentity } from "../../src/auth/open.ts";
import { devicePrincipal, principalOf } from "../../src/auth/principal.ts";
import { Tokens } from "../../src/auth/tokens.ts";
import { type Authority, Scope, Scopes } from "../../src/core/authority.ts";
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
import { openRealHouse } from "../fakes/real_house.ts";

const ALL = ["operator.admin"];

Deno.test("A2: who may pair gives no more than it has", async (t) => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const pairer = await house.token({ scopes: ["pairing", "read"] });
  using narrow = await tokenSocket(house, pairer);
  await t.step("an admin's wish approved by less is less", async () => {
    const device = makeDevice();
    const { payload } = await pairDevice(house, narrow, {
      device,
      scopes: ALL,
    });
    assert.deepEqual(payload.device.scopes, ["pairing", "read"]);
    assert.equal(payload.device.kind, "program");
    using socket = await knock(house);
    const hello = await connectDevice(socket, device, { scopes: ALL });
    assert.deepEqual(hello.payload.auth.scopes, [
      "operator.pairing",
      "operator.read",
    ]);
  });
  await t.step("nor does it make owners or nodes", async () => {
    const { error } = await pairDevice(house, narrow, {
      device: makeDevice(),
      approve: { as: "owner" },
    });
    assert.equal(error.code, "FORBIDDEN");
    for (const wish of [{ as: "owner" }, { role: "node" }, { scopes: ALL }]) {
      const answer = await narrow.call("device.bootstrap.create", wish);
      assert.equal(answer.error.code, "FORBIDDEN", JSON.stringify(wish));
    }
  });
  await t.step("approving gives no more than was shown", async () => {
    const device = makeDevice();
    const { error } = await pairDevice(house, owner, {
      device,
      scopes: ["operator.read"],
      approve: { scopes: ["admin"] },
    });
    assert.equal(error.code, "FORBIDDEN");
  });
  await t.step("it takes no text of what it is below", async () => {
    const device = makeDevice();
    await pairDevice(house, owner, { device, scopes: ALL });
    for (const method of ["device.token.rotate", "device.token.revoke"]) {
      const { error } = await narrow.call(method, { deviceId: device.id });
      assert.equal(error.code, "FORBIDDEN", method);
    }
    const { payload } = await owner.call("token.create", {
      name: "one agent",
      scopes: ["admin"],
      agents: ["work"],
    });
    using bound = await tokenSocket(house, payload.token);
    const { tokens } = (await owner.call("token.list")).payload;
    const full = tokens.find((one: { name: string }) => one.name === "owner");
    const { error } = await bound.call("token.rotate", { id: full.id });
    assert.equal(error.code, "FORBIDDEN");
  });
  await t.step("a request that changed is another request", async () => {
    const device = makeDevice();
    using first = await knock(house);
    const asked = await connectDevice(first, device, {
      scopes: ["operator.read"],
    });
    const { requestId } = asked.error.details;
    using second = await knock(house);
    await connectDevice(second, device, { scopes: ALL });
    const { payload, ok } = await owner.call("device.pair.approve", {
      requestId,
    });
    // Either what was shown, or nothing.
    if (ok) assert.deepEqual(payload.device.scopes, ["read"]);
  });
});

Deno.test("A2: a code is for one key, one role, once, and minutes", async (t) => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const invite = async (wish = {}) =>
    (await owner.call("device.bootstrap.create", wish)).payload;
  const redeem = async (
    code: string,
    device = makeDevice(),
    options: Parameters<typeof connectDevice>[2] = {},
  ) => {
    using socket = await knock(house);
    const auth = { bootstrapToken: code };
    return await connectDevice(socket, device, { ...options, auth });
  };
  await t.step("it gives what it was made for, whatever is asked", async () => {
    const { code } = await invite({ scopes: ["read"] });
    const device = makeDevice();
    const { payload } = await redeem(code, device, { scopes: ALL });
    assert.deepEqual(payload.auth.scopes, ["operator.read"]);
    assert.match(payload.auth.deviceToken, /^card_/);
    using again = await knock(house);
    const hello = await connectDevice(again, device, { scopes: ALL });
    assert.deepEqual(hello.payload.auth.scopes, ["operator.read"]);
    const replayed = await redeem(code);
    assert.match(replayed.error.code, /UNAUTHORIZED|RATE_LIMITED/);
  });
  await t.step("another role is refused, and does not use it up", async () => {
    const { code } = await invite({ scopes: ["read"] });
    const device = makeDevice();
    const { ok } = await redeem(code, device, { role: "node" });
    assert.equal(ok, false);
    assert.equal((await redeem(code, device)).ok, true);
  });
  await t.step("of two who race, one wins", async () => {
    const { code } = await invite();
    const answers = await Promise.all([redeem(code), redeem(code)]);
    assert.equal(answers.filter(({ ok }) => ok).length, 1);
  });
  await t.step("without a signature it is nothing", async () => {
    const { code } = await invite();
    using socket = await knock(house);
    const { ok } = await socket.connect({ auth: { bootstrapToken: code } });
    assert.equal(ok, false);
  });
  await t.step("withdrawn, or its maker ended, it is over", async () => {
    const { code, inviteId } = await invite();
    await owner.call("device.pair.reject", { requestId: inviteId });
    assert.equal((await redeem(code)).ok, false);
    const made = await house.house.tokens.create({
      name: "maker",
      scopes: ["pairing"],
    });
    using maker = await tokenSocket(house, made.token);
    const { payload } = await maker.call("device.bootstrap.create", {
      scopes: ["pairing"],
    });
    await house.house.tokens.revoke(made.id);
    assert.equal((await redeem(payload.code)).ok, false);
  });
});

interface Rig extends AsyncDisposable {
  clock: FakeClock;
  tokens: Tokens;
  identity: ReturnType<typeof openIdentity>;
}

async function openRig(): Promise<Rig> {
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
    tokens,
    identity,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

const PARAMS = { minProtocol: 3, maxProtocol: 4, client: CLIENT };

Deno.test("A2: a code lives ten minutes, on both sides of the limit", async () => {
  await using rig = await openRig();
  const { identity, tokens, clock } = rig;
  const { row } = await tokens.create({
    name: "o",
    scopes: ["admin"],
    kind: "owner",
  });
  const { authority } = principalOf(row);
  const { code } = await identity.pairing.invite(authority, {});
  const late = await identity.pairing.invite(authority, {});
  await clock.tick(599_999);
  const device = makeDevice();
  const good = await identity.pairing.redeem(code, device, PARAMS);
  assert.ok(good);
  await clock.tick(1);
  const other = makeDevice();
  assert.equal(
    await identity.pairing.redeem(late.code, other, PARAMS),
    undefined,
  );
  // What the code's maker may not outlive, the device may not.
  assert.equal(good.expiresAt, undefined);
});

Deno.test("A2: fifty devices, three requests of an address, and no more", async () => {
  await using rig = await openRig();
  const { identity, tokens, clock } = rig;
  const { row } = await tokens.create({
    name: "o",
    scopes: ["admin"],
    kind: "owner",
  });
  const { authority } = principalOf(row);
  const ask = (address: string) =>
    identity.pairing.request(makeDevice(), { params: PARAMS, address });
  for (let n = 0; n < 3; n++) assert.ok(await ask("10.0.0.1"));
  assert.equal(await ask("10.0.0.1"), undefined);
  assert.equal(await ask("::ffff:10.0.0.1"), undefined);
  for (let n = 0; n < 29; n++) assert.ok(await ask(`10.1.0.${n}`));
  assert.equal(await ask("10.2.0.1"), undefined);
  await clock.tick(600_000);
  assert.ok(await ask("10.0.0.1"));
  for (let n = 0; n < 50; n++) {
    const { code } = await identity.pairing.invite(authority, {});
    assert.ok(await identity.pairing.redeem(code, makeDevice(), PARAMS));
  }
  const { code } = await identity.pairing.invite(authority, {});
  await assert.rejects(
    identity.pairing.redeem(code, makeDevice(), PARAMS),
    (error) => error instanceof AppError && error.code === "conflict",
  );
});

Deno.test("A2: no sequence of minting and approving yields a scope its ancestors lacked", async () => {
  const scopes = fc.uniqueArray(fc.constantFrom(...Scope.options));
  const step = fc.record({
    act: fc.constantFrom("mint", "narrow", "approve", "invite"),
    scopes,
    asked: scopes,
    as: fc.constantFrom("owner", "program", undefined),
    parent: fc.nat(20),
  });
  await fc.assert(
    fc.asyncProperty(
      scopes,
      fc.constantFrom("owner" as const, "program" as const),
      fc.array(step, { maxLength: 8 }),
      async (first, kind, steps) => {
        await using rig = await openRig();
        const { identity, tokens } = rig;
        const { pairing } = identity;
        const root = await tokens.create({ name: "r", scopes: first, kind });
        const made: Authority[] = [principalOf(root.row).authority];
        const top = Scopes.of(first);
        for (const { act, scopes, asked, as, parent } of steps) {
          const by = made[parent % made.length];
          if (by === undefined) continue;
          let child: Authority | undefined;
          try {
            if (act === "narrow") child = by.narrow({ scopes });
            else if (act === "mint") {
              const { row } = await tokens.create({ name: "c", scopes }, by);
              child = principalOf(row).authority;
            } else if (act === "approve") {
              const pending = await pairing.request(makeDevice(), {
                params: { ...PARAMS, scopes: asked },
                address: `10.0.0.${made.length}`,
              });
              if (pending === undefined) continue;
              const { requestId } = pending;
              const row = await pairing.approve(by, { requestId, scopes, as });
              child = devicePrincipal(row).authority;
              assert.ok(Scopes.of(asked).covers(child.scopes));
            } else {
              const { code } = await pairing.invite(by, { scopes, as });
              const params = { ...PARAMS, scopes: asked };
              const row = await pairing.redeem(code, makeDevice(), params);
              assert.ok(row);
              child = devicePrincipal(row).authority;
            }
          } catch (error) {
            assert.ok(error instanceof AppError, String(error));
            assert.equal(error.code, "forbidden");
            continue;
          }
          assert.ok(by.scopes.covers(child.scopes), act);
          assert.ok(top.covers(child.scopes), act);
          assert.ok(by.kind === "owner" || child.kind !== "owner", act);
          assert.ok(by.integrity === "owner" || child.integrity !== "owner");
          made.push(child);
        }
      },
    ),
    { numRuns: 40 },
  );
});
