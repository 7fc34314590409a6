import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../core/errors.ts";
import { silentLog } from "../core/log.ts";
import { JOURNAL, type Journal, KvJournal, type Row } from "./journal.ts";
import { COLLECTIONS, makeKey } from "./keys.ts";
import { Codec, Values } from "./values.ts";
import { z } from "zod";

/** A journal over memory, its reader, and how often the engine committed. */
async function open() {
  const real = await Deno.openKv(":memory:");
  let commits = 0;
  const kv = new Proxy(real, {
    get: (target, name) => {
      if (name === "atomic") {
        return () => {
          commits++;
          return target.atomic();
        };
      }
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const codec = new Codec({});
  const journal = new KvJournal(kv, { codec, log: silentLog });
  await journal.open();
  return {
    kv: real,
    journal,
    values: new Values(real, { codec, log: silentLog }),
    commits: () => commits,
    [Symbol.asyncDispose]: async () => {
      await journal.close();
      real.close();
    },
  };
}

const put = (n: number, value: unknown = n): Row => ({
  key: makeKey("message", "ses", n),
  value,
});
const Any = z.json();

async function keys(kv: Deno.Kv): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of kv.list({ prefix: [] })) {
    names.push(String(key[0]));
  }
  return names;
}

function code(error: unknown): string {
  return error instanceof AppError ? error.code : String(error);
}

async function outcome(work: Promise<void>): Promise<string> {
  return await work.then(() => "ok", code);
}

Deno.test("Journal.commit() sends what waits as one atomic, in order", async () => {
  await using store = await open();
  const first = store.journal.commit([put(0)]);
  await Promise.resolve();
  await Promise.resolve();
  const rest = Array.from(
    { length: 64 },
    (_, n) => store.journal.commit([put(n + 1), put(1000, n)]),
  );
  await Promise.all([first, ...rest]);
  assert.equal(store.commits(), 2);
  const last = await store.values.find(makeKey("message", "ses", 1000), Any);
  assert.equal(last, 63);
});

Deno.test("Journal.commit() stores nothing of a unit whose check fails, and all of the others", async () => {
  await using store = await open();
  await store.journal.commit([put(1)]);
  const units: Row[][] = [
    [put(2)],
    [put(3), { ...put(1), absent: true }, put(4)],
    [put(5)],
  ];
  const got = await Promise.all(
    units.map((unit) => outcome(store.journal.commit(unit))),
  );
  assert.deepEqual(got, ["ok", "conflict", "ok"]);
  const found = await Array.fromAsync(
    store.values.list({ prefix: makeKey("message") }, Any),
  );
  assert.deepEqual(found.map(({ value }) => value), [1, 2, 5]);
});

Deno.test("Journal.commit() lets one of two units of one instant claim a key", async () => {
  await using store = await open();
  const claim = (who: number): Row[] => [
    { key: makeKey("inbound", "c", "a", "1"), value: who, absent: true },
    put(who),
  ];
  const got = await Promise.all(
    [1, 2, 3].map((who) => outcome(store.journal.commit(claim(who)))),
  );
  assert.deepEqual(got, ["ok", "conflict", "conflict"]);
  const key = makeKey("inbound", "c", "a", "1");
  assert.equal(await store.values.find(key, Any), 1);
  assert.equal(
    await store.values.find(makeKey("message", "ses", 2), Any),
    undefined,
  );
});

Deno.test("Journal.commit() takes values as they were when it was called", async () => {
  await using store = await open();
  const value = { text: "before" };
  const done = store.journal.commit([put(1, value)]);
  value.text = "after";
  await done;
  const key = makeKey("message", "ses", 1);
  assert.deepEqual(await store.values.find(key, Any), { text: "before" });
});

Deno.test("Journal.commit() refuses what it cannot hold", async (t) => {
  await using store = await open();
  const { journal } = store;
  const many = Array.from({ length: JOURNAL.rowsMax + 1 }, (_, n) => put(n));
  const rows: [why: string, unit: Row[], want: string][] = [
    ["nothing is fine", [], "ok"],
    ["as many rows as the limit", many.slice(1), "ok"],
    ["one row more", many, "too_large"],
    ["an unknown prefix", [{ key: ["mystery", 1, "x"], value: 1 }], "internal"],
    ["a newer version", [{ key: ["message", 99, "x"], value: 1 }], "internal"],
    [
      "a part that is no name",
      [{ key: ["message", 1, true], value: 1 }],
      "internal",
    ],
    [
      "a long key",
      [{ key: ["message", 1, "x".repeat(2001)], value: 1 }],
      "too_large",
    ],
    ["what is not JSON", [put(1, () => {})], "internal"],
    ["a value over 16 MiB", [put(1, "x".repeat(16_777_216))], "too_large"],
  ];
  for (const [why, unit, want] of rows) {
    await t.step(why, async () => {
      assert.equal(await outcome(journal.commit(unit)), want);
    });
  }
});

Deno.test("Journal keeps large values in pieces and leaves none behind", async (t) => {
  const sizes = [61_000, 61_500, 200_000, 600_000, 5_000_000];
  for (const size of sizes) {
    await t.step(`${size} characters`, async () => {
      await using store = await open();
      const { journal, values, kv } = store;
      const key = makeKey("message", "ses", 1);
      const text = "é".repeat(10) + "x".repeat(size);
      await journal.commit([put(1, text)]);
      assert.equal(await values.find(key, Any), text);
      // Replaced by another large one, by a short one, then deleted.
      await journal.commit([put(1, text + "2")]);
      assert.equal(await values.find(key, Any), text + "2");
      const pieces = (await keys(kv)).filter((name) => name === "chunk_set");
      assert.equal(pieces.length, size > 61_400 ? 1 : 0);
      await journal.commit([put(1, "short")]);
      await journal.close();
      assert.deepEqual(await keys(kv), ["message"]);
    });
  }
});

Deno.test("Journal stores a unit larger than an atomic whole, or nothing of it", async () => {
  await using store = await open();
  const { journal, values, kv } = store;
  const big = "x".repeat(50_000);
  const unit = Array.from({ length: 40 }, (_, n) => put(n, big));
  await journal.commit(unit);
  const found = await Array.fromAsync(
    values.list({ prefix: makeKey("message") }, Any),
  );
  assert.equal(found.length, 40);
  assert.ok(found.every(({ value }) => value === big));
  // Its check fails after its pieces were stored ahead: they go again.
  const got = await outcome(journal.commit([
    { ...put(0), absent: true },
    put(100, "y".repeat(3_000_000)),
  ]));
  assert.equal(got, "conflict");
  await journal.commit(unit.map(({ key }) => ({ key, value: undefined })));
  await journal.close();
  assert.deepEqual(await keys(kv), []);
});

Deno.test("Journal.open() sweeps pieces that a crash left behind", async () => {
  await using store = await open();
  const codec = new Codec({});
  const set = makeKey("chunk_set", "dead");
  await store.kv.atomic()
    .set(set, codec.encode(set, { key: null, count: 2 }))
    .set(makeKey("chunk", "dead", 0), new Uint8Array(9))
    .set(makeKey("chunk", "dead", 1), new Uint8Array(9))
    .commit();
  await store.journal.commit([put(1, "x".repeat(70_000))]);
  const again = new KvJournal(store.kv, { codec, log: silentLog });
  await again.open();
  assert.deepEqual(await keys(store.kv), [
    "chunk",
    "chunk",
    "chunk_set",
    "message",
  ]);
  // The new journal knows the old one's pieces.
  await again.commit([{ key: makeKey("message", "ses", 1), value: undefined }]);
  await again.close();
  assert.deepEqual(await keys(store.kv), []);
});

Deno.test("Journal says unavailable when the engine fails or it is closed", async () => {
  const store = await open();
  store.kv.close();
  assert.equal(await outcome(store.journal.commit([put(1)])), "unavailable");
  await store.journal.close();
  assert.equal(await outcome(store.journal.commit([put(1)])), "unavailable");
});

Deno.test("Journal refuses when too much waits", async () => {
  await using store = await open();
  const big = "x".repeat(10_000_000);
  const works = Array.from(
    { length: 20 },
    (_, n) => outcome(store.journal.commit([put(n, big)])),
  );
  const got = await Promise.all(works);
  assert.ok(got.includes("unavailable"));
  assert.ok(got.filter((word) => word === "ok").length >= 10);
});

/** What the journal must amount to: a map, and units all or nothing. */
function applyUnit(model: Map<number, string>, unit: readonly Row[]): boolean {
  const before = new Map(model);
  for (const row of unit) {
    const n = Number(row.key[3]);
    if (row.absent && before.has(n)) {
      model.clear();
      for (const [key, value] of before) model.set(key, value);
      return false;
    }
    if (row.value === undefined) model.delete(n);
    else model.set(n, String(row.value));
  }
  return true;
}

Deno.test("Journal is a map that units change one after another", async () => {
  const row = fc.record({
    n: fc.integer({ min: 0, max: 5 }),
    size: fc.constantFrom(-1, 3, 100, 65_000, 130_000),
    absent: fc.boolean(),
  });
  const units = fc.array(fc.array(row, { minLength: 1, maxLength: 3 }), {
    maxLength: 12,
  });
  await fc.assert(
    fc.asyncProperty(units, async (given) => {
      await using store = await open();
      let stamp = 0;
      const rows = given.map((unit) =>
        unit.map(({ n, size, absent }): Row => ({
          key: makeKey("message", "ses", n),
          value: size < 0 ? undefined : `${stamp++}`.padEnd(size, "."),
          ...(absent && size >= 0 ? { absent: true } : {}),
        }))
      );
      const model = new Map<number, string>();
      const want = rows.map((unit) =>
        applyUnit(model, unit) ? "ok" : "conflict"
      );
      const works = rows.map((unit) => outcome(store.journal.commit(unit)));
      assert.deepEqual(await Promise.all(works), want);
      const found = new Map<number, string>();
      const all = store.values.list({ prefix: makeKey("message") }, z.string());
      for await (const { key, value } of all) found.set(Number(key[3]), value);
      assert.deepEqual(
        [...found].sort(),
        [...model].sort(),
      );
      await store.journal.close();
      const sets = (await keys(store.kv)).filter((k) => k === "chunk_set");
      const large = [...model.values()].filter((v) => v.length > 61_000);
      assert.equal(sets.length, large.length);
    }),
    { numRuns: 60 },
  );
});

Deno.test("COLLECTIONS holds every prefix once, with a version", () => {
  for (const [name, { version }] of Object.entries(COLLECTIONS)) {
    assert.match(name, /^[a-z][a-z_]*$/);
    assert.ok(Number.isInteger(version) && version >= 1);
  }
});

// The interface callers write against is the class's own.
const _isJournal: (journal: KvJournal) => Journal = (journal) => journal;
