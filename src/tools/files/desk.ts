/**
 * Files with their labels: who wrote what is in them, as far as the gateway
 * knows, and the writes that keep that knowledge true.
 *
 * Never: a file that was written from untrusted text is read as the owner's
 * words, also after a crash in the middle of its write.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import { sha256Hex } from "../../core/ids.ts";
import { join, type Label, label } from "../../core/label.ts";
import type { Clock } from "../../core/time.ts";
import {
  type FileLabel,
  type FileLabels,
  FOLDER_SHA256,
} from "../../store/file_labels.ts";
import type { Journal, Row } from "../../store/journal.ts";
import { type Place, type Read, type Root, Roots } from "./root_path.ts";

/** Bounds of the file tools. */
export const FILE_LIMITS = {
  /** Bytes of a file that is read whole; a larger one is read in parts. */
  readBytesMax: 20_971_520,
  /** Bytes of one write; more are refused. */
  writeBytesMax: 1_048_576,
  /** Larger old contents are not kept for an undo. */
  undoBytesMax: 1_048_576,
  /** Entries of one list; the answer says when there are more. */
  listMax: 500,
  /** Levels of folders below the one that is listed or searched. */
  depthMax: 6,
  /** Files one search reads. */
  searchFilesMax: 2_000,
  /** Bytes of a file that a search reads. */
  searchBytesMax: 1_048_576,
  /** Hits of one search. */
  matchesMax: 50,
} as const;

/** What file tools are made of. */
export interface FileDeps {
  /** The configured folders, read anew at every call. */
  roots(): readonly Root[];
  /** An agent's scratch folder; made when first written to. */
  scratch(agentId: string): string;
  labels: FileLabels;
  journal: Journal;
  clock: Clock;
}

/** The owner's files are the owner's secrets. */
const OWNERS = ["owner"];

/** All acts on labelled files. */
export class FileDesk {
  readonly #deps: FileDeps;
  readonly #tails = new Map<string, Promise<unknown>>();

  constructor(deps: FileDeps) {
    this.#deps = deps;
  }

