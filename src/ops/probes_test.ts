import assert from "node:assert/strict";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { HealthConfig } from "./config.ts";
import { LoopLag } from "./loop_lag.ts";
import {
  channelsProbe,
  configurationProbe,
  diskProbe,
  lagProbe,
  memoryProbe,
  outboxProbe,
  postureProbe,
  ProvidersProbe,
  storeProbe,
} from "./probes.ts";
import { Readiness } from "./ready.ts";
import type { Probe } from "./ready.ts";

const MB = 1_048_576;
const config = () =>
  HealthConfig.parse({ loopLagMs: 100, diskFreeMb: 50, memoryMb: 100 });

async function outcome(probe: Probe): Promise<string> {
  try {
    await probe.run();
    return "ok";
  } catch (error) {
    return (error as Error).message;
  }
}

Deno.test("each probe passes at its border and says what is wrong beyond it", async (t) => {
  const posture = (refused: number) => ({
    tried: 9,
    refused,
    sandboxOff: false,
  });
  const memory = (rss: number, available: number | undefined) =>
    memoryProbe(config, {
      rssBytes: () => rss,
      availableBytes: () => available,
    });
  const lag = (recentMs: number) =>
    lagProbe({ recentMs: () => recentMs }, config);
  const channels = (...states: string[]) =>
    channelsProbe(() =>
      states.map((state, n) => ({ channel: `c${n}`, state }))
    );
  const disk = (free: number) =>
    diskProbe("/state", config, () => Promise.resolve(free));
  const cannot = diskProbe(
    "/state",
    config,
    () => Promise.reject(new Deno.errors.NotCapable("statfs")),
  );
  const broken = diskProbe(
    "/state",
    config,
    () => Promise.reject(new TypeError("stale handle")),
  );
  const dead = { probe: () => Promise.reject(new TypeError("no commit")) };
  const rows: [string, Probe, string][] = [
    ["store", storeProbe({ probe: () => Promise.resolve() }), "ok"],
    ["store that is dead", storeProbe(dead), "no commit"],
    ["posture", postureProbe(posture(9)), "ok"],
    [
      "posture with a hole",
      postureProbe(posture(8)),
      "the sandbox is open: only 8 of 9 forbidden acts refused",
    ],
    ["configuration", configurationProbe(undefined), "ok"],
    ["safe mode", configurationProbe("line 3"), "line 3"],
    ["channels", channels("ready", "ready"), "ok"],
    ["channels that fail", channels("ready", "failing"), "failing: c1"],
    ["outbox", outboxProbe(() => 299_999), "ok"],
    [
      "outbox that is late",
      outboxProbe(() => 300_000),
      "a message is 300 s late",
    ],
    ["lag", lag(100), "ok"],
    ["lag beyond", lag(101), "timers come 101 ms late"],
    ["disk", disk(50 * MB), "ok"],
    ["disk beyond", disk(50 * MB - 1), "only 50 MB free"],
    ["disk that cannot be asked", cannot, "ok"],
    ["disk that does not answer", broken, "stale handle"],
    ["memory", memory(100 * MB, 32 * MB), "ok"],
    [
      "memory of the process",
      memory(100 * MB + 1, 99 * MB),
      "this process has 100 MB, more than 100 MB",
    ],
    [
      "memory of the machine",
      memory(1, 32 * MB - 1),
      "the machine has only 32 MB left",
    ],
    ["memory that cannot be asked", memory(1, undefined), "ok"],
  ];
  for (const [name, probe, want] of rows) {
    await t.step(name, async () => {
      assert.equal(await outcome(probe), want);
      assert.ok(probe.fix !== undefined && probe.fix.length > 10);
      assert.match(probe.name, /^[a-z_]+$/);
    });
  }
});

Deno.test("LoopLag forgives one long pause, not a busy half minute", () => {
  using lag = new LoopLag();
  assert.equal(lag.recentMs(), 0);
  for (let n = 0; n < 55; n++) lag.note(1);
  for (let n = 0; n < 5; n++) lag.note(3_000);
  assert.equal(lag.recentMs(), 1);
  for (let n = 0; n < 2; n++) lag.note(3_000);
  assert.equal(lag.recentMs(), 3_000);
  for (let n = 0; n < 60; n++) lag.note(2);
  assert.equal(lag.recentMs(), 2);
  const { counts, count, sumS } = lag.histogram();
  assert.equal(count, 122);
  assert.equal(counts[0], 55);
  assert.equal(counts[1], 60);
  assert.equal(Math.round(sumS), 21);
  assert.equal(counts.reduce((sum, one) => sum + one, 0), 115);
});

Deno.test("LoopLag sees a thread that is held", async () => {
  using lag = new LoopLag();
  // Its timer fires once before, so that what is late is the next one.
  const until = performance.now() + 800;
  while (performance.now() < until);
  while (lag.histogram().count === 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.ok(lag.recentMs() >= 200, String(lag.recentMs()));
});

Deno.test("ProvidersProbe asks behind the answer, once a minute, and only when asked", async () => {
  const clock = new FakeClock();
  let asked = 0;
  let why: string | undefined = "no answer";
  using probe = new ProvidersProbe(() => [
    { name: "fine", ask: () => Promise.resolve([]) },
    {
      name: "down",
      ask: () => {
        asked++;
        return why === undefined
          ? Promise.resolve([])
          : Promise.reject(new TypeError(why));
      },
    },
  ], clock);
  assert.equal(asked, 0);
  assert.equal(await outcome(probe), "ok", "nothing is known yet");
  await probe.settled();
  assert.equal(await outcome(probe), "down: no answer");
  why = undefined;
  await clock.tick(59_999);
  assert.equal(await outcome(probe), "down: no answer");
  await probe.settled();
  assert.equal(asked, 1);
  await clock.tick(1);
  assert.equal(await outcome(probe), "down: no answer", "it is asked behind");
  await probe.settled();
  assert.equal(asked, 2);
  assert.equal(await outcome(probe), "ok");
});

Deno.test("ProvidersProbe gives up with the house", async () => {
  const aborted = Promise.withResolvers<void>();
  const probe = new ProvidersProbe(() => [{
    name: "slow",
    ask: (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          aborted.resolve();
          reject(signal.reason);
        });
      }),
  }], new FakeClock());
  probe.run();
  probe[Symbol.dispose]();
  await aborted.promise;
  await probe.settled();
});

Deno.test("Readiness names what failed and what repairs it", async () => {
  const clock = new FakeClock();
  const readiness = new Readiness([
    { name: "good", run: () => {} },
    {
      name: "bad",
      fix: "mend it",
      run: () => {
        throw new TypeError("broken");
      },
    },
  ], clock);
  assert.deepEqual(await readiness.check(), {
    ok: false,
    checks: [
      { name: "good", ok: true },
      { name: "bad", ok: false, why: "broken", fix: "mend it" },
    ],
  });
});
