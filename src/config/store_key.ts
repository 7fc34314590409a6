/**
 * The key that seals the whole store, when the owner set a passphrase.
 *
 * @module
 */
import { join } from "node:path";
import { writeWhole } from "./files.ts";
import { deriveKey, passphraseOf } from "./secrets.ts";
import type { Env } from "./env.ts";

const SALT_BYTES = 16;

/**
 * The store's key from `CARAPACE_PASSPHRASE` and the directory's own salt;
 * `undefined` without a passphrase. Takes about a quarter of a second.
 */
export async function storeKey(
  dir: string,
  env: Env,
): Promise<Uint8Array | undefined> {
  const passphrase = passphraseOf(env);
  if (passphrase === undefined) return undefined;
  const path = join(dir, "store.salt");
  let salt: Uint8Array;
  try {
    salt = Uint8Array.fromHex((await Deno.readTextFile(path)).trim());
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
    await writeWhole(path, `${salt.toHex()}\n`);
  }
  return new Uint8Array(await deriveKey(passphrase, salt));
}
