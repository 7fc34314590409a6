import assert from "node:assert/strict";
import { event, fakeInbox } from "../../tests/fakes/channel.ts";
import { fakeHouse } from "../../tests/fakes/house.ts";
import { says } from "../../tests/fakes/models.ts";
import type { Committed } from "../store/journal.ts";
import type { KvJournal } from "../store/journal.ts";

const RULES = {
  policy: "allowlist" as const,
  listed: [{ account: "default", id: "ann" }],
};

/** Every unit that was stored, as the names of its rows. */
function watchUnits(journal: unknown): { units: string[][] } & Disposable {
  const units: string[][] = [];
  const names = (rows: readonly Committed[]) =>
    rows.map(({ key, deleted }) => `${deleted ? "-" : ""}${String(key[0])}`);
  const watching = (journal as KvJournal).onCommitted((rows) =>
    void units.push(names(rows))
  );
  return { units, [Symbol.dispose]: () => watching[Symbol.dispose]() };
}

Deno.test("a reply and its way out are one unit with the end of the turn", async (t) => {
  const rows: [string, string, string][] = [
    ["a turn", "hello", "the answer"],
    ["a command", "/status", "Session agent:main"],
    ["a turn that fails", "fail", "error"],
  ];
  for (const [name, text, part] of rows) {
    await t.step(name, async () => {
      await using house = await fakeHouse(
        text === "fail" ? { steps: [] } : { forever: says("the answer") },
      );
      await using fake = fakeInbox(house, { rules: RULES });
      using watched = watchUnits(house.store.journal);
      const sent = Promise.withResolvers<string>();
      fake.channel.after = ({ text }) => sent.resolve(text);
      const got = await fake.inbox.receive(event({ text }));
      assert.equal(got.accepted, true);
      const said = await sent.promise;
      if (part !== "error") assert.ok(said.includes(part), said);
      else assert.notEqual(said, "");
      const queued = watched.units.filter((unit) =>
        unit.includes("outbox_done")
      );
      assert.ok(queued[0]?.includes("run"), JSON.stringify(queued[0]));
      assert.ok(queued[0]?.includes("-runs_open"), "it ends there");
      assert.ok(queued[0]?.includes("outbox"));
    });
  }
});

Deno.test("the label of what was said travels with its row", async () => {
  await using house = await fakeHouse({ forever: says("yes") });
  await using fake = fakeInbox(house, { rules: RULES });
  const sent = Promise.withResolvers<void>();
  fake.channel.after = () => sent.resolve();
  await fake.inbox.receive(event());
  await sent.promise;
  const row = fake.states.find(({ state }) => state === "sending");
  const [part] = row?.parts ?? [];
  assert.equal(part?.label.integrity, "peer");
  assert.deepEqual(part?.label.secrecy, row?.by === undefined ? [] : [row.by]);
});

Deno.test("NO_REPLY says nothing", async () => {
  await using house = await fakeHouse({ forever: says("NO_REPLY") });
  await using fake = fakeInbox(house, { rules: RULES });
  const got = await fake.inbox.receive(event());
  assert.ok(got.accepted);
  await house.desk.wait(got.runId, { timeoutMs: 5_000 });
  assert.equal(house.store.outbox.pending, 0);
  assert.deepEqual(fake.channel.calls, []);
});

Deno.test("a full queue for a place begins no turn there", async () => {
  await using house = await fakeHouse({ forever: says("yes") });
  await using fake = fakeInbox(house, { rules: RULES });
  fake.channel.before = () => new Promise(() => {});
  const label = { integrity: "owner" as const, secrecy: [], origins: [] };
  for (let n = 0; n < 200; n++) {
    await fake.courier.take({
      idempotencyKey: `${n}`,
      destination: { channel: "fake", account: "default", chat: "c-ann" },
      parts: [{ kind: "text", text: "x", label }],
      by: "owner",
    });
  }
  const got = await fake.inbox.receive(event());
  assert.deepEqual(got, { accepted: false, reason: "refused" });
  assert.equal(house.models.requests.length, 0);
});