  /** The roots as they are now, for one agent. */
  roots(agentId: string): Roots {
    const scratch = this.#deps.scratch(agentId);
    return new Roots(this.#deps.roots(), { path: scratch, trusted: false });
  }

  /** What a path's own name says: whoever wrote the file chose it. */
  async nameLabel(place: Place): Promise<Label> {
    const row = await this.#row(place);
    return this.#rootLabel(place, row?.label);
  }

  /** The label of a file with these bytes. */
  async labelOf(place: Place, bytes: Uint8Array<ArrayBuffer>): Promise<Label> {
    const row = await this.#row(place);
    const sha256 = await sha256Hex(bytes);
    if (row !== undefined && row.sha256 !== sha256) {
      // Somebody changed what the gateway had written.
      return join(
        this.#rootLabel(place, row.label),
        label("untrusted", OWNERS),
      );
    }
    const copied = await this.#deps.labels.findBytes(sha256);
    const known = row?.label ?? copied;
    const own = this.#rootLabel(place, known);
    return copied === undefined ? own : join(own, copied);
  }

  async read(
    place: Place,
    roots: Roots,
    options: { bytesMax?: number } = {},
  ): Promise<Read & { label: Label }> {
    const { bytesMax = FILE_LIMITS.readBytesMax } = options;
    const read = await roots.read(place, { bytesMax });
    if (read.isCut) {
      throw new AppError(
        "too_large",
        `Cannot read "${place.text}": it is larger than ${bytesMax} bytes`,
      );
    }
    return { ...read, label: await this.labelOf(place, read.bytes) };
  }

  /** Writes a whole file; its label is stored before it is there. */
  async write(
    place: Place,
    roots: Roots,
    options: { bytes: Uint8Array<ArrayBuffer>; label: Label; append?: boolean },
  ): Promise<{ bytes: number; isNew: boolean }> {
    return await this.#alone(place, async () => {
      const before = await this.#before(place, roots);
      let { bytes, label: own } = options;
      if (options.append === true && before !== undefined) {
        own = join(own, await this.labelOf(place, before));
        bytes = new Uint8Array([...before, ...bytes]);
      }
      if (bytes.length > FILE_LIMITS.writeBytesMax) {
        throw new AppError(
          "too_large",
          `Cannot write "${place.text}": more than ${FILE_LIMITS.writeBytesMax} bytes`,
        );
      }
      await this.#put(place, roots, { bytes, label: own, before });
      return { bytes: bytes.length, isNew: before === undefined };
    });
  }

  /**
   * Puts back what the last write replaced.
   *
   * @throws {AppError} `not_found` when nothing is kept, `conflict` when the
   * file was changed since
   */
  async undo(place: Place, roots: Roots): Promise<string> {
    const { labels, journal } = this.#deps;
    return await this.#alone(place, async () => {
      const { root, text } = place;
      const undo = await labels.findUndo(root.path, text);
      if (undo === undefined) {
        throw new AppError(
          "not_found",
          `There is no write to "${text}" to undo`,
        );
      }
      const { bytes } = await this.read(place, roots);
      if (await sha256Hex(bytes) !== undo.after) {
        throw new AppError(
          "conflict",
          `Cannot undo the write to "${text}": it was changed since`,
        );
      }
      if (undo.before === undefined) await roots.remove(place);
      else await roots.write(place, Uint8Array.fromBase64(undo.before));
      // After the old bytes are back: until then the newer label holds.
      await journal.commit([
        ...labels.rows(root.path, text, undo.label),
        ...labels.undoRows(root.path, text, undefined),
      ]);
      return undo.before === undefined ? "removed" : "restored";
    });
  }

  async #put(
    place: Place,
    roots: Roots,
    wanted: {
      bytes: Uint8Array<ArrayBuffer>;
      label: Label;
      before: Uint8Array<ArrayBuffer> | undefined;
    },
  ): Promise<void> {
    const { labels, journal, clock } = this.#deps;
    const { root, text } = place;
    const { bytes, before } = wanted;
    const at = clock.now();
    const old = await this.#row(place);
    const after = await sha256Hex(bytes);
    const copied = await labels.findBytes(after);
    const own = copied === undefined
      ? wanted.label
      : join(wanted.label, copied);
    const folders = await this.#missingFolders(place, roots);
    const keepsOld = (before?.length ?? 0) <= FILE_LIMITS.undoBytesMax;
    const rows: Row[] = [
      ...labels.rows(root.path, text, {
        sha256: after,
        label: own,
        at,
      }),
      ...folders.flatMap((folder) =>
        labels.rows(root.path, folder.text, {
          sha256: FOLDER_SHA256,
          label: own,
          at,
        })
      ),
      ...labels.undoRows(
        root.path,
        text,
        !keepsOld ? undefined : {
          after,
          at,
          ...(before === undefined ? {} : { before: before.toBase64() }),
          ...(old === undefined ? {} : { label: old }),
        },
      ),
    ];
    // First what it will be, then the file: a crash between leaves a file whose
    // hash does not fit, and that is untrusted.
    await journal.commit(rows);
    try {
      await roots.write(place, bytes);
    } catch (error) {
      await journal.commit([
        ...labels.rows(root.path, text, old),
        ...labels.undoRows(root.path, text, undefined),
      ]);
      throw error;
    }
  }

  async #before(
    place: Place,
    roots: Roots,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    await this.#makeScratch(place);
    if (await roots.stat(place) === undefined) return undefined;
    return (await this.read(place, roots)).bytes;
  }

  async #makeScratch({ root }: Place): Promise<void> {
    if (root.trusted || this.#deps.roots().some((r) => r.path === root.path)) {
      return;
    }
    await Deno.mkdir(root.path, { recursive: true, mode: 0o700 });
  }

  async #missingFolders(place: Place, roots: Roots): Promise<Place[]> {
    const missing: Place[] = [];
    let folder: Place = { root: place.root, parts: [], text: place.root.path };
    for (const part of place.parts.slice(0, -1)) {
      folder = roots.below(folder, part);
      if (await roots.stat(folder) === undefined) missing.push(folder);
    }
    return missing;
  }

  async #row(place: Place): Promise<FileLabel | undefined> {
    return await this.#deps.labels.find(place.root.path, place.text);
  }

  #rootLabel(place: Place, known: Label | undefined): Label {
    const at = this.#deps.clock.now();
    const own = label(
      known !== undefined || place.root.trusted ? "owner" : "untrusted",
      OWNERS,
      { kind: "file", ref: place.text.slice(-512), at },
    );
    return known === undefined ? own : join(own, known);
  }

  /** One write to a file at a time. */
  async #alone<T>(place: Place, act: () => Promise<T>): Promise<T> {
    const key = place.text.toLowerCase();
    const before = this.#tails.get(key) ?? Promise.resolve();
    const own = before.then(act, act);
    const tail = own.catch(() => {});
    this.#tails.set(key, tail);
    try {
      return await own;
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}
