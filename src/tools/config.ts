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
    "Folders whose files the agent may read and write; what is in them counts as the owner's words",
  ),
  untrustedRoots: z.array(z.string().min(1).max(1024)).max(32).default([])
    .describe(
      "Further such folders whose files anybody may have written, such as downloads",
    ),
}).prefault({});
export type ToolsConfig = z.infer<typeof ToolsConfig>;

/** What reading and writing under the roots needs. */
export function toolNeeds(config: ToolsConfig): Need[] {
  const of = (root: string, because: string) => [
    need("read", root, because),
    need("write", root, because),
  ];
  return [
    ...config.roots.flatMap((root) => of(root, "tools.roots")),
    ...config.untrustedRoots.flatMap((root) =>
      of(root, "tools.untrustedRoots")
    ),
  ];
}
