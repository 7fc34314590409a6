/**
 * The number of the store's shape, and the steps from each to the next.
 *
 * Never: a store of a newer shape is opened; a step is changed once released.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { Journal } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** What every store says of itself. */
export const Schema = z.strictObject({
  number: z.int().positive(),
  /** Names this store's audit chain. */
  instance: z.string().regex(/^ins_[0-9a-z]{10,40}$/),
  createdAt: z.int(),
});
export type Schema = z.infer<typeof Schema>;

/** One step. It may be cut short and run again, so it must not mind. */
export interface Migration {
  /** The shape's number afterwards; the first is 2. */
  number: number;
  about: string;
  run(store: { values: Values; journal: Journal }): Promise<void>;
}

/** Every released step, in order. A new one is added at the end, with a test. */
export const MIGRATIONS: readonly Migration[] = [];

/** Brings a store to the newest shape, or makes a new one. */
export async function migrate(
  store: { values: Values; journal: Journal },
  options: { migrations: readonly Migration[]; clock: Clock; log: Log },
): Promise<Schema> {
  const { migrations, clock, log } = options;
  const newest = migrations.at(-1)?.number ?? 1;
  const key = makeKey("schema");
  const found = await store.values.find(key, Schema);
  if (found === undefined) {
    const now = clock.now();
    const fresh = {
      number: newest,
      instance: makeId("ins", now),
      createdAt: now,
    };
    await store.journal.commit([{ key, value: fresh, absent: true }]);
    return fresh;
  }
  if (found.number > newest) {
    throw new AppError(
      "conflict",
      `Cannot open the store: its shape is number ${found.number} and this program knows up to ${newest}`,
      { hint: "Run the version of Carapace that wrote it, or a newer one" },
    );
  }
  let schema = found;
  for (const step of migrations) {
    if (step.number <= schema.number) continue;
    log("info", "store.migrate", { number: step.number, about: step.about });
    await step.run(store);
    schema = { ...schema, number: step.number };
    await store.journal.commit([{ key, value: schema }]);
  }
  return schema;
}
