/**
 * Which agent answers a message, and in which session: by the owner's bindings
 * and by where the message came from. Pure.
 *
 * Never: a key is built from a network's id that was not made harmless.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { peerSegment, SessionKey } from "../core/ids.ts";
import type { Inbound } from "../core/message.ts";
import type { Binding, SessionsConfig } from "./config.ts";

/** Where a message came from, as bindings see it. */
export type Whence = Pick<Inbound, "channel" | "account" | "sender" | "chat">;

const WEIGHT = { peer: 4, account: 2, channel: 1 } as const;

function weightOf(row: Binding, from: Whence): number {
  let weight = 0;
  if (row.channel !== undefined) {
    if (row.channel !== from.channel) return -1;
    weight += WEIGHT.channel;
  }
  if (row.account !== undefined) {
    if (row.account !== from.account) return -1;
    weight += WEIGHT.account;
  }
  if (row.peer !== undefined) {
    // In a group both its members and the group itself can be named.
    if (row.peer !== from.sender.id && row.peer !== from.chat.id) return -1;
    weight += WEIGHT.peer;
  }
  return weight;
}

/**
 * The agent for a message: the binding that names most, of equals the first;
 * without one the default agent.
 */
export function agentFor(
  bindings: readonly Binding[],
  from: Whence,
): string {
  let best: { agent: string; weight: number } | undefined;
  for (const row of bindings) {
    const weight = weightOf(row, from);
    if (weight > (best?.weight ?? 0)) best = { agent: row.agent, weight };
  }
  return best?.agent ?? "main";
}

/**
 * The session of a message from a chat network. The owner's direct messages are
 * the main session; everybody else's are their own, by network, account and id.
 */
export async function sessionKeyFor(
  agentId: string,
  { inbound: { channel, account, sender, chat }, authority }: {
    inbound: Whence;
    authority: Authority;
  },
): Promise<string> {
  if (authority.kind === "owner" && chat.kind === "direct") {
    return `agent:${agentId}:main`;
  }
  const at = await peerSegment(channel, "", account);
  const id = chat.kind === "direct" ? sender.id : chat.id;
  const peer = await peerSegment(channel, account, id);
  const kind = chat.kind === "direct" ? "dm" : chat.kind;
  const thread = chat.thread === undefined
    ? ""
    : `:thread:${await peerSegment(channel, account, chat.thread)}`;
  return SessionKey.parse(
    `agent:${agentId}:${
      channel.replace(":", "-")
    }:${at}:${kind}:${peer}${thread}`,
  );
}

/** The minutes since midnight of an instant in a zone. */
function clockIn(at: number, zone: string | undefined): {
  day: string;
  minutes: number;
} {
  const parts = new Intl.DateTimeFormat("en-CA", {
    ...(zone === undefined ? {} : { timeZone: zone }),
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
  }).formatToParts(at);
  const of = (type: Intl.DateTimeFormatPartTypes) =>
    parts.find((part) => part.type === type)?.value ?? "0";
  return {
    day: `${of("year")}-${of("month")}-${of("day")}`,
    minutes: Number(of("hour")) * 60 + Number(of("minute")),
  };
}

/** The day a conversation belongs to, when days begin at a time of day. */
function dayOf(at: number, startMinutes: number, zone?: string): string {
  const { day, minutes } = clockIn(at, zone);
  if (minutes >= startMinutes) return day;
  // Before the day's own beginning: it is still yesterday.
  const noon = new Date(`${day}T12:00:00Z`);
  noon.setUTCDate(noon.getUTCDate() - 1);
  return noon.toISOString().slice(0, 10);
}

/** Why a session is to begin anew at its next message, if it is. */
export function resetDue(
  config: SessionsConfig,
  { updatedAt, now }: { updatedAt: number; now: number },
): "idle" | "daily" | undefined {
  const { idleMinutes, dailyAt, zone } = config;
  if (idleMinutes !== undefined && now - updatedAt >= idleMinutes * 60_000) {
    return "idle";
  }
  if (dailyAt === undefined || now <= updatedAt) return undefined;
  const [hours = 0, minutes = 0] = dailyAt.split(":").map(Number);
  const start = hours * 60 + minutes;
  return dayOf(updatedAt, start, zone) === dayOf(now, start, zone)
    ? undefined
    : "daily";
}
