/**
 * The one decision point: whether a call or a reply may happen, from authority,
 * effect, arguments, the labels of what the model has read, and policy.
 *
 * Pure and total: values in, a verdict out. Never: a clock, a store, a model's
 * opinion, or a tool's own say.
 *
 * @module
 */
import type { Authority, Scope } from "../core/authority.ts";
import type { Label } from "../core/label.ts";
import type { Destination, Effect } from "../core/tool.ts";
import type { PolicyLine } from "./config.ts";
import { type Place, placesOf } from "./destinations.ts";
import { lineSpeaks } from "./policy.ts";

/** What the registry knows of a tool; nothing here comes from a model. */
export interface ToolFacts {
  name: string;
  scope: Scope;
  /** What the tool states. */
  effect: Effect;
  /** What its grants imply; the higher of the two counts. */
  implied?: Effect;
  destinations: readonly Destination[];
}

/** What the conversation is made of so far. */
export interface ContextFacts {
  /** The join of everything the model has read. */
  joined: Label;
  agent: string;
  channel: string;
  /** Normalised places the owner typed in this session. */
  ownerPlaces: ReadonlySet<string>;
  /** Links that occur verbatim in parts fetched from a site, by that site. */
  links: ReadonlyMap<string, ReadonlySet<string>>;
  /** Text windows of private parts; a URL that carries one is not plain. */
  carriesPrivate(text: string): boolean;
  /** Fetches this run has made unasked. */
  fetches: number;
}

/** Lets a job or an agent do one thing unasked. */
export interface StandingGrant {
  id: string;
  tool: string;
  /** Exact places, or `*.host` patterns for URLs; empty for a tool without. */
  places: readonly string[];
}

/** Everything a decision rests on. */
export interface DecisionInput {
  call: { tool: ToolFacts; args: unknown };
  context: ContextFacts;
  authority: Authority;
  /** Whether the owner can answer an ask now. */
  attended: boolean;
  /** The session's reply address, normalised. */
  replyTo: string | undefined;
  /** Configured places that count as typed by the owner. */
  trusted: ReadonlySet<string>;
  /** Who can read what arrives at a place; unknown places are the world. */
  audienceOf(place: Place): readonly string[] | "world";
  grants: readonly StandingGrant[];
  policy: readonly PolicyLine[];
}

/** A verdict, the rule that gave it, and a reason for people. */
export interface Decision {
  verdict: "allow" | "ask" | "deny";
  rule: string;
  reason: string;
}

const RANK: Readonly<Record<Effect, number>> = {
  none: 0,
  read_private: 1,
  fetch: 2,
  outbound: 3,
  message: 3,
  write: 4,
  schedule: 5,
  spend: 5,
  configure: 6,
  exec: 7,
};

/** Unasked fetches of a run that has read untrusted text. */
export const FETCHES_MAX = 30;

const OWNERS_ONLY: ReadonlySet<Effect> = new Set([
  "exec",
  "configure",
  "spend",
  "schedule",
]);

/** The higher of what a tool states and what its grants imply. */
export function effectiveEffect(tool: ToolFacts): Effect {
  const implied = tool.implied ?? "none";
  return RANK[implied] > RANK[tool.effect] ? implied : tool.effect;
}

function allow(rule: string, reason: string): Decision {
  return { verdict: "allow", rule, reason };
}
function ask(rule: string, reason: string): Decision {
  return { verdict: "ask", rule, reason };
}
function deny(rule: string, reason: string): Decision {
  return { verdict: "deny", rule, reason };
}

function byAuthority(input: DecisionInput, effect: Effect): Decision | null {
  const { tool } = input.call;
  const { authority } = input;
  if (!authority.scopes.has(tool.scope)) {
    return deny("authority", `"${tool.name}" needs the scope "${tool.scope}"`);
  }
  if (!authority.allowsTool(tool.name)) {
    return deny("authority", `this credential may not use "${tool.name}"`);
  }
  if (authority.kind !== "owner" && OWNERS_ONLY.has(effect)) {
    return deny("authority", `"${tool.name}" (${effect}) is the owner's`);
  }
  return null;
}

function byPolicy(input: DecisionInput): Decision | null {
  const facts = {
    tool: input.call.tool.name,
    args: input.call.args,
    agent: input.context.agent,
    channel: input.context.channel,
    sender: input.authority.principal,
  };
  const spoke = input.policy.filter((line) => lineSpeaks(line, facts));
  const line = spoke.find((l) => l.verdict === "deny") ??
    spoke.find((l) => l.verdict === "ask") ?? spoke[0];
  if (line === undefined) return null;
  const reason = `a policy line says ${line.verdict} for "${line.tool}"`;
  return { verdict: line.verdict, rule: "policy", reason };
}

