/**
 * What agents remember, with a search index beside it: one index a space, built
 * from the store when it is first needed and kept up to date from then on.
 *
 * Never: a memory at a higher integrity than the text it was made from; text
 * from untrusted sources among the pinned ones, which every prompt holds.
 *
 * @module
 */
import type MiniSearch from "minisearch";
import { AppError } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import { join, type Label, label } from "../core/label.ts";
import type { TextPart } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { Journal } from "../store/journal.ts";
import type { Memories, Memory } from "../store/memory.ts";

/** Bounds of what is remembered. */
export const MEMORY_LIMITS = {
  /** Memories in one space; more must be forgotten first. */
  spaceMax: 5_000,
  /** Indexes held at once; the one used longest ago goes. */
  indexesMax: 16,
  /** Memories of one space that are in every prompt. */
  pinnedMax: 16,
  /** Their characters together. */
  pinnedCharsMax: 4_000,
  /** Hits of one search. */
  resultsMax: 50,
} as const;

/** What is to be remembered. */
export interface Remembered {
  text: string;
  tags: readonly string[];
  pinned: boolean;
  /** Whose words the text is made from. */
  label: Label;
  /** Whose private data it becomes. */
  principal: string;
  /** Replaces this one. */
  id?: string;
}

interface Space {
  index: MiniSearch<Memory>;
  rows: Map<string, Memory>;
}

/** Languages that put no blanks between words are searched by pairs. */
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]+/gu;

/** A text's words as they are compared. */
export function searchWords(text: string): string[] {
  const plain = text.normalize("NFKD").replaceAll(/\p{M}/gu, "").toLowerCase();
  const words = plain.split(/[^\p{L}\p{N}_]+/u).filter((word) => word !== "");
  for (const [run] of plain.matchAll(UNSPACED)) {
    const letters = [...run];
    for (let n = 0; n + 1 < letters.length; n++) {
      words.push(`${letters[n]}${letters[n + 1]}`);
    }
  }
  return words;
}

/** The memories of all spaces. */
export class MemoryBook {
  readonly #rows: Memories;
  readonly #journal: Journal;
  readonly #clock: Clock;
  /** By use: the last is the newest. */
  readonly #spaces = new Map<string, Promise<Space>>();

  constructor(
    deps: { rows: Memories; journal: Journal; clock: Clock },
  ) {
    this.#rows = deps.rows;
    this.#journal = deps.journal;
    this.#clock = deps.clock;
  }

  /**
   * Stores a memory.
   *
   * @throws {AppError} `too_large` (the space or the pinned ones are full),
   * `forbidden` (pinning untrusted text), `not_found` (nothing to replace)
   */
  async write(space: string, wanted: Remembered): Promise<Memory> {
    const { rows, index } = await this.#open(space);
    const before = wanted.id === undefined ? undefined : rows.get(wanted.id);
    if (wanted.id !== undefined && before === undefined) {
      throw missing(wanted.id);
    }
    if (before === undefined && rows.size >= MEMORY_LIMITS.spaceMax) {
      throw new AppError(
        "too_large",
        `Cannot remember more than ${MEMORY_LIMITS.spaceMax} things here`,
        { hint: "Forget some: carapace memory list" },
      );
    }
    if (wanted.pinned) checkPin(wanted, [...rows.values()]);
    const at = this.#clock.now();
    const id = before?.id ?? makeId("mem", at);
    const own: Label = label("owner", [wanted.principal]);
    const memory: Memory = {
      id,
      space,
      text: wanted.text,
      tags: [...wanted.tags],
      pinned: wanted.pinned,
      label: join(wanted.label, own),
      createdAt: before?.createdAt ?? at,
      updatedAt: at,
    };
    await this.#journal.commit(this.#rows.rows(memory));
    rows.set(id, memory);
    if (index.has(id)) index.replace(memory);
    else index.add(memory);
    return memory;
  }

