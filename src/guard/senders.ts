/**
 * Who is served through a chat network: the one door for every event that comes
 * in by one, whatever its kind. An unknown sender gets a code for the owner to
 * approve, and nothing else.
 *
 * Never: a name is compared; a grant of one place lets in another; a stranger
 * causes more than three rows a channel.
 *
 * @module
 */
import type { ListedSender, SenderPolicy } from "../core/channel.ts";
import { AppError } from "../core/errors.ts";
import { Inbound } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { Audit } from "../store/audit.ts";
import type { Journal, Row } from "../store/journal.ts";
import type {
  PairingGrant,
  PairingRow,
  Pairings,
  SenderPlace,
} from "../store/pairings.ts";

/** Bounds of what strangers cause. */
export const PAIRING = {
  /** How long a code counts. */
  codeMs: 3_600_000,
  /** Codes that wait, of one channel. */
  pendingMax: 3,
  /** Characters of a code. */
  codeChars: 8,
} as const;

/** Letters and digits that are not taken for one another; 32 of them. */
const ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/** What the configuration says of an account. */
export interface SenderRules {
  policy: SenderPolicy;
  /** Served in direct messages, by exact account and id. */
  listed: readonly ListedSender[];
}

/** What becomes of an event. */
export type Knock =
  | { verdict: "admit"; as: "peer" | "owner"; place: SenderPlace }
  | { verdict: "pair"; code: string; isNew: boolean }
  | { verdict: "drop"; why: string };

/** The place a sender speaks from; nothing of it is a name. */
export function placeOf(event: Inbound): SenderPlace {
  const { channel, account, chat, sender } = event;
  return {
    channel,
    account,
    kind: chat.kind,
    conversation: chat.id,
    sender: sender.id,
  };
}

/** What is known when an event is judged. */
export interface SenderFacts {
  /** Absent: no line of the configuration speaks of this account. */
  rules: SenderRules | undefined;
  place: SenderPlace;
  /** The grant of exactly this place. */
  grant: PairingGrant | undefined;
  isMentioned: boolean;
  /** A reaction or an edit asks for nothing. */
  isMessage: boolean;
}

/** Decides; total, and whatever is not said is no. */
export function judgeSender(
  facts: SenderFacts,
): "peer" | "owner" | "pair" | { drop: string } {
  const { rules, place, grant, isMentioned, isMessage } = facts;
  if (rules === undefined) return { drop: "the account is not configured" };
  const { policy, listed } = rules;
  if (policy === "off") return { drop: "the channel is off" };
  const isDirect = place.kind === "direct";
  if (!isDirect && !isMentioned) return { drop: "nobody was meant" };
  const isListed = isDirect &&
    listed.some((one) =>
      one.account === place.account && one.id === place.sender
    );
  switch (policy) {
    case "allowlist":
      return isListed ? "peer" : { drop: "the sender is not on the list" };
    case "open":
    case "pairing":
      // In a group others read and write: there the owner is a peer too.
      if (grant !== undefined) return isDirect ? grant.as : "peer";
      if (isListed || policy === "open") return "peer";
      return isMessage ? "pair" : { drop: "the sender is not known" };
    default:
      policy satisfies never;
      return { drop: "the policy is not known" };
  }
}

/** What the door is made of. */
export interface SenderDoorDeps {
  rows: Pairings;
  journal: Journal;
  audit: Pick<Audit, "row">;
  rulesOf(channel: string, account: string): SenderRules | undefined;
  clock: Clock;
  /** Random bytes for codes. */
  bytes(count: number): Uint8Array;
}

/** The door. */
export class SenderDoor {
  readonly #deps: SenderDoorDeps;
  #pairing: Promise<unknown> = Promise.resolve();

  constructor(deps: SenderDoorDeps) {
    this.#deps = deps;
  }

  /**
   * Judges an event. A new code is stored together with `tell`'s rows, which
   * carry it to the sender.
   */
  async knock(
    event: Inbound,
    tell: (code: string) => readonly Row[],
  ): Promise<Knock> {
    const parsed = Inbound.safeParse(event);
    if (!parsed.success) {
      return { verdict: "drop", why: "it says not who, where or what" };
    }
    const { rows, rulesOf } = this.#deps;
    const place = placeOf(event);
    const verdict = judgeSender({
      rules: rulesOf(event.channel, event.account),
      place,
      grant: await rows.grant(place),
      isMentioned: event.mentioned === true,
      isMessage: event.kind === "message" || event.kind === "command",
    });
    if (typeof verdict === "object") {
      return { verdict: "drop", why: verdict.drop };
    }
    if (verdict !== "pair") return { verdict: "admit", as: verdict, place };
    // One after the other: they are counted.
    const mine = this.#pairing.then(() => this.#pair(event, { place, tell }));
    this.#pairing = mine.catch(() => {});
    return await mine;
  }

