/**
 * Opens this room: every tool that the configuration allows for, with what each
 * needs of the store, the door out and the roof.
 *
 * Never: a tool is made that cannot do what it says.
 *
 * @module
 */
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { EgressConfig } from "../egress/config.ts";
import { type Egress, egressRules } from "../egress/egress.ts";
import type { Store } from "../store/store.ts";
import { makeTools, type ToolDeps } from "./all.ts";
import type { ToolsConfig } from "./config.ts";
import { FileDesk } from "./files/desk.ts";
import type { McpServers } from "./mcp/config.ts";
import type { McpDesk } from "./mcp/desk.ts";
import { MemoryBook } from "./memory_book.ts";
import { Outputs } from "./outputs.ts";
import { Registry } from "./registry.ts";
import { type ProgramPipe, Runner } from "./runner.ts";
import { programName } from "./exec_config.ts";
import type { SkillFacts } from "./skill_needs.ts";
import { SkillBook } from "./skills.ts";
import type { WebDeps } from "./web/fetch.ts";
import { searchPlace } from "./web/search.ts";

/** What the roof hands in. */
export interface OpenToolsOptions {
  /** Read anew at every use, so that a change holds from the next call on. */
  config(): ToolsConfig;
  /** MCP servers, as they are at the start. */
  mcp: McpServers;
  egressConfig: EgressConfig;
  egress: Egress;
  store: Pick<
    Store,
    | "sessions"
    | "messages"
    | "journal"
    | "memories"
    | "blobs"
    | "fileLabels"
    | "mcpPins"
    | "mcpTokens"
  >;
  stateDir: string;
  /** What skills may need of the house, beside commands. */
  facts: Omit<SkillFacts, "programs">;
  /** What the agent and the roof can do for tools. */
  roof: Pick<
    ToolDeps,
    "config" | "carriers" | "runChild" | "askModel" | "schedule"
  >;
  /** The way to the launcher; absent when nothing may be run. */
  pipe?: ProgramPipe | undefined;
  clock: Clock;
  log: Log;
}

/** The open room. */
export interface Toolbox extends AsyncDisposable {
  readonly registry: Registry;
  readonly memory: MemoryBook;
  readonly outputs: Outputs;
  /** Absent when no server is configured. */
  readonly mcp: McpDesk | undefined;
  /** Absent when no folder of skills is named. */
  readonly skills: SkillBook | undefined;
}

/** Opens the tools. */
export async function openTools(options: OpenToolsOptions): Promise<Toolbox> {
  const { store, clock, pipe } = options;
  await using opening = new AsyncDisposableStack();
  const runner = pipe === undefined ? undefined : opening.use(new Runner(pipe));
  const memory = new MemoryBook({
    rows: store.memories,
    journal: store.journal,
    clock,
  });
  const outputs = new Outputs({ blobs: store.blobs, journal: store.journal });
  const skills = openSkills(options);
  const registry = new Registry(makeTools({
    memory,
    outputs,
    ...options.roof,
    sessions: { sessions: store.sessions, messages: store.messages },
    ...openWeb(options),
    ...openSearch(options),
    ...openFiles(options),
    ...openExec(options, runner),
    ...skills === undefined ? {} : { skills },
  }));
  const mcp = await openMcp(options, { registry, runner });
  if (mcp !== undefined) opening.use(mcp);
  const closing = opening.move();
  return {
    registry,
    memory,
    outputs,
    mcp,
    skills,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

function openSkills(
  { config, store, facts, clock, log }: OpenToolsOptions,
): SkillBook | undefined {
  if (config().skills.length === 0) return undefined;
  return new SkillBook({
    folders: () => config().skills,
    trusted: () => config().roots,
    labels: store.fileLabels,
    facts: {
      ...facts,
      hasEnv: (name) =>
        facts.hasEnv(name) ||
        Object.values(config().exec.commands).some(({ env }) =>
          Object.hasOwn(env, name)
        ),
      programs: () =>
        new Set(
          Object.values(config().exec.commands).map(({ run }) =>
            programName(run).replace(/\.exe$/, "")
          ),
        ),
    },
    now: () => clock.now(),
    log,
  });
}

/** The named commands, when there is a launcher to run them. */
function openExec(
  { config, log }: OpenToolsOptions,
  runner: Runner | undefined,
): Pick<ToolDeps, "exec"> {
  const { exec } = config();
  const names = Object.keys(exec.commands);
  if (names.length === 0) return {};
  if (runner !== undefined) {
    log("warn", "tools.exec.on", { commands: names, sandboxed: false });
    return { exec: { config: exec, runner } };
  }
  log("warn", "tools.exec.off", {
    why: "commands are run by the launcher: start with carapace start",
  });
  return {};
}

/** The MCP servers; what speaks to them is loaded when there is one. */
async function openMcp(
  { mcp, egress, store, clock, log }: OpenToolsOptions,
  rooms: { registry: Registry; runner: Runner | undefined },
): Promise<McpDesk | undefined> {
  if (Object.values(mcp).every(({ enabled }) => !enabled)) return undefined;
  const { McpDesk } = await import("./mcp/desk.ts");
  return new McpDesk({
    ...rooms,
    servers: mcp,
    egress,
    pins: store.mcpPins,
    tokens: store.mcpTokens,
    journal: store.journal,
    clock,
    log,
  });
}

/** What `web_fetch` may reach, if that is anything. */
function openWeb(
  { egress, egressConfig }: OpenToolsOptions,
): { web?: WebDeps } {
  const { hosts, open } = egressConfig;
  if (hosts.length === 0 && !open) return {};
  const door = egress.door({
    caller: "tool:web_fetch",
    hosts: [...egressRules(egressConfig), ...open ? ["public" as const] : []],
    limits: { totalMs: 60_000, responseBytesMax: 16_777_216 },
  });
  return { web: { fetch: door, reach: open ? "public" : hosts } };
}

function openSearch(
  { config, egress }: OpenToolsOptions,
): Pick<ToolDeps, "search"> {
  const { search } = config();
  if (search === undefined) return {};
  const { url, credential } = searchPlace(search);
  const scheme = url.protocol === "http:" ? "http" as const : "https" as const;
  const port = Number(url.port) || (scheme === "http" ? 80 : 443);
  const host = url.hostname;
  const door = egress.door({
    caller: "tool:web_search",
    hosts: [{ host, port, scheme }],
    ...(credential === undefined
      ? {}
      : { credentials: [{ host, port, ...credential }] }),
    limits: { totalMs: 30_000, responseBytesMax: 4_194_304 },
    fix: () => "Check tools.search.url",
  });
  return { search: { config: search, fetch: door } };
}

/** The file tools' desk, when folders are named. */
function openFiles(
  { config, stateDir, store, clock }: OpenToolsOptions,
): Pick<ToolDeps, "files"> {
  const roots = () => {
    const { roots, untrustedRoots } = config();
    return [
      ...roots.map((path) => ({ path, trusted: true })),
      ...untrustedRoots.map((path) => ({ path, trusted: false })),
    ];
  };
  if (roots().length === 0) return {};
  const files = new FileDesk({
    roots,
    scratch: (agentId) => `${stateDir}/scratch/${agentId}`,
    labels: store.fileLabels,
    journal: store.journal,
    clock,
  });
  return { files };
}
