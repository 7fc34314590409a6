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
import { parsedUrl, type Place, placesOf } from "./destinations.ts";
import { siteOf } from "./links.ts";
import { lineSpeaks, namesTool, type PolicyFacts } from "./policy.ts";
import { covers, type Remembered } from "./remembered.ts";

/** What the registry knows of a tool; nothing here comes from a model. */
export interface ToolFacts {
  name: string;
  scope: Scope;
  /** What the tool states. */
  effect: Effect;
  /** What its grants imply; the higher of the two counts. */
  implied?: Effect;
  /** What an owner's line says instead; it alone can lower an effect. */
  lowered?: Effect;
  reach?: "own" | "owner";
  destinations: readonly Destination[];
}

/** What the conversation is made of so far. */
export interface ContextFacts {
  /** The join of everything the model has read. */
  readonly joined: Label;
  readonly agent: string;
  readonly channel: string;
  readonly sessionKey: string;
  readonly sessionId: string;
  /** Fetches this run has made. */
  readonly fetches: number;
  /** The agent's scratch folder, absolute and normalised. */
  readonly scratch: string | undefined;
  /** Principals whose private data was read, beyond what was typed here. */
  readonly read: readonly string[];
  /** Whether who may bless a place here typed it, as a whole token. */
  names(value: string): boolean;
  /** Whether they typed a text just so, as whole words. */
  namesText(text: string): boolean;
  /** Whether they typed it as a number. */
  namesNumber(value: number): boolean;
  /** Whether a normal URL is a link in a part fetched from its own site. */
  isLinkOfItsSite(url: string): boolean;
  /** Whether an address, spelled so, stands in a part that was read. */
  hasLink(link: string): boolean;
  /** Why a URL may carry private text; nothing when it is plain. */
  whyNotPlain(url: Readonly<URL>): string | undefined;
}

/** Lets a job, an agent or a sender do one thing unasked. */
export interface StandingGrant {
  id: string;
  /** A name or glob. */
  tool: string;
  /** Exact places, or `*.host` patterns for URLs; empty for a tool without. */
  places: readonly string[];
  agent?: string | undefined;
  /** The principal it is for; a paired sender needs one to use the owner's. */
  to?: string | undefined;
  sessionKey?: string | undefined;
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
  /** What the owner answered for a session or for always. */
  remembered: readonly Remembered[];
  /** Whether fetches need a named or linked address, however plain. */
  fetchKnownOnly?: boolean;
}

/** A verdict, the rule that gave it, and a reason for people. */
export interface Decision {
  verdict: "allow" | "ask" | "deny";
  rule: string;
  reason: string;
  /** Set on an ask whose answer can be remembered, and for which places. */
  places?: readonly Place[];
}

/** One rule's say, for `carapace policy explain`. */
export interface Spoke {
  rule: string;
  says: "allow" | "ask" | "deny" | "passes";
  why: string;
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
export function effectiveEffect(
  tool: Pick<ToolFacts, "effect" | "implied" | "lowered">,
): Effect {
  if (tool.lowered !== undefined) return tool.lowered;
  const implied = tool.implied ?? "none";
  return RANK[implied] > RANK[tool.effect] ? implied : tool.effect;
}

function reached(
  secrecy: readonly string[],
  audience: readonly string[] | "world",
): readonly string[] {
  if (secrecy.length === 0) return secrecy;
  // What a paired sender says in a conversation of the owner's house is read by
  // the owner in any case.
  return secrecy.filter((of) =>
    audience === "world" ||
    audience.some((reader) => reader !== of && reader !== "owner")
  );
}

/** One decision in the making. */
class Judge {
  readonly #input: DecisionInput;
  readonly #trace: Spoke[] | undefined;
  readonly #effect: Effect;
  #places: Place[] | undefined;

  constructor(input: DecisionInput, trace?: Spoke[]) {
    this.#input = input;
    this.#trace = trace;
    this.#effect = effectiveEffect(input.call.tool);
  }

  get places(): readonly Place[] {
    const { call } = this.#input;
    return this.#places ??= placesOf(call.args, call.tool.destinations);
  }

  #say(
    verdict: Decision["verdict"],
    rule: string,
    reason: string,
  ): Decision {
    this.#trace?.push({ rule, says: verdict, why: reason });
    return { verdict, rule, reason };
  }

