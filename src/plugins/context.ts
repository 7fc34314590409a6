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
  tellOwner(plugin: string, text: string): Promise<void>;
  /** Hands an event to the one admission; an answer goes through the outbox. */
  receive(inbound: Inbound): Promise<Received>;
  /** Queues a message: stored when this resolves. @throws {AppError} when full */
  send(message: PluginOutgoing): Promise<void>;
}
