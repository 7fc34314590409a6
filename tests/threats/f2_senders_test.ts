/**
 * F2a to F2f: who is let in is decided by immutable ids, at one door, for every
 * kind of event, exactly where it was granted, and before any work.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Inbound } from "../../src/core/message.ts";
import { judgeSender, type SenderFacts } from "../../src/guard/senders.ts";
import { ownerOnChannel } from "../fakes/channel_owner.ts";
import { event, FakeChannel, fakeInbox } from "../fakes/channel.ts";
import { fakeHouse } from "../fakes/house.ts";
import { says } from "../fakes/models.ts";
import { Settings } from "../../src/settings.ts";

const ANN = [{ account: "default", id: "ann" }];

async function isServed(
  change: Partial<Inbound>,
  rules: Parameters<typeof fakeInbox>[1] & object = {
    rules: { policy: "allowlist", listed: ANN },
  },
): Promise<boolean> {
  await using house = await fakeHouse({ forever: says("yes") });
  await using fake = fakeInbox(house, rules);
  const got = await fake.inbox.receive(event(change));
  assert.equal(house.models.requests.length > 0 && !got.accepted, false);
  return got.accepted;
}

Deno.test("F2a: names, look-alikes and conversations are nobody", async (t) => {
  assert.ok(await isServed({}));
  const rows: [string, Partial<Inbound>][] = [
    ["a display name", { sender: { id: "eve", name: "ann" } }],
    ["another case", { sender: { id: "Ann" } }],
    ["white space", { sender: { id: "ann " } }],
    ["a suffix", { sender: { id: "ann@other.example" } }],
    ["a conversation's id", {
      sender: { id: "eve" },
      chat: { kind: "direct", id: "ann" },
    }],
    ["another account", { account: "second" }],
    ["another channel", { channel: "other" }],
    ["a wildcard", { sender: { id: "*" } }],
  ];
  for (const [name, change] of rows) {
    await t.step(name, async () => assert.equal(await isServed(change), false));
  }
});

Deno.test("F2b: every kind of event passes the same door", async (t) => {
  for (
    const kind of ["message", "edit", "reaction", "button", "command"] as const
  ) {
    await t.step(kind, async () => {
      await using house = await fakeHouse({ forever: says("yes") });
      const rules = { policy: "pairing" as const, listed: [] };
      await using fake = fakeInbox(house, { rules });
      const got = await fake.inbox.receive(event({ kind, text: "/stop" }));
      assert.equal(got.accepted, false);
      const waits = (await fake.door.list()).pending.length;
      assert.equal(waits, kind === "message" || kind === "command" ? 1 : 0);
      assert.equal(await house.store.sessions.count(), 0);
    });
  }
  await t.step("one that cannot be placed is dropped", async () => {
    const rules = { policy: "open" as const, listed: [] };
    for (
      const change of [
        { sender: { id: "" } },
        { account: "" },
        { chat: { kind: "direct" as const, id: "" } },
        { kind: "verification" as never },
      ]
    ) assert.equal(await isServed(change, { rules }), false);
  });
});

Deno.test("F2c: a grant is good where it was given and nowhere else", async () => {
  await using house = await fakeHouse({ forever: says("yes") });
  await using fake = fakeInbox(house);
  const { inbox, door } = fake;
  await inbox.receive(event());
  const [waiting] = (await door.list()).pending;
  await door.approve(waiting?.code ?? "", { as: "peer", by: "tok" });
  assert.equal((await inbox.receive(event())).accepted, true);
  const elsewhere: Partial<Inbound>[] = [
    { chat: { kind: "group", id: "c-ann" }, mentioned: true },
    { chat: { kind: "channel", id: "c-ann" }, mentioned: true },
    { chat: { kind: "direct", id: "other" } },
    { sender: { id: "bob" } },
    { account: "second" },
  ];
  for (const change of elsewhere) {
    const got = await inbox.receive(event(change));
    assert.equal(got.accepted, false, JSON.stringify(change));
  }
});

Deno.test("F2d: what is missing, empty or unknown lets nobody in", async (t) => {
  const place = {
    channel: "fake",
    account: "default",
    kind: "direct" as const,
    conversation: "c",
    sender: "ann",
  };
  const base: SenderFacts = {
    rules: undefined,
    place,
    grant: undefined,
    isMentioned: true,
    isMessage: true,
  };
  await t.step("no rules, off, an empty list", () => {
    const rules = [
      undefined,
      { policy: "off" as const, listed: ANN },
      { policy: "allowlist" as const, listed: [] },
      { policy: "no such policy" as never, listed: ANN },
    ];
    for (const one of rules) {
      const verdict = judgeSender({ ...base, rules: one });
      assert.equal(typeof verdict, "object", JSON.stringify(one));
    }
  });
  await t.step("off and allowlist do not count grants", () => {
    const grant = { place, as: "owner" as const, at: 0, by: "tok" };
    for (const policy of ["off", "allowlist"] as const) {
      const verdict = judgeSender({
        ...base,
        grant,
        rules: { policy, listed: [] },
      });
      assert.equal(typeof verdict, "object");
    }
  });
  await t.step("total: every input has one answer", () => {
    fc.assert(fc.property(
      fc.constantFrom("pairing", "allowlist", "open", "off" as const),
      fc.constantFrom("direct", "group", "channel" as const),
      fc.boolean(),
      fc.boolean(),
      (policy, kind, isMentioned, isListed) => {
        const verdict = judgeSender({
          ...base,
          isMentioned,
          place: { ...place, kind: kind as "direct" },
          rules: {
            policy: policy as "open",
            listed: isListed ? ANN : [],
          },
        });
        const isIn = verdict === "peer" || verdict === "owner";
        const may = policy !== "off" && (kind === "direct" || isMentioned) &&
          (policy === "open" || kind === "direct" && isListed);
        assert.equal(isIn, may);
      },
    ));
  });
  await t.step("open to anybody cannot stand beside programs", () => {
    const open = (policy: string) =>
      Settings.safeParse({
        tools: {
          roots: ["/tmp"],
          exec: {
            commands: {
              date: { about: "d", run: "/usr/bin/date", cwd: "/tmp" },
            },
          },
        },
        plugins: { granted: { chat: { channel: true, policy } } },
      });
    assert.ok(open("pairing").success, JSON.stringify(open("pairing").error));
    assert.match(String(open("open").error), /cannot stand beside/);
  });
});

Deno.test("F2e: strangers cause three rows a channel, whatever they send", async () => {
  await using house = await fakeHouse({ forever: says("yes") });
  await using fake = fakeInbox(house);
  const flood = Array.from({ length: 200 }, (_, n) =>
    fake.inbox.receive(event({
      id: `x${n}`,
      sender: { id: `s${n}` },
      chat: { kind: "direct", id: `c${n}` },
      text: "x".repeat(10_000),
    })));
  const got = await Promise.all(flood);
  assert.ok(got.every(({ accepted }) => !accepted));
  assert.equal((await fake.door.list()).pending.length, 3);
  assert.equal(await house.store.sessions.count(), 0);
  assert.equal(house.models.requests.length, 0);
  const seen = await house.store.inbound.find("fake", "default", "x1");
  assert.equal(seen, undefined, "not even that it was seen");
});

Deno.test("F2f: whose words they are decides what they may do", async (t) => {
  await using house = await fakeHouse({ forever: says("yes") });
  await using fake = fakeInbox(house, {
    rules: { policy: "allowlist", listed: ANN },
  });
  const { inbox, channel } = fake;
  const asks = async (change: Partial<Inbound>) => {
    const answer = Promise.withResolvers<string>();
    channel.after = ({ text }) => answer.resolve(text);
    const got = await inbox.receive(event(change));
    assert.equal(got.accepted, true);
    return await answer.promise;
  };
  await t.step("a peer does not answer what the owner is asked", async () => {
    assert.match(await asks({ text: "/approve" }), /needs the scope/);
  });
  await t.step("a peer is told who it is: a peer", async () => {
    assert.match(await asks({ text: "/whoami" }), /\(peer\), scopes chat/);
  });
  await t.step(
    "the owner is a peer in a group, and never by a plugin's word",
    async () => {
      // One courier a store.
      await using second = await fakeHouse({ forever: says("yes") });
      await using native = fakeInbox(second, {
        channel: new FakeChannel("net"),
      });
      const { code, group } = await ownerOnChannel(native, "net");
      assert.equal(
        (await native.door.approve(code, { as: "owner", by: "tok" })).as,
        "owner",
      );
      const sent = Promise.withResolvers<string>();
      native.channel.after = ({ text }) => sent.resolve(text);
      await native.inbox.receive(
        event({ channel: "net", text: "/whoami" }),
      );
      assert.match(await sent.promise, /You are owner \(owner\)/);
      await assert.rejects(
        native.door.approve(group, { as: "owner", by: "tok" }),
        /In a group the owner is a peer/,
      );
      await using third = await fakeHouse({ forever: says("yes") });
      await using plugin = fakeInbox(third, {
        channel: new FakeChannel("plugin:chat"),
      });
      const guest = await ownerOnChannel(plugin, "plugin:chat");
      await assert.rejects(
        plugin.door.approve(guest.code, { as: "owner", by: "tok" }),
        /A plugin's word/,
      );
    },
  );
});
