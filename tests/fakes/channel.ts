/**
 * A chat network in memory and the whole way in and out of it: door, inbox,
 * outbox, over a fake house.
 */
import { ChannelInbox } from "../../src/agent/channel_inbox.ts";
import { peerAuthority } from "../../src/auth/principal.ts";
import { Channels } from "../../src/channels/channels.ts";
import { Courier } from "../../src/channels/courier.ts";
import type {
  Capabilities,
  Channel,
  Delivered,
  Out,
} from "../../src/core/channel.ts";
import { label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import type { Inbound } from "../../src/core/message.ts";
import { type Clock, systemClock } from "../../src/core/time.ts";
import { SenderDoor, type SenderRules } from "../../src/guard/senders.ts";
import type { OutboxRow } from "../../src/store/outbox.ts";
import type { Store } from "../../src/store/store.ts";
import type { FakeHouse } from "./house.ts";

/** A network that keeps what it was given; a script may fail. */
export class FakeChannel implements Channel {
  readonly id: string;
  readonly can: Capabilities;
  /** Every call, also those that failed. */
  readonly calls: Out[] = [];
  /** What people see: a second of a key is dropped if that was promised. */
  readonly shown: Out[] = [];
  /** Called before a message is shown. */
  before: (out: Out) => Promise<void> | void = () => {};
  /** Called after it is shown, before that is confirmed. */
  after: (out: Out) => Promise<void> | void = () => {};

  constructor(id = "fake", can: Partial<Capabilities> = {}) {
    this.id = id;
    this.can = {
      charsMax: 4096,
      idempotent: false,
      markdown: "markdown",
      edits: false,
      media: false,
      threads: true,
      ...can,
    };
  }

  capabilities(): Capabilities {
    return this.can;
  }

  accounts(): readonly string[] {
    return ["default"];
  }

  async send(out: Out): Promise<Delivered> {
    this.calls.push(out);
    await this.before(out);
    const isSecond = this.shown.some(({ key }) => key === out.key);
    if (!isSecond || !this.can.idempotent) this.shown.push(out);
    await this.after(out);
    return { messageId: `n${this.shown.length}` };
  }

  check(): Promise<void> {
    return Promise.resolve();
  }
}

/** A courier over a store, with a channel, that tells every state. */
export interface FakeCourier extends AsyncDisposable {
  courier: Courier;
  channels: Channels;
  states: OutboxRow[];
  /** Resolves when a message has reached a state. */
  reached(id: string, state: OutboxRow["state"]): Promise<OutboxRow>;
}

/** Makes one; `start` it. */
export function fakeCourier(
  store: Store,
  { channel, clock = systemClock, random = () => 0 }: {
    channel?: Channel;
    clock?: Clock;
    random?: () => number;
  } = {},
): FakeCourier {
  const channels = new Channels(clock);
  if (channel !== undefined) channels.add(channel);
  const states: OutboxRow[] = [];
  const waiting = new Set<() => void>();
  const courier = new Courier({
    outbox: store.outbox,
    journal: store.journal,
    audit: store.audit,
    channels,
    clock,
    log: silentLog,
    random,
    onChange: (row) => {
      states.push(row);
      for (const look of waiting) look();
    },
  });
  return {
    courier,
    channels,
    states,
    reached: async (id, state) => {
      const { promise, resolve } = Promise.withResolvers<OutboxRow>();
      const look = () => {
        const row = states.find((one) => one.id === id && one.state === state);
        if (row !== undefined) resolve(row);
      };
      waiting.add(look);
      look();
      const row = await promise;
      waiting.delete(look);
      return row;
    },
    [Symbol.asyncDispose]: () => courier[Symbol.asyncDispose](),
  };
}

/** The way in and out of one network. */
export interface FakeInbox extends FakeCourier {
  inbox: ChannelInbox;
  door: SenderDoor;
  channel: FakeChannel;
  /** The configuration's word on the channel; a test may change it. */
  rules: SenderRules | undefined;
}

/** Opens it over a house; the rules are of one account. */
export function fakeInbox(
  house: Pick<FakeHouse, "store" | "desk">,
  options: {
    rules?: SenderRules;
    /** @default "default" */
    account?: string;
    clock?: Clock;
    channel?: FakeChannel;
  } = {},
): FakeInbox {
  const { clock = systemClock, account: own = "default" } = options;
  const { channel = new FakeChannel() } = options;
  const { store, desk } = house;
  const carried = fakeCourier(store, { channel, clock });
  const door = new SenderDoor({
    rows: store.pairings,
    journal: store.journal,
    audit: store.audit,
    rulesOf: (id, account) =>
      id === channel.id && account === own ? fake.rules : undefined,
    clock,
    bytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  });
  const { courier, channels } = carried;
  const inbox = new ChannelInbox({
    door,
    turns: desk,
    outbox: store.outbox,
    courier,
    channels,
    peerAuthority,
    clock,
    log: silentLog,
  });
  courier.start();
  const fake: FakeInbox = {
    ...carried,
    inbox,
    door,
    channel,
    rules: options.rules ?? { policy: "pairing", listed: [] },
  };
  return fake;
}

let events = 0;

/** A direct message of somebody nobody knows. */
export function event(change: Partial<Inbound> = {}): Inbound {
  return {
    id: `e${++events}`,
    channel: "fake",
    account: "default",
    sender: { id: "ann" },
    chat: { kind: "direct", id: "c-ann" },
    kind: "message",
    text: "hello",
    images: [],
    label: label("untrusted", []),
    receivedAt: Date.now(),
    ...change,
  };
}
