/** Every channel there is keeps the contract. */
import { WebhookAccount } from "../../src/channels/config.ts";
import { WebhookChannel } from "../../src/channels/webhook.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { openStore } from "../../src/store/store.ts";
import { fakeCourier } from "../fakes/channel.ts";
import { fakeHost, probe } from "../fakes/plugins.ts";
import { webhookReceiver } from "../fakes/webhook_receiver.ts";
import { channelContract } from "./channel.ts";

const clock = systemClock;

for (const idempotent of [false, true]) {
  Deno.test(`a webhook keeps the contract, idempotent ${idempotent}`, async (t) => {
    await using receiver = webhookReceiver("s3cret", { idempotent });
    await using store = await openStore({
      dir: ":memory:",
      clock,
      log: silentLog,
    });
    using egress = makeEgress({
      config: EgressConfig.parse({}),
      clock,
      log: silentLog,
    });
    const account = WebhookAccount.parse({
      url: receiver.url,
      secret: new Secret("s3cret", "test"),
      idempotent,
      charsMax: 300,
    });
    const accounts = () => ({ alerts: account });
    const channel = new WebhookChannel({ accounts, egress, clock });
    await using carried = fakeCourier(store, { channel });
    carried.courier.start();
    let isRefusing = false;
    receiver.script = () =>
      isRefusing ? new Response(null, { status: 503 }) : undefined;
    await channelContract(t, {
      channel,
      destination: { channel: "webhook", account: "alerts", chat: "" },
      carried,
      shown: () => receiver.taken.map(({ text }) => text),
      refuse: (next) => void (isRefusing = next),
    });
  });
}

Deno.test("a channel plugin keeps the contract", async (t) => {
  await using host = await fakeHost();
  const { manifest, bytes } = await probe({
    wants: { kv: { bytes: 1_000_000 } },
  });
  await host.add(manifest, bytes);
  const channel = host.channels.find("plugin:probe");
  if (channel === undefined) throw new RangeError("it is no channel");
  const shown: string[] = [];
  let isRefusing = false;
  // The guest keeps each message under its key; what it was handed is seen here.
  const watched = {
    id: channel.id,
    capabilities: (account: string) => channel.capabilities(account),
    accounts: () => channel.accounts(),
    check: () => channel.check(),
    send: async (out: Parameters<typeof channel.send>[0]) => {
      const text = isRefusing ? "refuse" : out.text;
      const done = await channel.send({ ...out, text });
      const kept = await host.store.plugins.get("probe", `sent:${out.key}`);
      shown.push(JSON.parse(kept ?? "{}").text);
      return done;
    },
  };
  await using carried = fakeCourier(host.store, { channel: watched });
  await host.courier[Symbol.asyncDispose](); // one courier a store
  carried.courier.start();
  await channelContract(t, {
    channel: watched,
    destination: { channel: "plugin:probe", account: "default", chat: "c" },
    carried,
    shown: () => shown,
    refuse: (next) => void (isRefusing = next),
  });
});
