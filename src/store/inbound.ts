/**
 * Which events from outside were taken already. The row goes into the same unit
 * as the run it started, so an event is taken once or not at all.
 *
 * @module
 */
import { z } from "zod";
import { RunId } from "../core/turn.ts";
import type { Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

/** What became of an event. */
export const Seen = z.strictObject({
  runId: RunId,
  at: z.int(),
  /** What was asked under an id that its caller chose, as a hash. */
  asked: z.string().length(64).optional(),
});
export type Seen = z.infer<typeof Seen>;

/** Longer ids stand in the key as their hash. */
const ID_CHARS_MAX = 160;
/** No network sends an event again after this long. */
const KEPT_MS = 30 * 86_400_000;

function seenKey(channel: string, account: string, id: string): Deno.KvKey {
  // Four parts, so that no id can be written to look like another one's hash.
  return [account, id].every((text) => text.length <= ID_CHARS_MAX)
    ? makeKey("inbound", channel, account, id)
    : makeKey(
      "inbound",
      channel,
      "#",
      sha256HexSync(JSON.stringify([account, id])),
      "sha256",
    );
}

/** The `inbound` collection: the dedupe keys of events. */
export class InboundSeen {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(
    channel: string,
    account: string,
    id: string,
  ): Promise<Seen | undefined> {
    return await this.#values.find(seenKey(channel, account, id), Seen);
  }

  /** The row that takes an event; a unit with a second one is a `conflict`. */
  row(channel: string, account: string, id: string, seen: Seen): Row {
    return {
      key: seenKey(channel, account, id),
      value: Seen.parse(seen),
      absent: true,
      expireInMs: KEPT_MS,
    };
  }
}
