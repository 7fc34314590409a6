/**
 * The owner's configuration as decisions read it, and what the guard is given
 * of the house.
 *
 * @module
 */
import { canonicalJson } from "../core/canonical.ts";
import { sha256Hex } from "../core/ids.ts";
import type { Tool } from "../core/tool.ts";
import type { Audit } from "../store/audit.ts";
import type { EffectLine, GuardConfig, PolicyLine } from "./config.ts";
import type { GuardMeter } from "./counts.ts";
import type { StandingGrant, ToolFacts } from "./decide.ts";
import { normalPlace, trustedPlaces } from "./destinations.ts";
import { effectLine } from "./policy.ts";
import type { Classifier } from "./screen/classifier.ts";
import type { SecretSet } from "./screen/leaks.ts";

/** Everything the owner's configuration says to a decision. */
export interface GuardRules {
  policy: readonly PolicyLine[];
  effects: readonly EffectLine[];
  grants: readonly StandingGrant[];
  trusted: ReadonlySet<string>;
  fetchKnownOnly: boolean;
  screen: boolean;
}

const made = new WeakMap<GuardConfig, GuardRules>();

/** What a place in a standing grant may be called by a decision. */
export function grantPlaces(place: string): string[] {
  if (place.startsWith("*.")) return [place.toLowerCase()];
  return [
    ...new Set([
      normalPlace("url", place),
      normalPlace("address", place),
      normalPlace("path", place),
    ]),
  ];
}

/** The rules of a configuration; made once for each. */
export function toRules(config: GuardConfig): GuardRules {
  const known = made.get(config);
  if (known !== undefined) return known;
  const rules: GuardRules = {
    policy: config.policy,
    effects: config.effects,
    trusted: trustedPlaces(config.trusted),
    grants: config.grants.map(({ tool, places, agent, to, session }, n) => ({
      id: `guard.grants[${n}]`,
      tool,
      places: places.flatMap(grantPlaces),
      agent,
      to,
      sessionKey: session,
    })),
    fetchKnownOnly: config.fetch === "known",
    screen: config.screen,
  };
  made.set(config, rules);
  return rules;
}

/** A tool as decisions see it: what it states, and what the owner says. */
export function toolFacts(
  tool: Tool,
  effects: readonly EffectLine[],
): ToolFacts {
  const line = effectLine(effects, tool.name);
  return {
    name: tool.name,
    scope: tool.scope,
    effect: tool.effect,
    destinations: line?.destinations ?? tool.destinations,
    ...(tool.implied === undefined ? {} : { implied: tool.implied }),
    ...(line?.effect === undefined ? {} : { lowered: line.effect }),
    ...(tool.reach === undefined ? {} : { reach: tool.reach }),
  };
}

const hashes = new WeakMap<GuardRules, Promise<string>>();

/** A hash of the rules: an approval is for what was asked under them. */
export function rulesHash(rules: GuardRules): Promise<string> {
  let hash = hashes.get(rules);
  if (hash === undefined) {
    const { trusted, ...rest } = rules;
    hash = sha256Hex(canonicalJson({ ...rest, trusted: [...trusted].sort() }));
    hashes.set(rules, hash);
  }
  return hash;
}

/** What the guard is given of the house. */
export interface GuardDeps {
  audit: Pick<Audit, "row">;
  meter: GuardMeter;
  /** The program's own secrets, as they are now. */
  secrets(): SecretSet;
  /** An agent's scratch folder, absolute. */
  scratchOf?(agentId: string): string;
  classifier?: Classifier | undefined;
}
