/**
 * On whose behalf a plugin is called, and what the host does for it. What is
 * above this room is handed in here.
 *
 * @module
 */
import type { Label } from "../core/label.ts";
import type { Inbound } from "../core/message.ts";
import type { Effect } from "../core/tool.ts";

/** Why a plugin runs, and what it was shown. */
export interface PluginCall {
  kind: "tool" | "webhook" | "hook" | "channel" | "timer" | "owner";
  /** The label of what it was given. */
  label: Label;
  /** Where a message "reply" goes, when somebody wrote. */
  reply?: { to: string; account: string };
}

/** Something with an effect that a guest asks for. */
export interface PluginAct {
  plugin: string;
  /** `http` or `message`. */
  what: "http" | "message";
  effect: Effect;
  /** A URL, or a channel's name. */
  place: string;
  /** What the guest was shown in this call. */
  label: Label;
}

/** What came of a message from a plugin's network. */
export type Emitted =
  | { accepted: true; runId: string }
  | { accepted: false; reason: "unpaired" | "duplicate" | "refused" };

/** What is handed in from above. */
export interface PluginWorld {
  /** Whether an act may happen, by the guard's one decision. */
  decide(act: PluginAct): { verdict: "allow" | "deny"; reason: string };
  /** Shows the owner a text, stored before this resolves. */
  tellOwner(plugin: string, text: string): Promise<void>;
  /** Hands a message to the one admission; the reply comes back to `onReply`. */
  receive(
    inbound: Inbound,
    onReply: (text: string) => Promise<void>,
  ): Promise<Emitted>;
}
