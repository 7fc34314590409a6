import assert from "node:assert/strict";
import { Ticks } from "./ticks.ts";

Deno.test("Ticks that nobody waited for are one, the last", async () => {
  const ticks = new Ticks();
  const reading = ticks[Symbol.asyncIterator]();
  ticks.push(new Date(1));
  ticks.push(new Date(2));
  assert.equal((await reading.next()).value?.getTime(), 2);
  const waiting = reading.next();
  ticks.push(new Date(3));
  assert.equal((await waiting).value?.getTime(), 3);
  await reading.return();
  assert.equal((await reading.next()).done, true);
});
