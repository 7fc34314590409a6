/**
 * Who hears that a credential ended.
 *
 * Never: a listener that fails keeps another one, or another credential's end,
 * from being heard.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";

/**
 * A credential that ended, or only its texts before a number. Must not throw.
 */
export type EndListener = (credential: string, before?: number) => void;

/** The listeners of one kind of credential. */
export class Endings {
  readonly #log: Log;
  readonly #listeners = new Set<EndListener>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Calls with a credential when it, or a text of it, ends; until disposed. */
  on(listener: EndListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Tells everyone, at once. */
  tell(credential: string, before?: number): void {
    for (const listener of this.#listeners) {
      try {
        listener(credential, before);
      } catch (error) {
        this.#log("error", "auth.listener.failed", {
          credential,
          reason: errorText(error),
        });
      }
    }
  }
}
