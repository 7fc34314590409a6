/**
 * One MCP server: connected in the background, connected again when it goes,
 * its tools compared with their pins before anybody is shown them.
 *
 * Never: a tool whose definition is not the accepted one is called.
 *
 * @module
 */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { z } from "zod";
import { AppError, errorText, ignore } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { Clock } from "../../core/time.ts";
import { VERSION } from "../../core/version.ts";
import type { Journal, Row } from "../../store/journal.ts";
import type { McpPin, McpPins } from "../../store/mcp_pins.ts";
import type { Registry } from "../registry.ts";
import type { McpServer } from "./config.ts";
import {
  type Definition,
  DEFINITION_LIMITS,
  definitionHash,
  readDefinition,
  toolName,
  toTool,
} from "./definition.ts";
import type { LoginView, McpLogin } from "./oauth.ts";

const CONNECT_MS = 30_000;
const BACKOFF_MS = [1_000, 5_000, 15_000, 60_000] as const;
const PAGES_MAX = 16;

/** How a server's tool stands. */
export type McpToolState =
  | "ready"
  | "new"
  | "changed"
  | "refused"
  | "not_listed";

/** What an owner is told of a server. */
export interface McpServerView {
  server: string;
  state: "connecting" | "connected" | "closed" | "needs_login";
  why?: string;
  /** Where the owner is logged in, of a server that asks for it. */
  login?: Pick<LoginView, "issuer" | "scopes" | "expiresAt" | "renews">;
  tools: { tool: string; state: McpToolState; about: string }[];
}

/** What a server is made of. */
export interface McpServerDeps {
  name: string;
  config: McpServer;
  /** Of a server that asks for one. */
  login?: McpLogin | undefined;
  connect(): Promise<Transport>;
  registry: Registry;
  pins: McpPins;
  journal: Journal;
  clock: Clock;
  log: Log;
}

interface Known {
  definition: Definition;
  hash: string;
  state: McpToolState;
}

const ListResult = z.looseObject({
  tools: z.array(z.unknown()).max(1_000),
  nextCursor: z.string().max(4_096).optional(),
});
const AnyResult = z.looseObject({});

/** One configured server. */
export class McpLink implements AsyncDisposable {
  readonly #deps: McpServerDeps;
  readonly #ending = new AbortController();
  readonly #known = new Map<string, Known>();
  readonly #refused = new Map<string, string>();
  /** Names in the registry that are this server's. */
  readonly #registered = new Map<string, string>();
  #client: Client | undefined;
  #state: Exclude<McpServerView["state"], "needs_login"> = "connecting";
  #why: string | undefined;
  #keeping: Promise<void> | undefined;
  #listing: Promise<void> = Promise.resolve();
  #wake = Promise.withResolvers<void>();
  /** Ends the wait before the next attempt. */
  #hurry = new AbortController();

  constructor(deps: McpServerDeps) {
    this.#deps = deps;
  }

