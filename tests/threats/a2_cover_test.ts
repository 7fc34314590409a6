/**
 * A2: nobody makes, changes or ends a credential that may do more than they
 * may: every method of `token.*`, `device.*` and `node.*` has a row here, and
 * one without a row fails.
 */
import assert from "node:assert/strict";
import { METHODS } from "../../src/core/methods.ts";
import {
  connectDevice,
  knock,
  makeDevice,
  pairDevice,
  tokenSocket,
} from "../fakes/device.ts";
import type { AnyFrame, FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

/** What there is to act on: everything here may do all there is. */
interface Stage {
  house: RealHouse;
  owner: FakeClient;
  /** The owner's own token, and one it made. */
  ownersId: string;
  adminId: string;
}

/** The parameters of a call on something that outranks its caller. */
type Target = (stage: Stage) => Promise<Record<string, unknown>>;

async function pairedOwner({ house, owner }: Stage): Promise<string> {
  const device = makeDevice();
  await pairDevice(house, owner, { device, scopes: ["operator.admin"] });
  return device.id;
}

async function pairedNode({ house, owner }: Stage): Promise<string> {
  const device = makeDevice();
  const asked = await askNode(house, device);
  const { ok } = await owner.call("node.pair.approve", { requestId: asked });
  assert.ok(ok);
  return device.id;
}

async function askNode(
  house: RealHouse,
  device = makeDevice(),
): Promise<string> {
  using socket = await knock(house);
  const { error } = await connectDevice(socket, device, { role: "node" });
  return error.details.requestId;
}

async function asked({ house }: Stage): Promise<string> {
  using socket = await knock(house);
  const { error } = await connectDevice(socket, makeDevice(), {
    scopes: ["operator.admin"],
  });
  return error.details.requestId;
}

async function invited(
  { owner }: Stage,
  wish: Record<string, unknown>,
): Promise<string> {
  const { payload } = await owner.call("device.bootstrap.create", wish);
  return payload.inviteId;
}

const device = async (stage: Stage) => ({ deviceId: await pairedOwner(stage) });

/** A method, and what of it only whoever has as much may do; `looks` has none. */
const ROWS: Readonly<Record<string, readonly Target[] | "looks">> = {
  "token.create": [
    () => Promise.resolve({ name: "x", scopes: ["chat"], agents: ["main"] }),
    () =>
      Promise.resolve({
        name: "x",
        scopes: ["pairing"],
        agents: ["work"],
        integrity: "owner",
      }),
  ],
  "token.list": "looks",
  "token.rotate": [
    ({ ownersId }) => Promise.resolve({ id: ownersId }),
    ({ adminId }) => Promise.resolve({ id: adminId }),
  ],
  "token.revoke": [
    ({ ownersId }) => Promise.resolve({ id: ownersId }),
    ({ adminId }) => Promise.resolve({ id: adminId }),
  ],
  "device.pair.list": "looks",
  "device.pair.approve": [
    async (stage) => ({ requestId: await asked(stage), as: "owner" }),
  ],
  "device.pair.reject": [
    async (stage) => ({
      requestId: await invited(stage, { scopes: ["admin"], as: "owner" }),
    }),
  ],
  "node.pair.list": "looks",
  "node.pair.approve": [
    async ({ house }) => ({ requestId: await askNode(house) }),
  ],
  "node.pair.reject": [
    async (stage) => ({ requestId: await invited(stage, { role: "node" }) }),
  ],
  "device.token.rotate": [device],
  "device.token.revoke": [
    device,
    async (stage) => ({ deviceId: await pairedNode(stage), role: "node" }),
  ],
  "device.bootstrap.create": [
    () => Promise.resolve({ scopes: ["pairing"], as: "owner" }),
    () => Promise.resolve({ role: "node" }),
  ],
  "node.pair.request": "looks",
  "node.pair.verify": "looks",
  "node.list": "looks",
  "node.describe": "looks",
  "node.rename": [
    async (stage) => ({ nodeId: await pairedNode(stage), displayName: "x" }),
  ],
  // These act with a node, and change nothing of it.
  "node.invoke": "looks",
  "node.invoke.result": "looks",
  "node.event": "looks",
};

Deno.test("A2: every method for credentials has its row", () => {
  const named = Object.keys(METHODS).filter((name) =>
    /^(token|device|node)\./.test(name)
  );
  assert.deepEqual(Object.keys(ROWS).sort(), named.sort());
});

async function openStage(): Promise<Stage & AsyncDisposable> {
  const house = await openRealHouse();
  const owner = await tokenSocket(house, house.owner);
  const { payload } = await owner.call("token.create", {
    name: "full",
    scopes: ["admin"],
  });
  const { tokens } = (await owner.call("token.list")).payload;
  const own = tokens.find(({ name }: { name: string }) => name === "owner");
  return {
    house,
    owner,
    ownersId: own.id,
    adminId: payload.id,
    [Symbol.asyncDispose]: async () => {
      owner[Symbol.dispose]();
      await house[Symbol.asyncDispose]();
    },
  };
}

Deno.test("A2: for each, who has less is refused, and nothing happened", async (t) => {
  await using stage = await openStage();
  const { house, owner } = stage;
  // All scopes, and yet less than an admin: one agent, and not the owner's.
  const narrow = await house.token({ scopes: ["admin"], agents: ["work"] });
  using less = await tokenSocket(house, narrow);
  const look = async () => {
    const { paired, invites } = (await owner.call("device.pair.list"))
      .payload as AnyFrame;
    const { tokens } = (await owner.call("token.list")).payload;
    const ids = (rows: AnyFrame[], key: string) => rows.map((r) => r[key]);
    return [
      ids(paired, "deviceId"),
      ids(paired, "displayName"),
      ids(invites, "inviteId"),
      ids(tokens, "id"),
    ];
  };
  for (const [method, targets] of Object.entries(ROWS)) {
    if (targets === "looks") continue;
    for (const [n, target] of targets.entries()) {
      await t.step(`${method} ${n}`, async () => {
        const params = await target(stage);
        const before = await look();
        const { ok, error } = await less.call(method, params);
        assert.equal(ok, false);
        assert.equal(error.code, "FORBIDDEN", error.message);
        assert.notEqual(error.details?.code, "MISSING_SCOPE");
        assert.deepEqual(await look(), before);
      });
    }
  }
});

Deno.test("A2: for each, the owner may, whatever made it", async (t) => {
  await using stage = await openStage();
  for (const [method, targets] of Object.entries(ROWS)) {
    if (targets === "looks") continue;
    for (const [n, target] of targets.entries()) {
      // It would end the socket it is asked over.
      if (method === "token.revoke" && n === 0) continue;
      await t.step(`${method} ${n}`, async () => {
        const params = await target(stage);
        const { ok, error } = await stage.owner.call(method, params);
        assert.ok(ok, JSON.stringify(error));
      });
    }
  }
});

Deno.test("A2: a token may end itself and what has less, and the audit log says who did", async (t) => {
  await using stage = await openStage();
  const { house, owner } = stage;
  const admin = await house.house.tokens.create({
    name: "an admin",
    scopes: ["admin"],
  });
  using socket = await tokenSocket(house, admin.token);
  const audited = async (event: string) => {
    const { payload } = await owner.call("audit.list", { event, limit: 1 });
    const [{ fields }] = payload.rows;
    return fields;
  };
  await t.step("less", async () => {
    const { payload } = await socket.call("token.create", {
      name: "phone",
      scopes: ["chat"],
    });
    const { ok } = await socket.call("token.revoke", { id: payload.id });
    assert.ok(ok);
    const { token, by } = await audited("token.revoke");
    assert.deepEqual({ token, by }, { token: payload.id, by: admin.id });
  });
  await t.step("not the owner's, and the owner goes on", async () => {
    const { error } = await socket.call("token.revoke", {
      id: stage.ownersId,
    });
    assert.equal(error.code, "FORBIDDEN");
    assert.match(error.message, /kind "owner"/);
    assert.ok((await owner.call("token.list")).ok);
  });
  await t.step("itself", async () => {
    void socket.call("token.revoke", { id: admin.id }).catch(() => {});
    assert.equal((await socket.closed).code, 1008);
    assert.equal((await audited("token.revoke")).by, admin.id);
  });
  await t.step("the owner another owner's", async () => {
    const { id } = await house.house.tokens.create({
      name: "second",
      scopes: ["admin"],
      kind: "owner",
    });
    assert.ok((await owner.call("token.revoke", { id })).ok);
    const { by } = await audited("token.revoke");
    assert.equal(by, stage.ownersId);
  });
});
