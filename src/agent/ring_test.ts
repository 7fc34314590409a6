import assert from "node:assert/strict";
import type { TurnEvent } from "../core/turn.ts";
import { RING_LIMITS, Rings } from "./ring.ts";

const KEY = "agent:main:main";
const event = (seq: number, at = 0, runId = "run_a") =>
  ({ kind: "text", text: "", runId, seq, at }) as TurnEvent;

Deno.test("a ring keeps the last thousand events of a session, for five minutes", () => {
  const rings = new Rings();
  const { eventsMax, ageMs, sessionsMax } = RING_LIMITS;
  assert.deepEqual([eventsMax, ageMs], [1_000, 300_000]);
  const of = (seq: number, now = 0, runId = "run_a") =>
    rings.replay(KEY, { runId, seq, now }).map((one) => one.seq);
  for (let seq = 1; seq <= eventsMax; seq++) rings.add(KEY, event(seq));
  assert.equal(of(0).length, eventsMax);
  assert.deepEqual(of(eventsMax - 1), [eventsMax]);
  rings.add(KEY, event(eventsMax + 1));
  assert.equal(of(0)[0], 2);
  assert.equal(of(0).length, eventsMax);
  for (let n = 2; n <= 3_000; n++) rings.add(KEY, event(eventsMax + n));
  assert.equal(of(0).length, eventsMax);
  assert.deepEqual(of(0, 0, "run_b"), []);
  assert.equal(of(0, ageMs).length, eventsMax);
  assert.deepEqual(of(0, ageMs + 1), []);
  // A session more than there may be pushes the one unused longest out.
  for (let n = 0; n < sessionsMax; n++) rings.add(`agent:main:${n}`, event(1));
  assert.deepEqual(of(0), []);
});
