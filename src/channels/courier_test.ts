import assert from "node:assert/strict";
import { FakeChannel, fakeCourier } from "../../tests/fakes/channel.ts";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { cuttingJournal } from "../../tests/fakes/channel_cuts.ts";
import { SendError } from "../core/channel.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import { silentLog } from "../core/log.ts";
import { openStore, type Store } from "../store/store.ts";
import { backoffMs, OUTBOX } from "./courier.ts";

const TO = { channel: "fake", account: "default", chat: "c" };

function out(key: string, chat = "c") {
  return {
    idempotencyKey: key,
    destination: { ...TO, chat },
    parts: [{ kind: "text" as const, text: key, label: PUBLIC_OWNER }],
    by: "owner",
  };
}

async function openMemory(clock = new FakeClock()): Promise<Store> {
  return await openStore({ dir: ":memory:", clock, log: silentLog });
}

async function list(store: Store) {
  return await Array.fromAsync(store.outbox.all());
}

function refused(retryAfterMs?: number): SendError {
  return new SendError("upstream", "not now", {
    sent: "no",
    ...retryAfterMs === undefined ? {} : { retryAfterMs },
  });
}

/** Moves the clock until something is so. */
async function tickUntil(clock: FakeClock, ms: number, isSo: () => boolean) {
  for (let n = 0; n < 200 && !isSo(); n++) {
    await clock.tick(ms);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.ok(isSo(), "it did not happen");
}

Deno.test("backoffMs() doubles to its limit, half of it by chance", () => {
  assert.equal(backoffMs(1, 1), OUTBOX.firstMs);
  assert.equal(backoffMs(1, 0), OUTBOX.firstMs / 2);
  assert.equal(backoffMs(4, 1), 8 * OUTBOX.firstMs);
  assert.equal(backoffMs(40, 1), OUTBOX.backoffMsMax);
});

Deno.test("Courier.take() takes a key once, and says what became of it", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel();
  await using fake = fakeCourier(store, { channel, clock });
  const [a, b] = await Promise.all([
    fake.courier.take(out("k")),
    fake.courier.take(out("k")),
  ]);
  assert.equal(a.id, b.id);
  assert.deepEqual([a.isNew, b.isNew].sort(), [false, true]);
  fake.courier.start();
  await fake.reached(a.id, "sent");
  const again = await fake.courier.take(out("k"));
  assert.deepEqual([again.id, again.state], [a.id, "sent"]);
  assert.equal(channel.calls.length, 1);
  assert.deepEqual(await list(store), [], "what was sent is not kept");
});

Deno.test("Courier keeps the order of a destination, and only of that one", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel();
  let isDown = true;
  channel.before = ({ destination }) => {
    if (destination.chat === "c" && isDown) throw refused();
  };
  await using fake = fakeCourier(store, { channel, clock });
  fake.courier.start();
  const first = await fake.courier.take(out("1"));
  const second = await fake.courier.take(out("2"));
  const other = await fake.courier.take(out("3", "d"));
  await fake.reached(other.id, "sent");
  await fake.reached(first.id, "failed");
  assert.deepEqual(channel.shown.map(({ text }) => text), ["3"]);
  isDown = false;
  const isOver = () =>
    fake.states.at(-1)?.id === second.id &&
    fake.states.at(-1)?.state === "sent";
  await tickUntil(clock, OUTBOX.firstMs, isOver);
  assert.deepEqual(channel.shown.map(({ text }) => text), ["3", "1", "2"]);
});

Deno.test("Courier honours Retry-After, to its limit", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel();
  const asked = [90_000, 10 * OUTBOX.retryAfterMsMax];
  channel.before = () => {
    const ms = asked.shift();
    if (ms !== undefined) throw refused(ms);
  };
  await using fake = fakeCourier(store, { channel, clock });
  fake.courier.start();
  const at = clock.now();
  const { id } = await fake.courier.take(out("k"));
  const row = await fake.reached(id, "failed");
  assert.equal(row.due - at, 90_000);
  await clock.tick(89_000);
  assert.equal(channel.calls.length, 1);
  await tickUntil(clock, 1_000, () => channel.calls.length === 2);
  await new Promise((resolve) => setTimeout(resolve, 5));
  const next = fake.states.findLast((one) => one.state === "failed");
  assert.ok((next?.due ?? 0) - clock.now() <= OUTBOX.retryAfterMsMax);
});

