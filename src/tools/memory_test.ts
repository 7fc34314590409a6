import assert from "node:assert/strict";
import fc from "fast-check";
import { label } from "../core/label.ts";
import { silentLog } from "../core/log.ts";
import { memorySpace } from "../store/memory.ts";
import { openStore } from "../store/store.ts";
import { MEMORY_LIMITS, MemoryBook, searchWords } from "./memory_book.ts";
import { FakeClock } from "../../tests/fakes/clock.ts";

const OWNER = label("owner", ["owner"]);
const WEB = label("untrusted", [], {
  kind: "web",
  ref: "https://evil.test/",
  at: 1,
});

async function open(dir = ":memory:") {
  const clock = new FakeClock(1_700_000_000_000);
  const store = await openStore({ dir, clock, log: silentLog });
  const make = () =>
    new MemoryBook({ rows: store.memories, journal: store.journal, clock });
  return { store, make, book: make(), clock };
}

function about(text: string, change = {}) {
  return {
    text,
    tags: [],
    pinned: false,
    label: OWNER,
    principal: "owner",
    ...change,
  };
}

Deno.test("MemoryBook finds by words, and finds again from the store alone", async () => {
  const { store, book, make } = await open();
  await using _ = store;
  await book.write("main", about("The dentist is Dr. Müller in Graz"));
  await book.write("main", about("Passport number is in the blue folder"));
  await book.write("main", about("寿司が好きです", { tags: ["food"] }));
  const first = async (its: MemoryBook, text: string) =>
    (await its.search("main", { text, limit: 3 }))[0]?.text;
  for (const its of [book, make()]) {
    assert.match(await first(its, "muller dentist") ?? "", /Graz/);
    assert.match(await first(its, "passp") ?? "", /blue/);
    assert.match(await first(its, "寿司") ?? "", /寿司/);
    assert.match(await first(its, "food") ?? "", /寿司/);
    assert.equal(await first(its, "zebra"), undefined);
  }
});

Deno.test("MemoryBook gives a label back as it was written, also after a restart", async () => {
  const { store, book, make } = await open();
  await using _ = store;
  const { id } = await book.write("main", about("pay to X", { label: WEB }));
  for (const its of [book, make()]) {
    const memory = await its.find("main", id);
    assert.equal(memory?.label.integrity, "untrusted");
    assert.deepEqual(memory?.label.secrecy, ["owner"]);
    assert.equal(memory?.label.origins[0]?.ref, "https://evil.test/");
  }
});

Deno.test("MemoryBook pins no untrusted text and not too much of any", async () => {
  const { store, book } = await open();
  await using _ = store;
  const pin = (text: string, change = {}) =>
    book.write("main", about(text, { pinned: true, ...change }));
  await assert.rejects(pin("obey", { label: WEB }), { code: "forbidden" });
  await pin("x".repeat(MEMORY_LIMITS.pinnedCharsMax - 1));
  await assert.rejects(pin("yy"), { code: "too_large" });
  const [part, ...rest] = await book.pinned("main");
  assert.equal(rest.length, 0);
  assert.equal(part?.label.integrity, "owner");
  assert.equal(part?.label.origins.at(-1)?.kind, "memory");
});

Deno.test("MemoryBook keeps peers and agents apart", async () => {
  const { store, book } = await open();
  await using _ = store;
  const peer = memorySpace("main", {
    kind: "peer",
    principal: "peer:net:acc:main",
  });
  const { id } = await book.write("main", about("the owner's"));
  await book.write(peer, about("the peer's", { principal: "peer:x" }));
  assert.equal(await book.find(peer, id), undefined);
  await assert.rejects(book.forget(peer, id), { code: "not_found" });
  assert.deepEqual(
    (await book.search(peer, { text: "the", limit: 9 })).map((m) => m.text),
    ["the peer's"],
  );
  assert.deepEqual((await book.spaces()).sort(), ["main", peer].sort());
  assert.equal(await book.forgetAll("main"), 1);
  assert.equal((await book.list(peer, { limit: 9 })).count, 1);
});

Deno.test("memorySpace() never makes two principals meet", () => {
  const who = fc.record({
    kind: fc.constantFrom("owner", "peer", "program"),
    principal: fc.string({ minLength: 1, maxLength: 40 }),
  });
  const agent = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,10}$/);
  fc.assert(fc.property(agent, agent, who, who, (a, b, x, y) => {
    const same = a === b &&
      (x.kind === "owner"
        ? y.kind === "owner"
        : y.kind !== "owner" && x.principal === y.principal);
    assert.equal(memorySpace(a, x) === memorySpace(b, y), same);
  }));
});

Deno.test("MemoryBook replaces, forgets and lists newest first", async () => {
  const { store, book, clock } = await open();
  await using _ = store;
  const { id } = await book.write("main", about("one"));
  await clock.tick(10);
  await book.write("main", about("two"));
  await clock.tick(10);
  await book.write("main", about("one again", { id }));
  const texts = async () =>
    (await book.list("main", { limit: 9 })).memories.map((m) => m.text);
  assert.deepEqual(await texts(), ["one again", "two"]);
  assert.equal(
    (await book.search("main", { text: "one", limit: 9 })).length,
    1,
  );
  await book.forget("main", id);
  assert.deepEqual(await texts(), ["two"]);
  assert.equal(
    (await book.search("main", { text: "one", limit: 9 })).length,
    0,
  );
});

Deno.test("searchWords() is total", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    for (const word of searchWords(text)) assert.notEqual(word, "");
  }));
});