function isTrusted(input: DecisionInput, place: Place): boolean {
  return input.context.ownerPlaces.has(place.value) ||
    input.trusted.has(place.value) || input.replyTo === place.value;
}

function siteOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : "";
}

function byFetch(input: DecisionInput, places: readonly Place[]): Decision {
  if (input.context.fetches >= FETCHES_MAX) {
    return ask("fetch", `this run has already fetched ${FETCHES_MAX} pages`);
  }
  for (const place of places) {
    const url = URL.canParse(place.value) ? new URL(place.value) : undefined;
    const plain = url !== undefined &&
      !input.context.carriesPrivate(decodeURIComponentSafe(url));
    const linked = input.context.links.get(siteOf(place.value))
      ?.has(place.value) ?? false;
    if (!isTrusted(input, place) && !linked && !plain) {
      return ask("fetch", `"${place.value}" carries text of a private part`);
    }
  }
  return allow("fetch", "a plain address, without private text in it");
}

function decodeURIComponentSafe(url: URL): string {
  const text = url.pathname + url.search;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function byOutbound(input: DecisionInput, places: readonly Place[]): Decision {
  const { secrecy } = input.context.joined;
  if (places.length === 0) {
    return ask("destination", "where it goes is not stated by its arguments");
  }
  for (const place of places) {
    if (!isTrusted(input, place)) {
      return ask(
        "destination",
        `"${place.value}" was not typed by the owner in this session`,
      );
    }
    const audience = input.audienceOf(place);
    const reaches = secrecy.filter((owner) =>
      audience === "world" || audience.some((reader) => reader !== owner)
    );
    if (reaches.length > 0) {
      return ask(
        "secrecy",
        `private data of ${reaches.join(", ")} would reach "${place.value}"`,
      );
    }
  }
  return allow("destination", "every place was named by the owner");
}

function byEffect(
  input: DecisionInput,
  effect: Effect,
  places: readonly Place[],
): Decision {
  switch (effect) {
    case "fetch":
      return byFetch(input, places);
    case "outbound":
    case "message":
      return byOutbound(input, places);
    default:
      return ask(
        "effect",
        `"${input.call.tool.name}" (${effect}) in a conversation that holds untrusted text`,
      );
  }
}

function hasGrant(input: DecisionInput, places: readonly Place[]): boolean {
  return input.grants.some((grant) =>
    grant.tool === input.call.tool.name &&
    places.every((place) =>
      grant.places.some((granted) =>
        granted === place.value ||
        granted.startsWith("*.") && place.kind === "url" &&
          siteOf(place.value).endsWith(granted.slice(1))
      )
    )
  );
}

/** Asking needs somebody to ask: without, a standing grant or no. */
function settle(
  input: DecisionInput,
  decision: Decision,
  places: readonly Place[],
): Decision {
  if (decision.verdict !== "ask") return decision;
  if (hasGrant(input, places)) {
    return allow("grant", "a standing grant names this tool and place");
  }
  if (input.attended) return decision;
  return deny("unattended", `${decision.reason}, and nobody is there to ask`);
}

/** Decides a call. */
export function decide(input: DecisionInput): Decision {
  const effect = effectiveEffect(input.call.tool);
  const refused = byAuthority(input, effect);
  if (refused !== null) return refused;
  const line = byPolicy(input);
  const places = placesOf(input.call.args, input.call.tool.destinations);
  if (line !== null) return settle(input, line, places);
  if (effect === "none" || effect === "read_private") {
    return allow("effect", `"${effect}" acts on nothing`);
  }
  if (input.context.joined.integrity !== "untrusted") {
    return allow("integrity", "nothing untrusted was read");
  }
  return settle(input, byEffect(input, effect, places), places);
}

/** What a reply's decision rests on. */
export interface ReplyInput {
  joined: Label;
  /** The principals who can read the session's answers, or anybody. */
  audience: readonly string[] | "world";
  attended: boolean;
}

/** Decides a reply: private data must not reach a wider audience unasked. */
export function decideReply(input: ReplyInput): Decision {
  const { audience } = input;
  const reaches = input.joined.secrecy.filter((owner) =>
    audience === "world" || audience.some((reader) => reader !== owner)
  );
  if (reaches.length === 0) {
    return allow("reply", "its readers may know all of it");
  }
  const reason = `private data of ${reaches.join(", ")} would reach ${
    audience === "world" ? "anybody" : audience.join(", ")
  }`;
  return input.attended ? ask("reply", reason) : deny("reply", reason);
}
