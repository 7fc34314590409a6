/**
 * Whether the gateway runs anything at all.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { GatewayDeps } from "./deps.ts";

/** @throws {AppError} `unavailable` in safe mode */
export function checkServing(deps: Pick<GatewayDeps, "safeMode">): void {
  if (deps.safeMode === undefined) return;
  throw new AppError(
    "unavailable",
    `Cannot run agents or models: safe mode (${deps.safeMode})`,
    { hint: "Correct the configuration and start again" },
  );
}
