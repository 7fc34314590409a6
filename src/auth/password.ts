/**
 * One password, checked by scrypt off the main thread, one at a time, and which
 * one it is now.
 *
 * Never: it is computed for somebody whom the limiter refuses; more than a few
 * wait; what an earlier one let in outlives it.
 *
 * @module
 */
import { randomBytes, scrypt } from "node:crypto";
import { AppError, ignore } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { isSameSecret, type Secret, verifySecret } from "../core/secret.ts";
import type { Clock } from "../core/time.ts";
import type { Store } from "../store/store.ts";
import { Endings, type EndListener } from "./endings.ts";
import { PASSWORD_CREDENTIAL } from "./principal.ts";

/** What one check costs: a quarter of a second and 64 MiB. */
const COST = { N: 65_536, r: 8, p: 1, maxmem: 134_217_728 } as const;
const HASH_BYTES = 32;
const WAITING_MAX = 4;

/** The password of a configuration. */
export class Password {
  readonly #secret: Secret;
  readonly #salt = randomBytes(16);
  #right: Promise<string> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(secret: Secret) {
    this.#secret = secret;
  }

  /**
   * Whether a text is the password.
   *
   * @throws {AppError} `unavailable` when too many checks wait
   */
  async verify(text: string): Promise<boolean> {
    if (this.#waiting >= WAITING_MAX) {
      throw new AppError(
        "unavailable",
        "Cannot check the password: others are being checked",
        { retryAfterMs: 1000 },
      );
    }
    this.#waiting++;
    const check = this.#last.then(async () => {
      this.#right ??= this.#derive(this.#secret.reveal());
      return await verifySecret(await this.#derive(text), await this.#right);
    });
    this.#last = check.then(() => {}, () => {});
    try {
      return await check;
    } finally {
      this.#waiting--;
    }
  }

  #derive(text: string): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    scrypt(text, this.#salt, HASH_BYTES, COST, (error, key) => {
      if (error === null) resolve(key.toString("hex"));
      else reject(error);
    });
    return promise;
  }
}

/** The password there is now, if there is one. */
export class CurrentPassword {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #store: Pick<Store, "journal" | "audit">;
  readonly #listeners: Endings;
  #secret: Secret | undefined;
  #password: Password | undefined;
  /** Which one it is. Another process counts from another moment. */
  #number: number;

  constructor(
    { secret, clock, log, store }: {
      secret: Secret | undefined;
      store: Pick<Store, "journal" | "audit">;
      clock: Clock;
      log: Log;
    },
  ) {
    this.#clock = clock;
    this.#log = log;
    this.#listeners = new Endings(log);
    this.#store = store;
    this.#number = clock.now();
    this.#set(secret);
  }

  #set(secret: Secret | undefined): void {
    this.#secret = secret;
    this.#password = secret === undefined ? undefined : new Password(secret);
  }

  /**
   * The number of the password, when a text is it and still is when that is
   * known.
   *
   * @throws as {@linkcode Password.verify}
   */
  async verify(text: string): Promise<number | undefined> {
    const number = this.#number;
    const isRight = await this.#password?.verify(text) ?? false;
    return isRight && this.isLive(number) ? number : undefined;
  }

  /** Whether it is the one of this number. */
  isLive(number: number | undefined): boolean {
    return this.#password !== undefined && number === this.#number;
  }

  /** Takes another, or none; what the one before let in ends with it. */
  change(secret: Secret | undefined): void {
    if (isSameSecret(secret, this.#secret)) return;
    const wasSet = this.#secret !== undefined;
    this.#set(secret);
    this.#number = Math.max(this.#number + 1, this.#clock.now());
    if (wasSet) this.#listeners.tell(PASSWORD_CREDENTIAL);
    const { journal, audit } = this.#store;
    const event = "auth.password";
    const now = secret === undefined ? "none" : wasSet ? "another" : "set";
    this.#log("info", event, { now });
    journal.commit([audit.row({ event, fields: { now } })])
      .catch(ignore("a change of the password was not audited"));
  }

  /** Calls with the password's credential when it ends, until disposed. */
  onEnded(listener: EndListener): Disposable {
    return this.#listeners.on(listener);
  }
}
