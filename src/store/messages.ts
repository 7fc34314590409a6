/**
 * The messages of sessions, one row each, counted from 1.
 *
 * @module
 */
import { StoredMessage } from "../core/message.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** The `message` collection. */
export class Messages {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  /** The row that stores a message. */
  rows(sessionId: string, message: StoredMessage): Row[] {
    const value = StoredMessage.parse(message);
    return [{ key: makeKey("message", sessionId, value.seq), value }];
  }

  /** The last messages between two `seq`, both exclusive; oldest first. */
  async tail(
    sessionId: string,
    options: { limit: number; beforeSeq?: number; afterSeq?: number },
  ): Promise<StoredMessage[]> {
    const prefix = makeKey("message", sessionId);
    const stretch = {
      prefix,
      limit: options.limit,
      reverse: true,
      ...(options.afterSeq === undefined
        ? {}
        : { start: makeKey("message", sessionId, options.afterSeq + 1) }),
      ...(options.beforeSeq === undefined
        ? {}
        : { end: makeKey("message", sessionId, options.beforeSeq) }),
    };
    const messages: StoredMessage[] = [];
    for await (const { value } of this.#values.list(stretch, StoredMessage)) {
      messages.push(value);
    }
    return messages.reverse();
  }

  /** Every message, oldest first. */
  async *all(
    sessionId: string,
  ): AsyncGenerator<StoredMessage, void, undefined> {
    const prefix = makeKey("message", sessionId);
    for await (
      const { value } of this.#values.list({ prefix }, StoredMessage)
    ) {
      yield value;
    }
  }
}
