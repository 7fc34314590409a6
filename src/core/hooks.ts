/**
 * Points of a turn where somebody else may look on, change or stop it. What the
 * agent is handed; plugins stand behind it.
 *
 * Never: what a hook wrote counts as anybody's but the hook's own words.
 *
 * @module
 */
import type { Label } from "./label.ts";
import type { HookPoint } from "./plugin.ts";

export type { HookPoint } from "./plugin.ts";

/** What happens at a point. */
export interface HookEvent {
  point: HookPoint;
  /** The label of what is shown. */
  label: Label;
  runId?: string;
  sessionKey?: string;
  agentId?: string;
  channel?: string;
  /** The message, the tool's result or the reply. */
  text?: string;
  tool?: { name: string; args?: unknown };
}

/** What came of it. What is absent was not touched. */
export interface HookOutcome {
  text?: string;
  args?: unknown;
  /** For the model to read beside what it is about. */
  notes: readonly { by: string; text: string }[];
  cancelled?: { by: string; reason: string };
  /** The label of everything above that is not absent. */
  label?: Label;
}

/** The hooks there are. */
export interface Hooks {
  /** Whether anybody waits there: without, nothing is built. */
  has(point: HookPoint): boolean;
  /** Whether somebody there may change or stop it: then nothing is shown before. */
  holds(point: HookPoint): boolean;
  /** Calls them in their order. Does not throw; who fails before an act stops it. */
  run(event: HookEvent, signal?: AbortSignal): Promise<HookOutcome>;
}
