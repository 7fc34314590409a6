/**
 * What a turn costs beside its model: `deno run -A tests/bench/agent_bench.ts`.
 * Sessions of 50, 500 and 5,000 messages in a real store, scripted models that
 * answer at once; the first turn of each may write notes and is not counted.
 * One JSON line with the machine's facts.
 */
import { label } from "../../src/core/label.ts";
import { NO_USAGE, type StoredMessage } from "../../src/core/message.ts";
import type { Session } from "../../src/store/sessions.ts";
import { type FakeHouse, fakeHouse } from "../fakes/house.ts";
import { says } from "../fakes/models.ts";

const TURNS = 200;
const HISTORIES = [50, 500, 5_000];
const TEXT = "A sentence of the talk. ".repeat(8);

function message(seq: number): StoredMessage {
  const own = label("owner", ["owner"], { kind: "owner", ref: "cli", at: 1 });
  return {
    role: seq % 2 === 1 ? "user" : "assistant",
    parts: [{ kind: "text", text: `${seq} ${TEXT}`, label: own }],
    seq,
    at: seq,
  };
}

async function fill(house: FakeHouse, count: number): Promise<string> {
  const { store } = house;
  const key = `agent:main:client:bench${count}`;
  const session: Session = {
    key,
    id: `ses_${String(count).padStart(12, "0")}`,
    agentId: "main",
    kind: "direct",
    createdAt: 1,
    updatedAt: 1,
    seq: count,
    queueMode: "queue",
    usage: NO_USAGE,
    joined: label("owner", ["owner"]),
    owner: "owner",
  };
  for (let seq = 1; seq <= count; seq += 400) {
    const rows = [];
    for (let n = seq; n < seq + 400 && n <= count; n++) {
      rows.push(...store.messages.rows(session.id, message(n)));
    }
    await store.journal.commit(rows);
  }
  await store.journal.commit(store.sessions.rows(session));
  return key;
}

function quantile(sorted: readonly number[], q: number): number {
  const at = Math.min(sorted.length - 1, Math.floor(sorted.length * q));
  return Math.round((sorted[at] ?? 0) * 100) / 100;
}

async function measure(count: number) {
  const parent = new URL("../.tmp/", import.meta.url).pathname;
  await Deno.mkdir(parent, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: parent, prefix: "bench-" });
  try {
    await using house = await fakeHouse({ dir, forever: () => says(NOTES) });
    const sessionKey = await fill(house, count);
    const begun = performance.now();
    await house.say("the first", { sessionKey });
    const firstMs = performance.now() - begun;
    const times: number[] = [];
    let noted = 0;
    for (let n = 0; n < TURNS; n++) {
      const at = performance.now();
      const events = await house.say("and now?", { sessionKey });
      const took = performance.now() - at;
      if (events.some((e) => e.kind === "compacted")) noted++;
      else times.push(took);
    }
    times.sort((a, b) => a - b);
    const shown = house.models.requests.at(-1)?.messages.length ?? 0;
    return {
      messages: count,
      firstMs: Math.round(firstMs),
      p50Ms: quantile(times, 0.5),
      p99Ms: quantile(times, 0.99),
      compactions: noted,
      messagesShown: shown,
    };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const NOTES = "Notes of what was said, long enough to count as notes.";

if (import.meta.main) {
  const turns = [];
  // deno-lint-ignore no-top-level-await
  for (const count of HISTORIES) turns.push(await measure(count));
  console.log(JSON.stringify({
    bench: "agent",
    deno: Deno.version.deno,
    os: Deno.build.os,
    cores: navigator.hardwareConcurrency,
    turns,
  }));
}
