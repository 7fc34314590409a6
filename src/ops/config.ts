/**
 * The operator's slice of the configuration: logs and readiness.
 *
 * @module
 */
import { z } from "zod";
import { type Need, need } from "../core/needs.ts";

export const LogConfig = z.strictObject({
  level: z.enum(["debug", "info", "warn", "error"]).default("info").describe(
    "The quietest level that is written",
  ),
  format: z.enum(["auto", "pretty", "json"]).default("auto").describe(
    "auto: pretty on a terminal, JSON lines otherwise",
  ),
}).prefault({});
export type LogConfig = z.infer<typeof LogConfig>;

export const HealthConfig = z.strictObject({
  loopLagMs: z.int().min(10).max(60_000).default(500).describe(
    "Not ready while timers come later than this (nine of ten, for half a minute)",
  ),
  diskFreeMb: z.int().min(0).max(1_000_000).default(100).describe(
    "Not ready while the state directory's disk has less than this left",
  ),
  memoryMb: z.int().min(64).max(1_000_000).default(2_048).describe(
    "Not ready while this process holds more than this",
  ),
  memoryFreeMb: z.int().min(0).max(1_000_000).default(32).describe(
    "Not ready while the machine has less memory than this left",
  ),
}).prefault({});
export type HealthConfig = z.infer<typeof HealthConfig>;

/** What readiness asks the system; it reveals two numbers of the machine. */
export function healthNeeds(): Need[] {
  return [
    need("sys", "statfs", "health.diskFreeMb"),
    need("sys", "systemMemoryInfo", "health.memoryFreeMb"),
  ];
}
