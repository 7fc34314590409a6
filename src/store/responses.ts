/**
 * Answers that can be gone on from: what was answered, to whom, and where the
 * conversation stands.
 *
 * @module
 */
import { z } from "zod";
import { idSchema, SessionKey } from "../core/ids.ts";
import { Message } from "../core/message.ts";
import type { Journal, Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

export const ResponseId = idSchema("resp");

/** One answer. */
export const StoredResponse = z.strictObject({
  id: ResponseId,
  /** Whose it is; nobody else finds it. */
  principal: z.string().min(1).max(256),
  createdAt: z.int(),
  /** As it was answered. */
  body: z.json(),
  /** An agent's: the session, and its last message then. */
  session: z.strictObject({
    key: SessionKey,
    id: idSchema("ses"),
    seq: z.int().nonnegative(),
  }).optional(),
  /** A model's: everything that was said so far. */
  conversation: z.array(Message).optional(),
});
export type StoredResponse = z.infer<typeof StoredResponse>;

const KEPT_MS = 30 * 86_400_000;

/** The `response` collection. */
export class Responses {
  readonly #values: Values;
  readonly #journal: Journal;

  constructor(values: Values, journal: Journal) {
    this.#values = values;
    this.#journal = journal;
  }

  async find(id: string): Promise<StoredResponse | undefined> {
    if (!ResponseId.safeParse(id).success) return undefined;
    return await this.#values.find(makeKey("response", id), StoredResponse);
  }

  async put(response: StoredResponse): Promise<void> {
    const value = StoredResponse.parse(response);
    const key = makeKey("response", value.id);
    const rows: Row[] = [{ key, value, expireInMs: KEPT_MS }];
    if (value.session !== undefined) {
      const { id } = value.session;
      rows.push({
        key: makeKey("response_by_session", id, value.id),
        value: { at: value.createdAt },
        expireInMs: KEPT_MS,
      });
    }
    await this.#journal.commit(rows);
  }

  async delete({ id, session }: StoredResponse): Promise<void> {
    await this.#journal.commit([
      { key: makeKey("response", id), value: undefined },
      ...session === undefined ? [] : [{
        key: makeKey("response_by_session", session.id, id),
        value: undefined,
      }],
    ]);
  }
}
