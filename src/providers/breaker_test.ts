import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { ModelError, type ModelErrorClass } from "../core/model.ts";
import { Breakers, type Pass } from "./breaker.ts";

const LIMITS = {
  failuresMax: 3,
  windowMs: 60_000,
  openMs: 10_000,
  openMsMax: 35_000,
};

const down = (errorClass?: ModelErrorClass, retryAfterMs?: number) =>
  new ModelError(errorClass ?? "server", "it is down", {
    hint: "Wait",
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });

/** Breakers, their clock, and the lines they logged. */
function make(): { clock: FakeClock; breakers: Breakers; lines: string[] } {
  const clock = new FakeClock();
  const lines: string[] = [];
  const log = (_: unknown, event: string) => void lines.push(event);
  return { clock, breakers: new Breakers({ clock, log }, LIMITS), lines };
}

function failTimes(breakers: Breakers, times: number, model = "a:m"): void {
  for (let n = 0; n < times; n++) breakers.enter(model).fail(down());
}

Deno.test("a breaker opens after failures in a row, and says why it refuses", () => {
  const { breakers, lines } = make();
  failTimes(breakers, 2);
  const last = breakers.enter("a:m");
  assert.equal(last.fail(down("timeout")), false);
  assert.throws(() => breakers.enter("a:m"), (error) => {
    assert.ok(error instanceof ModelError && error.isRetryable);
    assert.equal(error.class, "timeout");
    assert.equal(error.retryAfterMs, 10_000);
    assert.match(error.message, /"a:m" is left alone for 10 s more, after 3/);
    assert.match(error.message, /it is down$/);
    assert.equal(error.hint, "Wait");
    return true;
  });
  breakers.enter("a:other").succeed();
  assert.deepEqual(lines, ["provider.breaker_open"]);
});

Deno.test("a breaker lets one call find out, and closes when that succeeds", async () => {
  const { clock, breakers, lines } = make();
  failTimes(breakers, 3);
  await clock.tick(9999);
  assert.throws(() => breakers.enter("a:m"), { class: "server" });
  await clock.tick(1);
  const probe = breakers.enter("a:m");
  assert.throws(() => breakers.enter("a:m"), { class: "server" });
  probe.hear();
  breakers.enter("a:m").leave(); // its first word is enough for the others
  probe.succeed();
  failTimes(breakers, 2); // counted from nothing
  breakers.enter("a:m").succeed();
  assert.deepEqual(lines, [
    "provider.breaker_open",
    "provider.breaker_half_open",
    "provider.breaker_closed",
  ]);
});

Deno.test("a breaker stays open longer after each failed probe, up to a limit", async () => {
  const { clock, breakers } = make();
  failTimes(breakers, 3);
  for (const waitMs of [10_000, 20_000, 35_000, 35_000]) {
    await clock.tick(waitMs - 1);
    assert.throws(() => breakers.enter("a:m"));
    await clock.tick(1);
    assert.equal(breakers.enter("a:m").fail(down()), false);
  }
});

Deno.test("a breaker waits as long as the vendor asks", async () => {
  const { clock, breakers } = make();
  failTimes(breakers, 2);
  breakers.enter("a:m").fail(down("rate", 30_000));
  await clock.tick(29_999);
  assert.throws(() => breakers.enter("a:m"), { class: "rate" });
  await clock.tick(1);
  breakers.enter("a:m").succeed();
});

Deno.test("a probe that was given up decides nothing", async () => {
  const { clock, breakers } = make();
  failTimes(breakers, 3);
  await clock.tick(10_000);
  breakers.enter("a:m").leave();
  breakers.enter("a:m").succeed();
  breakers.enter("a:m").succeed();
});

Deno.test("what speaks of the request does not count", async (t) => {
  const said: ModelErrorClass[] = [
    "auth",
    "quota",
    "context_overflow",
    "refused",
    "bad_request",
    "not_found",
  ];
  for (const errorClass of said) {
    await t.step(errorClass, () => {
      const { breakers } = make();
      failTimes(breakers, 2);
      breakers.enter("a:m").fail(down(errorClass));
      failTimes(breakers, 2);
      breakers.enter("a:m").succeed();
    });
  }
});

Deno.test("answers that break off after their first word count", async () => {
  const { breakers, clock } = make();
  for (let n = 0; n < 3; n++) {
    const pass = breakers.enter("a:m");
    pass.hear();
    pass.fail(down());
  }
  assert.throws(() => breakers.enter("a:m"));
  await clock.tick(10_000);
  const probe = breakers.enter("a:m");
  probe.hear();
  probe.fail(down());
  assert.throws(() => breakers.enter("a:m"));
});

Deno.test("old failures are forgotten", async () => {
  const { breakers, clock } = make();
  failTimes(breakers, 2);
  await clock.tick(60_001);
  failTimes(breakers, 2);
  breakers.enter("a:m").succeed();
});

Deno.test("a call under way when it opened neither closes nor prolongs it", async () => {
  const { breakers, clock } = make();
  const late = [breakers.enter("a:m"), breakers.enter("a:m")];
  failTimes(breakers, 3);
  await clock.tick(9000);
  assert.equal(late[0]?.fail(down()), false);
  await clock.tick(1000);
  breakers.enter("a:m").leave();
  late[1]?.succeed(); // it is there after all
  breakers.enter("a:m").succeed();
});

Deno.test("whatever happens, a breaker is asked again in the end", async () => {
  type Act = "enter" | "hear" | "succeed" | "fail" | "no" | "leave" | "wait";
  const act = fc.constantFrom<Act>(
    "enter",
    "hear",
    "succeed",
    "fail",
    "fail",
    "no",
    "leave",
    "wait",
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(act, fc.nat(3))),
      async (acts) => {
        const { breakers, clock } = make();
        const passes: Pass[] = [];
        for (const [what, which] of acts) {
          const pass = passes[which % Math.max(passes.length, 1)];
          if (what === "wait") await clock.tick(which * 7000);
          else if (what === "enter") {
            try {
              passes.push(breakers.enter("a:m"));
            } catch (error) {
              assert.ok(error instanceof ModelError);
            }
          } else if (what === "fail") pass?.fail(down());
          else if (what === "no") pass?.fail(down("refused"));
          else pass?.[what]();
        }
        // Every call ends some day; then, after the longest wait, one may ask.
        for (const pass of passes) pass.leave();
        await clock.tick(LIMITS.openMsMax);
        breakers.enter("a:m").succeed();
      },
    ),
    { numRuns: 300 },
  );
});
