/**
 * Arithmetic over IPv4 ranges: the ranges that the outer sandbox denies, with
 * exact addresses cut out of them. Deno's deny list wins over its allow list and
 * stops listening too, so an address the gateway needs must not be in a range.
 *
 * Never: a name is resolved here, a socket is opened; the checks of the open
 * route are in `address`, this is the wall behind them.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** IPv4 ranges nobody on the public internet answers from, and why. */
export const DENIED_V4: readonly (readonly [cidr: string, why: string])[] = [
  ["0.0.0.0/8", "this network (0.0.0.0 reaches loopback)"],
  ["10.0.0.0/8", "private"],
  ["100.64.0.0/10", "shared address space (CGNAT, metadata)"],
  ["127.0.0.0/8", "loopback"],
  ["168.63.129.16/32", "metadata"],
  ["169.254.0.0/16", "link-local (metadata)"],
  ["172.16.0.0/12", "private"],
  ["192.0.0.0/24", "protocol assignments (metadata)"],
  ["192.0.2.0/24", "documentation"],
  ["192.31.196.0/24", "AS112"],
  ["192.52.193.0/24", "AMT"],
  ["192.88.99.0/24", "6to4 relay"],
  ["192.168.0.0/16", "private"],
  ["192.175.48.0/24", "AS112"],
  ["198.18.0.0/15", "benchmark"],
  ["198.51.100.0/24", "documentation"],
  ["203.0.113.0/24", "documentation"],
  ["224.0.0.0/4", "multicast"],
  ["240.0.0.0/4", "reserved and broadcast"],
];

/**
 * Single IPv6 addresses worth denying. Deno takes no IPv6 ranges: the private
 * ones are held by `egress` alone.
 */
export const DENIED_V6: readonly (readonly [address: string, why: string])[] = [
  ["::", "unspecified (reaches loopback)"],
  ["::1", "loopback"],
  ["fd00:ec2::254", "metadata"],
  ["fd20:ce::254", "metadata"],
];

const OCTET = String.raw`(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`;
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
const SPACE = 2 ** 32;

/** Whether a text is an IPv4 address in its one plain form. */
export function isIpv4(text: string): boolean {
  return IPV4.test(text);
}

/** An address as a number. @throws `bad_input` for any but the plain form */
export function parseIpv4(text: string): number {
  if (!isIpv4(text)) {
    throw new AppError(
      "bad_input",
      `Cannot read ${JSON.stringify(text)} as an IPv4 address`,
      { hint: "Write four numbers from 0 to 255, without leading zeros" },
    );
  }
  return text.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

/** A number as an address. */
export function toIpv4(value: number): string {
  return [24, 16, 8, 0].map((bits) => Math.floor(value / 2 ** bits) % 256)
    .join(".");
}

/** A run of addresses; `end` is the first one after it. */
export interface Span {
  start: number;
  end: number;
}

/** `10.0.0.0/8`, or one address. @throws `bad_input` */
export function parseCidr(text: string): Span {
  const [address = "", bits = "32", ...rest] = text.split("/");
  const start = parseIpv4(address);
  const size = 2 ** (32 - Number(bits));
  if (
    rest.length > 0 || !/^(?:\d|[12]\d|3[0-2])$/.test(bits) ||
    start % size !== 0
  ) {
    throw new AppError(
      "bad_input",
      `Cannot read ${JSON.stringify(text)} as an IPv4 range`,
      { hint: "Write it as 10.0.0.0/8, with no bits set behind the prefix" },
    );
  }
  return { start, end: start + size };
}

/** Sorts, and joins what touches or overlaps. */
function merge(spans: readonly Span[]): Span[] {
  const merged: Span[] = [];
  for (const span of spans.toSorted((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last !== undefined && span.start <= last.end) {
      last.end = Math.max(last.end, span.end);
    } else merged.push({ ...span });
  }
  return merged;
}

function without(spans: readonly Span[], address: number): Span[] {
  return spans.flatMap(({ start, end }) =>
    address < start || address >= end ? [{ start, end }] : [
      { start, end: address },
      { start: address + 1, end },
    ].filter((span) => span.start < span.end)
  );
}

/** The fewest ranges that hold exactly these addresses. */
function toCidrs({ start, end }: Span): string[] {
  const cidrs: string[] = [];
  while (start < end) {
    // Ends: each round moves `start` by at least one. The block is the largest
    // that begins here: limited by the start's low zero bits and by what is left.
    let size = start === 0 ? SPACE : 2 ** trailingZeros(start);
    while (size > end - start) size /= 2;
    const bits = 32 - Math.log2(size);
    cidrs.push(bits === 32 ? toIpv4(start) : `${toIpv4(start)}/${bits}`);
    start += size;
  }
  return cidrs;
}

function trailingZeros(value: number): number {
  let zeros = 0;
  for (; value % 2 === 0; value /= 2) zeros++;
  return zeros;
}

/** What {@linkcode denyRanges} leaves out. */
export interface DenyOptions {
  /** Exact IPv4 addresses that the configuration names. */
  holes?: readonly string[];
}

/**
 * The denied IPv4 ranges minus the holes: no overlaps, as few entries as can be.
 *
 * @example One address of loopback stays usable
 * ```ts
 * import { denyRanges } from "./cidr.ts";
 * denyRanges({ holes: ["127.0.0.1"] }).includes("127.0.0.2/31"); // true
 * ```
 */
export function denyRanges(options: DenyOptions = {}): string[] {
  const { holes = [] } = options;
  const base = merge(DENIED_V4.map(([cidr]) => parseCidr(cidr)));
  const spans = holes.map(parseIpv4).reduce(without, base);
  return merge(spans).flatMap(toCidrs);
}

/** The denied IPv6 addresses minus the holes, in brackets as Deno takes them. */
export function denyAddressesV6(holes: readonly string[] = []): string[] {
  return DENIED_V6.flatMap(([address]) =>
    holes.includes(address) ? [] : [`[${address}]`]
  );
}

/** Whether an address is in the base list of ranges, holes apart. */
export function isDeniedV4(address: string): boolean {
  const value = parseIpv4(address);
  return DENIED_V4.some(([cidr]) => {
    const { start, end } = parseCidr(cidr);
    return value >= start && value < end;
  });
}
