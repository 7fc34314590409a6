/**
 * The channels, the courier of what goes out, and the door for who writes.
 *
 * Never: a message is sent or a sender let in here.
 *
 * @module
 */
import { randomUnit } from "../core/ids.ts";
import { isSenderLive } from "../agent/channel_inbox.ts";
import type { AgentDesk } from "../agent/desk.ts";
import { peerAuthority } from "../auth/principal.ts";
import { Channels } from "../channels/channels.ts";
import { Courier } from "../channels/courier.ts";
import { WebhookChannel } from "../channels/webhook.ts";
import type { Egress } from "../egress/egress.ts";
import {
  type ChannelActs,
  toOutboxSummary,
} from "../gateway/methods/channels.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { SenderDoor, type SenderRules } from "../guard/senders.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { HouseOptions } from "./options.ts";

/** The rules of every account of every channel, as the configuration has them. */
function senderRules(
  { plugins }: Settings,
): { channel: string; rules: SenderRules }[] {
  return Object.entries(plugins.granted).filter(([, grant]) => grant.channel)
    .map(([id, { policy, senders }]) => ({
      channel: `plugin:${id}`,
      rules: { policy, listed: senders },
    }));
}

export interface ChannelRooms {
  channels: Channels;
  courier: Courier;
  door: SenderDoor;
  isLive(credential: string): Promise<boolean>;
  /** Takes the channels the configuration names now. */
  adopt(settings: Settings): void;
}

/** The channels, the outbox's courier, and the door for who writes. */
export function openChannels(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    egress: Egress;
    settings(): Settings;
    publish: Gateway["publish"];
  },
): ChannelRooms {
  const { store, egress, settings, publish } = rooms;
  const { outbox, pairings, journal, audit } = store;
  const channels = new Channels(clock);
  const courier = new Courier({
    outbox,
    journal,
    audit,
    channels,
    clock,
    log,
    random: randomUnit,
    onChange: (row) =>
      publish("outbox", toOutboxSummary(row), (caller) => caller.isOwner),
  });
  const door = new SenderDoor({
    rows: pairings,
    journal,
    audit,
    rulesOf: (channel) =>
      senderRules(settings()).find((one) => one.channel === channel)?.rules,
    clock,
    bytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  });
  let webhook: Disposable | undefined;
  return {
    channels,
    courier,
    door,
    isLive: (credential) =>
      isSenderLive(credential, {
        pairings,
        rules: () => senderRules(settings()),
        credentialOf: async (one) => (await peerAuthority(one)).credential,
      }),
    adopt: (next) => {
      const hasAny = Object.keys(next.channels.webhook).length > 0;
      if (hasAny) {
        const accounts = () => settings().channels.webhook;
        webhook ??= channels.add(
          new WebhookChannel({ accounts, egress, clock }),
        );
      } else {
        webhook?.[Symbol.dispose]();
        webhook = undefined;
      }
    },
  };
}

/** What the gateway is given of the channels. */
export function channelActs(
  { store, desk, channels: { channels, courier, door } }: {
    store: Store;
    desk: AgentDesk;
    channels: ChannelRooms;
  },
): ChannelActs {
  const { outbox, audit } = store;
  return {
    channels,
    courier,
    door,
    outbox,
    audit,
    onRevoked: async ({ channel: network, account, sender: id }) => {
      for (const as of ["peer", "owner"] as const) {
        const sender = { network, account, id, as };
        desk.abortCredential((await peerAuthority(sender)).credential);
      }
    },
  };
}
