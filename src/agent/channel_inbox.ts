/**
 * The one way in from chat networks: each event passes the door, becomes a turn
 * of its sender, and is answered through the outbox.
 *
 * Never: an event starts anything before its sender is known; an event is
 * acknowledged before it is stored.
 *
 * @module
 */
import type { Courier } from "../channels/courier.ts";
import type { Channels } from "../channels/channels.ts";
import type { Authority } from "../core/authority.ts";
import {
  type Destination,
  type Received,
  showDestination,
} from "../core/channel.ts";
import { AppError, errorText } from "../core/errors.ts";
import { label, PUBLIC_OWNER } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { Inbound } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { SenderDoor, SenderRules } from "../guard/senders.ts";
import type { Outbox } from "../store/outbox.ts";
import type { Pairings } from "../store/pairings.ts";
import type { AgentDesk } from "./desk.ts";

/** What the inbox is made of. */
export interface InboxDeps {
  door: Pick<SenderDoor, "knock">;
  turns: Pick<AgentDesk, "start" | "route">;
  outbox: Pick<Outbox, "queue">;
  courier: Pick<Courier, "assertRoom">;
  channels: Pick<Channels, "noteIn">;
  /** The authority of a sender that was let in; only `auth` makes one. */
  peerAuthority(sender: {
    network: string;
    account: string;
    id: string;
    as?: "peer" | "owner";
  }): Promise<Authority>;
  clock: Clock;
  log: Log;
}

/** Where the answer to an event goes. */
function answerPlace({ channel, account, chat }: Inbound): Destination {
  const { id, thread } = chat;
  return {
    channel,
    account,
    chat: id,
    ...thread === undefined ? {} : { thread },
  };
}

function pairingText(code: string): string {
  return `This assistant does not know you. If its owner is to let you in, ` +
    `tell them this code, within an hour: ${code}`;
}

/** Takes events of chat networks, one after the other or together. */
export class ChannelInbox {
  readonly #deps: InboxDeps;

  constructor(deps: InboxDeps) {
    this.#deps = deps;
  }

  /** Takes one event; what it started is stored when this resolves. */
  async receive(event: Inbound): Promise<Received> {
    const { door, outbox, courier, channels, log } = this.#deps;
    const { channel, account, kind } = event;
    channels.noteIn(channel);
    const destination = answerPlace(event);
    try {
      const knock = await door.knock(event, (code) => {
        courier.assertRoom(destination);
        return outbox.queue({
          idempotencyKey: `pairing:${code}`,
          destination,
          parts: [{
            kind: "text",
            text: pairingText(code),
            label: PUBLIC_OWNER,
          }],
          by: "gateway",
        }).rows;
      });
      if (knock.verdict === "admit") {
        return await this.#admit(event, { as: knock.as, destination });
      }
      const isNew = knock.verdict === "pair" && knock.isNew;
      const why = knock.verdict === "drop" ? { why: knock.why } : {};
      const level = isNew ? "info" : "debug";
      log(level, `channel.${knock.verdict}`, {
        channel,
        account,
        kind,
        ...why,
      });
      return { accepted: false, reason: "unpaired" };
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      const why = errorText(error);
      log("warn", "channel.event_refused", { channel, account, kind, why });
      return { accepted: false, reason: "refused" };
    }
  }

  async #admit(
    event: Inbound,
    { as, destination }: { as: "peer" | "owner"; destination: Destination },
  ): Promise<Received> {
    const { turns, courier, peerAuthority, clock } = this.#deps;
    const { channel, account, sender, kind } = event;
    // Edits, reactions and buttons pass the same door; none starts a turn yet.
    if (kind !== "message" && kind !== "command") {
      return { accepted: false, reason: "refused" };
    }
    // An answer that was begun always has its place; so nothing begins without.
    courier.assertRoom(destination);
    const authority = await peerAuthority({
      network: channel,
      account,
      id: sender.id,
      as,
    });
    const { principal, integrity } = authority;
    const origin = {
      kind: as === "owner" ? "owner" as const : "peer" as const,
      ref: principal,
      at: clock.now(),
    };
    const inbound: Inbound = {
      ...event,
      label: label(integrity, [principal], origin),
      replyTo: showDestination(destination).slice(0, 512),
    };
    const { agentId, sessionKey } = await turns.route(inbound, authority);
    const started = await turns.start({
      inbound,
      authority,
      agentId,
      sessionKey,
      attended: false,
      deliver: destination,
    });
    return started.status === "duplicate"
      ? { accepted: false, reason: "duplicate" }
      : { accepted: true, runId: started.runId };
  }
}

/** Whether a sender of a chat network is still let in. */
export async function isSenderLive(
  credential: string,
  of: {
    pairings: Pick<Pairings, "grants">;
    /** Every account's rules that the configuration names. */
    rules(): readonly { channel: string; rules: SenderRules }[];
    credentialOf(sender: {
      network: string;
      account: string;
      id: string;
      as?: "peer" | "owner";
    }): Promise<string>;
  },
): Promise<boolean> {
  for (const { channel, rules: { policy, listed } } of of.rules()) {
    if (policy === "off") continue;
    if (policy === "open" && credential.startsWith(`peer:${channel}:`)) {
      return true;
    }
    for (const { account, id } of listed) {
      const sender = { network: channel, account, id };
      if (await of.credentialOf(sender) === credential) return true;
    }
    if (policy === "allowlist") continue;
    for (const { place, as } of await of.pairings.grants()) {
      const { account, kind, sender: id } = place;
      if (place.channel !== channel) continue;
      const granted = await of.credentialOf({
        network: channel,
        account,
        id,
        // In a group the owner is a peer.
        as: kind === "direct" ? as : "peer",
      });
      if (granted === credential) return true;
    }
  }
  return false;
}
