/**
 * Promise 10, the outbox: a gateway that is killed with -9 while messages are on
 * their way. Afterwards each was sent, or is shown as unknown; and the receiver
 * has none twice, whether it drops seconds itself or not.
 */
import assert from "node:assert/strict";
import { client, servicePid, start } from "../process/gateways.ts";
import { freePort, scratch, until } from "../process/processes.ts";
import { webhookReceiver } from "../fakes/webhook_receiver.ts";

const KILLS = Number(Deno.env.get("CARAPACE_TEST_KILLS") ?? 2);
const EACH = 12;

for (const idempotent of [true, false]) {
  Deno.test(`kill -9 while messages go out, idempotent ${idempotent}`, async () => {
    await using dir = await scratch();
    await using receiver = webhookReceiver("s3cret", { idempotent });
    const options = {
      dir: dir.path,
      port: freePort(),
      env: {
        HOOK_SECRET: "s3cret",
        CARAPACE_CONFIG_JSON: JSON.stringify({
          channels: {
            webhook: {
              a: { url: receiver.url, secret: "${HOOK_SECRET}", idempotent },
            },
          },
        }),
      },
    };
    const said: string[] = [];
    for (let round = 0; round < KILLS; round++) {
      await using gateway = await start(options);
      using one = await client(gateway);
      const pid = await servicePid(one);
      // Some while they are queued, some while one is with the receiver, some
      // between its answer and the mark: by chance.
      const killAfter = receiver.posts.length +
        1 + Math.floor(Math.random() * EACH);
      const isKilled = Promise.withResolvers<void>();
      const kill = async () => {
        if (receiver.posts.length < killAfter) return;
        if (Math.random() < 0.5) await Promise.resolve();
        Deno.kill(pid, "SIGKILL");
        receiver.script = () => undefined;
        receiver.after = () => {};
        isKilled.resolve();
      };
      if (round % 2 === 0) receiver.after = kill;
      else receiver.script = async () => void await kill();
      const texts = Array.from({ length: EACH }, (_, n) => `${round}-${n}`);
      const sending = texts.map(async (text) => {
        const destination = `webhook/a/${text.length % 2}`;
        await one.call("send", {
          to: destination,
          message: text,
          idempotencyKey: text,
        });
        said.push(text); // acknowledged
      });
      await Promise.allSettled([isKilled.promise, ...sending.slice(0, 1)]);
      await isKilled.promise;
      await gateway.proc.status;
      await Promise.allSettled(sending);
    }
    await using gateway = await start(options);
    using one = await client(gateway);
    const left = async () => (await one.call("outbox.list", {})).messages;
    await until(
      "everything is settled",
      async () => (await left()).every(({ state }) => state === "unknown"),
    );
    const unknown: string[] = [];
    for (const { id } of await left()) {
      const { parts } = await one.call("outbox.show", { id });
      unknown.push(parts.map(({ text }) => text).join(""));
    }
    const taken = receiver.taken.map(({ text }) => text);
    assert.equal(new Set(taken).size, taken.length, "none twice");
    for (const text of said) {
      assert.ok(taken.includes(text) || unknown.includes(text), text);
    }
    if (idempotent) assert.deepEqual(unknown, [], "it is known of every one");
    assert.equal(receiver.bad, 0);
    assert.ok(said.length >= KILLS);
    for (const text of said.slice(0, 3)) {
      const again = await one.call("send", {
        to: "webhook/a",
        message: text,
        idempotencyKey: text,
      });
      assert.notEqual(again.state, "queued", "a second send is the first's");
    }
  });
}
