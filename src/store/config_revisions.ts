/**
 * The configurations that were accepted, newest last, so that one can be taken
 * back. Sealed: a file may hold what should not have been in it.
 *
 * @module
 */
import { z } from "zod";
import { idSchema } from "../core/ids.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** Kept at most; the oldest goes. */
export const CONFIG_REVISIONS_MAX = 50;

/** One accepted configuration: its main file's text. */
export const ConfigRevisionRow = z.strictObject({
  id: idSchema("rev"),
  at: z.int(),
  /** A principal, or `file`. */
  by: z.string().max(256),
  via: z.enum(["start", "file", "set", "patch", "apply", "undo"]),
  /** Of everything that was read, includes too. */
  hash: z.string().length(64),
  text: z.string(),
  note: z.string().max(256).optional(),
});
export type ConfigRevisionRow = z.infer<typeof ConfigRevisionRow>;

/** The `config_rev` collection. */
export class ConfigRevisions {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(id: string): Promise<ConfigRevisionRow | undefined> {
    return await this.#values.find(
      makeKey("config_rev", id),
      ConfigRevisionRow,
    );
  }

  /** Newest first. */
  async list(limit = CONFIG_REVISIONS_MAX): Promise<ConfigRevisionRow[]> {
    const rows: ConfigRevisionRow[] = [];
    const stretch = { prefix: makeKey("config_rev"), limit, reverse: true };
    for await (
      const { value } of this.#values.list(stretch, ConfigRevisionRow)
    ) rows.push(value);
    return rows;
  }

  /** The rows that store one; those past the limit go. */
  async rows(revision: ConfigRevisionRow): Promise<Row[]> {
    const value = ConfigRevisionRow.parse(revision);
    const kept = await this.list(CONFIG_REVISIONS_MAX + 1);
    const gone = kept.filter(({ id }) => id !== value.id)
      .slice(CONFIG_REVISIONS_MAX - 1);
    return [
      { key: makeKey("config_rev", value.id), value },
      ...gone.flatMap(({ id }) => this.deletion(id)),
    ];
  }

  /** The row that forgets one. */
  deletion(id: string): Row[] {
    return [{ key: makeKey("config_rev", id), value: undefined }];
  }
}
