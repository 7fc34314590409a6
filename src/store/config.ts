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
  archivedDays: z.int().min(1).max(36_500).default(90).describe(
    "How long a session that was put away is kept, in days",
  ),
  sessionDays: z.int().min(1).max(36_500).optional().describe(
    "How long a session nobody uses is kept, in days; without it, for ever",
  ),
}).prefault({});
export type StoreConfig = z.infer<typeof StoreConfig>;