Deno.test("Courier gives up: final at once, others after so many tries", async (t) => {
  const rows: [string, () => never, number][] = [
    ["final", () => {
      throw new SendError("forbidden", "no", { sent: "no", final: true });
    }, 1],
    ["again and again", () => {
      throw refused();
    }, OUTBOX.attemptsMax],
  ];
  for (const [name, before, attempts] of rows) {
    await t.step(name, async () => {
      const clock = new FakeClock();
      await using store = await openMemory(clock);
      const channel = new FakeChannel();
      channel.before = ({ text }) => text === "k" ? before() : undefined;
      await using fake = fakeCourier(store, { channel, clock });
      fake.courier.start();
      const { id } = await fake.courier.take(out("k"));
      const behind = await fake.courier.take(out("l"));
      await tickUntil(
        clock,
        OUTBOX.backoffMsMax,
        () => fake.states.some((row) => row.id === id && row.state === "dead"),
      );
      const dead = await fake.courier.get(id);
      assert.equal(dead.attempts, attempts);
      channel.before = () => {};
      await tickUntil(
        clock,
        OUTBOX.backoffMsMax,
        () =>
          fake.states.some((row) =>
            row.id === behind.id && row.state === "sent"
          ),
      );
      await fake.courier.retry(id, "owner");
      await fake.reached(id, "sent");
      const { seq } = store.audit.head();
      assert.ok(seq >= 2, "giving up and trying again are in the log");
    });
  }
});

Deno.test("Courier refuses what has no room, and says so", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  await using fake = fakeCourier(store, { clock });
  for (let n = 0; n < OUTBOX.laneMax; n++) await fake.courier.take(out(`${n}`));
  await assert.rejects(fake.courier.take(out("more")), /200 messages wait/);
  await fake.courier.take(out("elsewhere", "d"));
  const oldest = (await list(store))[0];
  assert.ok(oldest);
  await fake.courier.drop(oldest.id, "owner");
  await fake.courier.take(out("now"));
});

Deno.test("Courier waits for a channel that is away", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  await using fake = fakeCourier(store, { clock });
  fake.courier.start();
  const { id } = await fake.courier.take(out("k"));
  const row = await fake.reached(id, "failed");
  assert.match(row.lastError ?? "", /no channel "fake"/);
  assert.equal(row.attempts, 0);
  await new Promise((resolve) => setTimeout(resolve, 1));
  fake.channels.add(new FakeChannel());
  await fake.reached(id, "sent");
});

Deno.test("a message cut off between send and mark", async (t) => {
  for (const idempotent of [true, false]) {
    await t.step(`idempotent ${idempotent}`, async () => {
      const clock = new FakeClock();
      await using store = await openMemory(clock);
      const channel = new FakeChannel("fake", { idempotent });
      {
        // The process is gone right after the network took it.
        await using fake = fakeCourier(cuttingJournal(store, 2), {
          channel,
          clock,
        });
        fake.courier.start();
        await fake.courier.take(out("k"));
        const taken = Promise.withResolvers<void>();
        channel.after = () => taken.resolve();
        await taken.promise;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      channel.after = () => {};
      const [row] = await list(store);
      assert.equal(row?.state, "sending");
      await using fake = fakeCourier(store, { channel, clock });
      fake.courier.start();
      const id = row?.id ?? "";
      if (idempotent) {
        await fake.reached(id, "sent");
        assert.equal(channel.calls.length, 2);
        assert.equal(channel.calls[0]?.key, channel.calls[1]?.key);
      } else {
        await fake.reached(id, "unknown");
        assert.equal(channel.calls.length, 1);
        assert.equal((await list(store))[0]?.state, "unknown", "it is shown");
      }
      assert.equal(channel.shown.length, 1);
    });
  }
});

Deno.test("a failure nobody understands is unknown, not sent again", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel();
  channel.after = () => {
    throw new TypeError("connection reset");
  };
  await using fake = fakeCourier(store, { channel, clock });
  fake.courier.start();
  const { id } = await fake.courier.take(out("k"));
  await fake.reached(id, "unknown");
  await clock.tick(OUTBOX.backoffMsMax);
  assert.equal(channel.calls.length, 1);
});

