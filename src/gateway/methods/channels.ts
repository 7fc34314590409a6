/**
 * The handlers of the methods for channels, the outbox and pairing.
 *
 * @module
 */
import { checkCovers } from "../../auth/minting.ts";
import { senderGrant } from "../../auth/principal.ts";
import type { Channels } from "../../channels/channels.ts";
import type { Courier } from "../../channels/courier.ts";
import { parseDestination, showDestination } from "../../core/channel.ts";
import type { Authority } from "../../core/authority.ts";
import type {
  ChannelStatus,
  OutboxSummary,
} from "../../core/methods/channel.ts";
import type { CHANNEL_METHODS } from "../../core/methods/channel.ts";
import { AppError, errorText } from "../../core/errors.ts";
import { label } from "../../core/label.ts";
import type { SenderDoor } from "../../guard/senders.ts";
import type { Audit } from "../../store/audit.ts";
import type { Outbox, OutboxRow } from "../../store/outbox.ts";
import type { PairingGrant, SenderPlace } from "../../store/pairings.ts";
import type { GatewayDeps } from "../deps.ts";
import type { Handlers } from "../methods.ts";

/** What the gateway is given of the channels. */
export interface ChannelActs {
  channels: Pick<Channels, "find" | "states">;
  courier: Pick<Courier, "take" | "get" | "retry" | "drop">;
  outbox: Pick<Outbox, "all" | "lanes">;
  door: Pick<SenderDoor, "list" | "approve" | "reject" | "revoke">;
  audit: Pick<Audit, "row">;
  /** A sender was sent away: its runs end. */
  onRevoked(place: SenderPlace): Promise<void>;
}

type ChannelMethod = keyof typeof CHANNEL_METHODS;

function states({ channels, outbox }: ChannelActs): ChannelStatus[] {
  const queued = new Map<string, number>();
  for (const { channel, due } of outbox.lanes()) {
    queued.set(channel, (queued.get(channel) ?? 0) + due.size);
  }
  return channels.states().map(({ accounts, ...state }) => ({
    ...state,
    accounts: [...accounts],
    queued: queued.get(state.channel) ?? 0,
  }));
}

/** The channels by name, for `health` and `status`. */
export function channelsOf(
  acts: ChannelActs | undefined,
): Record<string, ChannelStatus> {
  const all = acts === undefined ? [] : states(acts);
  return Object.fromEntries(all.map((state) => [state.channel, state]));
}

/** A row as it is listed. */
export function toOutboxSummary(row: OutboxRow): OutboxSummary {
  const { id, state, attempts, due, lastError, runId, by } = row;
  return {
    id,
    to: showDestination(row.destination),
    state,
    attempts,
    due,
    by,
    chars: row.parts.reduce((sum, { text }) => sum + text.length, 0),
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
    ...lastError === undefined ? {} : { lastError },
    ...runId === undefined ? {} : { runId },
  };
}

function placeOf(
  { place, name }: { place: SenderPlace; name?: string | undefined },
) {
  return { ...place, ...name === undefined ? {} : { name } };
}

function toApproved(grant: PairingGrant) {
  return { ok: true as const, as: grant.as, ...placeOf(grant) };
}

/** The rows for the table of methods. */
export function channelHandlers(
  { channels: given, clock }: Pick<GatewayDeps, "channels" | "clock">,
): Pick<Handlers, ChannelMethod> {
  const acts = (): ChannelActs => {
    if (given !== undefined) return given;
    throw new AppError("unavailable", "The channels are off", {
      hint: "The gateway runs in safe mode; see: carapace status",
    });
  };
  return {
    send: async ({ to, message, channel, idempotencyKey }, { caller }) => {
      const { channels, courier, audit } = acts();
      const { principal, authority } = caller;
      // The same act as the tool's, by another door.
      if (!authority.allowsTool("message_send")) {
        throw new AppError(
          "forbidden",
          "This credential may not send messages",
        );
      }
      const destination = parseDestination(to, {
        channel,
        accounts: (id) => channels.find(id)?.accounts() ?? [],
      });
      const found = channels.find(destination.channel);
      if (found === undefined) {
        const names = channels.states().map((state) => state.channel);
        throw new AppError(
          "not_found",
          `There is no channel "${destination.channel}"`,
          { hint: `There are: ${names.join(", ") || "none"}` },
        );
      }
      const origin = {
        kind: "client" as const,
        ref: principal.id,
        at: clock.now(),
      };
      const said = label(authority.integrity, [principal.id], origin);
      const shown = showDestination(destination);
      const { id, state } = await courier.take({
        idempotencyKey: `send:${principal.id}:${idempotencyKey}`,
        destination,
        parts: [{ kind: "text", text: message, label: said }],
        by: principal.id,
      }, [
        audit.row({
          event: "outbox.queued",
          fields: { to: shown.slice(0, 256), by: principal.id },
        }),
      ]);
      return { messageId: id, channel: found.id, to: shown, state };
    },
    "channels.status": () => ({
      ts: clock.now(),
      channels: given === undefined ? [] : states(given),
    }),
    "channels.logout": ({ channel }) => {
      if (acts().channels.find(channel) === undefined) throw noChannel(channel);
      throw new AppError("bad_input", `"${channel}" has no login to end`, {
        hint: "It is a line of the configuration: take that out",
      });
    },
    "channels.test": async ({ channel }) => {
      const found = acts().channels.find(channel);
      if (found === undefined) throw noChannel(channel);
      try {
        await found.check();
      } catch (error) {
        throw new AppError(
          "upstream",
          `"${channel}" does not work: ${errorText(error)}`,
        );
      }
      return { ok: true, channel };
    },
    ...outboxHandlers(acts, clock),
    ...pairHandlers(acts),
  };
}

