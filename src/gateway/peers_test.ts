import assert from "node:assert/strict";
import { GatewayConfig } from "./config.ts";
import { Door } from "./door.ts";
import { Peers, UNKNOWN_ADDRESS } from "./peers.ts";

const tls = { cert: "/c.pem", key: "/k.pem" };

function addressOf(
  config: Record<string, unknown>,
  peer: string,
  headers: Record<string, string> = {},
): string {
  const request = new Request("http://gw/", { headers });
  return new Peers(GatewayConfig.parse(config)).addressOf(request, peer);
}

Deno.test("A8: X-Forwarded-For is read from a named proxy, from the right, and never makes a neighbour", async (t) => {
  const behind = {
    host: "0.0.0.0",
    trustedProxies: ["10.0.0.2", "10.0.0.3", "127.0.0.1"],
  };
  const rows: [
    what: string,
    peer: string,
    xff: string | undefined,
    want: string,
  ][] = [
    ["one hop", "10.0.0.2", "203.0.113.9", "203.0.113.9"],
    [
      "what the caller wrote before it",
      "10.0.0.2",
      "127.0.0.1, 203.0.113.9",
      "203.0.113.9",
    ],
    [
      "two of ours",
      "10.0.0.2",
      "198.51.100.7, 203.0.113.9, 10.0.0.3",
      "203.0.113.9",
    ],
    ["as IPv6 writes IPv4", "::ffff:10.0.0.2", "203.0.113.9", "203.0.113.9"],
    ["an IPv6 caller", "10.0.0.2", "[2001:db8::1]", "2001:db8::1"],
    ["loopback as the last hop", "10.0.0.2", "127.0.0.2", UNKNOWN_ADDRESS],
    ["only our own hops", "10.0.0.2", "10.0.0.3, 127.0.0.1", UNKNOWN_ADDRESS],
    ["nothing", "10.0.0.2", undefined, UNKNOWN_ADDRESS],
    ["not an address", "10.0.0.2", "203.0.113.9, unknown", UNKNOWN_ADDRESS],
    ["a decimal address", "10.0.0.2", "2130706433", UNKNOWN_ADDRESS],
    ["a proxy on this machine", "127.0.0.1", "203.0.113.9", "203.0.113.9"],
    [
      "a proxy on this machine, silent",
      "127.0.0.1",
      undefined,
      UNKNOWN_ADDRESS,
    ],
    ["very long", "10.0.0.2", "1.1.1.1,".repeat(1000), UNKNOWN_ADDRESS],
  ];
  for (const [what, peer, xff, want] of rows) {
    await t.step(what, () => {
      const headers = xff === undefined ? {} : { "x-forwarded-for": xff };
      assert.equal(addressOf(behind, peer, headers), want);
    });
  }
});

Deno.test("A8: nobody else's headers are read", () => {
  const headers = {
    "x-forwarded-for": "203.0.113.9",
    "x-real-ip": "203.0.113.9",
    forwarded: "for=203.0.113.9",
    "tailscale-user-login": "owner@example.com",
  };
  assert.equal(addressOf({}, "127.0.0.1", headers), "127.0.0.1");
  const open = { host: "0.0.0.0", tls };
  assert.equal(addressOf(open, "198.51.100.7", headers), "198.51.100.7");
});

Deno.test("A5: without TLS a stranger is not answered around the proxy", () => {
  const behind = { host: "0.0.0.0", trustedProxies: ["10.0.0.2"] };
  assert.throws(() => addressOf(behind, "10.0.0.9"), { code: "forbidden" });
  assert.equal(addressOf(behind, "127.0.0.1"), "127.0.0.1");
  const container = { host: "0.0.0.0", container: true };
  assert.equal(addressOf(container, "172.17.0.1"), "172.17.0.1");
});

Deno.test("A5: listening in clear text for others is refused, with the ways out", () => {
  for (
    const host of [
      "0.0.0.0",
      "::",
      "192.168.1.5",
      "office.lan",
      "127.0.0.1.example.com",
    ]
  ) {
    const bare = GatewayConfig.safeParse({ host });
    assert.ok(!bare.success, host);
    assert.match(
      bare.error.issues[0]?.message ?? "",
      /gateway\.tls.*trustedProxies.*container/,
    );
    for (
      const by of [{ tls }, { trustedProxies: ["10.0.0.2"] }, {
        container: true,
      }]
    ) {
      assert.ok(GatewayConfig.safeParse({ host, ...by }).success, host);
    }
  }
  for (const host of ["127.0.0.1", "127.8.8.8", "::1", "localhost"]) {
    assert.ok(GatewayConfig.safeParse({ host }).success, host);
  }
  for (const bad of ["10.0.0.0/8", "proxy.lan", "*", "10.1", ""]) {
    assert.ok(!GatewayConfig.safeParse({ trustedProxies: [bad] }).success, bad);
  }
});

Deno.test("A4: over TLS one's own pages are those of https, and the named hosts'", () => {
  const check = (config: Record<string, unknown>, origin: string) =>
    new Door(GatewayConfig.parse(config), 18789).checkOrigin(
      new Request("http://x/", { method: "POST", headers: { origin } }),
      false,
    );
  const secure = { tls, hosts: ["office.lan"] };
  check(secure, "https://127.0.0.1:18789");
  check(secure, "https://office.lan:18789");
  for (
    const origin of [
      "http://127.0.0.1:18789",
      "http://office.lan:18789",
      "https://office.lan.evil.example",
      "https://office.lan:1",
      "null",
    ]
  ) {
    assert.throws(() => check(secure, origin), { code: "forbidden" }, origin);
  }
  check({ hosts: ["office.lan"] }, "http://127.0.0.1:18789");
  assert.throws(() =>
    check({ hosts: ["office.lan"] }, "http://office.lan:18789")
  );
});
