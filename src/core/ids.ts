/**
 * Names of things: sortable ids, session keys, hashes.
 *
 * Never: an id from outside is used without being parsed here.
 *
 * @module
 */
import { z } from "zod";

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
let lastMs = 0;
let counter = 0;

function digits(value: number, count: number): string {
  let text = "";
  for (let n = 0; n < count; n++) {
    text = ALPHABET.charAt(value % 32) + text;
    value = Math.floor(value / 32);
  }
  return text;
}

/**
 * A new id: prefix, ten characters of time, three of a counter within the
 * millisecond, ten random. Ids of one process sort by their making.
 */
export function makeId(prefix: string, nowMs: number): string {
  if (nowMs > lastMs) {
    lastMs = nowMs;
    counter = 0;
  } else counter++;
  const random = crypto.getRandomValues(new Uint8Array(10));
  let tail = "";
  for (const byte of random) tail += ALPHABET.charAt(byte % 32);
  return `${prefix}_${digits(lastMs, 10)}${digits(counter, 3)}${tail}`;
}

/** Matches what {@linkcode makeId} makes with this prefix. */
export function idSchema(prefix: string): z.ZodString {
  return z.string().regex(new RegExp(`^${prefix}_[0-9a-z]{10,40}$`));
}

/**
 * An agent's name, as it stands in configuration and session keys. The one name
 * of that form that every object answers to is none.
 */
export const AgentId = z.string().regex(
  /^(?!constructor$)[a-z0-9][a-z0-9_-]{0,39}$/,
  "an agent id is 1 to 40 of a-z, 0-9, _ and -, and begins with a letter or digit",
);

/**
 * A session's key: `agent:<agentId>:<rest>`; parts of `[a-z0-9_.-]`.
 * It routes; it never authorises.
 */
export const SessionKey = z.string().max(300).regex(
  /^agent:(?!constructor:)[a-z0-9][a-z0-9_-]{0,39}(:[A-Za-z0-9_.@+-]{1,64}){1,8}$/,
  "a session key looks like agent:<agent>:main",
);

const KINDS: Readonly<Record<string, string>> = {
  dm: "dm",
  direct: "dm",
  group: "group",
  channel: "channel",
};
const OWN_FIRST: ReadonlySet<string> = new Set([
  "main",
  "client",
  "openai",
  "cron",
  "heartbeat",
  "hook",
  "subagent",
  "transient",
]);

/**
 * The parts of a key after its agent in their full form. Shorter ones that are
 * in use elsewhere are accepted: a conversation without its account is the
 * default account's, `direct` is `dm`, `topic` is `thread`.
 */
export function fullKeyParts(parts: readonly string[]): string[] {
  const [channel, second = "", third = ""] = parts;
  if (channel === undefined || OWN_FIRST.has(channel)) return [...parts];
  const full = [...parts];
  if (KINDS[second] !== undefined && parts.length >= 3) {
    full.splice(1, 1, "default", KINDS[second] ?? second);
  } else if (KINDS[third] !== undefined && parts.length >= 4) {
    full[2] = KINDS[third] ?? third;
  } else return full;
  const topic = full.indexOf("topic", 4);
  if (topic > 0) full[topic] = "thread";
  return full;
}

/** The agent a session key belongs to. */
export function agentOf(sessionKey: string): string {
  return sessionKey.split(":", 2)[1] ?? "main";
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** Lower-case base32 without padding (RFC 4648 alphabet). */
function toBase32(bytes: Uint8Array): string {
  let bits = 0;
  let value = 0;
  let text = "";
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32.charAt((value >> bits) & 31);
    }
  }
  return bits > 0 ? text + BASE32.charAt((value << (5 - bits)) & 31) : text;
}

/** Hex of SHA-256 over a text or bytes. */
export async function sha256Hex(
  data: string | Uint8Array<ArrayBuffer>,
): Promise<string> {
  const bytes = typeof data === "string"
    ? new TextEncoder().encode(data)
    : data;
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/**
 * A peer's segment in a session key: the network's id when it is harmless,
 * else `x-` and 26 base32 characters of SHA-256(network, account, id).
 */
export async function peerSegment(
  network: string,
  account: string,
  id: string,
): Promise<string> {
  if (/^[a-z0-9_-]{1,40}$/.test(id) && !id.startsWith("x-")) return id;
  const text = JSON.stringify([network, account, id]);
  const digest = await crypto.subtle.digest(
    "SHA-256",
    new TextEncoder().encode(text),
  );
  return `x-${toBase32(new Uint8Array(digest)).slice(0, 26)}`;
}

/** A random number in [0, 1), from the machine's source. */
export function randomUnit(): number {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) / 2 ** 32;
}
