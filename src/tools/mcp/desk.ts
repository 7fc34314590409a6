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
import type { McpTokens } from "../../store/mcp_tokens.ts";
import type { Registry } from "../registry.ts";
import type { Runner } from "../runner.ts";
import {
  isHttp,
  type McpHttpServer,
  type McpServer,
  type McpServers,
  type McpStdioServer,
} from "./config.ts";
import {
  type LoginAnswer,
  type LoginBegun,
  type LoginView,
  McpLogin,
} from "./oauth.ts";
import { McpLink, type McpServerView } from "./server.ts";

/** What the servers are made of. */
export interface McpDeps {
  servers: McpServers;
  egress: Egress;
  runner: Runner | undefined;
  registry: Registry;
  pins: McpPins;
  tokens: McpTokens;
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
      const login = loginOf(name, config, deps);
      const link = new McpLink({
        ...deps,
        name,
        config,
        login,
        connect: () => connect(name, { config, login }, deps),
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
    await this.#link(server).accept(tool);
  }

  /** Begins a login. @throws {AppError} as {@linkcode McpLogin.start} */
  async startLogin(
    server: string,
    options: { issuer?: string | undefined },
  ): Promise<LoginBegun> {
    return await this.#login(server).start(options);
  }

  /** Takes the browser's answer, and connects with what it gives. */
  async finishLogin(server: string, answer: LoginAnswer): Promise<LoginView> {
    const view = await this.#login(server).finish(answer);
    this.#link(server).reconnect();
    return view;
  }

  /** Forgets a login; nothing that was open with it goes on. */
  async logout(server: string): Promise<{ revoked: boolean }> {
    const done = await this.#login(server).logout();
    this.#link(server).reconnect();
    return done;
  }

  #link(server: string): McpLink {
    const link = this.#links.get(server);
    if (link !== undefined) return link;
    throw new AppError("not_found", `There is no server "${server}"`, {
      hint: "carapace mcp list shows what there is",
    });
  }

  #login(server: string): McpLogin {
    const { login } = this.#link(server);
    if (login !== undefined) return login;
    throw new AppError(
      "conflict",
      `"${server}" is not configured for a login`,
      {
        hint: `Write mcp.servers.${server}.oauth, at least as {}`,
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      [...this.#links.values()].map((link) => link[Symbol.asyncDispose]()),
    );
  }
}

function connect(
  name: string,
  { config, login }: { config: McpServer; login: McpLogin | undefined },
  deps: McpDeps,
): Promise<Transport> {
  if (!isHttp(config)) return connectProgram(name, config, deps);
  const door = login?.fetch ?? doorTo(name, config, deps.egress);
  return connectHttp(config, door);
}

/** The login of a server that is configured for one. */
function loginOf(
  name: string,
  config: McpServer,
  deps: McpDeps,
): McpLogin | undefined {
  if (!isHttp(config) || config.oauth === undefined) return undefined;
  const { oauth } = config;
  return new McpLogin({
    ...deps,
    name,
    config: { ...config, oauth },
    door: (token) => doorTo(name, config, deps.egress, token),
  });
}

/** A door to a server's own address, and what it is to be told there. */
function doorTo(
  name: string,
  config: McpHttpServer,
  egress: Egress,
  login?: Secret,
): typeof fetch {
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
    ...login === undefined
      ? []
      : [credential("authorization", login, "Bearer ")],
  ];
  return egress.door({
    caller: `mcp:${name}`,
    hosts: [{ host, port, scheme }],
    credentials,
    limits: { totalMs: Infinity, responseBytesMax: 67_108_864 },
    fix: () => `Check mcp.servers.${name}.url`,
  });
}

async function connectHttp(
  { url }: McpHttpServer,
  door: typeof fetch,
): Promise<Transport> {
  const { StreamableHTTPClientTransport } = await import(
    "@modelcontextprotocol/sdk/client/streamableHttp.js"
  );
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    fetch: door,
  });
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
