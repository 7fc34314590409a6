import assert from "node:assert/strict";
import { GatewayConfig } from "./config.ts";

Deno.test("gateway.hosts takes what a Host header can hold, and says why not", () => {
  const good = [
    "box",
    "box.example",
    "my-box.tail1234.ts.net",
    "under_score",
    "box:8080",
    "10.0.0.7",
    "[fd00::7]",
    "[fd00::7]:443",
    "box.example.",
  ];
  assert.deepEqual(GatewayConfig.parse({ hosts: good }).hosts, good);
  const bad = [
    "",
    "a b",
    " box",
    "box ",
    "a\tb",
    "a,b",
    "*.example",
    "http://box",
    "box/path",
    "box:port",
    "box:123456",
    "-box",
    "box..example",
    "fd00::7",
    "user@box",
    "bo\u00adx",
  ];
  for (const host of bad) {
    const { success, error } = GatewayConfig.safeParse({ hosts: [host] });
    assert.equal(success, false, JSON.stringify(host));
    const [issue] = error?.issues ?? [];
    assert.deepEqual(issue?.path, ["hosts", 0]);
    if (host !== "") assert.match(issue?.message ?? "", /not a host name/);
  }
});

Deno.test("gateway.tailscale stands beside gateway.tls only, and says why", () => {
  const tailscale = { users: { "owner@example.com": { scopes: ["read"] } } };
  const tls = { cert: "/c.pem", key: "/k.pem" };
  const { data } = GatewayConfig.safeParse({ tls, tailscale });
  assert.equal(data?.tailscale?.socket, "/var/run/tailscale/tailscaled.sock");
  assert.equal(data?.tailscale?.users["owner@example.com"]?.as, "peer");
  assert.equal(GatewayConfig.parse({}).tailscale, undefined);
  for (
    const more of [{}, { container: true }, { trustedProxies: ["10.0.0.2"] }]
  ) {
    const { error } = GatewayConfig.safeParse({ tailscale, ...more });
    assert.deepEqual(error?.issues[0]?.path, ["tailscale"]);
    assert.match(error?.issues[0]?.message ?? "", /gateway\.tls.*browser/);
  }
  const odd = { ...tailscale, header: "Tailscale-User-Login" };
  assert.ok(!GatewayConfig.safeParse({ tls, tailscale: odd }).success);
});