  #pass(rule: string, why: string): undefined {
    this.#trace?.push({ rule, says: "passes", why });
  }

  decide(): Decision {
    const { context } = this.#input;
    const isUntrusted = context.joined.integrity === "untrusted";
    const refused = this.#byAuthority();
    if (refused !== undefined) return refused;
    const line = this.#byPolicy(isUntrusted);
    if (line !== undefined) return this.#settle(line);
    if (this.#effect === "none" || this.#effect === "read_private") {
      return this.#say(
        "allow",
        "effect",
        this.#effect === "none"
          ? "it acts on nothing outside this conversation"
          : "it only reads",
      );
    }
    this.#pass("effect", `"${this.#effect}" acts outside the conversation`);
    if (!isUntrusted) {
      return this.#say("allow", "integrity", "nothing untrusted was read");
    }
    this.#pass("integrity", "the conversation holds untrusted text");
    return this.#settle(this.#byEffect());
  }

  // --- 0: authority -------------------------------------------------------

  #byAuthority(): Decision | undefined {
    const { authority, call: { tool } } = this.#input;
    if (!authority.scopes.has(tool.scope)) {
      return this.#say(
        "deny",
        "authority",
        `"${tool.name}" needs the scope "${tool.scope}"`,
      );
    }
    if (!authority.allowsTool(tool.name)) {
      return this.#say(
        "deny",
        "authority",
        `this credential may not use "${tool.name}"`,
      );
    }
    if (authority.kind !== "owner" && this.#isOwners()) {
      const granted = this.#input.grants.some((grant) =>
        grant.to === authority.principal && this.#fits(grant)
      );
      if (!granted) {
        return this.#say(
          "deny",
          "authority",
          `"${tool.name}" (${this.#effect}) is the owner's, and nothing grants it to ${authority.principal}`,
        );
      }
      return this.#pass("authority", "a standing grant names this sender");
    }
    return this.#pass("authority", `${authority.principal} may use it`);
  }

  /** Whether a tool acts on the owner's things. */
  #isOwners(): boolean {
    const { authority, call: { tool } } = this.#input;
    if (OWNERS_ONLY.has(this.#effect)) return true;
    if (authority.kind !== "peer") return tool.reach === "owner";
    if (tool.reach !== undefined) return tool.reach === "owner";
    if (tool.implied !== undefined) return true;
    return !namesTool("group:memory", tool.name) &&
      this.#effect !== "none" && this.#effect !== "fetch";
  }

  // --- 1: policy ----------------------------------------------------------

  #byPolicy(isUntrusted: boolean): Decision | undefined {
    const { call, context, authority, policy } = this.#input;
    if (policy.length === 0) return this.#pass("policy", "there are no lines");
    const facts: PolicyFacts = {
      tool: call.tool.name,
      effect: this.#effect,
      args: call.args,
      agent: context.agent,
      channel: context.channel,
      sender: authority.principal,
      destinations: call.tool.destinations,
      names: (value) => context.names(value),
      namesText: (text) => context.namesText(text),
      namesNumber: (value) => context.namesNumber(value),
    };
    const spoke = policy.filter((line) => lineSpeaks(line, facts));
    const line = spoke.find((l) => l.verdict === "deny") ??
      spoke.find((l) => l.verdict === "ask") ?? spoke[0];
    if (line === undefined) return this.#pass("policy", "no line speaks of it");
    const { verdict, tool } = line;
    if (verdict === "allow" && this.#effect === "exec" && isUntrusted) {
      return this.#pass(
        "policy",
        `a line allows "${tool}", but programs are always asked about in a conversation with untrusted text`,
      );
    }
    return this.#say(
      verdict,
      "policy",
      `a policy line says ${verdict} for "${tool}" (guard.policy[${
        policy.indexOf(line)
      }])`,
    );
  }

  // --- 4: destinations ----------------------------------------------------

  #isTrusted({ value }: Place): boolean {
    const { context, trusted, replyTo } = this.#input;
    return trusted.has(value) || replyTo === value || context.names(value);
  }

  #byEffect(): Decision {
    const { call: { tool } } = this.#input;
    switch (this.#effect) {
      case "fetch":
        return this.#byFetch();
      case "outbound":
      case "message":
        return this.#byOutbound();
      case "write":
        if (this.#isScratch()) {
          return this.#say(
            "allow",
            "scratch",
            "it stays in the scratch folder",
          );
        }
    }
    return this.#say(
      "ask",
      "effect",
      `"${tool.name}" (${this.#effect}) in a conversation that holds untrusted text`,
    );
  }

  /** Only this house's own file tools write relative paths to scratch. */
  #isScratch(): boolean {
    const { call: { tool }, context: { scratch } } = this.#input;
    if (tool.implied !== undefined || !namesTool("group:fs", tool.name)) {
      return false;
    }
    return this.places.length > 0 &&
      this.places.every(({ kind, value }) =>
        kind === "path" && value !== "" && !value.split("/").includes("..") &&
        (/^[^/~\\:]+(?:\/[^\\:]*)?$/.test(value) ||
          scratch !== undefined && value.startsWith(`${scratch}/`))
      );
  }

  #byFetch(): Decision {
    const { context, fetchKnownOnly = false } = this.#input;
    if (context.fetches >= FETCHES_MAX) {
      return this.#say(
        "ask",
        "fetch",
        `this run has already fetched ${FETCHES_MAX} pages`,
      );
    }
    if (this.places.length === 0) {
      return this.#say("ask", "fetch", "what it fetches is not stated");
    }
    for (const place of this.places) {
      if (this.#isTrusted(place)) {
        this.#pass("fetch", `"${place.value}" was named`);
        continue;
      }
      const url = parsedUrl(place.value);
      if (url === null) {
        return this.#say("ask", "fetch", `"${place.value}" is no address`);
      }
      if (context.isLinkOfItsSite(place.value)) {
        this.#pass("fetch", `"${place.value}" is a link of a page of its site`);
        continue;
      }
      const why = fetchKnownOnly
        ? "nobody named it and no page of its site links to it"
        : context.whyNotPlain(url);
      if (why !== undefined) {
        return this.#say("ask", "fetch", `"${place.value}": ${why}`);
      }
      this.#pass("fetch", `"${place.value}" carries nothing private`);
    }
    return this.#say("allow", "fetch", "a named, linked or plain address");
  }

  #byOutbound(): Decision {
    const { context, audienceOf, call: { tool } } = this.#input;
    if (this.places.length === 0) {
      return this.#say(
        "ask",
        "destination",
        `where "${tool.name}" sends to is not stated by its arguments`,
      );
    }
    for (const place of this.places) {
      if (!this.#isTrusted(place)) {
        return this.#say(
          "ask",
          "destination",
          `"${place.value}" was not typed by the owner in this session`,
        );
      }
      const private_ = reached(context.read, audienceOf(place));
      if (private_.length > 0) {
        return this.#say(
          "ask",
          "secrecy",
          `private data of ${private_.join(", ")} would reach "${place.value}"`,
        );
      }
      this.#pass("destination", `"${place.value}" was named`);
    }
    return this.#say(
      "allow",
      "destination",
      "every place was named, and nothing private was read",
    );
  }

  // --- 5: who can be asked ------------------------------------------------

  #fits(grant: StandingGrant): boolean {
    const { call: { tool }, context, authority } = this.#input;
    return namesTool(grant.tool, tool.name) &&
      (grant.agent === undefined || grant.agent === context.agent) &&
      (grant.to === undefined || grant.to === authority.principal) &&
      (grant.sessionKey === undefined ||
        grant.sessionKey === context.sessionKey) &&
      (this.places.length === 0
        ? grant.places.length === 0
        : this.places.every((place) =>
          grant.places.some((granted) => isGranted(granted, place))
        ));
  }

  /** Asking needs somebody to ask: without, a standing grant or no. */
  #settle(decision: Decision): Decision {
    if (decision.verdict !== "ask") return decision;
    const { grants, remembered, context, authority, attended, call } =
      this.#input;
    const isByLine = decision.rule === "policy";
    const isExec = this.#effect === "exec";
    if (!isByLine && !isExec) {
      if (grants.some((grant) => this.#fits(grant))) {
        return this.#say(
          "allow",
          "grant",
          "a standing grant names this tool and place",
        );
      }
      this.#pass("grant", "no standing grant names this tool and place");
      const line = remembered.find((one) =>
        covers(one, {
          tool: call.tool.name,
          places: this.places,
          context,
          principal: authority.principal,
        })
      );
      if (line !== undefined) {
        return this.#say(
          "allow",
          "remembered",
          `the owner answered this for ${
            line.sessionId === undefined ? "always" : "this session"
          } (${line.id})`,
        );
      }
    }
    if (!attended) {
      return this.#say(
        "deny",
        "unattended",
        `${decision.reason}, and nobody is there to ask`,
      );
    }
    const canRemember = !isByLine && this.places.length > 0 &&
      !isExec && this.#effect !== "configure" && this.#effect !== "spend";
    return canRemember ? { ...decision, places: this.places } : decision;
  }
}

