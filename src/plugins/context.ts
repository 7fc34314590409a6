/**
 * On whose behalf a plugin is called, and what the host does for it. What is
 * above this room is handed in here.
 *
 * @module
 */
import type { Received } from "../core/channel.ts";
import type { Label } from "../core/label.ts";
import type { Inbound } from "../core/message.ts";
import type { Effect } from "../core/tool.ts";
import { joinMarks, type PluginMark } from "../store/plugins.ts";

/** Why a plugin runs, and what it was shown. */
export interface PluginCall {
  kind: "tool" | "webhook" | "hook" | "channel" | "timer" | "owner";
  /** The label of what it was given. */
  label: Label;
  /** A message it was handed to carry to its network; decided before. */
  carried?: Label;
  /** What was in force when the call was asked for, of a timer. */
  asked?: PluginMark;
  /** Where a message "reply" goes, when somebody wrote. */
  reply?: { to: string; account: string };
}

/** What a call begins with. */
export function markOf({ label, carried, asked }: PluginCall): PluginMark {
  let mark: PluginMark = { label, withheld: label.secrecy };
  if (carried !== undefined) {
    mark = joinMarks(mark, { label: carried, withheld: [] });
  }
  return asked === undefined ? mark : joinMarks(mark, asked);
}

/** Whether nothing in one is more private than the other. */
export function isWithin(one: PluginMark, other: PluginMark): boolean {
  return one.label.secrecy.every((of) => other.label.secrecy.includes(of)) &&
    one.withheld.every((of) => other.withheld.includes(of));
}

/** Something with an effect that a guest asks for. */
export interface PluginAct {
  plugin: string;
  /** `http` or `message`. */
  what: "http" | "message";
  effect: Effect;
  /** A URL, or a channel's name. */
  place: string;
  /** What the guest was shown since it was made. */
  label: Label;
}

/** A message a guest may send, on its way to the outbox. */
export interface PluginOutgoing {
  plugin: string;
  /** The same key is taken once. */
  key: string;
  /** A channel's name, `plugin:<id>`. */
  channel: string;
  account: string;
  /** Empty for wherever that channel's settings say. */
  chat: string;
  text: string;
  label: Label;
}

/** What is handed in from above. */
export interface PluginWorld {
  /** Whether an act may happen, by the guard's one decision. */
  decide(act: PluginAct): { verdict: "allow" | "deny"; reason: string };
  /** Shows the owner a text, stored before this resolves. */
  tellOwner(plugin: string, text: string, label: Label): Promise<void>;
  /** Hands an event to the one admission; an answer goes through the outbox. */
  receive(inbound: Inbound): Promise<Received>;
  /** Queues a message: stored when this resolves. @throws {AppError} when full */
  send(message: PluginOutgoing): Promise<void>;
}
