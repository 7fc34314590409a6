/**
 * All MCP servers of the configuration: connected by address through the door
 * out, or as programs of the launcher.
 *
 * @module
 */
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { AppError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { Secret } from "../../core/secret.ts";
import type { Clock } from "../../core/time.ts";
import type { Egress, HostCredential } from "../../egress/egress.ts";
import type { Journal } from "../../store/journal.ts";
import type { McpPins } from "../../store/mcp_pins.ts";
import type { Registry } from "../registry.ts";
import type { Runner } from "../runner.ts";
import {
  isHttp,
  type McpHttpServer,
  type McpServer,
  type McpServers,
  type McpStdioServer,
} from "./config.ts";
import { McpLink, type McpServerView } from "./server.ts";

/** What the servers are made of. */
export interface McpDeps {
  servers: McpServers;
  egress: Egress;
  runner: Runner | undefined;
  registry: Registry;
  pins: McpPins;
  journal: Journal;
  clock: Clock;
  log: Log;
}

/** The configured servers. */
export class McpDesk implements AsyncDisposable {
  readonly #links = new Map<string, McpLink>();

  constructor(deps: McpDeps) {
    for (const [name, config] of Object.entries(deps.servers)) {
      if (!config.enabled) continue;
      const link = new McpLink({
        ...deps,
        name,
        config,
        connect: () => connect(name, config, deps),
      });
      this.#links.set(name, link);
      link.start();
    }
  }

  /** Resolves when each server is connected, or was found not to be there. */
  async settled(): Promise<void> {
    await Promise.all([...this.#links.values()].map((link) => link.settled()));
  }

  list(): McpServerView[] {
    return [...this.#links.values()].map((link) => link.view());
  }

  /** Accepts a tool as it is now. @throws {AppError} `not_found` */
  async accept(server: string, tool: string): Promise<void> {
    const link = this.#links.get(server);
    if (link === undefined) {
      throw new AppError("not_found", `There is no server "${server}"`);
    }
    await link.accept(tool);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      [...this.#links.values()].map((link) => link[Symbol.asyncDispose]()),
    );
  }
}

function connect(
  name: string,
  config: McpServer,
  deps: McpDeps,
): Promise<Transport> {
  return isHttp(config)
    ? connectHttp(name, config, deps)
    : connectProgram(name, config, deps);
}

async function connectHttp(
  name: string,
  config: McpHttpServer,
  { egress }: McpDeps,
): Promise<Transport> {
  const { StreamableHTTPClientTransport } = await import(
    "@modelcontextprotocol/sdk/client/streamableHttp.js"
  );
  const url = new URL(config.url);
  const scheme = url.protocol === "http:" ? "http" as const : "https" as const;
  const port = Number(url.port) || (scheme === "http" ? 80 : 443);
  const host = url.hostname;
  const credential = (header: string, secret: Secret, prefix = "") => ({
    host,
    port,
    header,
    prefix,
    secret,
  });
  const credentials: HostCredential[] = [
    ...Object.entries(config.headers).map(([header, value]) =>
      credential(
        header,
        value instanceof Secret ? value : new Secret(value, "configuration"),
      )
    ),
    ...config.token === undefined
      ? []
      : [credential("authorization", config.token, "Bearer ")],
  ];
  const door = egress.door({
    caller: `mcp:${name}`,
    hosts: [{ host, port, scheme }],
    credentials,
    limits: { totalMs: Infinity, responseBytesMax: 67_108_864 },
    fix: () => `Check mcp.servers.${name}.url`,
  });
  const transport = new StreamableHTTPClientTransport(url, { fetch: door });
  // The SDK's types say `undefined` where ours say absent.
  return transport as unknown as Transport;
}

function connectProgram(
  name: string,
  config: McpStdioServer,
  { runner, log }: McpDeps,
): Promise<Transport> {
  if (runner === undefined) {
    throw new AppError(
      "unavailable",
      "Programs are run by the launcher, and there is none",
      { hint: "Start with carapace start" },
    );
  }
  const held = runner;
  const secrets = Object.fromEntries(
    Object.entries(config.env).flatMap(([key, value]) =>
      value instanceof Secret ? [[key, value.reveal()]] : []
    ),
  );
  return import("./stdio.ts").then(({ ProgramTransport }) =>
    new ProgramTransport(held, {
      server: name,
      secrets,
      onErr: (text) =>
        log("debug", "mcp.said", { server: name, chars: text.length }),
    })
  );
}