  async find(space: string, id: string): Promise<Memory | undefined> {
    return (await this.#open(space)).rows.get(id);
  }

  /** Newest first. */
  async list(
    space: string,
    query: {
      limit: number;
      offset?: number;
      tag?: string;
      isWanted?: (memory: Memory) => boolean;
    },
  ): Promise<{ memories: Memory[]; count: number }> {
    const { rows } = await this.#open(space);
    const { limit, offset = 0, tag, isWanted = () => true } = query;
    const all = [...rows.values()].filter((memory) =>
      (tag === undefined || memory.tags.includes(tag)) && isWanted(memory)
    ).sort((a, b) => b.updatedAt - a.updatedAt || (a.id < b.id ? 1 : -1));
    return { memories: all.slice(offset, offset + limit), count: all.length };
  }

  /** Best first (BM25 over text and tags). */
  async search(
    space: string,
    query: {
      text: string;
      limit: number;
      isWanted?: (memory: Memory) => boolean;
    },
  ): Promise<Memory[]> {
    const { rows, index } = await this.#open(space);
    const { isWanted = () => true } = query;
    const found: Memory[] = [];
    for (const { id } of index.search(query.text)) {
      const memory = rows.get(id);
      if (memory !== undefined && isWanted(memory)) found.push(memory);
      if (found.length >= query.limit) break;
    }
    return found;
  }

  /** Forgets one. @throws {AppError} `not_found` */
  async forget(space: string, id: string): Promise<void> {
    const { rows, index } = await this.#open(space);
    if (!rows.has(id)) throw missing(id);
    await this.#journal.commit(this.#rows.deletion(space, id));
    rows.delete(id);
    index.discard(id);
  }

  /** Forgets a whole space. How many there were. */
  async forgetAll(space: string): Promise<number> {
    const count = await this.#rows.purge(space);
    this.#spaces.delete(space);
    return count;
  }

  /** Every space that holds something. */
  spaces(): Promise<string[]> {
    return this.#rows.spaces();
  }

  /** A space's memories, oldest first, straight from the store. */
  all(space: string): AsyncGenerator<Memory, void, undefined> {
    return this.#rows.all(space);
  }

  /** What every prompt of this space holds, each part with its own label. */
  async pinned(space: string): Promise<TextPart[]> {
    const { rows } = await this.#open(space);
    return [...rows.values()].filter((memory) => memory.pinned)
      .sort((a, b) => a.createdAt - b.createdAt)
      .map((memory) => ({
        kind: "text",
        text: memory.text,
        label: recalled(memory),
      }));
  }

  async #open(space: string): Promise<Space> {
    const opening = this.#spaces.get(space) ?? this.#read(space);
    // Put back last: the first of the map is the one used longest ago.
    this.#spaces.delete(space);
    this.#spaces.set(space, opening);
    if (this.#spaces.size > MEMORY_LIMITS.indexesMax) {
      const oldest = this.#spaces.keys().next().value;
      if (oldest !== undefined) this.#spaces.delete(oldest);
    }
    try {
      return await opening;
    } catch (error) {
      if (this.#spaces.get(space) === opening) this.#spaces.delete(space);
      throw error;
    }
  }

  async #read(space: string): Promise<Space> {
    const { default: Index } = await import("minisearch");
    const index = new Index<Memory>({
      fields: ["text", "tags"],
      tokenize: searchWords,
      processTerm: (term) => term,
      extractField: (memory, field) =>
        field === "tags"
          ? memory.tags.join(" ")
          : String(memory[field as keyof Memory]),
      searchOptions: {
        prefix: (term) => term.length > 2,
        fuzzy: (term) => (term.length > 5 ? 0.2 : false),
        boost: { tags: 1.5 },
      },
    });
    const rows = new Map<string, Memory>();
    for await (const memory of this.#rows.all(space)) {
      if (rows.size >= MEMORY_LIMITS.spaceMax) break;
      rows.set(memory.id, memory);
    }
    index.addAll([...rows.values()]);
    return { index, rows };
  }
}

/** The label a memory's text has when it is read again. */
export function recalled(memory: Memory): Label {
  return join(memory.label, {
    integrity: "owner",
    secrecy: [],
    origins: [{ kind: "memory", ref: memory.id, at: memory.createdAt }],
  });
}

function missing(id: string): AppError {
  return new AppError("not_found", `There is no memory "${id}"`, {
    hint: "The list of memories shows what there is, and in which space",
  });
}

function checkPin(wanted: Remembered, all: readonly Memory[]): void {
  if (wanted.label.integrity === "untrusted") {
    throw new AppError(
      "forbidden",
      "Cannot pin this: it was made from text the owner did not write",
      { hint: "Store it without pinning, or let the owner say it" },
    );
  }
  const others = all.filter((memory) =>
    memory.pinned && memory.id !== wanted.id
  );
  const chars = others.reduce((sum, memory) => sum + memory.text.length, 0);
  const { pinnedMax, pinnedCharsMax } = MEMORY_LIMITS;
  if (
    others.length >= pinnedMax || chars + wanted.text.length > pinnedCharsMax
  ) {
    throw new AppError(
      "too_large",
      `Cannot pin this: at most ${pinnedMax} memories and ${pinnedCharsMax} characters are pinned`,
      { hint: "Unpin or forget another first" },
    );
  }
}
