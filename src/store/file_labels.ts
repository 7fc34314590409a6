/**
 * What the gateway wrote into files: the hash of what it left and the label of
 * what it was made from. A file that still has that hash still has that label,
 * wherever it was copied to. Beside it, what the last write replaced.
 *
 * @module
 */
import { z } from "zod";
import { Label } from "../core/label.ts";
import type { Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** One written file, or a folder made for one. */
export const FileLabel = z.strictObject({
  sha256: Sha256,
  label: Label,
  at: z.int(),
});
export type FileLabel = z.infer<typeof FileLabel>;

/** What the last write to a file replaced. */
export const FileUndo = z.strictObject({
  /** What the write left: an undo of anything else is refused. */
  after: Sha256,
  /** The old bytes, base64; absent when there was no file. */
  before: z.base64().optional(),
  label: FileLabel.optional(),
  at: z.int(),
});
export type FileUndo = z.infer<typeof FileUndo>;

/** An undo is kept this long. */
const UNDO_MS = 7 * 86_400_000;

/** The hash that stands for a folder. */
export const FOLDER_SHA256 = "0".repeat(64);

/** A path of any length, in one spelling whatever the disk's rules of case. */
function keyPart(text: string): string {
  const plain = text.normalize("NFC").toLowerCase();
  return plain.length <= 300 ? plain : `sha256:${sha256HexSync(plain)}`;
}

/** The `file_label` and `file_undo` collections. */
export class FileLabels {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(root: string, path: string): Promise<FileLabel | undefined> {
    return await this.#values.find(labelKey(root, path), FileLabel);
  }

  /** What was ever written with these bytes, anywhere. */
  async findBytes(sha256: string): Promise<Label | undefined> {
    return await this.#values.find(makeKey("file_bytes", sha256), Label);
  }

  /** The rows that say what a file now is; `undefined` forgets it. */
  rows(root: string, path: string, next: FileLabel | undefined): Row[] {
    const value = next === undefined ? undefined : FileLabel.parse(next);
    const row = { key: labelKey(root, path), value };
    // What the owner wrote through us is the owner's wherever it is found.
    return value === undefined || value.label.integrity === "owner" ||
        value.sha256 === FOLDER_SHA256
      ? [row]
      : [row, { key: makeKey("file_bytes", value.sha256), value: value.label }];
  }

  async findUndo(root: string, path: string): Promise<FileUndo | undefined> {
    return await this.#values.find(undoKey(root, path), FileUndo);
  }

  /** The row that keeps what a write replaces; `undefined` forgets it. */
  undoRows(root: string, path: string, undo: FileUndo | undefined): Row[] {
    const value = undo === undefined ? undefined : FileUndo.parse(undo);
    return [{ key: undoKey(root, path), value, expireInMs: UNDO_MS }];
  }
}

function labelKey(root: string, path: string): Deno.KvKey {
  return makeKey("file_label", keyPart(root), keyPart(path));
}

function undoKey(root: string, path: string): Deno.KvKey {
  return makeKey("file_undo", keyPart(root), keyPart(path));
}