function isGranted(granted: string, place: Place): boolean {
  if (granted === place.value) return true;
  if (!granted.startsWith("*.") || place.kind !== "url") return false;
  const host = siteOf(place.value).replace(/:\d+$/, "");
  return host.endsWith(granted.slice(1)) && host.length > granted.length - 1;
}

/** A decision that cannot be made is a refusal. */
function broken(error: unknown): Decision {
  return {
    verdict: "deny",
    rule: "broken",
    reason: `it could not be decided (${
      error instanceof Error ? error.name : "failure"
    })`,
  };
}

/** Decides a call. Never throws. */
export function decide(input: DecisionInput): Decision {
  try {
    return new Judge(input).decide();
  } catch (error) {
    return broken(error);
  }
}

/** Decides a call, and says what every rule said on the way. */
export function explain(
  input: DecisionInput,
): { decision: Decision; trace: readonly Spoke[] } {
  const trace: Spoke[] = [];
  try {
    return { decision: new Judge(input, trace).decide(), trace };
  } catch (error) {
    return { decision: broken(error), trace };
  }
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
  const { audience, attended } = input;
  const private_ = reached(input.joined.secrecy, audience);
  if (private_.length === 0) {
    return {
      verdict: "allow",
      rule: "reply",
      reason: "its readers may know all of it",
    };
  }
  const reason = `private data of ${private_.join(", ")} would reach ${
    audience === "world" ? "anybody" : audience.join(", ")
  }`;
  return { verdict: attended ? "ask" : "deny", rule: "reply", reason };
}
