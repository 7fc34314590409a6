/**
 * One password, checked by scrypt off the main thread, one at a time.
 *
 * Never: it is computed for somebody whom the limiter refuses; more than a few
 * wait.
 *
 * @module
 */
import { randomBytes, scrypt } from "node:crypto";
import { AppError } from "../core/errors.ts";
import { type Secret, verifySecret } from "../core/secret.ts";

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