  async #pair(
    { sender }: Inbound,
    { place, tell }: {
      place: SenderPlace;
      tell(code: string): readonly Row[];
    },
  ): Promise<Knock> {
    const { rows, journal, clock, bytes } = this.#deps;
    const now = clock.now();
    const pending = await rows.pending();
    const over = pending.filter(({ expiresAt }) => expiresAt <= now);
    const here = pending.filter((row) =>
      row.expiresAt > now && row.place.channel === place.channel
    );
    const text = JSON.stringify(place);
    const before = here.find((row) => JSON.stringify(row.place) === text);
    if (before !== undefined) {
      return { verdict: "pair", code: before.code, isNew: false };
    }
    if (here.length >= PAIRING.pendingMax) {
      return { verdict: "drop", why: "too many wait to be let in" };
    }
    let code = "";
    for (const byte of bytes(PAIRING.codeChars)) {
      code += ALPHABET.charAt(byte % ALPHABET.length);
    }
    const { name } = sender;
    const row: PairingRow = {
      code,
      place,
      ...name === undefined ? {} : { name },
      createdAt: now,
      expiresAt: now + PAIRING.codeMs,
    };
    await journal.commit([
      ...over.map((one) => rows.deletion(one.code)),
      rows.row(row),
      ...tell(code),
    ]);
    return { verdict: "pair", code, isNew: true };
  }

  // --- the owner's acts ---------------------------------------------------

  /** Those who wait, and those who were let in. */
  async list(): Promise<{ pending: PairingRow[]; grants: PairingGrant[] }> {
    const { rows, clock } = this.#deps;
    const pending = await rows.pending();
    return {
      pending: pending.filter(({ expiresAt }) => expiresAt > clock.now()),
      grants: await rows.grants(),
    };
  }

  /** @throws {AppError} `not_found` for a code that does not count (any more) */
  async #get(code: string): Promise<PairingRow> {
    const { rows, clock } = this.#deps;
    const row = await rows.find(code);
    if (row !== undefined && row.expiresAt > clock.now()) return row;
    throw new AppError("not_found", `Nobody waits with the code "${code}"`, {
      hint: "See: carapace channel pair list; a code counts for an hour",
    });
  }

  /**
   * Lets a sender in, exactly where it wrote.
   *
   * @throws {AppError} `not_found`; `forbidden` for an owner in a group, or by
   * the word of a plugin
   */
  async approve(
    code: string,
    { as, by }: { as: "peer" | "owner"; by: string },
  ): Promise<PairingGrant> {
    const { rows, journal, audit, clock } = this.#deps;
    const { place, name } = await this.#get(code);
    if (as === "owner" && place.kind !== "direct") {
      throw new AppError("forbidden", "In a group the owner is a peer", {
        hint: "Pair in a direct message",
      });
    }
    if (as === "owner" && place.channel.startsWith("plugin:")) {
      throw new AppError(
        "forbidden",
        "A plugin's word is not enough to be the owner",
        { hint: "Approve it without --as owner" },
      );
    }
    const grant: PairingGrant = {
      place,
      as,
      ...name === undefined ? {} : { name },
      at: clock.now(),
      by,
    };
    await journal.commit([
      rows.deletion(code),
      rows.grantRow(grant),
      audit.row({ event: "pairing.approved", fields: { code, as, by } }),
    ]);
    return grant;
  }

  /** Sends a sender away; the code is gone. */
  async reject(code: string, by: string): Promise<void> {
    const { rows, journal, audit } = this.#deps;
    await this.#get(code);
    await journal.commit([
      rows.deletion(code),
      audit.row({ event: "pairing.rejected", fields: { code, by } }),
    ]);
  }

  /** Takes a grant back. @throws {AppError} `not_found` */
  async revoke(place: SenderPlace, by: string): Promise<void> {
    const { rows, journal, audit } = this.#deps;
    if (await rows.grant(place) === undefined) {
      throw new AppError("not_found", "Nobody was let in there");
    }
    const { channel, kind } = place;
    await journal.commit([
      rows.grantDeletion(place),
      audit.row({ event: "pairing.revoked", fields: { channel, kind, by } }),
    ]);
  }
}
