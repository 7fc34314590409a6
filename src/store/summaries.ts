/**
 * What stands for the oldest messages of a session when it is shown to a model:
 * one row each time it was compacted. The messages themselves stay.
 *
 * Never: a summary without the label of all it was made from.
 *
 * @module
 */
import { z } from "zod";
import { idSchema } from "../core/ids.ts";
import { Label } from "../core/label.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** The longest text of a summary, in characters. */
export const SUMMARY_CHARS_MAX = 48_000;

/** One compaction's outcome. */
export const Summary = z.strictObject({
  sessionId: idSchema("ses"),
  /** It stands for every message up to this one. */
  throughSeq: z.int().positive(),
  at: z.int(),
  /** Who wrote it: a model, or the program when no model could. */
  by: z.enum(["model", "extract"]),
  model: z.string().max(256).optional(),
  text: z.string().max(SUMMARY_CHARS_MAX),
  /** The join of the labels of all it stands for. */
  label: Label,
  /** How many messages it stands for in all. */
  messages: z.int().positive(),
  /** What of them its writer was not shown. */
  dropped: z.string().max(2000).optional(),
});
export type Summary = z.infer<typeof Summary>;

/** The `session_summary` collection. */
export class Summaries {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  /** The newest summary that reaches no further than a `seq`. */
  async latest(
    sessionId: string,
    throughSeq: number,
  ): Promise<Summary | undefined> {
    const stretch = {
      prefix: makeKey("session_summary", sessionId),
      end: makeKey("session_summary", sessionId, throughSeq + 1),
      reverse: true,
      limit: 1,
    };
    for await (const { value } of this.#values.list(stretch, Summary)) {
      return value;
    }
    return undefined;
  }

  /** The row that stores a summary. */
  row(summary: Summary): Row {
    const value = Summary.parse(summary);
    const { sessionId, throughSeq } = value;
    return { key: makeKey("session_summary", sessionId, throughSeq), value };
  }
}
