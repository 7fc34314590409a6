/**
 * Seals values at rest: AES-256-GCM, a fresh nonce each time, the row's key as
 * associated data, so that a sealed value is worth nothing under another key.
 *
 * Never: a key leaves this module; a seal that does not fit gives bytes.
 *
 * @module
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { AppError } from "../core/errors.ts";

/** Seals and opens bytes, bound to associated data. */
export interface Cipher {
  seal(plain: Uint8Array, aad: Uint8Array): Uint8Array;
  /** @throws {AppError} `forbidden` when key, data or bytes do not fit */
  open(sealed: Uint8Array, aad: Uint8Array): Uint8Array;
}

/** Bytes of a cipher's key. */
export const CIPHER_KEY_BYTES = 32;

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** AES-256-GCM under a key of 32 bytes: nonce, ciphertext, tag. */
export function makeCipher(key: Uint8Array): Cipher {
  if (key.length !== CIPHER_KEY_BYTES) {
    throw new AppError(
      "bad_input",
      `Cannot make a cipher: its key has ${key.length} bytes, not ${CIPHER_KEY_BYTES}`,
    );
  }
  const own = key.slice();
  return {
    seal: (plain, aad) => {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", own, nonce);
      cipher.setAAD(aad);
      const body = cipher.update(plain);
      const rest = cipher.final();
      const tag = cipher.getAuthTag();
      const sealed = new Uint8Array(
        NONCE_BYTES + body.length + rest.length + TAG_BYTES,
      );
      sealed.set(nonce, 0);
      sealed.set(body, NONCE_BYTES);
      sealed.set(rest, NONCE_BYTES + body.length);
      sealed.set(tag, sealed.length - TAG_BYTES);
      return sealed;
    },
    open: (sealed, aad) => {
      try {
        const end = sealed.length - TAG_BYTES;
        if (end < NONCE_BYTES) throw new RangeError("too short for a seal");
        const decipher = createDecipheriv(
          "aes-256-gcm",
          own,
          sealed.subarray(0, NONCE_BYTES),
          { authTagLength: TAG_BYTES },
        );
        decipher.setAAD(aad);
        decipher.setAuthTag(sealed.subarray(end));
        const body = decipher.update(sealed.subarray(NONCE_BYTES, end));
        decipher.final(); // throws when the tag does not fit; GCM adds nothing
        return new Uint8Array(body.buffer, body.byteOffset, body.length);
      } catch (error) {
        throw new AppError(
          "forbidden",
          "Cannot open a sealed value: it was changed, moved, or sealed with another key",
          { cause: error },
        );
      }
    },
  };
}
