import assert from "node:assert/strict";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { AppError } from "./errors.ts";
import { repeat } from "./time.ts";

Deno.test("repeat() goes on after a failure, and ends with its signal", async () => {
  const clock = new FakeClock();
  const ending = new AbortController();
  const failures: unknown[] = [];
  let rounds = 0;
  const repeating = repeat(() => {
    rounds++;
    if (rounds === 1) throw new AppError("unavailable", "the disk is full");
    return Promise.resolve();
  }, {
    everyMs: 1_000,
    clock,
    signal: ending.signal,
    onError: (error) => failures.push(error),
  });
  for (let n = 0; n < 3; n++) await clock.tick(1_000);
  assert.equal(rounds, 3);
  assert.equal(failures.length, 1);
  ending.abort();
  await repeating;
  assert.equal(clock.sleeping, 0);
});
