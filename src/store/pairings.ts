/**
 * Senders of chat networks: those who wait to be let in, and those who were.
 * A grant is found by its exact place only.
 *
 * Never: a grant of one conversation, kind or account is found for another.
 *
 * @module
 */
import { z } from "zod";
import { ChannelId } from "../core/channel.ts";
import { Inbound } from "../core/message.ts";
import type { Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

/** Who speaks where, by the network's immutable ids. */
export const SenderPlace = z.strictObject({
  channel: ChannelId,
  account: z.string().min(1).max(128),
  kind: Inbound.shape.chat.shape.kind,
  conversation: z.string().min(1).max(256),
  sender: z.string().min(1).max(256),
});
export type SenderPlace = z.infer<typeof SenderPlace>;

/** A sender who waits to be let in. */
export const PairingRow = z.strictObject({
  /** Eight characters without those that look alike. */
  code: z.string().regex(/^[2-9A-HJ-NP-Z]{8}$/),
  place: SenderPlace,
  /** What the sender calls itself; shown, never compared. */
  name: z.string().max(256).optional(),
  createdAt: z.int(),
  expiresAt: z.int(),
});
export type PairingRow = z.infer<typeof PairingRow>;

/** A sender who was let in. */
export const PairingGrant = z.strictObject({
  place: SenderPlace,
  as: z.enum(["peer", "owner"]),
  name: z.string().max(256).optional(),
  at: z.int(),
  /** The credential that did it. */
  by: z.string().max(256),
});
export type PairingGrant = z.infer<typeof PairingGrant>;

const PART_CHARS_MAX = 160;

function grantKey(place: SenderPlace): Deno.KvKey {
  const { channel, account, kind, conversation, sender } = place;
  // A channel's name holds no "|".
  const at = `${channel}|${account}`;
  const parts = [at, kind, conversation, sender];
  return [account, conversation, sender].every((part) =>
      part.length <= PART_CHARS_MAX && part.isWellFormed()
    )
    ? makeKey("pairing_grant", ...parts)
    : makeKey(
      "pairing_grant",
      `#${sha256HexSync(JSON.stringify([channel, account]))}`,
      kind,
      sha256HexSync(JSON.stringify(conversation)),
      sha256HexSync(JSON.stringify(sender)),
    );
}

/** The collections `pairing` and `pairing_grant`. */
export class Pairings {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  /** Those who wait, also those whose time is over. */
  async pending(): Promise<PairingRow[]> {
    const rows: PairingRow[] = [];
    const prefix = makeKey("pairing");
    for await (const { value } of this.#values.list({ prefix }, PairingRow)) {
      rows.push(value);
    }
    return rows;
  }

  async find(code: string): Promise<PairingRow | undefined> {
    return await this.#values.find(makeKey("pairing", code), PairingRow);
  }

  row(pairing: PairingRow): Row {
    const value = PairingRow.parse(pairing);
    return { key: makeKey("pairing", value.code), value, absent: true };
  }

  deletion(code: string): Row {
    return { key: makeKey("pairing", code), value: undefined };
  }

  /** The grant of exactly this place. */
  async grant(place: SenderPlace): Promise<PairingGrant | undefined> {
    return await this.#values.find(grantKey(place), PairingGrant);
  }

  async grants(): Promise<PairingGrant[]> {
    const rows: PairingGrant[] = [];
    const prefix = makeKey("pairing_grant");
    for await (const { value } of this.#values.list({ prefix }, PairingGrant)) {
      rows.push(value);
    }
    return rows;
  }

  grantRow(grant: PairingGrant): Row {
    const value = PairingGrant.parse(grant);
    return { key: grantKey(value.place), value };
  }

  grantDeletion(place: SenderPlace): Row {
    return { key: grantKey(place), value: undefined };
  }
}
