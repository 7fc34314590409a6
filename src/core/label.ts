/**
 * Whose words a text is, whose private data it holds, and where it came from.
 *
 * Never: a label gains integrity or loses secrecy. Only the owner's `endorse`
 * makes a new part with a higher one, and it does not live here.
 *
 * @module
 */
import { z } from "zod";

/** Whose words: the owner's, a paired sender's, or anybody's. */
export const Integrity = z.enum(["owner", "peer", "untrusted"]);
export type Integrity = z.infer<typeof Integrity>;

/** One place a text came from, for the approval card. */
export const Origin = z.strictObject({
  kind: z.enum([
    "owner",
    "peer",
    "client",
    "web",
    "file",
    "memory",
    "tool",
    "plugin",
    "mcp",
    "channel",
    "schedule",
    "hook",
    "model",
    "many",
  ]),
  /** A URL, path, sender or tool name; shown, never followed. */
  ref: z.string().max(512),
  at: z.int(),
});
export type Origin = z.infer<typeof Origin>;

/** At most this many origins are kept apart; more collapse to one `many`. */
export const ORIGINS_MAX = 16;

/**
 * What is known about a part of a conversation.
 * `secrecy` lists the principals whose private data it is; empty means public.
 */
export const Label = z.strictObject({
  integrity: Integrity,
  secrecy: z.array(z.string().max(128)).max(64).readonly(),
  origins: z.array(Origin).max(ORIGINS_MAX).readonly(),
});
export type Label = z.infer<typeof Label>;

const RANK = { untrusted: 0, peer: 1, owner: 2 } as const satisfies Record<
  Integrity,
  number
>;

/** The lower of two integrities. */
export function meetIntegrity(a: Integrity, b: Integrity): Integrity {
  return RANK[a] <= RANK[b] ? a : b;
}

function joinOrigins(
  a: readonly Origin[],
  b: readonly Origin[],
): readonly Origin[] {
  if (b.length === 0 || a === b) return a;
  if (a.length === 0) return b;
  const seen = new Map<string, Origin>();
  for (const origin of [...a, ...b]) {
    const id = `${origin.kind}\n${origin.ref}`;
    if (!seen.has(id)) seen.set(id, origin);
  }
  if (seen.size <= ORIGINS_MAX && !seen.has("many\n")) {
    return [...seen.values()];
  }
  const at = Math.max(...[...seen.values()].map((origin) => origin.at));
  return [{ kind: "many", ref: "", at }];
}

/**
 * The label of something made from both: lowest integrity, union of the
 * private principals, union of the origins.
 *
 * @example A page quoted in an owner's message is still a page
 * ```ts
 * import { join, label } from "./label.ts";
 * const page = label("untrusted", [], { kind: "web", ref: "https://a.test/", at: 0 });
 * join(label("owner", ["owner"]), page).integrity; // "untrusted"
 * ```
 */
export function join(a: Label, b: Label): Label {
  if (a === b) return a;
  return {
    integrity: meetIntegrity(a.integrity, b.integrity),
    secrecy: b.secrecy.every((p) => a.secrecy.includes(p))
      ? a.secrecy
      : [...new Set([...a.secrecy, ...b.secrecy])].sort(),
    origins: joinOrigins(a.origins, b.origins),
  };
}

/** The program's own constant words: no one's private data, no origin. */
export const PUBLIC_OWNER: Label = Object.freeze({
  integrity: "owner",
  secrecy: [],
  origins: [],
});

/** Joins any number of labels; nothing at all is the program's own words. */
export function joinAll(labels: Iterable<Label>): Label {
  let all = PUBLIC_OWNER;
  for (const one of labels) all = join(all, one);
  return all;
}

/** Builds a label. */
export function label(
  integrity: Integrity,
  secrecy: readonly string[],
  ...origins: Origin[]
): Label {
  return { integrity, secrecy, origins };
}
