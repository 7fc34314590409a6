/**
 * The operator's slice of the configuration: logs and readiness.
 *
 * @module
 */
import { z } from "zod";

export const LogConfig = z.strictObject({
  level: z.enum(["debug", "info", "warn", "error"]).default("info").describe(
    "The quietest level that is written",
  ),
  format: z.enum(["auto", "pretty", "json"]).default("auto").describe(
    "auto: pretty on a terminal, JSON lines otherwise",
  ),
}).prefault({});
export type LogConfig = z.infer<typeof LogConfig>;
