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
