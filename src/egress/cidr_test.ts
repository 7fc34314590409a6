import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../core/errors.ts";
import {
  DENIED_V4,
  denyAddressesV6,
  denyRanges,
  isDeniedV4,
  parseCidr,
  parseIpv4,
  toIpv4,
} from "./cidr.ts";

const anyAddress = fc.nat({ max: 2 ** 32 - 1 });
/** Addresses at and around the borders of the base list, where mistakes live. */
const nearBorder = fc.constantFrom(...DENIED_V4).chain(([cidr]) => {
  const { start, end } = parseCidr(cidr);
  return fc.tuple(fc.constantFrom(start, end), fc.integer({ min: -3, max: 3 }))
    .map(([at, by]) => Math.min(Math.max(at + by, 0), 2 ** 32 - 1));
});
const address = fc.oneof(anyAddress, nearBorder).map(toIpv4);
const holes = fc.uniqueArray(address, { maxLength: 12 });

Deno.test("denyRanges() denies an address iff it is in the base list and no hole", () => {
  fc.assert(
    fc.property(holes, address, (holes, one) => {
      const spans = denyRanges({ holes }).map(parseCidr);
      for (const at of [one, ...holes]) {
        const value = parseIpv4(at);
        const inside = spans.filter((s) => value >= s.start && value < s.end);
        const want = isDeniedV4(at) && !holes.includes(at);
        // One range at most: no overlaps.
        assert.equal(inside.length, want ? 1 : 0, at);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("denyRanges() is sorted, without overlaps, and minimal", () => {
  fc.assert(
    fc.property(holes, (holes) => {
      const spans = denyRanges({ holes }).map(parseCidr);
      spans.slice(1).forEach((span, n) => {
        const before = spans[n] ?? span;
        assert.ok(before.end <= span.start);
        // Two neighbours that are halves of one aligned block should be one.
        const size = span.end - span.start;
        const halves = before.end === span.start &&
          before.end - before.start === size &&
          before.start % (2 * size) === 0;
        assert.ok(!halves, `${toIpv4(before.start)} and its neighbour`);
      });
    }),
    { numRuns: 300 },
  );
});

Deno.test("denyRanges() cuts out exactly one address", () => {
  const cut = denyRanges({ holes: ["127.0.0.1"] });
  assert.deepEqual(cut.filter((c) => c.startsWith("127.0.0.")), [
    "127.0.0.0",
    "127.0.0.2/31",
    "127.0.0.4/30",
    "127.0.0.8/29",
    "127.0.0.16/28",
    "127.0.0.32/27",
    "127.0.0.64/26",
    "127.0.0.128/25",
  ]);
  assert.ok(cut.includes("10.0.0.0/8"));
  // 224.0.0.0/4 and 240.0.0.0/4 are neighbours.
  assert.ok(cut.includes("224.0.0.0/3"));
  assert.deepEqual(
    denyRanges({ holes: ["8.8.8.8"] }),
    denyRanges(),
    "a public hole changes nothing",
  );
});

Deno.test("denyAddressesV6() leaves holes out", () => {
  assert.deepEqual(denyAddressesV6(["::1"]), [
    "[::]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
  ]);
});

Deno.test("parseCidr() and parseIpv4() refuse every other spelling", () => {
  for (
    const text of [
      "",
      "10.0.0",
      "10.0.0.0.0",
      "010.0.0.1",
      "0x7f.0.0.1",
      "256.0.0.1",
      "1.2.3.4/8",
      "10.0.0.0/33",
      "10.0.0.0/",
      "10.0.0.0/8/8",
      "10.0.0.0/ 8",
      "2130706433",
      "::1",
    ]
  ) assert.throws(() => parseCidr(text), AppError, text);
  fc.assert(
    fc.property(anyAddress, (n) => assert.equal(parseIpv4(toIpv4(n)), n)),
  );
});
