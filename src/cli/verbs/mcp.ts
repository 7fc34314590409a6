/**
 * `carapace mcp`: the MCP servers, tools of theirs that changed, and logins.
 *
 * @module
 */
import type { MethodOutput } from "../../core/methods.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const mcp: Verb = {
  name: "mcp",
  about: "List MCP servers, log in to them, accept tools that changed",
  usage: [
    "carapace mcp list [--json]",
    "carapace mcp accept SERVER TOOL [--json]",
    "carapace mcp login SERVER [--paste] [--issuer URL] [--json]",
    "carapace mcp logout SERVER [--json]",
  ],
  examples: [
    "carapace mcp list",
    "carapace mcp accept files read_file",
    "carapace mcp login tracker",
    "carapace mcp login tracker --paste",
    "carapace mcp logout tracker",
  ],
  needs: "gateway",
  run: runMcp,
};

/** How many words each form takes, itself included. */
const FORMS: Readonly<Record<string, number>> = {
  list: 1,
  accept: 3,
  login: 2,
  logout: 2,
};

async function runMcp(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    paste: { type: "boolean" },
    issuer: { type: "string" },
  });
  const [action = "", server = "", tool = ""] = positionals;
  const words = Object.hasOwn(FORMS, action) ? FORMS[action] ?? 0 : 0;
  if (words === 0) {
    throw usageError("Say what to do: list, accept, login or logout");
  }
  positionalsMax(positionals, words);
  if (positionals.length < words) {
    throw usageError(
      words === 3
        ? "The arguments SERVER and TOOL are missing"
        : "The argument SERVER is missing",
    );
  }
  const json = values.json === true;
  const { paste = false, issuer } = values;
  if (action !== "login" && (paste || issuer !== undefined)) {
    throw usageError(`"${action}" takes neither --paste nor --issuer`);
  }
  using client = await openGateway(io, { roof });
  switch (action) {
    case "accept": {
      const done = await client.call("mcp.accept", { server, tool });
      const name = `${printableLine(server)}/${printableLine(tool)}`;
      io.out(json ? jsonLine(done) : `accepted ${name}\n`);
      return EXIT.ok;
    }
    case "login": {
      const { login } = await import("./mcp_login.ts");
      return await login(io, client, { server, issuer, paste, json });
    }
    case "logout": {
      const { logout } = await import("./mcp_login.ts");
      return await logout(io, client, { server, json });
    }
    default: {
      const { servers } = await client.call("mcp.list", {});
      if (json) io.out(jsonLine({ servers }));
      else show(io, servers);
      return EXIT.ok;
    }
  }
}

type Servers = MethodOutput<"mcp.list">["servers"];

function stateOf({ state, why, login }: Servers[number]): string {
  const words = state === "needs_login" ? "needs login" : state;
  const said = why === undefined ? words : `${words}: ${why}`;
  if (state === "needs_login" || login === undefined) return said;
  const until = login.expiresAt === undefined
    ? ""
    : `, expires ${new Date(login.expiresAt).toISOString()}${
      login.renews ? ", renews" : ""
    }`;
  const scopes = login.scopes.length === 0
    ? ""
    : `, scopes ${login.scopes.join(" ")}`;
  return `${said}, logged in${scopes}${until}`;
}

function show(io: Io, servers: Servers): void {
  if (servers.length === 0) {
    io.err("no MCP server is configured\n");
    return;
  }
  const rows = servers.flatMap((one) => {
    const state = stateOf(one);
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
  for (const { server, state } of servers) {
    if (state === "needs_login") io.err(`→ carapace mcp login ${server}\n`);
  }
}
