import assert from "node:assert/strict";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { REST_LIMITS, restMemory } from "./rest.ts";

Deno.test("restMemory() collects what has grown, when it was quiet twice", async () => {
  const clock = new FakeClock();
  const ending = new AbortController();
  let busy = 0;
  let heap = REST_LIMITS.grownBytes + 1;
  let collected = 0;
  const resting = restMemory({
    busy: () => busy,
    heapBytes: () => heap,
    collect: () => {
      collected++;
      heap = 1;
    },
    clock,
    log: () => {},
    signal: ending.signal,
  });
  const look = () => clock.tick(REST_LIMITS.everyMs);
  await look();
  assert.equal(collected, 0, "quiet once is not quiet");
  await look();
  assert.equal(collected, 1);
  await look();
  assert.equal(collected, 1, "nothing has grown");
  heap = 2 + REST_LIMITS.grownBytes;
  busy = 1;
  await look();
  await look();
  assert.equal(collected, 1, "somebody waits");
  busy = 0;
  await look();
  assert.equal(collected, 1);
  await look();
  assert.equal(collected, 2);
  ending.abort();
  await resting;
});
