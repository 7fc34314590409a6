import assert from "node:assert/strict";
import fc from "fast-check";
import { Authority } from "../core/authority.ts";
import {
  Integrity,
  join,
  joinAll,
  type Label,
  Label as LabelSchema,
  label,
  ORIGINS_MAX,
} from "../core/label.ts";
import { makeId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import type { StoredMessage } from "../core/message.ts";
import { systemClock } from "../core/time.ts";
import { openStore } from "../store/store.ts";
import { endorse } from "./endorse.ts";

const RANK = { untrusted: 0, peer: 1, owner: 2 } as const;

const anyLabel: fc.Arbitrary<Label> = fc.record({
  integrity: fc.constantFrom(...Integrity.options),
  secrecy: fc.uniqueArray(fc.constantFrom("owner", "peer:1", "peer:2"), {
    maxLength: 3,
  }),
  origins: fc.array(
    fc.record({
      kind: fc.constantFrom("owner", "web", "file", "tool", "many"),
      ref: fc.string({ maxLength: 8 }),
      at: fc.nat(),
    }),
    { maxLength: ORIGINS_MAX },
  ),
}) as fc.Arbitrary<Label>;

/** Neither more trusted nor less secret. */
function isNoHigher(made: Label, of: Label): boolean {
  return RANK[made.integrity] <= RANK[of.integrity] &&
    of.secrecy.every((principal) => made.secrecy.includes(principal));
}

function authority(kind: "owner" | "peer", integrity: Integrity = "owner") {
  return new Authority({
    principal: kind,
    kind,
    credential: "c",
    revision: 1,
    scopes: ["admin"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity,
  });
}

Deno.test("a join is no higher than either, whatever the order", () => {
  fc.assert(fc.property(anyLabel, anyLabel, anyLabel, (a, b, c) => {
    const ab = join(a, b);
    assert.ok(isNoHigher(ab, a) && isNoHigher(ab, b));
    assert.ok(ab.origins.length <= ORIGINS_MAX);
    const one = join(ab, c);
    const two = join(a, join(b, c));
    assert.equal(one.integrity, two.integrity);
    assert.deepEqual([...one.secrecy].sort(), [...two.secrecy].sort());
    assert.ok(LabelSchema.safeParse(ab).success);
  }));
});

/** What can happen to texts, and to what was made of them. */
type Step =
  | { do: "read"; label: Label }
  | { do: "answer" }
  | { do: "compact" }
  | { do: "copy"; of: number }
  | { do: "endorse"; of: number };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("read" as const), label: anyLabel }),
  fc.record({ do: fc.constant("answer" as const) }),
  fc.record({ do: fc.constant("compact" as const) }),
  fc.record({ do: fc.constant("copy" as const), of: fc.nat() }),
  fc.record({ do: fc.constant("endorse" as const), of: fc.nat() }),
);

Deno.test("no sequence raises a label without an endorse, through the store too", async () => {
  await using store = await openStore({
    dir: ":memory:",
    clock: systemClock,
    log: silentLog,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(anyStep, { maxLength: 12 }), async (steps) => {
      const id = makeId("ses", 1);
      /** Parts as stored, and the labels each was made of. */
      let parts: { label: Label; of: readonly Label[]; endorsed: boolean }[] =
        [];
      let seq = 0;
      for (const step of steps) {
        const all = parts.map((part) => part.label);
        const pick = "of" in step
          ? parts[step.of % (parts.length || 1)]
          : undefined;
        let next: typeof parts[number] | undefined;
        if (step.do === "read") {
          next = { label: step.label, of: [step.label], endorsed: false };
        } else if (step.do === "answer" || step.do === "compact") {
          next = { label: joinAll(all), of: all, endorsed: false };
        } else if (pick !== undefined && step.do === "copy") {
          next = { label: pick.label, of: [pick.label], endorsed: false };
        } else if (pick !== undefined) {
          const part = { kind: "text" as const, text: "t", label: pick.label };
          const own = endorse(part, { authority: authority("owner"), at: 1 });
          next = { label: own.label, of: [pick.label], endorsed: true };
        }
        if (next === undefined) continue;
        const message: StoredMessage = {
          role: "user",
          parts: [{ kind: "text", text: "t", label: next.label }],
          seq: ++seq,
          at: 1,
        };
        await store.journal.commit(store.messages.rows(id, message));
        const [back] = await store.messages.tail(id, { limit: 1 });
        const restored = back?.parts[0]?.label ?? next.label;
        if (step.do === "compact") parts = [];
        parts.push({ ...next, label: restored });
        for (const of of next.of) {
          if (next.endorsed) {
            assert.ok(of.secrecy.every((p) => restored.secrecy.includes(p)));
          } else assert.ok(isNoHigher(restored, of));
        }
      }
    }),
    { numRuns: 60 },
  );
});

Deno.test("only the owner's own act endorses", () => {
  const part = {
    kind: "text" as const,
    text: "t",
    label: label("untrusted", ["peer:1"]),
  };
  const own = endorse(part, { authority: authority("owner"), at: 5 });
  assert.deepEqual([own.label.integrity, own.label.secrecy], ["owner", [
    "peer:1",
  ]]);
  assert.equal(own.label.origins.at(-1)?.kind, "owner");
  assert.equal(part.label.integrity, "untrusted");
  assert.throws(
    () => endorse(part, { authority: authority("peer"), at: 5 }),
    /Only the owner/,
  );
  assert.throws(
    () => endorse(part, { authority: authority("owner", "untrusted"), at: 5 }),
    /Only the owner/,
  );
});
