/// <reference lib="dom" />
/**
 * This browser's key: Ed25519, made here and not readable by any script, kept
 * in IndexedDB, which belongs to this page's origin, port included.
 *
 * Never: a secret in `localStorage`, a cookie or an address.
 *
 * @module
 */

/** A key pair and the name the gateway knows it by. */
export interface DeviceKey {
  /** Hex SHA-256 of the raw public key. */
  id: string;
  /** base64url, without padding. */
  publicKey: string;
  pair: CryptoKeyPair;
  /** When the gateway has let it in. */
  isPaired: boolean;
}

const DATABASE = "carapace";
const STORE = "device";
const NAME = "key";

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-")
    .replaceAll("/", "_").replaceAll("=", "");
}

function asked<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function open(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return await asked(request);
}

async function inStore<T>(
  mode: IDBTransactionMode,
  act: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  const database = await open();
  try {
    return await asked(
      act(database.transaction(STORE, mode).objectStore(STORE)),
    );
  } finally {
    database.close();
  }
}

/** The key of this browser; a new one when there is none. */
export async function loadKey(): Promise<DeviceKey> {
  const kept = await inStore<DeviceKey | undefined>(
    "readonly",
    (store) => store.get(NAME),
  );
  if (kept !== undefined) return kept;
  const pair = await crypto.subtle.generateKey(
    { name: "Ed25519" },
    false, // nobody reads the private key, this page neither
    ["sign", "verify"],
  ) as CryptoKeyPair;
  const raw = new Uint8Array(
    await crypto.subtle.exportKey("raw", pair.publicKey),
  );
  const digest = await crypto.subtle.digest("SHA-256", raw);
  const id = [...new Uint8Array(digest)].map((byte) =>
    byte.toString(16).padStart(2, "0")
  ).join("");
  const key = { id, publicKey: base64url(raw), pair, isPaired: false };
  await saveKey(key);
  return key;
}

/** Keeps the key, and whether it is paired. */
export async function saveKey(key: DeviceKey): Promise<void> {
  await inStore("readwrite", (store) => store.put(key, NAME));
}

/** The signature over a text, base64url. */
export async function signText(key: DeviceKey, text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text);
  const signature = await crypto.subtle.sign(
    "Ed25519",
    key.pair.privateKey,
    bytes,
  );
  return base64url(new Uint8Array(signature));
}
