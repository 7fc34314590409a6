/** Threats A6 and A7, as far as this room goes. */
import assert from "node:assert/strict";
import { quietDoor } from "../../tests/fakes/auth.ts";
import { AppError } from "../core/errors.ts";
import { type Log, silentLog } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import { openStore } from "../store/store.ts";
import { Authenticator } from "./authenticate.ts";
import { canonicalAddress, FailureLimiter, FAILURES } from "./limiter.ts";
import { Tokens } from "./tokens.ts";

async function open() {
  let now = 1_000_000;
  const clock: Clock = { now: () => now, sleep: () => Promise.resolve() };
  const store = await openStore({ dir: ":memory:", clock, log: silentLog });
  const logged: unknown[] = [];
  const log: Log = (...line) => logged.push(line);
  const tokens = new Tokens({ store, clock, log });
  const door = new Authenticator({ tokens, clock, ...quietDoor(clock) });
  const { token, id } = await tokens.create({ name: "a", scopes: ["read"] });
  return {
    tokens,
    token,
    id,
    door,
    logged,
    store,
    enter: (text: string | undefined, address = "127.0.0.1") =>
      door.authenticate(text === undefined ? {} : { token: text }, { address }),
    pass: (ms: number) => void (now += ms),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

async function refusal(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(() => undefined, (reason) => reason);
  assert.ok(error instanceof AppError, "it was not refused");
  return error;
}

Deno.test("Authenticator.authenticate() refuses a caller without a token, and says where to get one", async () => {
  await using house = await open();
  for (const token of [undefined, ""]) {
    const error = await refusal(house.enter(token));
    assert.equal(error.code, "unauthorized");
    assert.match(error.hint ?? "", /token create/);
  }
});

Deno.test("A6: wrong tokens wait longer and longer, loopback too; the right one never does", async () => {
  await using house = await open();
  const delays: number[] = [];
  for (let n = 0; n < FAILURES.free + 4; n++) {
    delays.push((await refusal(house.enter(`wrong ${n}`))).retryAfterMs ?? 0);
  }
  assert.deepEqual(delays, [0, 0, 0, 0, 0, 1000, 2000, 4000, 8000]);
  assert.equal((await house.enter(house.token)).id, `token:${house.id}`);
  // Being right gives back one's own charge, not the failures of others.
  assert.equal((await refusal(house.enter("wrong"))).retryAfterMs, 16_000);
  for (let n = 0; n < 40; n++) await refusal(house.enter(`more ${n}`));
  const error = await refusal(house.enter("again"));
  assert.deepEqual([error.code, error.retryAfterMs], [
    "rate_limited",
    FAILURES.delayMsMax,
  ]);
  assert.equal((await house.enter(house.token)).id, `token:${house.id}`);
  house.pass(FAILURES.delayMsMax + 1);
  assert.equal((await refusal(house.enter("anew"))).code, "unauthorized");
});

Deno.test("A6: tries that run together are all counted", async () => {
  await using house = await open();
  const errors = await Promise.all(
    Array.from({ length: 50 }, (_, n) => refusal(house.enter(`wrong ${n}`))),
  );
  const free = errors.filter(({ code }) => code === "unauthorized");
  assert.equal(free.length, FAILURES.free);
});

Deno.test("A6: first uses of right tokens at once are not failures", async () => {
  await using house = await open();
  await Promise.all(
    Array.from({ length: 50 }, () => house.enter(house.token)),
  );
  const error = await refusal(house.enter("wrong"));
  assert.equal(error.code, "unauthorized");
});

Deno.test("A6: an address has one name however it is written", async (t) => {
  const rows: [a: string, b: string, isSame: boolean][] = [
    ["1.2.3.4", "::ffff:1.2.3.4", true],
    ["1.2.3.4", "::ffff:102:304", true],
    ["1.2.3.4", "0:0:0:0:0:FFFF:1.2.3.4", true],
    ["1.2.3.4", "1.2.3.5", false],
    ["127.0.0.1", "::1", false],
    ["2001:db8::1", "2001:DB8:0:0:ffff::2", true],
    ["2001:db8::1", "2001:db8:0:1::1", false],
    ["fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", false],
    ["fd7a:115c:a1e0::1", "[FD7A:115C:A1E0:0::1]", true],
    ["fd7a:115c:a1df:ffff::1", "fd7a:115c:a1df:ffff::2", true],
    ["fd7a:115c:a1e1::1", "fd7a:115c:a1e1::2", true],
    ["fe80::1%eth0", "[fe80::1]", true],
    ["", "not an address", true],
    ["2130706433", "0x7f.1", true],
    ["2130706433", "127.0.0.1", false],
  ];
  for (const [a, b, isSame] of rows) {
    await t.step(`${a} and ${b}`, () => {
      assert.equal(canonicalAddress(a) === canonicalAddress(b), isSame);
    });
  }
});

Deno.test("A6: many addresses together are limited, and remembered within bounds", () => {
  let now = 0;
  const clock: Clock = { now: () => now, sleep: () => Promise.resolve() };
  const limiter = new FailureLimiter(clock);
  const from = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
  const delays: number[] = [];
  for (let n = 0; n < FAILURES.addressesMax + 500; n++) {
    delays.push(limiter.charge(from(n)).delayMs);
  }
  assert.equal(delays.slice(0, FAILURES.allFree).every((ms) => ms === 0), true);
  assert.equal(delays[FAILURES.allFree], 1000);
  assert.equal(limiter.size, FAILURES.addressesMax);
  now += 3_600_000 * 24;
  assert.equal(limiter.charge(from(1)).delayMs, 0);
});

Deno.test("A7: a refusal is the same for a token unknown, revoked or expired", async () => {
  await using house = await open();
  const over = await house.tokens.create({
    name: "b",
    scopes: ["read"],
    expiresInMs: 10,
  });
  house.pass(10);
  await house.tokens.revoke(house.id);
  const unknown = over.token.slice(0, -4) + "AAAA";
  const said: string[] = [];
  for (const token of [house.token, over.token, unknown, "x".repeat(5000)]) {
    const { code, message, hint, details } = await refusal(house.enter(token));
    said.push(JSON.stringify([code, message, hint, details]));
    assert.ok(!message.includes(token.slice(0, 12)));
  }
  assert.equal(new Set(said).size, 1);
  assert.ok(!JSON.stringify(house.logged).includes(house.token));
});

Deno.test("Authenticator notes a token's last use once a minute", async () => {
  await using house = await open();
  const lastUsed = async () => {
    await house.store.probe(); // after what was handed in before
    return (await house.tokens.list())[0]?.lastUsedAt;
  };
  await house.enter(house.token);
  const first = await lastUsed();
  house.pass(59_999);
  await house.enter(house.token);
  assert.equal(await lastUsed(), first);
  house.pass(1);
  await house.enter(house.token);
  assert.equal(await lastUsed(), (first ?? 0) + 60_000);
  // Another token's change makes it look up again, not write again.
  await house.tokens.create({ name: "c", scopes: [] });
  house.pass(30_000);
  await house.enter(house.token);
  assert.equal(await lastUsed(), (first ?? 0) + 60_000);
});
