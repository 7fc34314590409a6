/**
 * What every channel promises, run against each over its own fake network.
 */
import assert from "node:assert/strict";
import {
  Capabilities,
  type Channel,
  type Destination,
  SendError,
} from "../../src/core/channel.ts";
import { PUBLIC_OWNER } from "../../src/core/label.ts";
import type { FakeCourier } from "../fakes/channel.ts";

/** A channel over its network, as the suite needs it. */
export interface ChannelUnderTest {
  channel: Channel;
  destination: Destination;
  /** Carries to it; started. */
  carried: FakeCourier;
  /** The texts its people were shown, in order. */
  shown(): Promise<string[]> | string[];
  /** The network refuses, saying that it took nothing, until it is taken back. */
  refuse(isRefusing: boolean): void;
}

/** Runs the suite. */
export async function channelContract(
  t: Deno.TestContext,
  { channel, destination, carried, shown, refuse }: ChannelUnderTest,
): Promise<void> {
  const { courier, reached } = carried;
  let keys = 0;
  const take = (text: string) =>
    courier.take({
      idempotencyKey: `contract-${++keys}`,
      destination,
      parts: [{ kind: "text", text, label: PUBLIC_OWNER }],
      by: "owner",
    });
  const can = channel.capabilities(destination.account);
  await t.step("it says what it can do", () => {
    Capabilities.parse(can);
    assert.match(
      channel.id,
      /^([a-z][a-z0-9_-]{0,31}|plugin:[a-z][a-z0-9-]+)$/,
    );
  });
  await t.step("its check passes while the network is well", async () => {
    await channel.check();
  });
  await t.step(
    "messages arrive once, in the order they were said",
    async () => {
      const texts = ["one", "two", "drei: äöü 👩‍👩‍👧"];
      const ids = [];
      for (const text of texts) ids.push((await take(text)).id);
      for (const id of ids) await reached(id, "sent");
      assert.deepEqual((await shown()).slice(-3), texts);
    },
  );
  await t.step("a long one comes in pieces that fit, whole", async () => {
    const before = (await shown()).length;
    const text = Array.from({ length: 40 }, (_, n) => `word${n}`.repeat(8))
      .join(" ").repeat(Math.ceil(can.charsMax / 1_000) + 1);
    await reached((await take(text)).id, "sent");
    const pieces = (await shown()).slice(before);
    assert.ok(pieces.length > 1, `${pieces.length}`);
    assert.ok(pieces.every((piece) => piece.length <= can.charsMax));
    const words = (all: string) => all.replaceAll(/\s+/g, "");
    assert.equal(words(pieces.join("")), words(text));
  });
  await t.step(
    "a send that fails says whether it may have arrived",
    async () => {
      refuse(true);
      const sending = channel.send({
        key: "direct",
        destination,
        text: "refused",
        signal: new AbortController().signal,
      });
      await assert.rejects(sending, (error) => {
        assert.ok(error instanceof SendError);
        assert.equal(error.sent, "no");
        assert.ok(!error.final);
        return true;
      });
    },
  );
  await t.step(
    "what was refused is tried again, and the next waits",
    async () => {
      const before = (await shown()).length;
      const first = await take("after a while");
      const second = await take("behind it");
      const row = await reached(first.id, "failed");
      assert.ok((row.lastError ?? "") !== "");
      assert.equal((await shown()).length, before);
      refuse(false);
      await courier.retry(first.id, "owner");
      await reached(second.id, "sent");
      assert.deepEqual((await shown()).slice(before), [
        "after a while",
        "behind it",
      ]);
    },
  );
  await t.step("nothing is sent for one that nobody waits for", async () => {
    const before = (await shown()).length;
    const signal = AbortSignal.abort();
    const out = { key: "gone", destination, text: "gone", signal };
    await assert.rejects(channel.send(out));
    assert.equal((await shown()).length, before);
  });
}
