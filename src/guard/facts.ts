/**
 * What a decision needs to know of a conversation, drawn from its labelled
 * parts: what the owner typed, which links a page held, which text is private.
 *
 * @module
 */
import type { Label } from "../core/label.ts";
import type { Message, Part } from "../core/message.ts";
import type { ContextFacts } from "./decide.ts";
import { normalUrl, placesIn } from "./destinations.ts";

/** A private text counts as carried when this many of its characters are. */
const WINDOW_CHARS = 12;
const LINKS_MAX = 2_000;

/** What surrounds a conversation. */
export interface FactsOptions {
  joined: Label;
  agent: string;
  channel: string;
  /** The principal whose own words bless a place (the owner, or this peer). */
  integrity: "owner" | "peer";
  fetches: number;
}

function textOfPart(part: Part): string {
  if (part.kind === "text" || part.kind === "thinking") return part.text;
  return part.kind === "tool_result" ? part.text : "";
}

function* parts(messages: readonly Message[]): Generator<[Message, Part]> {
  for (const message of messages) {
    for (const part of message.parts) yield [message, part];
  }
}

function ownerPlacesOf(
  messages: readonly Message[],
  integrity: "owner" | "peer",
): Set<string> {
  const places = new Set<string>();
  for (const [message, part] of parts(messages)) {
    if (message.role !== "user" || part.kind !== "text") continue;
    if (part.label.integrity !== integrity) continue;
    for (const place of placesIn(part.text)) places.add(place);
  }
  return places;
}

function linksOf(messages: readonly Message[]): Map<string, Set<string>> {
  const links = new Map<string, Set<string>>();
  let count = 0;
  for (const [, part] of parts(messages)) {
    if (part.kind !== "tool_result") continue;
    const sites = part.label.origins.filter((o) => o.kind === "web")
      .flatMap((o) => (URL.canParse(o.ref) ? [new URL(o.ref).host] : []));
    if (sites.length === 0) continue;
    for (const [raw] of part.text.matchAll(/https?:\/\/[^\s<>"')\]]+/g)) {
      const url = normalUrl(raw);
      if (url === undefined || ++count > LINKS_MAX) continue;
      for (const site of sites) {
        const known = links.get(site) ?? new Set();
        links.set(site, known.add(url));
      }
    }
  }
  return links;
}

function carriesPrivate(messages: readonly Message[], text: string): boolean {
  if (text.length < WINDOW_CHARS) return false;
  const haystack = text.toLowerCase();
  const windows = new Set<string>();
  for (let n = 0; n + WINDOW_CHARS <= haystack.length; n++) {
    windows.add(haystack.slice(n, n + WINDOW_CHARS));
  }
  for (const [message, part] of parts(messages)) {
    if (message.role === "assistant" || part.label.secrecy.length === 0) {
      continue;
    }
    const own = textOfPart(part).toLowerCase();
    for (let n = 0; n + WINDOW_CHARS <= own.length; n++) {
      if (windows.has(own.slice(n, n + WINDOW_CHARS))) return true;
    }
  }
  return false;
}

/** The facts of a conversation. What is not asked for is not computed. */
export function contextFacts(
  messages: readonly Message[],
  options: FactsOptions,
): ContextFacts {
  let ownerPlaces: Set<string> | undefined;
  let links: Map<string, Set<string>> | undefined;
  return {
    joined: options.joined,
    agent: options.agent,
    channel: options.channel,
    fetches: options.fetches,
    get ownerPlaces() {
      return ownerPlaces ??= ownerPlacesOf(messages, options.integrity);
    },
    get links() {
      return links ??= linksOf(messages);
    },
    carriesPrivate: (text) => carriesPrivate(messages, text),
  };
}
