/** The MCP servers that everybody has, as programs of this runtime. */
import { fileURLToPath } from "node:url";

/** The runtime's arguments that run a server of npm; nothing is downloaded. */
export function serverArgs(
  name: "filesystem" | "everything",
  flags: readonly string[],
): string[] {
  const file = new URL(`./mcp_server_${name}.ts`, import.meta.url);
  return [
    ...["run", "--quiet", "--no-prompt", "--cached-only"],
    ...["--lock", fileURLToPath(new URL("../deno.lock", import.meta.url))],
    ...flags,
    fileURLToPath(file),
  ];
}
