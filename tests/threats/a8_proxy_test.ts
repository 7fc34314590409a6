/**
 * A8 and A6 through a real proxy: what a named one says of its client can only
 * make a stranger, and is the name by which that stranger's failures are counted.
 */
import assert from "node:assert/strict";
import { Secret } from "../../src/core/secret.ts";
import { CLIENT, FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { openReverseProxy, type ReverseProxy } from "../fakes/reverse_proxy.ts";

const NEAR = "127.0.0.2";
const FAR = "127.0.0.3";
const PASSWORD = "a password of sixteen";
/** Wrong tries of one address that are answered 401; the next waits. */
const FREE = 5;

interface Rig extends AsyncDisposable {
  real: RealHouse;
  /** Named in the configuration, and the gateway's only peer but tests. */
  near: ReverseProxy;
  /** In front of that one. */
  far: ReverseProxy;
}

async function openRig(
  trustedProxies: readonly string[] = [NEAR],
): Promise<Rig> {
  await using opening = new AsyncDisposableStack();
  const password = new Secret(PASSWORD, "test");
  const real = opening.use(
    await openRealHouse({ gateway: { trustedProxies, password } }),
  );
  const { port } = new URL(real.url);
  const near = opening.use(await openReverseProxy(NEAR, Number(port)));
  const far = opening.use(await openReverseProxy(FAR, near.port));
  const closing = opening.move();
  return {
    real,
    near,
    far,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/** The status of one request, as raw as a client can make its headers. */
async function tryIt(
  rig: Rig,
  by: { port: number },
  { token = "wrong", ...headers }: Record<string, string> = {},
): Promise<{ status: number; retryAfter: string | undefined }> {
  const connection = await Deno.connect({
    hostname: "127.0.0.1",
    port: by.port,
  });
  using _closing = connection;
  const head = [
    "GET /v1/models HTTP/1.1",
    `Host: 127.0.0.1:${new URL(rig.real.url).port}`,
    `Authorization: Bearer ${token}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "Connection: close",
  ];
  const bytes = new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n`);
  await connection.write(bytes);
  const buffer = new Uint8Array(16_384);
  const count = await connection.read(buffer) ?? 0;
  const text = new TextDecoder().decode(buffer.subarray(0, count));
  return {
    status: Number(text.split(" ", 2)[1]),
    retryAfter: /\r\nretry-after: (\d+)\r\n/i.exec(text)?.[1],
  };
}

/** Fails as often as one may; then it is told to wait. */
async function useUp(
  rig: Rig,
  by: { port: number },
  headersOf: (n: number) => Record<string, string>,
): Promise<void> {
  for (let n = 0; n < FREE; n++) {
    const { status } = await tryIt(rig, by, headersOf(n));
    assert.equal(status, 401, `try ${n}`);
  }
  const { status, retryAfter } = await tryIt(rig, by, headersOf(FREE));
  assert.equal(status, 429);
  assert.ok(Number(retryAfter) > 0, `${retryAfter}`);
}

const client = (address: string) => ({ "X-Test-Client": address });

Deno.test("A6: behind a named proxy each client's failures are its own", async () => {
  await using rig = await openRig();
  await useUp(rig, rig.near, () => client("203.0.113.9"));
  const other = await tryIt(rig, rig.near, client("203.0.113.10"));
  assert.equal(other.status, 401);
  const direct = await tryIt(rig, { port: portOf(rig) });
  assert.equal(direct.status, 401, "nor are they this machine's");
  const right = await tryIt(rig, rig.near, {
    token: rig.real.owner,
    ...client("203.0.113.9"),
  });
  assert.equal(right.status, 200, "a right token does not wait for wrong ones");
});

Deno.test("A6: one place is one account, however its address is written", async (t) => {
  const rows: [string, readonly string[]][] = [
    ["IPv4 and the same mapped", [
      "203.0.113.9",
      "::ffff:203.0.113.9",
      "::ffff:cb00:7109",
      "[::ffff:203.0.113.9]",
      "0:0:0:0:0:ffff:203.0.113.9",
    ]],
    ["an IPv6 network", [
      "2001:db8:0:1::1",
      "2001:DB8:0:1::2",
      "[2001:db8:0:1:ffff::]",
      "2001:db8::1:0:0:0:7",
    ]],
    ["what is no address, and what cannot be a stranger's", [
      "unknown",
      "_hidden",
      "203.0.113.9:1234",
      "3405803785",
      "0xcb.0.113.9",
      "127.0.0.1",
      "::1",
      "::ffff:127.0.0.1",
      "127.9.9.9",
      "",
    ]],
  ];
  for (const [name, addresses] of rows) {
    await t.step(name, async () => {
      await using rig = await openRig();
      const of = (n: number) => client(addresses[n % addresses.length] ?? "");
      await useUp(rig, rig.near, of);
      const other = await tryIt(rig, rig.near, client("2001:db8:0:2::1"));
      assert.equal(other.status, 401);
    });
  }
});

Deno.test("A8: what a client writes before its proxy does is not believed", async (t) => {
  const written = (n: number) =>
    [
      `198.51.100.${n}`,
      "127.0.0.1",
      `${"10.0.0.1, ".repeat(50)}198.51.100.${n}`,
      NEAR,
      "unknown, ,,",
      `2001:db8:${n}::1`,
    ][n] ?? "";
  await t.step("behind the proxy", async () => {
    await using rig = await openRig();
    await useUp(rig, rig.near, (n) => ({
      "X-Forwarded-For": written(n),
      ...client("203.0.113.9"),
    }));
  });
  await t.step("by a peer that is no proxy", async () => {
    await using rig = await openRig();
    await useUp(rig, { port: portOf(rig) }, (n) => ({
      "X-Forwarded-For": written(n),
      "X-Real-IP": written(n),
      Forwarded: `for=${written(n)}`,
    }));
  });
  await t.step("by a proxy that is not named", async () => {
    await using rig = await openRig(["127.0.0.9"]);
    await useUp(rig, rig.near, (n) => client(`203.0.113.${n}`));
  });
});

Deno.test("A8: of several proxies those that are named are believed, from the right", async (t) => {
  await t.step("both are named", async () => {
    await using rig = await openRig([NEAR, FAR]);
    // The near one is reached by the far one: it says so.
    const through = (address: string) => ({
      "X-Forwarded-For": `${address}, ${FAR}`,
      ...client(FAR),
    });
    await useUp(rig, rig.near, () => through("203.0.113.9"));
    const other = await tryIt(rig, rig.near, through("203.0.113.10"));
    assert.equal(other.status, 401);
  });
  await t.step("only the near one is", async () => {
    await using rig = await openRig([NEAR]);
    // What the far one wrote is a stranger's word: its own address counts.
    await useUp(rig, rig.near, (n) => ({
      "X-Forwarded-For": `203.0.113.${n}`,
      ...client("198.51.100.7"),
    }));
  });
  await t.step("two processes, one behind the other", async () => {
    await using rig = await openRig([NEAR, FAR]);
    await useUp(rig, rig.far, () => client("203.0.113.9"));
    // The far one's own address is loopback here: nobody's, so it is shared.
    assert.equal((await tryIt(rig, { port: portOf(rig) })).status, 401);
  });
});

/** Whether the owner comes in by the password over a socket made so. */
async function byPassword(port: number): Promise<boolean> {
  using one = new FakeClient(`ws://127.0.0.1:${port}/ws`);
  await one.event("connect.challenge");
  const { ok } = await one.call("connect", {
    minProtocol: 3,
    maxProtocol: 4,
    client: CLIENT,
    auth: { password: PASSWORD },
  });
  return ok;
}

Deno.test("A8: nobody behind a proxy is of this machine, whatever it says of them", async () => {
  await using rig = await openRig();
  assert.equal(await byPassword(portOf(rig)), true, "directly it works");
  // The proxy says 127.0.0.1, which is where the test does come from.
  assert.equal(await byPassword(rig.near.port), false);
});

function portOf({ real }: Rig): number {
  return Number(new URL(real.url).port);
}
