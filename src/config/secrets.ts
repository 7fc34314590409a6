/**
 * The sealed secret file: names in clear, values under AES-256-GCM, the key
 * from a passphrase or from a file beside it.
 *
 * Never: a value is written in clear, a key file is readable by others, a value
 * is accepted under another name than its own.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  createCipheriv,
  createDecipheriv,
  randomBytes,
  scrypt,
} from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { decodeUtf8, readBytes } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import { Secret } from "../core/secret.ts";
import type { Env } from "./env.ts";
import { alone, writeWhole } from "./files.ts";
import { SECRET_NAME } from "./references.ts";

/** Bounds of the file. */
export const SECRETS_MAX = 1000;
export const SECRET_BYTES_MAX = 65_536;
/** The file's name inside the state directory. */
export const SECRETS_FILE = "secrets.json";
const FILE_BYTES_MAX = 16_777_216;

/** The shortest passphrase that seals anything new. */
export const PASSPHRASE_CHARS_MIN = 8;

const KEY_BYTES = 32;
const SALT_BYTES = 16;
const IV_BYTES = 12;
const SCRYPT = { N: 65_536, r: 8, p: 2, maxmem: 134_217_728 };
/** What is sealed under every key to see that it is the right one. */
const CHECK_NAME = "\0check";

let lastDerivation: Promise<unknown> = Promise.resolve();

/**
 * The key of a passphrase: scrypt, N=2^16, r=8, p=2, off the event loop. One
 * at a time, because each takes 64 MiB.
 */
export function deriveKey(
  passphrase: Secret,
  salt: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const derive = () =>
    new Promise<Uint8Array<ArrayBuffer>>((resolve, reject) => {
      const text = passphrase.reveal().normalize("NFKC");
      scrypt(text, salt, KEY_BYTES, SCRYPT, (error, key) => {
        if (error === null) resolve(new Uint8Array(key));
        else reject(error);
      });
    });
  const mine = lastDerivation.then(derive);
  lastDerivation = mine.catch(() => {}); // the caller hears of it, not the next
  return mine;
}

/** The passphrase of this process, if it has one. */
export function passphraseOf(env: Env): Secret | undefined {
  const text = env.get("CARAPACE_PASSPHRASE");
  return text === undefined
    ? undefined
    : new Secret(text, "env CARAPACE_PASSPHRASE");
}

const Base64 = z.base64().max(131_072);
const Sealed = z.strictObject({ iv: Base64, data: Base64 });
type Sealed = z.infer<typeof Sealed>;
const SecretsFile = z.strictObject({
  version: z.literal(1),
  key: z.discriminatedUnion("from", [
    z.strictObject({ from: z.literal("file") }),
    z.strictObject({ from: z.literal("passphrase"), salt: Base64 }),
  ]),
  check: Sealed,
  values: z.record(z.string().regex(SECRET_NAME), Sealed),
});
type SecretsFile = z.infer<typeof SecretsFile>;
type Key = Uint8Array;

