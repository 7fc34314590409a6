/**
 * Plugins: one row each, their bytes under their own hash, what they keep, what
 * was taken from the network for them and what was sent, and when they asked to
 * be called.
 *
 * Never: bytes are read without being hashed again; a plugin's rows are read
 * under another's id.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { join, Label } from "../core/label.ts";
import { PluginId } from "../core/plugin.ts";
import type { KvJournal, Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

/** Bytes of one module. */
export const PLUGIN_BYTES_MAX = 16_777_216;
/** Bytes of one piece: with base64 and JSON it stays below the engine's limit. */
const PIECE_BYTES = 43_008;
const PIECES_A_UNIT = 8;
const DELETES_A_UNIT = 400;
/** Characters of a key and of a value that a plugin keeps. */
export const PLUGIN_KEY_CHARS_MAX = 256;
export const PLUGIN_VALUE_CHARS_MAX = 65_536;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** One installed plugin. */
export const PluginRow = z.strictObject({
  id: PluginId,
  version: z.string().max(64),
  /** The manifest as its publisher wrote it; what the signature is over. */
  manifest: z.json(),
  manifestSha256: Sha256,
  /** The module. */
  sha256: Sha256,
  bytes: z.int().positive(),
  /** Where it came from: a path or a URL; shown, never followed. */
  source: z.string().max(1024),
  /** The key that signed it; absent when nobody did. */
  signedBy: z.string().max(64).optional(),
  /** The owner took it without a signature that is trusted. */
  allowUnsigned: z.boolean(),
  installedAt: z.int(),
  installedBy: z.string().max(256),
  /** It trapped too often; the owner's word starts it again. */
  stopped: z.strictObject({ at: z.int(), why: z.string().max(512) }).optional(),
});
export type PluginRow = z.infer<typeof PluginRow>;

const BlobHead = z.strictObject({
  bytes: z.int().positive(),
  pieces: z.int().positive(),
});
/** What a plugin was shown, and so what may be in all it does and keeps. */
export const PluginMark = z.strictObject({
  /** All of it. */
  label: Label,
  /**
   * Whose private data may not go to its own network: without the messages it
   * was handed to carry there, which were decided before.
   */
  withheld: z.array(z.string().max(128)).max(64).readonly(),
});
export type PluginMark = z.infer<typeof PluginMark>;

/** Of a row of a time before rows had labels: the owner's, in anybody's words. */
const UNMARKED: PluginMark = {
  label: { integrity: "untrusted", secrecy: ["owner"], origins: [] },
  withheld: ["owner"],
};

/** What was shown both. */
export function joinMarks(a: PluginMark, b: PluginMark): PluginMark {
  return {
    label: join(a.label, b.label),
    withheld: [...new Set([...a.withheld, ...b.withheld])].sort(),
  };
}

const Kept = z.strictObject({
  /** Null for a row that was deleted by who was shown something private. */
  value: z.string().max(PLUGIN_VALUE_CHARS_MAX).nullable(),
  mark: PluginMark.default(UNMARKED),
});

/** A row a plugin keeps, without its value. */
export interface KeptRow {
  key: string;
  bytes: number;
  mark: PluginMark;
  /** It was deleted; that it was is as private as its mark says. */
  isGone: boolean;
}

/** One call a plugin asked for. */
export const PluginTimer = z.strictObject({
  id: PluginId,
  name: z.string().max(64),
  due: z.int(),
  payload: z.string().max(16_384),
  /** What the plugin had been shown when it asked. */
  mark: PluginMark.default(UNMARKED),
});
export type PluginTimer = z.infer<typeof PluginTimer>;

const Seen = z.strictObject({ at: z.int() });

/** How long an event that was taken is remembered. */
const SEEN_MS = 30 * 86_400_000;

/** The collections of plugins. */
export class Plugins {
  readonly #values: Values;
  readonly #journal: KvJournal;

  constructor(values: Values, journal: KvJournal) {
    this.#values = values;
    this.#journal = journal;
  }

  // --- rows ---------------------------------------------------------------

  async find(id: string): Promise<PluginRow | undefined> {
    return await this.#values.find(makeKey("plugin", id), PluginRow);
  }

  /** Every plugin, by id. */
  async list(): Promise<PluginRow[]> {
    const rows: PluginRow[] = [];
    const prefix = makeKey("plugin");
    for await (const { value } of this.#values.list({ prefix }, PluginRow)) {
      rows.push(value);
    }
    return rows;
  }

  row(plugin: PluginRow): Row {
    const value = PluginRow.parse(plugin);
    return { key: makeKey("plugin", value.id), value };
  }

  deletion(id: string): Row {
    return { key: makeKey("plugin", id), value: undefined };
  }

  /** Deletes everything a plugin kept, asked for and took. */
  async forget(id: string): Promise<void> {
    const names = [
      "plugin_kv",
      "plugin_timer",
      "plugin_seen",
    ] as const;
    for (const name of names) {
      let rows: Row[] = [];
      for await (const key of this.#values.keys(makeKey(name, id))) {
        rows.push({ key, value: undefined });
        if (rows.length === DELETES_A_UNIT) {
          await this.#journal.commit(rows);
          rows = [];
        }
      }
      if (rows.length > 0) await this.#journal.commit(rows);
    }
  }

  // --- modules ------------------------------------------------------------

