/**
 * Long texts kept apart from the conversation that holds a handle to them. A
 * blob is named by its own hash, and says which session it belongs to and how
 * it is labelled.
 *
 * Never: a blob is read through another session than its own.
 *
 * @module
 */
import { z } from "zod";
import { SessionKey } from "../core/ids.ts";
import { Label } from "../core/label.ts";
import type { Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

/** Bytes of one blob. */
export const BLOB_BYTES_MAX = 16_777_216;
/** Characters of one piece: a page reads one or two. */
const PIECE_CHARS = 16_384;

const Head = z.strictObject({
  chars: z.int().nonnegative(),
  pieces: z.int().positive(),
  bytes: z.int().nonnegative(),
  sessionKey: SessionKey,
  tool: z.string().max(256),
  label: Label,
  createdAt: z.int(),
});

/** What is known of a blob without its text. */
export type BlobHead = z.infer<typeof Head> & { id: string };

const Listed = z.strictObject({ pieces: z.int().positive() });

/** The `blob` collection. */
export class Blobs {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  /**
   * The rows of a text, to be committed in order (one list is one unit), and
   * its id. The head comes last, so a half-stored blob is not there.
   */
  units(
    text: string,
    about: Pick<
      BlobHead,
      "sessionKey" | "tool" | "label" | "createdAt"
    >,
    options: { expireInMs: number },
  ): { id: string; units: Row[][] } {
    // The session is part of the name: equal texts of two are two blobs.
    const id = sha256HexSync(`${about.sessionKey}\n${text}`);
    const { expireInMs } = options;
    const units: Row[][] = [];
    let pieces = 0;
    const unit: Row[] = [];
    for (let at = 0; at < text.length || pieces === 0; at += PIECE_CHARS) {
      const key = makeKey("blob", id, pieces++);
      // A lone half of a character pair would not survive UTF-8; JSON escapes it.
      unit.push({ key, value: text.slice(at, at + PIECE_CHARS), expireInMs });
      if (unit.length === 8) units.push(unit.splice(0));
    }
    const bytes = new TextEncoder().encode(text).byteLength;
    const head = Head.parse({ ...about, chars: text.length, pieces, bytes });
    unit.push(
      {
        key: makeKey("blob_by_session", about.sessionKey, id),
        value: { pieces },
        expireInMs,
      },
      { key: makeKey("blob", id, -1), value: head, expireInMs },
    );
    units.push(unit);
    return { id, units };
  }

  /** A blob's head, if it is this session's. */
  async find(id: string, sessionKey: string): Promise<BlobHead | undefined> {
    const head = await this.#values.find(makeKey("blob", id, -1), Head);
    return head?.sessionKey === sessionKey ? { ...head, id } : undefined;
  }

  /** Every key of a session's blobs, for its purge. */
  async *keysOf(sessionKey: string): AsyncGenerator<Deno.KvKey> {
    const prefix = makeKey("blob_by_session", sessionKey);
    for await (const { key, value } of this.#values.list({ prefix }, Listed)) {
      const id = String(key[3]);
      for (let n = -1; n < value.pieces; n++) yield makeKey("blob", id, n);
      yield key;
    }
  }

  /** Characters `from` up to `from + count` of a blob. */
  async read(
    head: BlobHead,
    options: { from: number; count: number },
  ): Promise<string> {
    const from = Math.min(Math.max(options.from, 0), head.chars);
    const end = Math.min(from + options.count, head.chars);
    let text = "";
    for (
      let n = Math.floor(from / PIECE_CHARS);
      n * PIECE_CHARS < end && n < head.pieces;
      n++
    ) {
      const key = makeKey("blob", head.id, n);
      const piece = await this.#values.find(key, z.string());
      if (piece === undefined) break;
      text += piece.slice(
        Math.max(0, from - n * PIECE_CHARS),
        Math.max(0, end - n * PIECE_CHARS),
      );
    }
    return text;
  }
}