  /** Begins to connect; returns at once. */
  start(): void {
    this.#keeping ??= this.#keep().catch((error) => {
      if (!this.#ending.signal.aborted) {
        this.#deps.log("error", "mcp.failed", {
          server: this.#deps.name,
          error: errorText(error),
        });
      }
    });
  }

  /** Resolves when it is connected and its tools are known, or has failed once. */
  async settled(): Promise<void> {
    await this.#wake.promise;
    await this.#listing;
  }

  get login(): McpLogin | undefined {
    return this.#deps.login;
  }

  /** Ends what is open and connects anew, at once. */
  reconnect(): void {
    this.#hurry.abort();
    this.#client?.close().catch(ignore("an MCP server was gone"));
  }

  view(): McpServerView {
    const { name: server, login } = this.#deps;
    const known = [...this.#known.values()].map(({ definition, state }) => ({
      tool: definition.name,
      state,
      about: (definition.description ?? "").slice(0, 500),
    }));
    const refused = [...this.#refused].map(([tool, why]) => ({
      tool,
      state: "refused" as const,
      about: why,
    }));
    const held = login?.view();
    const isNeeded = held?.isNeeded === true;
    const why = isNeeded ? held.why : this.#why;
    return {
      server,
      state: isNeeded ? "needs_login" : this.#state,
      ...(why === undefined ? {} : { why }),
      ...(held === undefined ? {} : { login: shownLogin(held) }),
      tools: [...known, ...refused],
    };
  }

  /** Accepts what a tool is now. @throws {AppError} `not_found` */
  async accept(tool: string): Promise<void> {
    const known = this.#known.get(tool);
    if (known === undefined) {
      throw new AppError(
        "not_found",
        `"${this.#deps.name}" has no tool "${tool}"`,
        { hint: "carapace mcp list shows what there is" },
      );
    }
    await this.#pin(tool, { hash: known.hash });
    await this.#settle(tool, { ...known, state: "ready" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#client?.close().catch(ignore("an MCP server was gone"));
    await this.#keeping;
    for (const name of this.#registered.values()) {
      this.#deps.registry.remove(name);
    }
  }

  async #keep(): Promise<void> {
    const { signal } = this.#ending;
    for (let failures = 0; !signal.aborted;) {
      // Ends when the house closes.
      try {
        await this.#loggedIn();
        const { closed } = await this.#connect();
        failures = 0;
        this.#wake.resolve();
        await closed;
        this.#state = "closed";
        this.#why = "the connection ended";
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        this.#state = "closed";
        this.#why = errorText(error);
        this.#deps.log("warn", "mcp.unreachable", {
          server: this.#deps.name,
          error: errorText(error),
        });
        this.#wake.resolve();
      }
      this.#client = undefined;
      const wait = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)];
      await this.#pause(wait ?? 60_000);
      this.#state = "connecting";
    }
  }

  /** Waits before the next attempt, unless there is a reason to make it now. */
  async #pause(ms: number): Promise<void> {
    const { signal } = this.#ending;
    const { clock } = this.#deps;
    try {
      await clock.sleep(ms, AbortSignal.any([signal, this.#hurry.signal]));
    } catch (error) {
      ignore("an attempt was wanted sooner")(error);
    }
    signal.throwIfAborted();
    this.#hurry = new AbortController();
  }

  /** Resolves when there is a login, or none is asked for. */
  async #loggedIn(): Promise<void> {
    const { login } = this.#deps;
    if (login === undefined) return;
    await login.open();
    const { signal } = this.#ending;
    const ended = Promise.withResolvers<never>();
    const onAbort = () => ended.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    ended.promise.catch(ignore("the house closed"));
    while (login.view().isNeeded) {
      // Ends with a login, or the house.
      this.#wake.resolve();
      signal.throwIfAborted();
      await Promise.race([login.made, ended.promise]);
    }
    signal.removeEventListener("abort", onAbort);
  }

  /** Connects and lists; `closed` resolves at the connection's end. */
  async #connect(): Promise<{ closed: Promise<void> }> {
    const { connect, log, name } = this.#deps;
    const { Client } = await import(
      "@modelcontextprotocol/sdk/client/index.js"
    );
    const { ToolListChangedNotificationSchema } = await import(
      "@modelcontextprotocol/sdk/types.js"
    );
    const client = new Client({ name: "carapace", version: VERSION }, {
      capabilities: {},
    });
    const closed = Promise.withResolvers<void>();
    client.onclose = () => closed.resolve();
    client.onerror = (error: unknown) =>
      log("debug", "mcp.error", { server: name, error: errorText(error) });
    client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
      // One after the other: the first list pins what the second compares.
      this.#listing = this.#listing.catch(ignore("a list failed before"))
        .then(() => this.#list(client)).catch((error) =>
          log("warn", "mcp.not_listed", {
            server: name,
            error: errorText(error),
          })
        );
    });
    const { signal } = this.#ending;
    try {
      await client.connect(await connect(), { timeout: CONNECT_MS, signal });
      const first = this.#list(client);
      this.#listing = first.catch(ignore("the first list failed"));
      await first;
    } catch (error) {
      await client.close().catch(ignore("an MCP server never was there"));
      throw error;
    }
    this.#client = client;
    this.#state = "connected";
    this.#why = undefined;
    log("info", "mcp.connected", {
      server: name,
      tools: this.#registered.size,
    });
    return { closed: closed.promise };
  }

  async #list(client: Client): Promise<void> {
    const listed: unknown[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX; page++) {
      const result = await client.request(
        {
          method: "tools/list",
          params: cursor === undefined ? {} : { cursor },
        },
        ListResult,
        { timeout: CONNECT_MS, signal: this.#ending.signal },
      );
      listed.push(...result.tools);
      cursor = result.nextCursor;
      if (cursor === undefined) break;
    }
    await this.#take(listed);
  }

  /** Compares what is listed with the pins and offers what may be offered. */
  async #take(listed: readonly unknown[]): Promise<void> {
    const { config, name, pins, log } = this.#deps;
    let before = await pins.list(name);
    if (before.length === 0) {
      // The owner named the server: what it is at first is what was meant.
      await this.#pinAll(listed);
      before = await pins.list(name);
    }
    const seen = new Set<string>();
    this.#refused.clear();
    for (const raw of listed.slice(0, DEFINITION_LIMITS.toolsMax)) {
      const definition = readDefinition(raw);
      if ("why" in definition) {
        const tool = String((raw as { name?: unknown } | null)?.name);
        this.#refused.set(tool.slice(0, 128), definition.why);
        continue;
      }
      const tool = definition.name;
      if (seen.has(tool)) continue; // the first of two counts
      seen.add(tool);
      const hash = await definitionHash(definition);
      const pin = before.find((one) => one.tool === tool);
      const state = await this.#compare(tool, { hash, pin });
      if (state === "new" || state === "changed") {
        log("warn", "mcp.quarantined", { server: name, tool, state });
      }
      const isListed = config.tools === undefined ||
        config.tools.includes(tool);
      await this.#settle(tool, {
        definition,
        hash,
        state: state === "ready" && !isListed ? "not_listed" : state,
      });
    }
    for (const tool of [...this.#known.keys()]) {
      if (seen.has(tool)) continue;
      this.#known.delete(tool);
      this.#withdraw(tool);
    }
  }

  /** Pins a whole first list as one, so that no crash leaves half of it. */
  async #pinAll(listed: readonly unknown[]): Promise<void> {
    const { pins, journal, name: server, clock } = this.#deps;
    const rows = new Map<string, Row[]>();
    for (const raw of listed.slice(0, DEFINITION_LIMITS.toolsMax)) {
      const definition = readDefinition(raw);
      if ("why" in definition || rows.has(definition.name)) continue;
      const hash = await definitionHash(definition);
      const tool = definition.name;
      rows.set(tool, pins.rows({ server, tool, hash, pinnedAt: clock.now() }));
    }
    await journal.commit([...rows.values()].flat());
  }

  async #compare(
    tool: string,
    now: { hash: string; pin: McpPin | undefined },
  ): Promise<McpToolState> {
    const { hash, pin } = now;
    if (pin?.hash === hash) return "ready";
    await this.#pin(tool, {
      ...(pin?.hash === undefined ? {} : { hash: pin.hash }),
      changed: { hash, at: this.#deps.clock.now() },
    });
    return pin?.hash === undefined ? "new" : "changed";
  }

  async #pin(
    tool: string,
    pin: Pick<McpPin, "hash" | "changed">,
  ): Promise<void> {
    const { pins, journal, name, clock } = this.#deps;
    await journal.commit(
      pins.rows({ server: name, tool, pinnedAt: clock.now(), ...pin }),
    );
  }

  /** Offers a tool, or takes it away, as its state says. */
  async #settle(tool: string, known: Known): Promise<void> {
    const { registry, config, name, log } = this.#deps;
    this.#known.set(tool, known);
    this.#withdraw(tool);
    if (known.state !== "ready") return;
    const own = await toolName(name, tool);
    if (registry.find(own) !== undefined) {
      log("warn", "mcp.name_taken", { server: name, tool });
      return;
    }
    registry.add(
      await toTool(known.definition, {
        serverName: name,
        server: config,
        call: (called, args, signal) =>
          this.#call(called, { args, signal, hash: known.hash }),
      }),
    );
    this.#registered.set(tool, own);
  }

  #withdraw(tool: string): void {
    const own = this.#registered.get(tool);
    if (own === undefined) return;
    this.#deps.registry.remove(own);
    this.#registered.delete(tool);
  }

  async #call(
    tool: string,
    wanted: {
      args: Record<string, unknown>;
      signal: AbortSignal;
      hash: string;
    },
  ): Promise<unknown> {
    const { name, config } = this.#deps;
    // A turn may hold the tool of a moment ago.
    const known = this.#known.get(tool);
    if (known?.state !== "ready" || known.hash !== wanted.hash) {
      throw new AppError(
        "forbidden",
        `"${name}/${tool}" is not what the owner accepted any more`,
      );
    }
    const { login } = this.#deps;
    if (login?.view().isNeeded === true) throw login.needed();
    if (this.#client === undefined) {
      throw new AppError("unavailable", `"${name}" is not connected`);
    }
    return await this.#client.request(
      { method: "tools/call", params: { name: tool, arguments: wanted.args } },
      AnyResult,
      { signal: wanted.signal, timeout: config.timeoutMs },
    );
  }
}

function shownLogin(
  { issuer, scopes, expiresAt, renews }: LoginView,
): NonNullable<McpServerView["login"]> {
  return {
    ...(issuer === undefined ? {} : { issuer }),
    scopes,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    renews,
  };
}
