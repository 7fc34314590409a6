/**
 * `carapace mcp`: the MCP servers, and tools of theirs that changed.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "./args.ts";
import { openGateway } from "./gateway.ts";
import { jsonLine, printableLine } from "./printable.ts";
import { makePaint, table } from "./term.ts";
import { EXIT, type Io, type Roof, type Verb } from "./verb.ts";

export const mcp: Verb = {
  name: "mcp",
  about: "List MCP servers and accept tools of theirs that changed",
  usage: [
    "carapace mcp list [--json]",
    "carapace mcp accept SERVER TOOL [--json]",
  ],
  examples: ["carapace mcp list", "carapace mcp accept files read_file"],
  needs: "gateway",
  run: runMcp,
};

async function runMcp(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  const [action, server, tool] = positionals;
  const json = values.json === true;
  positionalsMax(positionals, action === "accept" ? 3 : 1);
  if (action !== "list" && action !== "accept") {
    throw usageError("Say what to do: list or accept");
  }
  if (action === "accept" && (server === undefined || tool === undefined)) {
    throw usageError("The arguments SERVER and TOOL are missing");
  }
  using client = await openGateway(io, { roof });
  if (action === "accept" && server !== undefined && tool !== undefined) {
    const done = await client.call("mcp.accept", { server, tool });
    const name = `${printableLine(server)}/${printableLine(tool)}`;
    io.out(json ? jsonLine(done) : `accepted ${name}\n`);
    return EXIT.ok;
  }
  const { servers } = await client.call("mcp.list", {});
  if (json) io.out(jsonLine({ servers }));
  else if (servers.length === 0) io.err("no MCP server is configured\n");
  else {
    const rows = servers.flatMap((one) => {
      const state = one.why === undefined
        ? one.state
        : `${one.state}: ${one.why}`;
      return one.tools.length === 0
        ? [[one.server, state, "", ""]]
        : one.tools.map(({ tool, state: how, about }) => [
          one.server,
          state,
          `${tool} (${how.replace("_", " ")})`,
          about.replaceAll(/\s+/g, " ").slice(0, 60),
        ]);
    });
    io.out(
      table(["SERVER", "STATE", "TOOL", "WHAT IT SAYS"], rows, makePaint(io)),
    );
  }
  return EXIT.ok;
}
