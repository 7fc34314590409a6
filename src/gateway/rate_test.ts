import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../core/errors.ts";
import { Rate, type Standing, tellRates } from "./rate.ts";

Deno.test("Rate says how its bucket stands, full, used and empty", () => {
  const rate = new Rate({
    name: "turns",
    perSecond: 2,
    burst: 5,
    identitiesMax: 9,
  });
  const at = (now: number) => {
    const told: Standing[] = [];
    let waitMs: number | undefined;
    try {
      rate.take("a", now, told);
    } catch (error) {
      assert.ok(error instanceof AppError);
      waitMs = error.retryAfterMs;
    }
    const headers = new Headers();
    tellRates(headers, told);
    assert.equal(headers.get("ratelimit-policy"), '"turns";q=5;w=3');
    return [headers.get("ratelimit"), waitMs];
  };
  assert.deepEqual(at(0), ['"turns";r=4;t=1', undefined]);
  assert.deepEqual(at(0), ['"turns";r=3;t=1', undefined]);
  assert.deepEqual(at(0), ['"turns";r=2;t=2', undefined]);
  assert.deepEqual(at(0), ['"turns";r=1;t=2', undefined]);
  assert.deepEqual(at(0), ['"turns";r=0;t=3', undefined]);
  // Empty: the time is that of Retry-After, until there is one again.
  assert.deepEqual(at(0), ['"turns";r=0;t=1', 500]);
  assert.deepEqual(at(400), ['"turns";r=0;t=1', 100]);
  assert.deepEqual(at(500), ['"turns";r=0;t=3', undefined]);
  assert.deepEqual(at(1_750), ['"turns";r=1;t=2', undefined]);
  assert.deepEqual(at(60_000), ['"turns";r=4;t=1', undefined]);
});

Deno.test("Rate never gives more than its pace, and what it says is true", () => {
  const steps = fc.array(fc.nat({ max: 3_000 }), { maxLength: 60 });
  const bounds = fc.record({
    perSecond: fc.integer({ min: 1, max: 50 }),
    burst: fc.integer({ min: 1, max: 20 }),
  });
  fc.assert(fc.property(bounds, steps, ({ perSecond, burst }, waits) => {
    const rate = new Rate({ name: "x", perSecond, burst, identitiesMax: 4 });
    let now = 0;
    let taken = 0;
    for (const wait of waits) {
      now += wait;
      const told: Standing[] = [];
      try {
        rate.take("a", now, told);
        taken++;
        const left = told[0]?.left ?? NaN;
        // As many as it says are left can be taken now, and not one more.
        const same = new Rate({
          name: "x",
          perSecond,
          burst,
          identitiesMax: 4,
        });
        for (let n = left; n < burst; n++) same.take("b", now);
        for (let n = 0; n < left; n++) same.take("b", now);
        assert.throws(() => same.take("b", now), { code: "rate_limited" });
      } catch (error) {
        assert.ok(error instanceof AppError && error.code === "rate_limited");
        assert.equal(told[0]?.left, 0);
        const seconds = Math.ceil((error.retryAfterMs ?? 0) / 1000);
        assert.equal(told[0]?.resetS, Math.max(1, seconds));
        // It said when: then there is one.
        now += error.retryAfterMs ?? 0;
        rate.take("a", now);
        taken++;
      }
      assert.ok(taken <= burst + (now * perSecond) / 1000 + 1e-6);
    }
  }));
});

Deno.test("Rate forgets the bucket that is full again, not one that is in use", () => {
  const rate = new Rate({
    name: "x",
    perSecond: 1,
    burst: 2,
    identitiesMax: 2,
  });
  rate.take("used", 0);
  rate.take("used", 0);
  rate.take("once", 0);
  rate.take("new", 1_000);
  // "once" was as good as new and went; "used" is where it was.
  rate.take("used", 1_000);
  assert.throws(() => rate.take("used", 1_000), { code: "rate_limited" });
});
