/**
 * The tools' slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { type Need, need } from "../core/needs.ts";

export const ToolsConfig = z.strictObject({
  deny: z.array(z.string().max(64)).max(256).default([]).describe(
    "Tools that no agent is shown",
  ),
  roots: z.array(z.string().min(1).max(1024)).max(32).default([]).describe(
    "Folders whose files the agent may read and write",
  ),
}).prefault({});
export type ToolsConfig = z.infer<typeof ToolsConfig>;

/** What reading and writing under the roots needs. */
export function toolNeeds(config: ToolsConfig): Need[] {
  return config.roots.flatMap((root) => [
    need("read", root, "tools.roots"),
    need("write", root, "tools.roots"),
  ]);
}
