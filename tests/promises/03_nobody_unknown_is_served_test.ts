/**
 * Promise 3: every channel has a sender policy, `pairing` by default; an unknown
 * sender gets a pairing code and no turn; groups need a mention.
 */
import assert from "node:assert/strict";
import { event, fakeInbox } from "../fakes/channel.ts";
import { FakeClock } from "../fakes/clock.ts";
import { fakeHouse } from "../fakes/house.ts";
import { says } from "../fakes/models.ts";
import { PluginGrant } from "../../src/plugins/config.ts";

const CODE = /: ([2-9A-HJ-NP-Z]{8})$/;

Deno.test("pairing is what holds when nothing is said", () => {
  assert.equal(PluginGrant.parse({}).policy, "pairing");
});

Deno.test("an unknown sender gets a code and no turn; then is served", async (t) => {
  const clock = new FakeClock();
  await using house = await fakeHouse({ forever: says("hi Ann"), clock });
  await using fake = fakeInbox(house, { clock });
  const { inbox, door, channel } = fake;
  const told = (n: number) => {
    const { promise, resolve } = Promise.withResolvers<string>();
    channel.after = ({ text }) => {
      if (channel.shown.length === n) resolve(text);
    };
    return promise;
  };
  let code = "";
  await t.step("the code, and nothing else is stored", async () => {
    const first = told(1);
    const got = await inbox.receive(event());
    assert.deepEqual(got, { accepted: false, reason: "unpaired" });
    code = CODE.exec(await first)?.[1] ?? "";
    assert.notEqual(code, "");
    assert.equal(await house.store.sessions.count(), 0);
    assert.equal(house.models.requests.length, 0);
  });
  await t.step("asking again gets nothing new", async () => {
    await inbox.receive(event());
    await inbox.receive(event({ kind: "edit" }));
    await inbox.receive(event({ kind: "reaction" }));
    assert.equal((await door.list()).pending.length, 1);
    assert.equal(channel.shown.length, 1);
  });
  await t.step(
    "at most three wait at a channel; others hear nothing",
    async () => {
      for (const id of ["b", "c", "d", "e"]) {
        const chat = { kind: "direct" as const, id };
        await inbox.receive(event({ sender: { id }, chat }));
      }
      assert.equal((await door.list()).pending.length, 3);
    },
  );
  await t.step(
    "approved, it is a peer who is answered by the outbox",
    async () => {
      const grant = await door.approve(code, { as: "peer", by: "tok" });
      assert.equal(grant.place.sender, "ann");
      const answered = Promise.withResolvers<string>();
      channel.after = ({ text }) => answered.resolve(text);
      const got = await inbox.receive(event({ id: "served" }));
      assert.equal(got.accepted, true);
      assert.equal(await answered.promise, "hi Ann");
      const again = await inbox.receive(event({ id: "served" }));
      assert.deepEqual(again, { accepted: false, reason: "duplicate" });
      const [session] = await house.store.sessions.list({ limit: 5 });
      assert.equal(session?.joined.integrity, "peer");
    },
  );
  await t.step("a code counts for an hour and once", async () => {
    await assert.rejects(
      door.approve(code, { as: "peer", by: "tok" }),
      /Nobody waits/,
    );
    const [waiting] = (await door.list()).pending;
    await clock.tick(3_600_000);
    assert.deepEqual((await door.list()).pending, []);
    await assert.rejects(
      door.approve(waiting?.code ?? "", { as: "peer", by: "tok" }),
      /Nobody waits/,
    );
  });
  await t.step("sent away again, it is unknown", async () => {
    const [grant] = (await door.list()).grants;
    assert.ok(grant);
    await door.revoke(grant.place, "tok");
    const got = await inbox.receive(event());
    assert.deepEqual(got, { accepted: false, reason: "unpaired" });
  });
});

Deno.test("in a group the assistant has to be meant, even by who is known", async () => {
  await using house = await fakeHouse({ forever: says("here") });
  await using fake = fakeInbox(house);
  const { inbox, door } = fake;
  const group = { chat: { kind: "group" as const, id: "g" } };
  await inbox.receive(event(group));
  assert.deepEqual((await door.list()).pending, [], "not even a code");
  await inbox.receive(event({ ...group, mentioned: true }));
  const [waiting] = (await door.list()).pending;
  await door.approve(waiting?.code ?? "", { as: "peer", by: "tok" });
  const ignored = await inbox.receive(event(group));
  assert.deepEqual(ignored, { accepted: false, reason: "unpaired" });
  const served = await inbox.receive(event({ ...group, mentioned: true }));
  assert.equal(served.accepted, true);
});
