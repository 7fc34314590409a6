import assert from "node:assert/strict";
import fc from "fast-check";
import {
  checkPublicHost,
  findAddressFault,
  findNameFault,
  IPV4_REFUSED,
  IPV6_REFUSED,
} from "./address.ts";

/** First and last address of an IPv4 range, as numbers. */
function bounds(cidr: string): [number, number] {
  const [base = "", bits = "32"] = cidr.split("/");
  const first = base.split(".").reduce((n, part) => n * 256 + Number(part), 0);
  return [first, first + 2 ** (32 - Number(bits)) - 1];
}

function dotted(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256)
    .join(".");
}

Deno.test("every IPv4 range is refused from its first address to its last", () => {
  for (const [cidr] of IPV4_REFUSED) {
    const [first, last] = bounds(cidr);
    for (const value of [first, Math.floor((first + last) / 2), last]) {
      assert.notEqual(
        findAddressFault(dotted(value)),
        undefined,
        dotted(value),
      );
    }
  }
});

Deno.test("IPv4 is refused exactly inside the table", () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), (value) => {
      const inside = IPV4_REFUSED.some(([cidr]) => {
        const [first, last] = bounds(cidr);
        return value >= first && value <= last;
      });
      assert.equal(findAddressFault(dotted(value)) !== undefined, inside);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("every IPv6 range is refused, however it is written", () => {
  for (const [cidr] of IPV6_REFUSED) {
    const base = cidr.replace(/\/.*/, "");
    assert.notEqual(findAddressFault(base), undefined, base);
    assert.notEqual(findAddressFault(base.toUpperCase()), undefined);
  }
  for (
    const address of [
      "::ffff:8.8.8.8",
      "::ffff:0808:0808",
      "0:0:0:0:0:ffff:7f00:1",
      "::127.0.0.1",
      "::ffff:0:127.0.0.1",
      "64:ff9b::7f00:1",
      "64:ff9b:1::a00:1",
      "64:ff9b::8.8.8.8",
      "2002:7f00:1::",
      "2002:808:808::1",
      "2001:0:4136:e378:8000:63bf:3fff:fdd2",
      "fd00::1",
      "fe80::1",
      "fe80::1%eth0",
      "2606:4700::1111%lo",
      "febf::1",
      "fec0::1",
      "ff02::1",
      "100::1",
      "2001:db8::1",
      "3fff:fff::1",
      "5f00::1",
      "4000::1",
      "1::1",
      "fe00::1",
      "::",
      "::1",
    ]
  ) assert.notEqual(findAddressFault(address), undefined, address);
});

Deno.test("no IPv6 outside 2000::/3 is public", () => {
  const part = fc.nat(0xffff).map((n) => n.toString(16));
  fc.assert(
    fc.property(
      fc.nat(0xffff).filter((n) => n < 0x2000 || n > 0x3fff),
      fc.array(part, { minLength: 7, maxLength: 7 }),
      (first, rest) => {
        const address = [first.toString(16), ...rest].join(":");
        assert.notEqual(findAddressFault(address), undefined);
      },
    ),
  );
});

Deno.test("public addresses and names pass", () => {
  for (
    const address of [
      "1.1.1.1",
      "8.8.8.8",
      "9.255.255.255",
      "11.0.0.0",
      "93.184.216.34",
      "100.63.255.255",
      "100.128.0.0",
      "126.255.255.255",
      "128.0.0.1",
      "169.253.255.255",
      "172.15.255.255",
      "172.32.0.0",
      "192.0.1.1",
      "192.167.255.255",
      "198.17.255.255",
      "198.20.0.0",
      "203.0.112.255",
      "223.255.255.255",
      "2606:4700:4700::1111",
      "2001:4860:4860::8888",
      "2a00:1450:4001:81b::200e",
      "2400:cb00::1",
      "2620:fe::fe",
    ]
  ) assert.equal(findAddressFault(address), undefined, address);
  for (
    const name of [
      "example.com",
      "a.b.c.example.co.uk",
      "xn--bcher-kva.example",
      "_dmarc.example.com",
      "1.example.com",
      "local.example.com",
      "localhost.example.com",
      "internal-tools.example.com",
    ]
  ) assert.equal(checkPublicHost(name), undefined, name);
});

Deno.test("names of this machine, its network and its cloud are refused", () => {
  for (
    const name of [
      "",
      ".",
      "localhost",
      "localhost.",
      "a.localhost",
      "printer",
      "printer.local",
      "nas.lan",
      "db.internal",
      "metadata.google.internal",
      "metadata.google.internal.",
      "metadata",
      "instance-data.ec2.internal",
      "metadata.tencentyun.com",
      "kubernetes.default.svc",
      "kubernetes.default.svc.cluster.local",
      "router.home.arpa",
      "1.0.0.127.in-addr.arpa",
      "example.com.",
      "a..b.com",
      "-a.example.com",
      "a b.example.com",
      `${"a".repeat(64)}.com`,
      `${"a.".repeat(127)}com`,
    ]
  ) assert.notEqual(findNameFault(name), undefined, name);
});

Deno.test("what is no address is not a public one", () => {
  for (
    const text of [
      "",
      "example.com",
      "127.1",
      "2130706433",
      "0x7f000001",
      "8.8.8",
      "08.8.8.8",
      "8.8.8.8 ",
      "8.8.8.8:53",
      "[2606:4700::1]",
      "1.1.1.1/32",
      ":::",
      "::g",
    ]
  ) assert.equal(findAddressFault(text), "not an address", text);
});
