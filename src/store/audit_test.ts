import assert from "node:assert/strict";
import { silentLog } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import { Audit } from "./audit.ts";
import { KvJournal, type Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import { Codec, Values } from "./values.ts";

const clock: Clock = { now: () => 5, sleep: () => Promise.resolve() };

async function open() {
  const kv = await Deno.openKv(":memory:");
  const codec = new Codec({});
  const values = new Values(kv, { codec, log: silentLog });
  const journal = new KvJournal(kv, { codec, log: silentLog });
  const make = () => new Audit(values, { clock, instance: "ins_0000000000" });
  return {
    kv,
    codec,
    values,
    journal,
    make,
    audit: make(),
    [Symbol.asyncDispose]: async () => {
      await journal.close();
      kv.close();
    },
  };
}

const claim = (n: number): Row => ({
  key: makeKey("inbound", "c", "a", String(n)),
  value: n,
  absent: true,
});

Deno.test("Audit chains rows in the order they are stored, across a restart", async () => {
  await using store = await open();
  const { audit, journal } = store;
  const units = [1, 2, 3].map((n) =>
    audit.row({ event: "a.b", fields: { n } })
  );
  await Promise.all(units.map((row) => journal.commit([row])));
  await journal.commit([
    audit.row({ event: "a.c" }),
    audit.row({ event: "a.d" }),
  ]);
  const again = store.make();
  await again.reload();
  assert.deepEqual(again.head(), audit.head());
  await journal.commit([again.row({ event: "a.e" })]);
  const { ok, rows } = await again.verify();
  assert.deepEqual({ ok, rows }, { ok: true, rows: 6 });
  const listed = await again.list({ limit: 2 });
  assert.deepEqual(listed.map(({ event }) => event), ["a.e", "a.d"]);
});

Deno.test("Audit gives a failed commit's place to the next row", async () => {
  await using store = await open();
  const { audit, journal } = store;
  await journal.commit([claim(1), audit.row({ event: "take.one" })]);
  // All at once: the second fails its own check inside one batch with the others.
  const got = await Promise.allSettled([
    journal.commit([claim(2), audit.row({ event: "take.two" })]),
    journal.commit([claim(1), audit.row({ event: "take.again" })]),
    journal.commit([claim(3), audit.row({ event: "take.three" })]),
  ]);
  assert.deepEqual(got.map(({ status }) => status), [
    "fulfilled",
    "rejected",
    "fulfilled",
  ]);
  const verdict = await audit.verify();
  assert.deepEqual([verdict.ok, verdict.rows], [true, 3]);
  const events = (await audit.list({ limit: 9 })).map(({ event }) => event);
  assert.deepEqual(events, ["take.three", "take.two", "take.one"]);
});

Deno.test("Audit goes on after a row that was made is never committed", async () => {
  await using store = await open();
  const { audit, journal } = store;
  audit.row({ event: "never.stored" });
  await journal.commit([audit.row({ event: "is.stored" })]);
  assert.deepEqual(await audit.verify(), {
    ok: true,
    rows: 1,
    head: audit.head().hash,
  });
});

Deno.test("Audit goes on when the engine failed in between", async () => {
  await using store = await open();
  const { codec, values, audit } = store;
  let isBroken = false;
  const kv = new Proxy(store.kv, {
    get: (target, name) => {
      if (name === "atomic" && isBroken) {
        throw new TypeError("disk I/O error");
      }
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const journal = new KvJournal(kv, { codec, log: silentLog });
  assert.ok(values);
  await journal.commit([audit.row({ event: "a.one" })]);
  isBroken = true;
  await assert.rejects(journal.commit([audit.row({ event: "a.lost" })]), {
    code: "unavailable",
  });
  isBroken = false;
  await journal.commit([audit.row({ event: "a.two" })]);
  const verdict = await audit.verify();
  assert.deepEqual([verdict.ok, verdict.rows], [true, 2]);
  await journal.close();
});

Deno.test("Audit continues behind a row somebody else appended", async () => {
  await using store = await open();
  const { audit, journal } = store;
  const other = store.make();
  await journal.commit([other.row({ event: "other.one" })]);
  await journal.commit([audit.row({ event: "own.one" })]);
  assert.deepEqual((await audit.verify()).rows, 2);
  assert.equal((await audit.verify()).ok, true);
});

Deno.test("Audit.verify() finds the first row that was tampered with", async (t) => {
  const key = (seq: number) => makeKey("audit", "ins_0000000000", seq);
  type Kv = { kv: Deno.Kv; codec: Codec; values: Values };
  const rows: [why: string, act: (s: Kv) => Promise<unknown>, at: number][] = [
    ["taken out", ({ kv }) => kv.delete(key(3)), 3],
    ["cut off at the end", ({ kv }) => kv.delete(key(5)), 5],
    ["made unreadable", ({ kv }) => kv.set(key(2), new Uint8Array([0, 1])), 2],
    ["moved", async ({ kv }) => {
      const row = await kv.get(key(2));
      await kv.set(key(3), row.value);
    }, 3],
    ["changed", async ({ kv, codec }) => {
      const entry = await kv.get<Uint8Array>(key(4));
      const row = codec.decode(
        key(4),
        entry.value ?? new Uint8Array(),
      ) as object;
      await kv.set(key(4), codec.encode(key(4), { ...row, event: "a.lie" }));
    }, 4],
  ];
  for (const [why, act, brokenAt] of rows) {
    await t.step(why, async () => {
      await using store = await open();
      const { audit, journal } = store;
      for (let n = 1; n <= 5; n++) {
        await journal.commit([audit.row({ event: "a.b", fields: { n } })]);
      }
      await act(store);
      const verdict = await audit.verify();
      assert.deepEqual([verdict.ok, verdict.brokenAt], [false, brokenAt]);
    });
  }
});

Deno.test("Audit.row() refuses content", async () => {
  await using store = await open();
  const rows: Record<string, string>[] = [
    { text: "x".repeat(513) },
    Object.fromEntries(
      Array.from({ length: 20 }, (_, n) => [`f${n}`, "x".repeat(500)]),
    ),
  ];
  for (const fields of rows) {
    assert.throws(() => store.audit.row({ event: "a.b", fields }));
  }
  assert.throws(() => store.audit.row({ event: "Not an event" }));
});