function seal(key: Key, name: string, text: string): Sealed {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  cipher.setAAD(new TextEncoder().encode(name));
  const data = Buffer.concat([
    cipher.update(text, "utf8"),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  return { iv: iv.toString("base64"), data: data.toString("base64") };
}

/** The text, or `undefined` when the key or the name is another. */
function unseal(key: Key, name: string, sealed: Sealed): string | undefined {
  try {
    const data = Uint8Array.fromBase64(sealed.data);
    const iv = Uint8Array.fromBase64(sealed.iv);
    const options = { authTagLength: 16 };
    const decipher = createDecipheriv("aes-256-gcm", key, iv, options);
    decipher.setAAD(new TextEncoder().encode(name));
    decipher.setAuthTag(data.slice(-16));
    const head = decipher.update(data.slice(0, -16));
    decipher.final();
    return new TextDecoder().decode(head);
  } catch {
    return undefined; // every way to fail means the same: not this key
  }
}

/** The secrets of one state directory. */
export interface Secrets {
  /** The secret of this name. @throws `locked` when the file does not open */
  find(name: string): Promise<Secret | undefined>;
  /** Seals a value under a name; true when it replaced one. */
  set(name: string, value: Secret): Promise<boolean>;
  /** Forgets a value; false when there was none. */
  remove(name: string): Promise<boolean>;
  /** The names, sorted. Needs no key. */
  list(): Promise<string[]>;
  /**
   * Seals everything anew: under a new key of the passphrase (the given one,
   * else the process's), or under a new key file when there is none.
   */
  rotate(options?: { passphrase?: Secret }): Promise<void>;
}

/** Opens the secrets of a state directory. Reads nothing until it is asked. */
export function openSecrets(
  { dir, env }: { dir: string; env: Env },
): Secrets {
  return new SecretsInFile(dir, env);
}

class SecretsInFile implements Secrets {
  readonly #dir: string;
  readonly #path: string;
  readonly #keyPath: string;
  readonly #lockPath: string;
  readonly #env: Env;
  /** The last derived key, by salt: a derivation costs half a second. */
  #derived: { salt: string; key: Key } | undefined;

  constructor(dir: string, env: Env) {
    this.#dir = dir;
    this.#path = join(dir, SECRETS_FILE);
    this.#keyPath = join(dir, "secrets.key");
    this.#lockPath = join(dir, "secrets.lock");
    this.#env = env;
  }

  async find(name: string): Promise<Secret | undefined> {
    const file = await this.#read();
    if (file === undefined || !Object.hasOwn(file.values, name)) {
      return undefined;
    }
    const sealed = file.values[name];
    const key = await this.#open(file).catch(async (error) => {
      // A rotation in between: the old file was read, the new key is there.
      const now = await this.#read();
      if (now?.check.data === file.check.data) throw error;
      return undefined;
    });
    if (key === undefined || sealed === undefined) return await this.find(name);
    const text = unseal(key, name, sealed);
    if (text === undefined) {
      throw new AppError(
        "internal",
        `Cannot open secret "${name}": its sealed value was altered`,
        { hint: `Set it again: carapace secret set ${name}` },
      );
    }
    return new Secret(text, `secret ${name}`);
  }

  async set(name: string, value: Secret): Promise<boolean> {
    checkSecret(name, value);
    await Deno.mkdir(this.#dir, { recursive: true, mode: 0o700 });
    return await alone(this.#lockPath, async () => {
      const file = await this.#read() ?? await this.#create();
      const key = await this.#open(file);
      const replaced = Object.hasOwn(file.values, name);
      if (!replaced && Object.keys(file.values).length >= SECRETS_MAX) {
        throw new AppError(
          "too_large",
          `Cannot set secret "${name}": there are ${SECRETS_MAX} already`,
        );
      }
      file.values[name] = seal(key, name, value.reveal());
      await this.#write(file);
      return replaced;
    });
  }

  async remove(name: string): Promise<boolean> {
    if (await this.#read() === undefined) return false;
    return await alone(this.#lockPath, async () => {
      const file = await this.#read();
      if (file === undefined || !Object.hasOwn(file.values, name)) return false;
      delete file.values[name];
      await this.#write(file);
      return true;
    });
  }

  async list(): Promise<string[]> {
    return Object.keys((await this.#read())?.values ?? {}).sort();
  }

  async rotate(options: { passphrase?: Secret } = {}): Promise<void> {
    if (await this.#read() === undefined) return;
    const passphrase = options.passphrase ?? passphraseOf(this.#env);
    await alone(this.#lockPath, async () => {
      const file = await this.#read();
      if (file === undefined) return;
      const old = await this.#open(file);
      const fresh = await this.#freshKey(passphrase, file);
      const values = Object.entries(file.values).map(([name, sealed]) => {
        const text = unseal(old, name, sealed);
        if (text !== undefined) return [name, seal(fresh.key, name, text)];
        throw new AppError(
          "internal",
          `Cannot rotate: secret "${name}" was altered`,
          {
            hint: `Set or remove it first: carapace secret remove ${name}`,
          },
        );
      });
      await this.#write({
        ...file,
        key: fresh.header,
        check: seal(fresh.key, CHECK_NAME, ""),
        values: Object.fromEntries(values),
      });
      await fresh.settle();
    });
  }

  /** A new key. Old and new lie side by side until the file is sealed anew. */
  async #freshKey(passphrase: Secret | undefined, old?: SecretsFile): Promise<{
    key: Key;
    header: SecretsFile["key"];
    settle(): Promise<void>;
  }> {
    if (passphrase !== undefined) {
      checkPassphrase(passphrase);
      const salt = new Uint8Array(randomBytes(SALT_BYTES));
      const key = await deriveKey(passphrase, salt);
      const header = { from: "passphrase", salt: salt.toBase64() } as const;
      this.#derived = { salt: header.salt, key };
      const settle = async () => {
        if (old?.key.from === "file") await Deno.remove(this.#keyPath);
      };
      return { key, header, settle };
    }
    const key = new Uint8Array(randomBytes(KEY_BYTES));
    const kept = old?.key.from === "file" ? await this.#fileKeys() : [];
    const save = (keys: Key[]) =>
      writeWhole(
        this.#keyPath,
        keys.map((k) => `${k.toBase64()}\n`).join(""),
      );
    await save([key, ...kept]);
    const settle = () => save([key]);
    return { key, header: { from: "file" }, settle };
  }

  async #create(): Promise<SecretsFile> {
    const { key, header } = await this.#freshKey(passphraseOf(this.#env));
    const check = seal(key, CHECK_NAME, "");
    return { version: 1, key: header, check, values: {} };
  }

  async #write(file: SecretsFile): Promise<void> {
    await writeWhole(this.#path, `${JSON.stringify(file, null, 2)}\n`);
  }

  async #read(): Promise<SecretsFile | undefined> {
    const text = await readPrivate(this.#path);
    if (text === undefined) return undefined;
    try {
      return SecretsFile.parse(JSON.parse(text));
    } catch (cause) {
      throw new AppError(
        "internal",
        `Cannot read ${this.#path}: it is not a secrets file of this version`,
        {
          cause,
          hint:
            "Restore it from a backup, or move it away and set the secrets again",
        },
      );
    }
  }

  async #fileKeys(): Promise<Key[]> {
    const lines = (await readPrivate(this.#keyPath) ?? "").trim().split("\n");
    return lines.flatMap((line) => {
      if (!/^[A-Za-z0-9+/]{43}=$/.test(line)) return [];
      return [Uint8Array.fromBase64(line)];
    });
  }

  /** The key that opens this file. @throws `locked` when there is none */
  async #open(file: SecretsFile): Promise<Key> {
    const opens = (key: Key) => unseal(key, CHECK_NAME, file.check) === "";
    if (file.key.from === "file") {
      const key = (await this.#fileKeys()).find(opens);
      if (key !== undefined) return key;
      throw new AppError(
        "locked",
        `Cannot open the secrets: ${this.#keyPath} is missing or holds another key`,
        {
          hint: "Restore the key file from where the secrets came from",
        },
      );
    }
    const passphrase = passphraseOf(this.#env);
    if (passphrase === undefined) {
      throw new AppError(
        "locked",
        "Cannot open the secrets: they are sealed with a passphrase",
        {
          hint: "Set CARAPACE_PASSPHRASE",
        },
      );
    }
    const { salt } = file.key;
    if (this.#derived?.salt === salt && opens(this.#derived.key)) {
      return this.#derived.key;
    }
    const key = await deriveKey(passphrase, Uint8Array.fromBase64(salt));
    if (!opens(key)) {
      throw new AppError(
        "locked",
        "Cannot open the secrets: the passphrase is another",
        {
          hint: "Check CARAPACE_PASSPHRASE",
        },
      );
    }
    this.#derived = { salt, key };
    return key;
  }
}

function checkSecret(name: string, value: Secret): void {
  if (!SECRET_NAME.test(name)) {
    throw new AppError(
      "bad_input",
      `Cannot set secret ${
        JSON.stringify(name)
      }: a name is 1 to 128 letters, digits, _ . and -`,
    );
  }
  const bytes = new TextEncoder().encode(value.reveal()).length;
  if (bytes === 0) {
    throw new AppError("bad_input", `Cannot set secret "${name}": it is empty`);
  }
  if (bytes > SECRET_BYTES_MAX) {
    throw new AppError(
      "too_large",
      `Cannot set secret "${name}": it is larger than ${SECRET_BYTES_MAX} bytes`,
    );
  }
}

function checkPassphrase(passphrase: Secret): void {
  if ([...passphrase.reveal()].length < PASSPHRASE_CHARS_MIN) {
    throw new AppError(
      "bad_input",
      `Cannot seal: the passphrase has fewer than ${PASSPHRASE_CHARS_MIN} characters`,
    );
  }
}

/** Reads a file that only its owner may see; `undefined` when there is none. */
async function readPrivate(path: string): Promise<string | undefined> {
  try {
    using file = await Deno.open(path, { read: true });
    const { mode } = await file.stat();
    if (mode !== null && (mode & 0o077) !== 0) {
      throw new AppError(
        "forbidden",
        `Cannot use ${path}: others than its owner can open it`,
        {
          hint:
            `Run "chmod 600 ${path}", and set anew what others may have read`,
        },
      );
    }
    return decodeUtf8(await readBytes(file.readable, FILE_BYTES_MAX));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
