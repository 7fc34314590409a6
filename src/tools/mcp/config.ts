/**
 * MCP servers in the configuration: by address, or as a program that the
 * launcher starts.
 *
 * @module
 */
import { z } from "zod";
import type { McpProgram } from "../../core/command.ts";
import { type Need, need } from "../../core/needs.ts";
import { CLEAR_TEXT, isClearText } from "../../core/clear_text.ts";
import { Secret, SecretField } from "../../core/secret.ts";
import { Effect } from "../../core/tool.ts";
import { ProgramEnvName } from "../exec_config.ts";
import { isExactLoopback, McpOAuth, oauthNeeds } from "./oauth_config.ts";

/** A text, or a reference to a secret, which is then the whole of it. */
const TextOrSecret = z.union([
  SecretField,
  z.string().max(4096).refine(
    (text) => !text.includes("${"),
    "a reference is the whole value; for a bearer token use token",
  ),
]);

const common = {
  enabled: z.boolean().default(true).describe("Whether it is used"),
  tools: z.array(z.string().min(1).max(128)).max(256).optional().describe(
    "The tools that may be used; without it all of the server's",
  ),
  effects: z.record(z.string().max(128), Effect).default({}).describe(
    "What a tool does, where the owner knows better than the server says",
  ),
  destinations: z.record(
    z.string().max(128),
    z.array(z.strictObject({
      path: z.string().min(1).max(128),
      kind: z.enum(["url", "address", "path"]),
    })).max(8),
  ).default({}).describe("The arguments of a tool that name a place"),
  private: z.boolean().default(true).describe(
    "Whether what it answers is the owner's private data",
  ),
  trusted: z.boolean().default(false).describe(
    "Whether its results count as the owner's words",
  ),
  timeoutMs: z.int().min(100).max(600_000).default(60_000).describe(
    "One call",
  ),
};

const HttpServer = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).describe("Streamable HTTP endpoint"),
  headers: z.record(z.string().max(128), TextOrSecret).default({}).describe(
    "Sent with every request",
  ),
  token: SecretField.optional().describe("Sent as Authorization: Bearer"),
  oauth: McpOAuth.optional().describe(
    "The owner logs in with carapace mcp login; instead of token",
  ),
  ...common,
}).check(({ value, issues }) => {
  const refuse = (path: string[], message: string) =>
    issues.push({ code: "custom", path, message, input: value });
  const held = [value.token, ...Object.values(value.headers)];
  if (held.some((one) => one instanceof Secret) && isClearText(value.url)) {
    refuse(["url"], CLEAR_TEXT);
  }
  if (value.oauth === undefined) return;
  const url = URL.parse(value.url);
  if (url?.protocol !== "https:" && !isExactLoopback(url?.hostname ?? "")) {
    refuse(["url"], "with oauth it is https, or http on loopback");
  }
  if (value.token !== undefined) {
    refuse(["token"], "either token or oauth, not both");
  }
  const isAuthorization = (name: string) =>
    name.toLowerCase() === "authorization";
  if (Object.keys(value.headers).some(isAuthorization)) {
    refuse(["headers"], "with oauth the login writes Authorization");
  }
});

const StdioServer = z.strictObject({
  command: z.string().min(1).max(1024).refine(
    (path) => path.startsWith("/") || /^[A-Za-z]:[\\/]/.test(path),
    "write the program's whole path: there is no PATH",
  ).describe("The program; it is not sandboxed"),
  args: z.array(z.string().max(4096)).max(64).default([]),
  env: z.record(ProgramEnvName, TextOrSecret).default({}).describe(
    "Its whole environment",
  ),
  cwd: z.string().max(1024).refine(
    (path) => path.startsWith("/") || /^[A-Za-z]:[\\/]/.test(path),
    "write the whole path",
  ).optional().describe("Where it runs; without it the filesystem's top"),
  ...common,
});

export const McpServer = z.union([HttpServer, StdioServer]);
export type McpServer = z.infer<typeof McpServer>;
export type McpHttpServer = z.infer<typeof HttpServer>;
export type McpStdioServer = z.infer<typeof StdioServer>;

const Name = z.string().regex(
  /^[a-z0-9][a-z0-9_-]{0,31}$/i,
  "a server's name is letters, digits, _ and -",
);

export const McpServers = z.record(Name, McpServer);
export type McpServers = z.infer<typeof McpServers>;

export const McpConfig = z.strictObject({
  servers: McpServers.default({}).describe(
    "MCP servers whose tools are offered",
  ),
}).prefault({});
export type McpConfig = z.infer<typeof McpConfig>;

/** Whether a server is reached by address. */
export function isHttp(server: McpServer): server is McpHttpServer {
  return "url" in server;
}

/** The programs of the servers that are programs. */
export function mcpPrograms(servers: McpServers): Record<string, McpProgram> {
  const programs: Record<string, McpProgram> = {};
  for (const [name, server] of Object.entries(servers)) {
    if (isHttp(server) || !server.enabled) continue;
    const env = Object.entries(server.env);
    programs[name] = {
      command: server.command,
      args: server.args,
      cwd: server.cwd ?? "/",
      env: Object.fromEntries(
        env.flatMap(([key, value]) =>
          value instanceof Secret ? [] : [[key, value]]
        ),
      ),
      secretEnv: env.flatMap(([key, value]) =>
        value instanceof Secret ? [key] : []
      ),
    };
  }
  return programs;
}

/** What reaching the servers by address needs. */
export function mcpNeeds(servers: McpServers): Need[] {
  return Object.entries(servers).flatMap(([name, server]) => {
    if (!isHttp(server) || !server.enabled) return [];
    const { hostname, port, protocol } = new URL(server.url);
    const standard = protocol === "https:" ? "443" : "80";
    const place = `${hostname}:${port || standard}`;
    return [
      need("net", place, `mcp.servers.${name}.url`),
      ...server.oauth === undefined ? [] : oauthNeeds(name, server.oauth),
    ];
  });
}

/** The servers under either spelling. */
export function mcpServersOf(
  settings: { mcp: McpConfig; mcpServers?: McpServers | undefined },
): McpServers {
  return { ...settings.mcpServers, ...settings.mcp.servers };
}
