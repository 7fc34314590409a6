/**
 * The store's slice of the configuration.
 *
 * @module
 */
import { z } from "zod";

export const StoreConfig = z.strictObject({
  transientHours: z.int().min(1).max(720).default(24).describe(
    "How long a session without a name is kept, in hours",
  ),
}).prefault({});
export type StoreConfig = z.infer<typeof StoreConfig>;
