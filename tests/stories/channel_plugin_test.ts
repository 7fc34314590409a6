/**
 * A channel plugin in a whole house: a stranger writes, is let in by a code with
 * the command line's method, is answered by the outbox, and is sent away again.
 */
import assert from "node:assert/strict";
import { grantOf, installIn, ownerOf, probe } from "../fakes/plugins.ts";
import { openRealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";
import { Settings } from "../../src/settings.ts";
import { until } from "../process/processes.ts";

Deno.test("a stranger is let in through a channel plugin, and sent away", async (t) => {
  const { manifest, bytes } = await probe({
    channel: { description: "for tests", charsMax: 500, sendExport: "send" },
    wants: { kv: { bytes: 100_000 } },
  });
  const granted = { probe: await grantOf(manifest) };
  await using real = await openRealHouse({
    settings: { plugins: { granted } },
    script: () => say("hello Ann"),
  });
  const { house } = real;
  using client = await ownerOf(real);
  const view = await installIn(real, client, { manifest, bytes });
  assert.equal(view.state, "ready", view.why);
  const call = async (method: string, params: object = {}) => {
    const { ok, payload, error } = await client.call(method, params);
    assert.ok(ok, JSON.stringify(error));
    return payload;
  };
  const emit = async (id: string, change: object = {}) => {
    const request = JSON.stringify({
      id,
      sender: { id: "U1", name: "Ann" },
      chat: { id: "c1" },
      text: "hello",
      ...change,
    });
    const args = { fn: "emit", request };
    const { output } = await call("plugins.call", {
      id: "probe",
      tool: "host",
      args,
    });
    return JSON.parse(output);
  };
  /** What the guest was handed to deliver. */
  const delivered = async () => {
    const rows = await house.store.plugins.kept("probe", {
      prefix: "sent:",
      limit: 50,
    });
    const texts = [];
    for (const { key } of rows) {
      const text = await house.store.plugins.get("probe", key) ?? "{}";
      texts.push(JSON.parse(text));
    }
    return texts;
  };
  await t.step(
    "the channel is there, and its sender is not known",
    async () => {
      const { channels } = await call("channels.status");
      assert.deepEqual(
        channels.map(({ channel }: { channel: string }) => channel),
        [
          "plugin:probe",
        ],
      );
      const got = await emit("m1");
      assert.deepEqual([got.accepted, got.reason], [false, "unpaired"]);
      assert.equal(await house.store.sessions.count(), 0);
    },
  );
  await t.step("the code reaches the sender, and lets it in", async () => {
    await until("the code", async () => (await delivered()).length === 1);
    const [{ text, to }] = await delivered();
    assert.equal(to, "c1");
    const { pending } = await call("channel.pair.list");
    assert.ok(text.endsWith(pending[0].code));
    const { error } = await client.call("channel.pair.owner", {
      code: pending[0].code,
    });
    assert.match(error.message, /plugin's word/);
    const done = await call("channel.pair.approve", { code: pending[0].code });
    assert.deepEqual([done.as, done.sender, done.name], ["peer", "U1", "Ann"]);
  });
  await t.step("it is answered where it wrote", async () => {
    assert.equal((await emit("m2")).accepted, true);
    await until(
      "the answer",
      async () => (await delivered()).some(({ text }) => text === "hello Ann"),
    );
    assert.equal((await emit("m2")).reason, "duplicate");
    const [session] = await house.store.sessions.list({ limit: 2 });
    assert.match(session?.key ?? "", /^agent:main:plugin-probe:default:dm:x-/);
    const { channels } = await call("channels.status");
    assert.ok(channels[0].lastInAt > 0 && channels[0].lastOutAt > 0);
  });
  await t.step("in a group it is nobody", async () => {
    const chat = { kind: "group", id: "g" };
    assert.equal((await emit("m3", { chat })).reason, "unpaired");
    assert.equal(
      (await emit("m4", { chat, mentioned: true })).reason,
      "unpaired",
    );
  });
  await t.step("sent away, it is not served", async () => {
    const { grants } = await call("channel.pair.list");
    const { channel, account, kind, conversation, sender } = grants[0];
    const place = { channel, account, kind, conversation, sender };
    await call("channel.pair.revoke", place);
    assert.equal((await emit("m5")).reason, "unpaired");
  });
  await t.step("shut, not even a code", async () => {
    const { probe: grant } = granted;
    house.adopt(Settings.parse({
      gateway: { port: house.gateway.address.port },
      plugins: { granted: { probe: { ...grant, policy: "off" } } },
    }));
    await until(
      "it holds",
      async () =>
        (await emit("m6", { sender: { id: "U9" } })).reason === "unpaired",
    );
    const { pending } = await call("channel.pair.list");
    assert.ok(
      pending.every(({ sender }: { sender: string }) => sender !== "U9"),
    );
  });
});
