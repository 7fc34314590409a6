/**
 * Every key prefix of the store and the version of its rows' shape, in one
 * place. A row whose key does not begin with one of these cannot be written.
 *
 * Never: a collection spells its own prefix.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { AppError } from "../core/errors.ts";

/** What the store knows of a prefix. */
interface Collection {
  /** The second part of every key: the version of the rows' shape. */
  readonly version: number;
  /** Sealed even when no passphrase is set. */
  readonly secret?: true;
  /** Always clear: read before there is a key. */
  readonly clear?: true;
}

/** The prefixes, in the order of what they are for. */
export const COLLECTIONS = {
  schema: { version: 1, clear: true },
  cipher_check: { version: 1 },
  probe: { version: 1, clear: true },
  chunk: { version: 1, clear: true },
  chunk_set: { version: 1, clear: true },
  session: { version: 1 },
  session_by_time: { version: 1 },
  session_transient: { version: 1 },
  session_archived: { version: 1 },
  session_summary: { version: 1 },
  message: { version: 1 },
  run: { version: 1 },
  runs_open: { version: 1 },
  run_by_session: { version: 1 },
  inbound: { version: 1 },
  outbox: { version: 1 },
  outbox_due: { version: 1 },
  outbox_done: { version: 1 },
  pairing: { version: 1 },
  pairing_grant: { version: 1 },
  response: { version: 1 },
  response_by_session: { version: 1 },
  approval: { version: 1 },
  approval_by_run: { version: 1 },
  approval_pending: { version: 1 },
  approval_mark: { version: 1 },
  policy_line: { version: 1 },
  token: { version: 1, secret: true },
  token_used: { version: 1 },
  device: { version: 1, secret: true },
  device_used: { version: 1 },
  device_pending: { version: 1 },
  device_invite: { version: 1, secret: true },
  device_invite_mark: { version: 1 },
  memory: { version: 1 },
  blob: { version: 1 },
  blob_by_session: { version: 1 },
  file_label: { version: 1 },
  file_bytes: { version: 1 },
  file_undo: { version: 1 },
  mcp_pin: { version: 1 },
  mcp_token: { version: 1, secret: true },
  config_rev: { version: 1, secret: true },
  plugin: { version: 1 },
  plugin_blob: { version: 1 },
  plugin_kv: { version: 1 },
  plugin_timer: { version: 1 },
  plugin_seen: { version: 1 },
  job: { version: 1 },
  tick: { version: 1 },
  heartbeat: { version: 1 },
  wake_word: { version: 1 },
  usage: { version: 1 },
  usage_day: { version: 1 },
  usage_total: { version: 1 },
  usage_open: { version: 1 },
  audit: { version: 1 },
} as const satisfies Readonly<Record<string, Collection>>;

export type CollectionName = keyof typeof COLLECTIONS;

/** What a key may be made of after its prefix. */
export type KeyPart = string | number;

/** Bytes a key may take; the engine's own limit is 2,048. */
export const KEY_BYTES_MAX = 2000;

/** Builds a key: prefix, version, parts. */
export function makeKey(
  name: CollectionName,
  ...parts: readonly KeyPart[]
): Deno.KvKey {
  return [name, COLLECTIONS[name].version, ...parts];
}

/**
 * The collection a key belongs to; older versions are there to be migrated.
 *
 * @throws {AppError} `internal` for an unknown prefix or version
 */
export function collectionOf(key: Deno.KvKey): Collection {
  const name = key[0];
  const found: Collection | undefined =
    typeof name === "string" && Object.hasOwn(COLLECTIONS, name)
      ? COLLECTIONS[name as CollectionName]
      : undefined;
  const version = key[1];
  if (
    found === undefined || typeof version !== "number" ||
    version < 1 || version > found.version
  ) {
    throw new AppError(
      "internal",
      `Cannot use key ${showKey(key)}: its prefix is not in COLLECTIONS`,
    );
  }
  return found;
}

/** A key as text: its identity in maps, and the associated data of its seal. */
export function keyText(key: Deno.KvKey): string {
  return JSON.stringify(key);
}

/** A key for messages and logs, cut short. */
export function showKey(key: Deno.KvKey): string {
  const text = keyText(key);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

const encoder = new TextEncoder();

/**
 * Bytes the engine needs for a key.
 *
 * @throws {AppError} `internal` for a part that is neither text nor a finite
 * number, `too_large` for a key over {@linkcode KEY_BYTES_MAX}
 */
export function checkKey(key: Deno.KvKey): number {
  let bytes = 0;
  for (const part of key) {
    if (typeof part === "string") {
      bytes += 2 + encoder.encode(part).length + part.split("\0").length - 1;
    } else if (typeof part === "number" && Number.isFinite(part)) bytes += 9;
    else {
      throw new AppError(
        "internal",
        `Cannot use key ${showKey(key)}: a part is neither text nor a number`,
      );
    }
  }
  if (bytes > KEY_BYTES_MAX) {
    throw new AppError(
      "too_large",
      `Cannot use key ${
        showKey(key)
      }: it takes more than ${KEY_BYTES_MAX} bytes`,
    );
  }
  return bytes;
}

/** Hex of SHA-256, at once. For hot paths and key parts. */
export function sha256HexSync(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