  /** Stores a module under its hash. The head comes last. */
  async putModule(bytes: Uint8Array, sha256: string): Promise<void> {
    if (sha256HexSync(bytes) !== sha256) throw notThese(sha256);
    const head = makeKey("plugin_blob", sha256, -1);
    if (await this.#values.find(head, BlobHead) !== undefined) return;
    let pieces = 0;
    let unit: Row[] = [];
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const value = bytes.subarray(at, at + PIECE_BYTES).toBase64();
      unit.push({ key: makeKey("plugin_blob", sha256, pieces++), value });
      if (unit.length === PIECES_A_UNIT) {
        await this.#journal.commit(unit);
        unit = [];
      }
    }
    const value = BlobHead.parse({ bytes: bytes.length, pieces });
    await this.#journal.commit([...unit, { key: head, value }]);
  }

  /**
   * A module, hashed again.
   *
   * @throws {AppError} `not_found`, or `internal` when its bytes were changed
   */
  async module(sha256: string): Promise<Uint8Array<ArrayBuffer>> {
    const key = makeKey("plugin_blob", sha256, -1);
    const head = await this.#values.find(key, BlobHead);
    if (head === undefined) {
      throw new AppError("not_found", `There is no module ${sha256}`, {
        hint: "Install the plugin again",
      });
    }
    const bytes = new Uint8Array(head.bytes);
    let offset = 0;
    for (let n = 0; n < head.pieces; n++) {
      const piece = await this.#values.find(
        makeKey("plugin_blob", sha256, n),
        z.base64(),
      );
      const part = Uint8Array.fromBase64(piece ?? "");
      if (offset + part.length > bytes.length) throw notThese(sha256);
      bytes.set(part, offset);
      offset += part.length;
    }
    const digest = new Uint8Array(
      await crypto.subtle.digest("SHA-256", bytes),
    ).toHex();
    if (offset !== bytes.length || digest !== sha256) throw notThese(sha256);
    return bytes;
  }

  /** Deletes a module's bytes. */
  async dropModule(sha256: string): Promise<void> {
    let rows: Row[] = [];
    for await (const key of this.#values.keys(makeKey("plugin_blob", sha256))) {
      rows.push({ key, value: undefined });
      if (rows.length === DELETES_A_UNIT) {
        await this.#journal.commit(rows);
        rows = [];
      }
    }
    if (rows.length > 0) await this.#journal.commit(rows);
  }

  // --- what a plugin keeps ------------------------------------------------

  async get(id: string, key: string): Promise<string | undefined> {
    return (await this.read(id, key))?.value ?? undefined;
  }

  /** A value, null for a deleted one, and what was in force when it was kept. */
  async read(
    id: string,
    key: string,
  ): Promise<{ value: string | null; mark: PluginMark } | undefined> {
    return await this.#values.find(makeKey("plugin_kv", id, key), Kept);
  }

  /**
   * The row that keeps a value, or forgets it. What was deleted by who was shown
   * something private leaves a row: a key that is missing says something too.
   */
  keptRow(
    id: string,
    key: string,
    kept: { value: string | undefined; mark: PluginMark },
  ): Row {
    const { value = null, mark } = kept;
    const isNothing = value === null && mark.label.secrecy.length === 0;
    return {
      key: makeKey("plugin_kv", id, key),
      value: isNothing ? undefined : Kept.parse({ value, mark }),
    };
  }

  /** Rows and the bytes of their values, in order; deleted ones count for no limit. */
  async kept(
    id: string,
    options: { prefix?: string; limit: number },
  ): Promise<KeptRow[]> {
    const all: KeptRow[] = [];
    let left = options.limit;
    const prefix = makeKey("plugin_kv", id);
    for await (const { key, value } of this.#values.list({ prefix }, Kept)) {
      const name = String(key[3]);
      if (!name.startsWith(options.prefix ?? "")) continue;
      if (left <= 0) break;
      const isGone = value.value === null;
      if (!isGone) left--;
      all.push({
        key: name,
        bytes: new TextEncoder().encode(value.value ?? "").length,
        mark: value.mark,
        isGone,
      });
    }
    return all;
  }

  // --- events, timers ------------------------------------------------------

  /** The row that takes an event; a unit with a second one is a `conflict`. */
  seenRow(id: string, webhook: string, hash: string, at: number): Row {
    return {
      key: makeKey("plugin_seen", id, webhook, hash),
      value: Seen.parse({ at }),
      absent: true,
      expireInMs: SEEN_MS,
    };
  }

  /** The row that lets an event be taken again: its taking failed. */
  unseenRow(id: string, webhook: string, hash: string): Row {
    return { key: makeKey("plugin_seen", id, webhook, hash), value: undefined };
  }

  timerRow(timer: PluginTimer): Row {
    const value = PluginTimer.parse(timer);
    return {
      key: makeKey("plugin_timer", value.id, value.due, value.name),
      value,
    };
  }

  timerDeletion({ id, due, name }: PluginTimer): Row {
    return { key: makeKey("plugin_timer", id, due, name), value: undefined };
  }

  /** A plugin's timers, the next one first. */
  async timers(id: string): Promise<PluginTimer[]> {
    const all: PluginTimer[] = [];
    const prefix = makeKey("plugin_timer", id);
    for await (const { value } of this.#values.list({ prefix }, PluginTimer)) {
      all.push(value);
    }
    return all;
  }
}

function notThese(sha256: string): AppError {
  return new AppError(
    "internal",
    `Cannot use module ${sha256}: its bytes are not those of its hash`,
    { hint: "Install the plugin again" },
  );
}
