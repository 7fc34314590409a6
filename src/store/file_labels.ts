/**
 * What the gateway wrote into files: the hash of what it left and the label of
 * what it was made from. A file that still has that hash still has that label.
 *
 * @module
 */
import { z } from "zod";
import { Label } from "../core/label.ts";
import type { Row } from "./journal.ts";
import { makeKey, sha256HexSync } from "./keys.ts";
import type { Values } from "./values.ts";

/** One written file. */
export const FileLabel = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  label: Label,
  at: z.int(),
  /** Where, for people; the key holds a hash when a path is long. */
  path: z.string().max(4096),
});
export type FileLabel = z.infer<typeof FileLabel>;

/** A path of any length as a part of a key. */
function keyPart(text: string): string {
  return text.length <= 400 ? text : `sha256:${sha256HexSync(text)}`;
}

/** The `file_label` collection. */
export class FileLabels {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(root: string, path: string): Promise<FileLabel | undefined> {
    return await this.#values.find(this.#key(root, path), FileLabel);
  }

  /** The row that says what a file now is; `undefined` forgets it. */
  rows(root: string, path: string, next: FileLabel | undefined): Row[] {
    const value = next === undefined ? undefined : FileLabel.parse(next);
    return [{ key: this.#key(root, path), value }];
  }

  #key(root: string, path: string): Deno.KvKey {
    return makeKey("file_label", keyPart(root), keyPart(path));
  }
}
