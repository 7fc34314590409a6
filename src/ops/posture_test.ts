import assert from "node:assert/strict";
import type { Clock } from "../core/time.ts";
import { AppError } from "../core/errors.ts";
import { assertPosture, postureActs, runPosture } from "./posture.ts";

const refuse = () => {
  throw new Deno.errors.NotCapable("no");
};

/** A clock whose limit comes when the test says so. */
function handClock(): Clock & { ring(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { now: () => 0, sleep: () => promise, ring: resolve };
}

Deno.test("runPosture() counts as refused only what the runtime refused", async (t) => {
  const rows: [why: string, run: () => unknown, refused: boolean][] = [
    ["NotCapable", refuse, true],
    [
      "NotCapable later",
      () => Promise.reject(new Deno.errors.NotCapable("")),
      true,
    ],
    ["the loader's own words", () => {
      throw new TypeError("x not found in cache, --cached-only is specified.");
    }, true],
    ["success", () => 1, false],
    ["no such file", () => {
      throw new Deno.errors.NotFound("");
    }, false],
    ["the operating system's refusal", () => {
      throw new Deno.errors.PermissionDenied("");
    }, false],
    ["any other failure of an import", () => {
      throw new TypeError("Import failed");
    }, false],
  ];
  for (const [why, run, refused] of rows) {
    await t.step(why, async () => {
      const posture = await runPosture([{ name: "act", run }], handClock());
      assert.equal(posture.tried, 1);
      assert.equal(posture.refused, refused ? 1 : 0);
      assert.equal(posture.failures.length, refused ? 0 : 1);
    });
  }
});

Deno.test("runPosture() undoes what succeeded, and only that", async () => {
  const undone: unknown[] = [];
  const undo = (made: unknown) => undone.push(made);
  await runPosture([
    { name: "made", run: () => "it", undo },
    { name: "refused", run: refuse, undo },
  ], handClock());
  assert.deepEqual(undone, ["it"]);
});

Deno.test("runPosture() takes no answer within the limit as not refused", async () => {
  const clock = handClock();
  const { promise, resolve } = Promise.withResolvers<string>();
  let undone = false;
  const running = runPosture([
    { name: "slow", run: () => promise, undo: () => undone = true },
  ], clock);
  clock.ring();
  const { failures } = await running;
  assert.deepEqual(failures, [
    { act: "slow", why: "it was still going after 300 ms" },
  ]);
  resolve("late");
  await new Promise((next) => setTimeout(next, 0));
  assert.ok(undone, "what it made too late is undone too");
});

Deno.test("assertPosture() names every act and how to start properly", () => {
  assertPosture({ tried: 2, refused: 2, failures: [] });
  assert.throws(
    () =>
      assertPosture({
        tried: 2,
        refused: 0,
        failures: [
          { act: "read a file outside", why: "it succeeded" },
          { act: "start a program", why: "it failed" },
        ],
      }),
    (error) =>
      error instanceof AppError && error.code === "forbidden" &&
      /read a file outside \(it succeeded\); start a program/.test(
        error.message,
      ) && /deno task start/.test(error.hint ?? ""),
  );
});

Deno.test("postureActs() leaves out what the configuration granted", () => {
  const facts = {
    sourceDir: "/opt/carapace",
    isOpen: false,
    holes: ["127.0.0.1"],
    read: [],
    sys: [],
    env: { get: () => undefined },
    os: "linux",
  } as const;
  const names = (over = {}) =>
    postureActs({ ...facts, ...over }).map(({ name }) => name);
  assert.ok(names().length >= 12, `${names().length} acts`);
  assert.equal(new Set(names()).size, names().length);
  const open = names({ isOpen: true });
  assert.ok(open.includes("connect to a private address"));
  assert.ok(!open.includes("connect to an unlisted host"));
  assert.ok(!open.includes("listen on another port"));
  const read = names({ read: ["/etc", "/bin"] });
  assert.ok(!read.includes("read a file outside"));
  const sys = names({ sys: ["networkInterfaces"] });
  assert.ok(!sys.includes("list the network's interfaces"));
});
