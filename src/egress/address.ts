/**
 * Which addresses and names are public. An address is public only when two
 * readers say so: the table below, and `ipaddr.js`. For IPv6 the table allows
 * instead of refusing: only 2000::/3 is given out, so whatever is outside of it
 * (loopback, private, mapped, NAT64, …) is not public, known or not.
 *
 * Never: an address in any spelling but the canonical one is called public.
 *
 * @module
 */
import ipaddr from "ipaddr.js";
import { type Refused, refused } from "./rules.ts";

type Range = readonly [cidr: string, what: string];

/** IPv4 that is not the public internet (IANA special-purpose registry and clouds). */
export const IPV4_REFUSED: readonly Range[] = [
  ["0.0.0.0/8", "this network"],
  ["10.0.0.0/8", "private"],
  ["100.64.0.0/10", "carrier-grade NAT"],
  ["127.0.0.0/8", "loopback"],
  ["168.63.129.16/32", "cloud metadata"],
  ["169.254.0.0/16", "link-local"],
  ["172.16.0.0/12", "private"],
  ["192.0.0.0/24", "reserved"],
  ["192.0.2.0/24", "documentation"],
  ["192.31.196.0/24", "reserved"],
  ["192.52.193.0/24", "reserved"],
  ["192.88.99.0/24", "6to4 relay"],
  ["192.168.0.0/16", "private"],
  ["192.175.48.0/24", "reserved"],
  ["198.18.0.0/15", "benchmark"],
  ["198.51.100.0/24", "documentation"],
  ["203.0.113.0/24", "documentation"],
  ["224.0.0.0/4", "multicast"],
  ["240.0.0.0/4", "reserved"],
  ["255.255.255.255/32", "broadcast"],
];

/** IPv6 by name; what is outside 2000::/3 and not named here is "reserved". */
export const IPV6_REFUSED: readonly Range[] = [
  ["::/128", "unspecified"],
  ["::1/128", "loopback"],
  ["::ffff:0:0/96", "IPv4-mapped"],
  ["::ffff:0:0:0/96", "IPv4-translated"],
  ["::/96", "IPv4-compatible"],
  ["64:ff9b::/96", "NAT64"],
  ["64:ff9b:1::/48", "NAT64"],
  ["100::/64", "discard"],
  ["100:0:0:1::/64", "reserved"],
  ["2001::/32", "Teredo"],
  ["2001:2::/48", "benchmark"],
  ["2001:10::/28", "ORCHID"],
  ["2001:20::/28", "ORCHID"],
  ["2001:db8::/32", "documentation"],
  ["2001::/23", "reserved"],
  ["2002::/16", "6to4"],
  ["2620:4f:8000::/48", "reserved"],
  ["3fff::/20", "documentation"],
  ["5f00::/16", "segment routing"],
  ["fc00::/7", "private"],
  ["fe80::/10", "link-local"],
  ["fec0::/10", "site-local"],
  ["ff00::/8", "multicast"],
];

/** Names that mean this machine, its network or its cloud, whatever they resolve to. */
const SUFFIXES_REFUSED: readonly string[] = [
  "localhost",
  "local",
  "localdomain",
  "internal",
  "intranet",
  "private",
  "corp",
  "home",
  "lan",
  "home.arpa",
  "in-addr.arpa",
  "ip6.arpa",
  "svc",
  "consul",
  "metadata.tencentyun.com",
  "metadata.packet.net",
  "metadata.platformequinix.com",
];

const V6_GLOBAL = ipaddr.IPv6.parseCIDR("2000::/3");
const v4 = IPV4_REFUSED.map(([cidr, what]) =>
  [ipaddr.IPv4.parseCIDR(cidr), what] as const
);
const v6 = IPV6_REFUSED.map(([cidr, what]) =>
  [ipaddr.IPv6.parseCIDR(cidr), what] as const
);

/**
 * Why an address is not public, or `undefined` when it is. Takes an address as
 * a resolver or the URL parser writes it; every other text is "not an address".
 */
export function findAddressFault(text: string): string | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) {
    const address = ipaddr.IPv4.parse(text);
    const known = v4.find(([range]) => address.match(range));
    if (known !== undefined) return known[1];
    return address.range() === "unicast" ? undefined : "reserved";
  }
  if (text.includes("%")) return "scoped";
  if (!text.includes(":") || !ipaddr.IPv6.isValid(text)) {
    return "not an address";
  }
  const address = ipaddr.IPv6.parse(text);
  const known = v6.find(([range]) => address.match(range));
  if (known !== undefined) return known[1];
  if (!address.match(V6_GLOBAL)) return "reserved";
  return address.range() === "unicast" ? undefined : "reserved";
}

/** Whether a `URL.hostname` is a literal address; its text without brackets. */
export function findLiteral(hostname: string): string | undefined {
  if (hostname.startsWith("[")) return hostname.slice(1, -1);
  return ipaddr.IPv4.isValidFourPartDecimal(hostname) ? hostname : undefined;
}

/** Why a name cannot be a public one, or `undefined`. */
export function findNameFault(hostname: string): string | undefined {
  if (hostname.endsWith(".")) return "it ends with a dot";
  if (hostname.length > 253) return "it is too long";
  const labels = hostname.split(".");
  if (labels.length < 2) {
    return "it has no dot, so it is a name of this network";
  }
  if (
    !labels.every((label) =>
      /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label)
    )
  ) {
    return "it is not a host name";
  }
  if (/^\d+$/.test(labels.at(-1) ?? "")) return "it is not a host name";
  const suffix = SUFFIXES_REFUSED.find((name) =>
    hostname === name || hostname.endsWith(`.${name}`)
  );
  return suffix === undefined
    ? undefined
    : `names under "${suffix}" are not public`;
}

/** Whether a URL's host can be public, before anything is resolved. */
export function checkPublicHost(hostname: string): Refused | undefined {
  const hint =
    "Only hosts of the public internet are reached this way; name the host in egress.hosts if it is meant";
  const literal = findLiteral(hostname);
  if (literal !== undefined) {
    const fault = findAddressFault(literal);
    return fault === undefined
      ? undefined
      : refused("address", `its address is not public (${fault})`, hint);
  }
  const fault = findNameFault(hostname);
  return fault === undefined ? undefined : refused("name", fault, hint);
}
