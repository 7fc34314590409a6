/**
 * The contracts of the WebSocket methods for channels, the outbox and pairing.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";

const Nothing = z.strictObject({});
const Id = z.strictObject({ id: z.string().min(1).max(64) });
const Code = z.strictObject({ code: z.string().min(1).max(16) });
const Done = z.object({ ok: z.literal(true) });

/** How one channel stands. */
export const ChannelStatus = z.object({
  channel: z.string(),
  accounts: z.array(z.string()),
  state: z.enum(["ready", "failing"]),
  lastError: z.string().optional(),
  lastInAt: z.int().optional(),
  lastOutAt: z.int().optional(),
  /** Messages that wait to be sent. */
  queued: z.int(),
});
export type ChannelStatus = z.infer<typeof ChannelStatus>;

/** A message on its way out, as it is listed; its text only where it is shown. */
export const OutboxSummary = z.object({
  id: z.string(),
  to: z.string(),
  state: z.string(),
  attempts: z.int(),
  due: z.int(),
  lastError: z.string().optional(),
  runId: z.string().optional(),
  by: z.string(),
  chars: z.int(),
  createdAt: z.int(),
  updatedAt: z.int(),
});
export type OutboxSummary = z.infer<typeof OutboxSummary>;

const Place = z.object({
  channel: z.string(),
  account: z.string(),
  kind: z.string(),
  conversation: z.string(),
  sender: z.string(),
  /** What the sender calls itself. */
  name: z.string().optional(),
});

const Approved = z.object({
  ok: z.literal(true),
  as: z.string(),
  ...Place.shape,
});

export const CHANNEL_METHODS = contracts({
  send: {
    scope: "write",
    owner: true,
    about: "Send a message by a channel; it is stored when this answers",
    input: () =>
      z.strictObject({
        to: z.string().min(1).max(512),
        message: z.string().min(1).max(65_536),
        channel: z.string().min(1).max(64).optional(),
        idempotencyKey: z.string().min(1).max(256),
      }),
    output: () =>
      z.object({
        messageId: z.string(),
        channel: z.string(),
        to: z.string(),
        state: z.string(),
      }),
  },
  "channels.status": {
    scope: "read",
    about: "Every channel: how it stands, what waits for it",
    input: () => z.strictObject({ probe: z.boolean().optional() }),
    output: () => z.object({ ts: z.int(), channels: z.array(ChannelStatus) }),
  },
  "channels.logout": {
    scope: "write",
    about: "End a channel's login, where it has one",
    input: () =>
      z.strictObject({
        channel: z.string().min(1).max(64),
        accountId: z.string().min(1).max(128).optional(),
      }),
    output: () => z.object({ ok: z.literal(true), channel: z.string() }),
  },
  "channels.test": {
    scope: "admin",
    about: "Check a channel without sending anything",
    input: () => z.strictObject({ channel: z.string().min(1).max(64) }),
    output: () => z.object({ ok: z.literal(true), channel: z.string() }),
  },
  "outbox.list": {
    scope: "admin",
    owner: true,
    about: "Messages that are not sent: waiting, dead, unknown",
    input: () =>
      z.strictObject({
        state: z.enum(["queued", "failed", "sending", "dead", "unknown"])
          .optional(),
        limit: z.int().min(1).max(1000).default(200),
      }),
    output: () => z.object({ ts: z.int(), messages: z.array(OutboxSummary) }),
  },
  "outbox.show": {
    scope: "admin",
    owner: true,
    about: "A message that is not sent, with its text and labels",
    input: () => Id,
    output: () =>
      z.object({
        message: OutboxSummary,
        parts: z.array(z.object({
          text: z.string(),
          integrity: z.string(),
          secrecy: z.array(z.string()),
        })),
      }),
  },
  "outbox.retry": {
    scope: "admin",
    owner: true,
    about: "Send again what is dead or unknown, or at once what waits",
    input: () => Id,
    output: () => OutboxSummary,
  },
  "outbox.drop": {
    scope: "admin",
    owner: true,
    about: "Forget a message that is not sent",
    input: () => Id,
    output: () => Done,
  },
  "channel.pair.list": {
    scope: "pairing",
    about: "Senders who wait to be let in, and those who were",
    input: () => Nothing,
    output: () =>
      z.object({
        pending: z.array(z.object({
          code: z.string(),
          createdAt: z.int(),
          expiresAt: z.int(),
          ...Place.shape,
        })),
        grants: z.array(z.object({
          as: z.string(),
          at: z.int(),
          by: z.string(),
          ...Place.shape,
        })),
      }),
  },
  "channel.pair.approve": {
    scope: "pairing",
    about: "Let a sender in, exactly where it wrote",
    input: () => Code,
    output: () => Approved,
  },
  "channel.pair.owner": {
    scope: "admin",
    about: "Say that a sender is the owner, in direct messages",
    input: () => Code,
    output: () => Approved,
  },
  "channel.pair.reject": {
    scope: "pairing",
    about: "Send a sender away",
    input: () => Code,
    output: () => Done,
  },
  "channel.pair.revoke": {
    scope: "pairing",
    about: "Take a sender's place back, and end its runs",
    input: () =>
      z.strictObject({
        channel: z.string().max(64),
        account: z.string().max(128),
        kind: z.enum(["direct", "group", "channel"]),
        conversation: z.string().max(256),
        sender: z.string().max(256),
      }),
    output: () => Done,
  },
});