Deno.test("pieces that are through are not sent again", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel("fake", { charsMax: 16 });
  let fails = 1;
  channel.before = ({ text }) => {
    if (text.startsWith("b") && fails-- > 0) throw refused();
  };
  await using fake = fakeCourier(store, { channel, clock });
  fake.courier.start();
  const text = ["a", "b", "c"].map((one) => one.repeat(12)).join("\n\n");
  const parts = [{ kind: "text" as const, text, label: PUBLIC_OWNER }];
  const { id } = await fake.courier.take({ ...out("k"), parts });
  await fake.reached(id, "failed");
  await tickUntil(
    clock,
    OUTBOX.firstMs,
    () => fake.states.at(-1)?.state === "sent",
  );
  assert.deepEqual(channel.shown.map(({ text }) => text[0]), ["a", "b", "c"]);
  assert.equal(new Set(channel.shown.map(({ key }) => key)).size, 3);
});

/** A message that a network cannot tell twice, given up; nobody waits for it. */
async function givenUp(
  story: (
    given: ReturnType<typeof fakeCourier> & {
      id: string;
      channel: FakeChannel;
    },
  ) => Promise<void>,
): Promise<void> {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel();
  channel.after = () => {
    throw new TypeError("connection reset");
  };
  await using fake = fakeCourier(store, { channel, clock });
  fake.courier.start();
  const { id } = await fake.courier.take(out("k"));
  await fake.reached(id, "unknown");
  channel.after = () => {};
  await story({ ...fake, id, channel });
  assert.deepEqual(await list(store), [], "nothing is left of it");
}

Deno.test("two who try again at once send once more, not twice", async () => {
  await givenUp(async ({ courier, reached, id, channel }) => {
    await Promise.allSettled([
      courier.retry(id, "owner"),
      courier.retry(id, "owner"),
    ]);
    await reached(id, "sent");
    await assert.rejects(courier.retry(id, "owner"), { code: "not_found" });
    assert.equal(channel.calls.length, 2);
  });
});

Deno.test("what was dropped is not brought back by who tries again at once", async () => {
  await givenUp(async ({ courier, id, channel }) => {
    const [dropped, again] = await Promise.allSettled([
      courier.drop(id, "owner"),
      courier.retry(id, "owner"),
    ]);
    assert.equal(dropped.status, "fulfilled");
    assert.equal(again.status === "rejected" && again.reason.code, "not_found");
    assert.equal(channel.calls.length, 1);
  });
});

Deno.test("a message that is being sent is neither dropped nor begun again", async () => {
  const clock = new FakeClock();
  await using store = await openMemory(clock);
  const channel = new FakeChannel();
  await using fake = fakeCourier(store, { channel, clock });
  const { courier } = fake;
  const { id } = await courier.take(out("k"));
  const going = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  channel.before = () => {
    arrived.resolve();
    return going.promise;
  };
  // They look before it is sent; what they do comes after.
  const byId = store.outbox.byId.bind(store.outbox);
  store.outbox.byId = async (id) => {
    const row = await byId(id);
    await arrived.promise;
    return row;
  };
  const acts = [courier.retry(id, "owner"), courier.drop(id, "owner")];
  courier.start();
  for (const act of acts) await assert.rejects(act, { code: "conflict" });
  going.resolve();
  await fake.reached(id, "sent");
  assert.equal(channel.calls.length, 1);
  assert.deepEqual(await list(store), []);
});
