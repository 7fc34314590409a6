/**
 * `kill -9` at random moments: what was acknowledged is there, whole; of what
 * was not, everything or nothing.
 */
import assert from "node:assert/strict";
import { silentLog } from "../core/log.ts";
import { systemClock } from "../core/time.ts";
import { openStore } from "./store.ts";

const KILLS = 24;
const PARTS = 3;
const root = new URL("../../", import.meta.url);

/** Commits numbered units for ever: messages, a large one, an audit row. */
function writer(dir: string, first: number): string {
  return `
    import { openStore } from "./src/store/store.ts";
    import { systemClock } from "./src/core/time.ts";
    import { PUBLIC_OWNER } from "./src/core/label.ts";
    const store = await openStore({ dir: ${JSON.stringify(dir)},
      clock: systemClock, log: () => {} });
    const encoder = new TextEncoder();
    const message = (seq, text) => ({ role: "user", seq, at: 1,
      parts: [{ kind: "text", text, label: PUBLIC_OWNER }] });
    async function write(n) {
      const big = n % 7 === 0 ? "y".repeat(70_000)
        : n % 31 === 0 ? "z".repeat(1_500_000) : "x";
      await store.journal.commit([
        ...[1, 2, ${PARTS}].flatMap((part) => store.messages.rows("ses_" + n,
          message(part, part === 2 ? big : String(n)))),
        store.audit.row({ event: "unit.stored", fields: { n } }),
        // One row that every unit replaces, large every other time.
        ...store.messages.rows("ses_same", message(1, n % 2 ? "w".repeat(90_000) : "w")),
      ]);
      Deno.stdout.writeSync(encoder.encode(n + "\\n"));
    }
    Deno.stdout.writeSync(encoder.encode("open\\n"));
    let n = ${first};
    const lane = async () => { while (true) await write(n++); };
    await Promise.all([lane(), lane(), lane(), lane(), lane()]);
  `;
}

/** Runs the writer until it has acknowledged something and a moment is over. */
async function runAndKill(dir: string, first: number): Promise<number[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", writer(dir, first)],
    cwd: root,
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const chunks: string[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const text = child.stdout.pipeThrough(new TextDecoderStream());
  for await (const chunk of text) {
    chunks.push(chunk);
    timer ??= setTimeout(
      () => child.kill("SIGKILL"),
      // A real process is killed at a real moment: this wait is the test.
      crypto.getRandomValues(new Uint8Array(1)).reduce((a, b) => a + b, 0) / 3,
    );
  }
  await child.status;
  return chunks.join("").split("\n").slice(0, -1).filter((l) => l !== "open")
    .map(Number);
}

Deno.test("A store keeps every acknowledged unit, and no half one, through kill -9", async () => {
  const parent = new URL("tests/.tmp/", root).pathname;
  await Deno.mkdir(parent, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: parent, prefix: "crash-" });
  try {
    const acknowledged = new Set<number>();
    let highest = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      for (const n of await runAndKill(dir, highest + 1000)) {
        acknowledged.add(n);
        highest = Math.max(highest, n);
      }
    }
    await using store = await openStore({
      dir,
      clock: systemClock,
      log: silentLog,
    });
    assert.ok(acknowledged.size > KILLS, `only ${acknowledged.size} units`);
    const audited = new Set<number>();
    for (const row of await store.audit.list({ limit: 1_000_000 })) {
      audited.add(Number(row.fields["n"]));
    }
    for (const n of acknowledged) {
      assert.ok(audited.has(n), `unit ${n} is lost`);
    }
    for (let n = 1; n <= highest + 100; n++) {
      const found = await store.messages.tail(`ses_${n}`, { limit: 9 });
      assert.equal(found.length, audited.has(n) ? PARTS : 0, `unit ${n}`);
    }
    assert.deepEqual(
      [(await store.audit.verify()).ok, store.unreadable()],
      [true, 0],
    );
    assert.equal(
      (await store.messages.tail("ses_same", { limit: 9 })).length,
      1,
    );
  } finally {
    await assertNoOrphans(dir);
    await Deno.remove(dir, { recursive: true });
  }
});

/** Every piece belongs to a set, and every set to a row. */
async function assertNoOrphans(dir: string): Promise<void> {
  using kv = await Deno.openKv(`${dir}/kv.db`);
  const decoder = new TextDecoder();
  const sets = new Map<string, number>();
  for await (const entry of kv.list<Uint8Array>({ prefix: ["chunk_set"] })) {
    const set = JSON.parse(decoder.decode(entry.value.subarray(1)));
    assert.notEqual(set.key, null);
    const row = await kv.get<Uint8Array>(JSON.parse(set.key));
    const pointer = JSON.parse(decoder.decode(row.value?.subarray(1)));
    assert.equal(pointer.id, entry.key[2]);
    sets.set(String(entry.key[2]), set.count);
  }
  for await (const { key } of kv.list({ prefix: ["chunk"] })) {
    const left = sets.get(String(key[2])) ?? 0;
    assert.ok(left > 0, `piece ${key} belongs to nothing`);
    sets.set(String(key[2]), left - 1);
  }
  assert.deepEqual([...sets.values()].filter((left) => left !== 0), []);
}
