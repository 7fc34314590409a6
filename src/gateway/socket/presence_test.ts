/** What a socket hears without asking: the time, and who else is there. */
import assert from "node:assert/strict";
import { FakeClock } from "../../../tests/fakes/clock.ts";
import {
  type AnyFrame,
  openGatewayHouse,
} from "../../../tests/fakes/gateway_house.ts";

const ticks = (frames: readonly AnyFrame[]) =>
  frames.filter(({ event }) => event === "tick");

Deno.test("a tick comes each thirty seconds to who said who it is, and to nobody else", async () => {
  const clock = new FakeClock();
  await using house = await openGatewayHouse({ deps: { clock } });
  using owner = await house.socket();
  const { payload } = await owner.connect({ auth: { token: "owner-token" } });
  assert.equal(payload.policy.tickIntervalMs, 30_000);
  using narrow = await house.socket();
  await narrow.connect({ auth: { token: "app-token" }, scopes: [] });
  using stranger = await house.socket();
  await stranger.event("connect.challenge");
  await clock.tick(29_999);
  await owner.call("health");
  assert.equal(ticks(owner.frames).length, 0);
  for (let n = 1; n <= 3; n++) {
    await clock.tick(n === 1 ? 1 : 30_000);
    // Answered after what was sent before it.
    await owner.call("health");
    await narrow.call("health");
    assert.equal(ticks(owner.frames).length, n);
    assert.equal(ticks(narrow.frames).length, n);
    assert.equal(ticks(owner.frames).at(-1).payload.ts, clock.now());
  }
  assert.deepEqual(stranger.frames.map(({ event }) => event), [
    "connect.challenge",
  ]);
});

Deno.test("who comes and goes at once is told once, to the owner of all, to others of themselves", async () => {
  await using house = await openGatewayHouse({
    limits: {
      presenceMs: 60,
      preAuthSocketsMax: 20,
      preAuthPerAddressMax: 20,
    },
  });
  using owner = await house.socket({ token: "owner-token" });
  using app = await house.socket({ token: "app-token" });
  const sizes = (frames: readonly AnyFrame[]) =>
    frames.filter(({ event }) => event === "presence").map((
      { payload },
    ) => payload.presence.length);
  const comes = (size: number) =>
    owner.event("presence", ({ presence }) => presence.length === size);
  await comes(2);
  const before = owner.frames.length;
  const many = await Promise.all(
    Array.from({ length: 10 }, () => house.socket({ token: "app-token" })),
  );
  await comes(12);
  const told = sizes(owner.frames.slice(before));
  assert.ok(told.length <= 3, `ten came in ${told.length} events`);
  const versions = owner.frames.filter(({ event }) => event === "presence")
    .map(({ stateVersion }) => stateVersion.presence);
  assert.deepEqual(versions, versions.toSorted((a, b) => a - b));
  const seen = owner.frames.length;
  for (const one of many) one.socket.close();
  await owner.frame((frame) =>
    owner.frames.indexOf(frame) >= seen && frame.event === "presence" &&
    frame.payload.presence.length === 2
  );
  // Eleven of its own and never the owner's.
  assert.ok(Math.max(...sizes(app.frames)) <= 11);
  const clients = app.frames.filter(({ event }) => event === "presence")
    .flatMap(({ payload }) => payload.presence);
  const { payload } = await owner.call("system-presence");
  const mine = payload.find((one: AnyFrame) =>
    !clients.some(({ connId }) => connId === one.connId)
  );
  assert.ok(mine !== undefined, "the owner's own socket is nobody else's");
});