function noChannel(id: string): AppError {
  return new AppError("not_found", `There is no channel "${id}"`, {
    hint: "See: carapace channel status",
  });
}

type OutboxMethod = Extract<ChannelMethod, `outbox.${string}`>;

function outboxHandlers(
  acts: () => ChannelActs,
  clock: GatewayDeps["clock"],
): Pick<Handlers, OutboxMethod> {
  return {
    "outbox.list": async ({ state, limit }) => {
      const messages: OutboxSummary[] = [];
      for await (const row of acts().outbox.all()) {
        if (messages.length >= limit) break;
        if (state !== undefined && row.state !== state) continue;
        messages.push(toOutboxSummary(row));
      }
      return { ts: clock.now(), messages };
    },
    "outbox.show": async ({ id }) => {
      const row = await acts().courier.get(id);
      const parts = row.parts.map(({ text, label }) => ({
        text,
        integrity: label.integrity,
        secrecy: [...label.secrecy],
      }));
      return { message: toOutboxSummary(row), parts };
    },
    "outbox.retry": async ({ id }, { caller }) =>
      toOutboxSummary(await acts().courier.retry(id, caller.principal.id)),
    "outbox.drop": async ({ id }, { caller }) => {
      await acts().courier.drop(id, caller.principal.id);
      return { ok: true };
    },
  };
}

type PairMethod = Extract<ChannelMethod, `channel.pair.${string}`>;

function isSamePlace(a: SenderPlace, b: SenderPlace): boolean {
  return a.channel === b.channel && a.account === b.account &&
    a.kind === b.kind && a.conversation === b.conversation &&
    a.sender === b.sender;
}

function pairHandlers(acts: () => ChannelActs): Pick<Handlers, PairMethod> {
  const approve = async (
    code: string,
    as: "peer" | "owner",
    by: Authority,
  ) => {
    // A sender is a credential like any other: no wider than its maker.
    checkCovers(by, senderGrant(as), { act: `let in a sender as ${as}` });
    const { credential } = by;
    return toApproved(await acts().door.approve(code, { as, by: credential }));
  };
  return {
    "channel.pair.list": async () => {
      const { pending, grants } = await acts().door.list();
      return {
        pending: pending.map(({ code, createdAt, expiresAt, ...row }) => ({
          code,
          createdAt,
          expiresAt,
          ...placeOf(row),
        })),
        grants: grants.map(({ as, at, by, ...row }) => ({
          as,
          at,
          by,
          ...placeOf(row),
        })),
      };
    },
    "channel.pair.approve": ({ code }, { caller }) =>
      approve(code, "peer", caller.authority),
    "channel.pair.owner": ({ code }, { caller }) =>
      approve(code, "owner", caller.authority),
    "channel.pair.reject": async ({ code }, { caller }) => {
      await acts().door.reject(code, caller.authority.credential);
      return { ok: true };
    },
    "channel.pair.revoke": async (place, { caller }) => {
      const { door, onRevoked } = acts();
      const { grants } = await door.list();
      const isOwners = grants.some((grant) =>
        grant.as === "owner" && isSamePlace(grant.place, place)
      );
      if (isOwners) {
        checkCovers(caller.authority, senderGrant("owner"), {
          act: "send the owner away",
        });
      }
      await door.revoke(place, caller.authority.credential);
      await onRevoked(place);
      return { ok: true };
    },
  };
}
