/**
 * Channels from outside: what the methods and the command line say of a signed
 * webhook that works, fails and comes back; and what a model sends by it.
 */
import assert from "node:assert/strict";
import { channel } from "../../src/cli/verbs/channel.ts";
import { outbox } from "../../src/cli/verbs/outbox.ts";
import { send } from "../../src/cli/verbs/send.ts";
import type { Roof, Verb } from "../../src/cli/verb.ts";
import { CHANNEL_METHODS } from "../../src/core/methods/channel.ts";
import { METHODS } from "../../src/core/methods.ts";
import { Secret } from "../../src/core/secret.ts";
import { type AnyFrame, FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse } from "../fakes/real_house.ts";
import { io } from "../fakes/io.ts";
import { say } from "../fakes/vendor.ts";
import { webhookReceiver } from "../fakes/webhook_receiver.ts";
import { until } from "../process/processes.ts";

const roof = {} as Roof;

async function connect(url: string, token: string): Promise<FakeClient> {
  const client = new FakeClient(`${url.replace("http", "ws")}/ws`);
  await client.opened;
  const { ok, error } = await client.connect({ auth: { token } });
  assert.ok(ok, JSON.stringify(error));
  return client;
}

Deno.test("a webhook that works, fails and comes back, as its owner sees it", async (t) => {
  await using receiver = webhookReceiver("s3cret");
  let isDown = false;
  receiver.script = () =>
    isDown ? new Response(null, { status: 400 }) : undefined;
  const secret = new Secret("s3cret", "test");
  await using real = await openRealHouse({
    settings: {
      channels: { webhook: { alerts: { url: receiver.url, secret } } },
    },
    script: [
      {
        calls: [{
          name: "message_send",
          args: { to: "webhook/alerts", text: "by the model" },
        }],
      },
      say("Sent."),
    ],
  });
  const { house, owner } = real;
  using client = await connect(real.url, owner);
  const call = async (method: keyof typeof METHODS, params: object = {}) => {
    const { ok, payload, error } = await client.call(method, params);
    assert.ok(ok, JSON.stringify(error));
    return METHODS[method].output.parse(payload) as AnyFrame;
  };
  const env = { CARAPACE_URL: real.url, CARAPACE_TOKEN: owner };
  const run = async (verb: Verb, ...args: string[]) => {
    const out = io([...args, "--json"], env);
    assert.equal(await verb.run(out, roof), 0, out.text());
    return JSON.parse(out.text());
  };
  await t.step("send: stored, signed, arrived once", async () => {
    const params = { to: "webhook/alerts", message: "hi", idempotencyKey: "1" };
    const first = await call("send", params);
    assert.equal(first.channel, "webhook");
    await until("it arrives", () => receiver.taken.length === 1);
    const again = await call("send", { ...params, message: "other" });
    assert.equal(again.messageId, first.messageId);
    assert.deepEqual(receiver.taken.map(({ text }) => text), ["hi"]);
    assert.equal(receiver.bad, 0);
    await client.event("outbox", (p) => p.state === "sent");
  });
  await t.step("send: by channel and place, and to nowhere", async () => {
    const params = { to: "alerts/ops", channel: "webhook", message: "x" };
    await call("send", { ...params, idempotencyKey: "2" });
    await until("it arrives", () => receiver.taken.at(-1)?.chat === "ops");
    const { error } = await client.call("send", {
      to: "pigeon/x",
      message: "x",
      idempotencyKey: "3",
    });
    assert.equal(error.code, "NOT_FOUND");
    assert.match(error.details.hint, /webhook/);
  });
  await t.step(
    "who may only read may not send, nor see what is sent",
    async () => {
      const token = await real.token({ scopes: ["read"] });
      using reader = await connect(real.url, token);
      for (const method of Object.keys(CHANNEL_METHODS)) {
        if (method === "channels.status") continue;
        const { error } = await reader.call(method, {});
        assert.equal(error?.code, "FORBIDDEN", method);
      }
      await call("send", {
        to: "webhook/alerts",
        message: "s",
        idempotencyKey: "r",
      });
      await client.event("outbox", (p) => p.state === "sent");
      assert.ok(reader.frames.every(({ event }) => event !== "outbox"));
    },
  );
  await t.step("the model sends by it", async () => {
    const { runId } = await call("chat.send", {
      sessionKey: "main",
      message: "tell webhook/alerts",
      idempotencyKey: "m",
    });
    await call("agent.wait", { runId, timeoutMs: 10_000 });
    await until(
      "it arrives",
      () => receiver.taken.some(({ text }) => text === "by the model"),
    );
  });
  await t.step(
    "what is refused is a dead letter, shown, sent again, dropped",
    async () => {
      isDown = true;
      const { messageId } = await run(send, "webhook/alerts", "lost?");
      await client.event(
        "outbox",
        (p) => p.id === messageId && p.state === "dead",
      );
      const { messages } = await run(outbox, "list", "--state", "dead");
      assert.deepEqual(
        messages.map(({ id }: { id: string }) => id),
        [messageId],
      );
      assert.match(messages[0].lastError, /400/);
      const shown = await run(outbox, "show", messageId);
      assert.equal(shown.parts[0].text, "lost?");
      isDown = false;
      await run(outbox, "retry", messageId);
      await client.event(
        "outbox",
        (p) => p.id === messageId && p.state === "sent",
      );
      assert.deepEqual((await run(outbox, "list")).messages, []);
      isDown = true;
      const other = await run(send, "webhook/alerts", "drop me");
      const { messageId: id } = other;
      await client.event("outbox", (p) => p.id === id && p.state === "dead");
      await run(outbox, "drop", id);
      assert.deepEqual((await run(outbox, "list")).messages, []);
    },
  );
  await t.step("how it stands is said everywhere", async () => {
    await call("send", {
      to: "webhook/alerts",
      message: "y",
      idempotencyKey: "z",
    });
    const isFailing = () =>
      house.gateway !== undefined &&
      client.frames.filter(({ event, payload }) =>
          event === "outbox" && payload.state === "dead"
        ).length >= 3;
    await until("a third failure", isFailing);
    const { channels } = await run(channel, "status");
    assert.equal(channels[0].channel, "webhook");
    assert.match(channels[0].lastError, /400/);
    assert.deepEqual(channels[0].accounts, ["alerts"]);
    const status = await call("status");
    assert.equal(status.channels.webhook.channel, "webhook");
    const health = await call("health");
    assert.equal(health.channels.webhook.channel, "webhook");
    assert.deepEqual(await run(channel, "test", "webhook"), {
      ok: true,
      channel: "webhook",
    });
    const { error } = await client.call("channels.logout", {
      channel: "webhook",
    });
    assert.match(error.message, /no login/);
  });
  await t.step("pairing: listed; a code nobody has is not found", async () => {
    assert.deepEqual(await run(channel, "pair", "list"), {
      pending: [],
      grants: [],
    });
    for (const method of ["approve", "owner", "reject"]) {
      const { error } = await client.call(`channel.pair.${method}`, {
        code: "AAAAAAAA",
      });
      assert.equal(error.code, "NOT_FOUND", method);
    }
  });
});
