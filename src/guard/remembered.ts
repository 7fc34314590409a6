/**
 * What the owner answered for a session or for always: which later calls it
 * covers. A remembered answer is as narrow as what was shown.
 *
 * @module
 */
import type { Label, Origin } from "../core/label.ts";
import type { Place } from "./destinations.ts";
import { siteOf } from "./links.ts";

/** One remembered answer. */
export interface Remembered {
  id: string;
  /** Set when it holds for one session only. */
  sessionId?: string | undefined;
  agent: string;
  /** Whose run was asked about. */
  principal: string;
  tool: string;
  /** Every destination, normalised: all of them, and no others. */
  places: readonly string[];
  /** The highest secrecy it was given for. */
  secrecy: readonly string[];
  /** Where what had been read came from. */
  sources: readonly string[];
}

/** Where a text came from, as it is compared: a host, or a kind and a name. */
export function sourceOf({ kind, ref }: Origin): string {
  const site = kind === "web" ? siteOf(ref) : "";
  return site === "" ? `${kind}:${ref}` : site;
}

/** The sources of a label that a later call must not exceed. */
export function sourcesOf(label: Label): string[] {
  const sources = label.origins
    .filter(({ kind }) => kind !== "owner" && kind !== "model")
    .map(sourceOf);
  return [...new Set(sources)].sort();
}

/** Whether a remembered answer covers a call. */
export function covers(
  line: Remembered,
  call: {
    tool: string;
    places: readonly Place[];
    principal: string;
    context: { agent: string; sessionId: string; joined: Label };
  },
): boolean {
  const { tool, places, principal, context } = call;
  if (
    line.tool !== tool || line.agent !== context.agent ||
    line.principal !== principal || places.length === 0 ||
    (line.sessionId !== undefined && line.sessionId !== context.sessionId)
  ) return false;
  const wanted = new Set(places.map(({ value }) => value));
  if (
    wanted.size !== line.places.length ||
    !line.places.every((place) => wanted.has(place))
  ) return false;
  if (!context.joined.secrecy.every((of) => line.secrecy.includes(of))) {
    return false;
  }
  // What this very tool answered to an allowed call is no new source. Origins
  // that were collapsed are not known, so nothing covers them.
  const own = `tool:${line.tool}`;
  return context.joined.origins.every(({ kind }) => kind !== "many") &&
    sourcesOf(context.joined).every((source) =>
      source === own || line.sources.includes(source)
    );
}
