/**
 * What agents remember, one row each, by space: an agent's own, or a peer's
 * with that agent. Every row keeps the label of what it was made from.
 *
 * Never: a memory is stored without its label; one space is read by another's
 * name.
 *
 * @module
 */
import { z } from "zod";
import { AgentId, idSchema } from "../core/ids.ts";
import { Label } from "../core/label.ts";
import type { KvJournal, Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** Characters of one memory. */
export const MEMORY_CHARS_MAX = 8_192;

/**
 * Whose memory: `main` is the agent's (the owner's), `main~peer:…` what a peer
 * told that agent. An agent's id holds no `~`, so no two meet.
 */
export const MemorySpace = z.string().min(1).max(400);

/** The space of a principal with an agent. */
export function memorySpace(
  agentId: string,
  who: { kind: string; principal: string },
): string {
  const agent = AgentId.parse(agentId);
  return who.kind === "owner" ? agent : `${agent}~${who.principal}`;
}

/** One memory. */
export const Memory = z.strictObject({
  id: idSchema("mem"),
  space: MemorySpace,
  text: z.string().min(1).max(MEMORY_CHARS_MAX),
  tags: z.array(z.string().min(1).max(64)).max(16),
  /** Shown to the model in every turn. */
  pinned: z.boolean(),
  label: Label,
  createdAt: z.int(),
  updatedAt: z.int(),
});
export type Memory = z.infer<typeof Memory>;

const DELETES_A_UNIT = 400;

/** The `memory` collection. */
export class Memories {
  readonly #values: Values;
  readonly #journal: KvJournal;

  constructor(values: Values, journal: KvJournal) {
    this.#values = values;
    this.#journal = journal;
  }

  async find(space: string, id: string): Promise<Memory | undefined> {
    return await this.#values.find(makeKey("memory", space, id), Memory);
  }

  /** A space's memories, oldest first. */
  async *all(space: string): AsyncGenerator<Memory, void, undefined> {
    const prefix = makeKey("memory", space);
    for await (const { value } of this.#values.list({ prefix }, Memory)) {
      yield value;
    }
  }

  /** Every space there is. */
  async spaces(): Promise<string[]> {
    const found = new Set<string>();
    for await (const key of this.#values.keys(makeKey("memory"))) {
      found.add(String(key[2]));
    }
    return [...found];
  }

  /** The row that stores a memory. */
  rows(next: Memory): Row[] {
    const value = Memory.parse(next);
    return [{ key: makeKey("memory", value.space, value.id), value }];
  }

  /** The row that deletes one. */
  deletion(space: string, id: string): Row[] {
    return [{ key: makeKey("memory", space, id), value: undefined }];
  }

  /** Deletes a whole space, rows that cannot be read too. How many went. */
  async purge(space: string): Promise<number> {
    let rows: Row[] = [];
    let count = 0;
    for await (const key of this.#values.keys(makeKey("memory", space))) {
      rows.push({ key, value: undefined });
      count++;
      if (rows.length < DELETES_A_UNIT) continue;
      await this.#journal.commit(rows);
      rows = [];
    }
    await this.#journal.commit(rows);
    return count;
  }
}
