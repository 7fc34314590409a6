/**
 * The outer sandbox, computed: what each room needs of the configuration becomes
 * the flags the program runs with, and each entry knows the line behind it.
 *
 * Never: a flag that no configuration line or part of the program asks for; run
 * or ffi for the service; a flag built into a shell text (they are an argv array).
 *
 * @module
 */
import { agentNeeds } from "./agent/config.ts";
import { resolve } from "node:path";
import { rulesFileOf } from "./cli/verbs/policy_file.ts";
import { takeTarget, type Target } from "./cli/target.ts";
import { channelNeeds } from "./channels/config.ts";
import type { Grant } from "./cli/verb.ts";
import { tailscaleNeeds } from "./auth/tailnet.ts";
import type { Env } from "./config/env.ts";
import type { Loaded, Problem } from "./config/load.ts";
import { OPEN_FILES } from "./core/exit.ts";
import { AppError } from "./core/errors.ts";
import { type Need, need, type NeedKind } from "./core/needs.ts";
import { denyAddressesV6, denyRanges, isIpv4 } from "./egress/cidr.ts";
import { egressNeeds } from "./egress/config.ts";
import { GatewayConfig, gatewayNeeds } from "./gateway/config.ts";
import { healthNeeds } from "./ops/config.ts";
import { pluginNeeds, wasiNeeds } from "./plugins/config.ts";
import { pathsOfVerb } from "./plugins/verb_paths.ts";
import { providerNeeds } from "./providers/registry.ts";
import { hostPortOf, remoteNeeds } from "./remote/config.ts";
import type { Settings } from "./settings.ts";
import { toolNeeds } from "./tools/config.ts";
import { isHttp, mcpNeeds, mcpServersOf } from "./tools/mcp/config.ts";

/** What the flags depend on beside the configuration. Paths are absolute. */
export interface Facts {
  stateDir: string;
  /** The folder of the program's own source. */
  sourceDir: string;
  /** Every configuration file, also one that is named but cannot be read yet. */
  configFiles: readonly string[];
  env: Env;
  /** Names of the variables that the configuration's `${ENV}` refer to. */
  variables?: readonly string[];
  os: typeof Deno.build.os;
  /** What follows the verb: a verb may work on a path that its caller names. */
  args?: readonly string[];
}

/** The lists behind the flags, each entry with its reason. */
export type Permissions = Readonly<Record<NeedKind, readonly Need[]>> & {
  readonly denyNet: readonly Need[];
};

/**
 * No permission governs `import()` of npm names and the default remote hosts:
 * only these close that door. They come with every set of flags.
 */
export const FIXED_FLAGS: readonly (readonly [flag: string, why: string])[] = [
  ["--no-prompt", "a missing permission is an error, not a question"],
  ["--frozen", "the lock file decides which code runs"],
  ["--cached-only", "no package is fetched while it runs"],
  ["--no-remote", "no code is fetched by URL"],
  ["--ignore-env", "variables that are not listed look unset"],
  // Measured after 10,000 turns: 147 MB resident instead of 245, at the same rate.
  [
    "--v8-flags=--heap-growing-percent=30,--max-semi-space-size=8,--expose-gc",
    "the heap is collected before it has quadrupled, and when nothing goes on",
  ],
];

/** The names the program reads itself; vendors' names come with their needs. */
const ENV_NAMES: readonly (readonly [name: string, because: string])[] = [
  ["CARAPACE_STATE_DIR", "state directory"],
  ["CARAPACE_CONFIG_PATH", "configuration"],
  ["CARAPACE_CONFIG_JSON", "configuration"],
  ["CARAPACE_PORT", "gateway.port"],
  ["CARAPACE_TOKEN", "credential"],
  ["CARAPACE_PASSPHRASE", "secrets"],
  ["NO_COLOR", "output"],
];

/** What a command line reads beside: which gateway it talks to, and the terminal. */
const CLIENT_ENV_NAMES: typeof ENV_NAMES = [
  ["CARAPACE_URL", "address of the gateway"],
  ["TERM", "output"],
];

const KINDS: readonly NeedKind[] = [
  "net",
  "read",
  "write",
  "env",
  "sys",
  "run",
  "ffi",
];

/**
 * What a verb may do: `start` is the service, every other verb works on the
 * gateway's address and the state directory only.
 *
 * @throws {AppError} `bad_input` when a line asks for what cannot be granted;
 * `details.because` names it
 */
export function permissionsFor(
  verb: string,
  settings: Settings,
  facts: Facts,
): Permissions {
  const gateway = listenAddress(settings.gateway, facts.env);
  const common = [
    ...gatewayNeeds(gateway),
    ...sourceNeeds(verb, facts),
    ...stateNeeds(facts),
    ...configNeeds(facts),
    ...tlsNeeds(gateway, facts),
    ...envNeeds(ENV_NAMES),
  ];
  if (verb !== "start") {
    const names = vendorNeeds(settings, facts)
      .filter(({ kind }) => kind === "env");
    const variables = variableNeeds(facts.variables ?? []);
    const own = clientNeeds(gateway, facts);
    const plugins = verb === "plugin" ? pluginVerbNeeds(settings, facts) : [];
    const doctor = verb === "doctor" ? doctorNeeds() : [];
    const rules = verb === "policy" ? policyNeeds(facts) : [];
    const remotes = verb === "remote" ? remoteVerbNeeds(settings, facts) : [];
    const logins = verb === "mcp" ? mcpVerbNeeds(settings, facts) : [];
    return collect([
      ...[...common, ...own, ...names, ...variables],
      ...[...plugins, ...doctor, ...rules, ...remotes, ...logins],
    ]);
  }
  checkRoots(settings.tools.roots, facts);
  checkRoots(settings.tools.untrustedRoots, facts);
  checkWorkspaces(settings.agents, facts);
  return collect([
    ...common,
    ...tailscaleNeeds(gateway.tailscale),
    ...healthNeeds(),
    ...variableNeeds(facts.variables ?? []),
    ...vendorNeeds(settings, facts),
    ...egressNeeds(settings.egress),
    ...channelNeeds(settings.channels),
    ...toolNeeds(settings.tools),
    ...mcpNeeds(mcpServersOf(settings)),
    ...agentNeeds(settings.agents),
    ...pluginNeeds(settings.plugins),
    ...remoteNeeds(settings.remotes),
  ]);
}

/**
 * For a configuration that cannot be used: its state directory, its default
 * address, and the variables it refers to, so that the gateway can come up and
 * say what is wrong, and see when it is repaired.
 */
export function safePermissions(verb: string, facts: Facts): Permissions {
  const gateway = safeGateway(facts.env);
  const harmless = (facts.variables ?? []).filter((name) =>
    ENV_NAME.test(name) && !STEERING.test(name)
  );
  return collect([
    ...gatewayNeeds(gateway),
    ...sourceNeeds(verb, facts),
    ...stateNeeds(facts),
    ...configNeeds(facts),
    ...envNeeds(ENV_NAMES),
    ...variableNeeds(harmless),
    ...verb === "start" ? healthNeeds() : clientNeeds(gateway, facts),
    ...verb === "doctor" ? doctorNeeds() : [],
  ]);
}

/** Where the gateway listens when its configuration cannot be used. */
function safeGateway(env: Env): GatewayConfig {
  const port = Number(env.get("CARAPACE_PORT"));
  const parsed = GatewayConfig.safeParse({ port });
  return parsed.success ? parsed.data : GatewayConfig.parse({});
}

/**
 * Where the gateway listens: its configuration, with `CARAPACE_PORT` over it.
 *
 * @throws {AppError} `bad_input` when the variable is not a port
 */
export function listenAddress(config: GatewayConfig, env: Env): GatewayConfig {
  const text = env.get("CARAPACE_PORT");
  if (text === undefined) return config;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return { ...config, port };
  throw new AppError(
    "bad_input",
    `Cannot use CARAPACE_PORT ${JSON.stringify(text)}: it is not a port`,
    {
      hint: "Set it to a number from 1 to 65535, or unset it",
      details: { because: "CARAPACE_PORT" },
    },
  );
}

/**
 * The program's own paths. They are arguments of their own, so white space (as
 * in macOS's `Application Support`) is harmless; a comma would begin a new entry.
 */
function ownPath(kind: "read" | "write", value: string, because: string): Need {
  if (!value.includes(",")) return { kind, value, because };
  throw new AppError(
    "bad_input",
    `Cannot grant ${
      JSON.stringify(value)
    }: a comma ends an entry of a permission`,
    {
      hint: because === "state directory"
        ? "Set CARAPACE_STATE_DIR to a folder without a comma"
        : "Use a path without a comma",
      details: { because },
    },
  );
}

/** What the service reads of its own code: its plugins' workers. */
const WORKER_SOURCES = [
  "src/plugins",
  "src/core/bounded.ts",
  "src/core/errors.ts",
];

/**
 * Its own code. The service has read it all when it starts, but for what it
 * gives new threads; a command line reads what it comes to need.
 */
function sourceNeeds(verb: string, { sourceDir }: Facts): Need[] {
  const because = verb === "start"
    ? "plugins (source of their workers)"
    : "the program's own modules";
  return (verb === "start" ? WORKER_SOURCES : ["src"])
    .map((path) => ownPath("read", `${sourceDir}/${path}`, because));
}

function stateNeeds({ stateDir }: Facts): Need[] {
  return [
    ownPath("read", stateDir, "state directory"),
    ownPath("write", stateDir, "state directory"),
  ];
}

function configNeeds({ configFiles, stateDir, os }: Facts): Need[] {
  return configFiles.filter((file) => !holds(stateDir, file, os))
    .map((file) => ownPath("read", file, "configuration"));
}

/** The files TLS is served from, unless they are in the state directory. */
function tlsNeeds({ tls }: GatewayConfig, { stateDir, os }: Facts): Need[] {
  if (tls === undefined) return [];
  const files = [[tls.cert, "gateway.tls.cert"], [tls.key, "gateway.tls.key"]];
  return files.flatMap(([path = "", because = ""]) =>
    holds(stateDir, path, os) ? [] : [need("read", path, because)]
  );
}

function envNeeds(names: typeof ENV_NAMES): Need[] {
  return names.map(([name, because]) => need("env", name, because));
}

/** The providers' needs; a vendor's variable may hold what is no address. */
function vendorNeeds({ providers }: Settings, { env }: Facts): Need[] {
  try {
    return providerNeeds(providers, env);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new AppError(
      "bad_input",
      `Cannot read the address of a provider: ${error.message}`,
      {
        hint: "Look at the base URLs in the environment",
        details: { because: "providers" },
        cause: error,
      },
    );
  }
}

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Variables that steer the runtime, the loader or every connection: they never
 * reach the service, whoever names them.
 */
const STEERING =
  /^(LD_|DYLD_|DENO_|NODE_|NPM_|OTEL_|SSL_|V8_)|^(HTTPS?|ALL|NO|FTP)_PROXY$|^(PATH|HOME|SHELL)$/i;

function variableNeeds(names: readonly string[]): Need[] {
  return names.map((name) => {
    if (!STEERING.test(name)) {
      return need("env", name, `\${${name}} in the configuration`);
    }
    throw new AppError(
      "bad_input",
      `Cannot hand the variable "${name}" to the service: it steers the runtime`,
      { hint: "Write the value, or set a variable of another name" },
    );
  });
}

/** What the command line says of another gateway; the verb complains of the rest. */
function targetOf(args: readonly string[]): Partial<Target> {
  try {
    return takeTarget(args).target;
  } catch {
    return {};
  }
}

function clientNeeds(gateway: GatewayConfig, facts: Facts): Need[] {
  const needs = envNeeds(CLIENT_ENV_NAMES);
  const { url: named, tokenFile } = targetOf(facts.args ?? []);
  if (tokenFile !== undefined && tokenFile !== "-") {
    needs.push(ownPath("read", resolve(tokenFile), "--token"));
  }
  const { host, port } = gateway;
  if (host === "0.0.0.0" || host === "::") {
    needs.push(need("net", `127.0.0.1:${port}`, "gateway.host, gateway.port"));
  }
  const url = named ?? facts.env.get("CARAPACE_URL") ?? "";
  const parsed = URL.parse(/^[a-z]+:\/\//i.test(url) ? url : `http://${url}`);
  if (url !== "" && parsed !== null) {
    const standard = /^(https|wss):$/.test(parsed.protocol) ? "443" : "80";
    const host = `${parsed.hostname}:${parsed.port || standard}`;
    needs.push(
      need("net", host, named === undefined ? "CARAPACE_URL" : "--url"),
    );
  }
  return needs;
}

/** What `carapace doctor` asks the system. */
function doctorNeeds(): Need[] {
  return [
    need("sys", "statfs", "how full the disk is"),
    need("env", OPEN_FILES, "what the launcher found of open files"),
  ];
}

/** The rules that `carapace policy replay` is to decide by. */
function policyNeeds(facts: Facts): Need[] {
  const file = rulesFileOf(facts.args ?? []);
  return file === undefined ? [] : [ownPath("read", resolve(file), "--policy")];
}

/** What `carapace plugin …` works on: the paths and the host its caller names. */
function pluginVerbNeeds(settings: Settings, facts: Facts): Need[] {
  const because = "argument of carapace plugin";
  const { read, write, hosts } = pathsOfVerb(facts.args ?? []);
  const templates = `${facts.sourceDir}/plugins/pdk`;
  const [form = ""] = facts.args ?? [];
  return [
    // Granted by this very call, it may start in this process.
    ...(/^(install|update|grant|enable)$/.test(form) ? wasiNeeds(because) : []),
    ...pluginNeeds(settings.plugins),
    // What leaves, leaves by the proxy; which hosts, the lines below say.
    ...egressNeeds({ ...settings.egress, hosts: [], open: false }),
    ownPath("read", templates, "carapace plugin new"),
    ...read.map((path) => ownPath("read", path, because)),
    ...write.map((path) => ownPath("write", path, because)),
    ...hosts.map((host) => need("net", host, because)),
  ];
}

/** The gateways `carapace remote …` looks at: those there are, and a new one. */
function remoteVerbNeeds({ remotes }: Settings, { args = [] }: Facts): Need[] {
  const url = args.find((one) =>
    /^(wss?|https?):\/\//i.test(one) && URL.canParse(one)
  );
  return [
    ...remoteNeeds(remotes),
    ...url === undefined
      ? []
      : [need("net", hostPortOf(url), "argument of carapace remote")],
  ];
}

/** Where `carapace mcp login NAME` waits for the browser to come back. */
function mcpVerbNeeds(settings: Settings, { args = [] }: Facts): Need[] {
  const [form, ...rest] = args;
  if (form !== "login" || args.includes("--paste")) return [];
  return Object.entries(mcpServersOf(settings)).flatMap(([name, server]) => {
    if (!rest.includes(name) || !isHttp(server) || server.oauth === undefined) {
      return [];
    }
    const place = `127.0.0.1:${server.oauth.redirectPort}`;
    return [need("net", place, `mcp.servers.${name}.oauth.redirectPort`)];
  });
}

/** Whether a folder is, or is above, a path. */
function holds(folder: string, path: string, os: Facts["os"]): boolean {
  const plain = (text: string) => {
    const slashes = text.replaceAll("\\", "/").replace(/\/+$/, "") + "/";
    return os === "linux" ? slashes : slashes.toLowerCase();
  };
  return plain(path).startsWith(plain(folder));
}

/** A workspace is read only, but it is the owner's words: never the program's own. */
function checkWorkspaces(
  agents: Settings["agents"],
  { stateDir, os }: Facts,
): void {
  for (const [id, { workspace }] of Object.entries(agents)) {
    if (workspace === undefined) continue;
    const isAbsolute = os === "windows"
      ? /^[A-Za-z]:[\\/]/.test(workspace)
      : workspace.startsWith("/");
    const isPlain = isAbsolute &&
      !/(^|[\\/])\.\.?([\\/]|$)/.test(workspace);
    if (isPlain && !holds(stateDir, workspace, os)) continue;
    throw new AppError(
      "bad_input",
      `Cannot use ${JSON.stringify(workspace)} as a workspace: ${
        isPlain
          ? "it is inside the state directory"
          : "it is not an absolute path"
      }`,
      {
        hint: isPlain ? "Name a folder of its own" : "Write the whole path",
        details: { because: `agents.${id}.workspace` },
      },
    );
  }
}

/** A root must not reach what decides about it: state, configuration, program. */
function checkRoots(roots: readonly string[], facts: Facts): void {
  const { stateDir, sourceDir, configFiles, os } = facts;
  const refuse = (root: string, why: string, hint: string): never => {
    throw new AppError(
      "bad_input",
      `Cannot grant ${JSON.stringify(root)} to file tools: ${why}`,
      { hint, details: { because: "tools.roots" } },
    );
  };
  for (const root of roots) {
    const isAbsolute = os === "windows"
      ? /^[A-Za-z]:[\\/]/.test(root)
      : root.startsWith("/");
    if (!isAbsolute || /(^|[\\/])\.\.?([\\/]|$)/.test(root)) {
      refuse(root, "it is not an absolute path", "Write the whole path");
    }
    const own = [
      ["the state directory", stateDir],
      ["the program", sourceDir],
      ...configFiles.map((file) => ["the configuration", file]),
    ] as const;
    for (const [what, path = ""] of own) {
      if (holds(root, path, os)) {
        refuse(root, `it holds ${what}`, "Name a folder of its own");
      }
    }
    const code = ["src", "plugins"].map((name) => `${sourceDir}/${name}`);
    if ([stateDir, ...code].some((folder) => holds(folder, root, os))) {
      refuse(root, "it is inside the program's own", "Name another folder");
    }
  }
}

/** Sorts needs by kind, joins the reasons of equal ones, adds what is denied. */
function collect(needs: readonly Need[]): Permissions {
  const byKind = new Map(KINDS.map((kind) => [kind, new Map<string, Need>()]));
  for (const one of needs) {
    if (one.kind === "net" && !isSocket(one)) checkHost(one);
    if (one.kind === "env") checkName(one);
    if (one.kind === "run" || one.kind === "ffi") {
      throw new AppError(
        "bad_input",
        `Cannot grant "${one.kind}": the service starts no programs and loads no libraries`,
        { details: { because: one.because } },
      );
    }
    const list = byKind.get(one.kind);
    const key = String(one.value);
    const because = list?.get(key)?.because;
    const joined = because === undefined || because === one.because
      ? one
      : { ...one, because: `${because}; ${one.because}` };
    list?.set(key, joined);
  }
  const lists = Object.fromEntries(
    [...byKind].map(([kind, list]) => [kind, [...list.values()]]),
  ) as Record<NeedKind, Need[]>;
  return { ...lists, denyNet: denials(lists.net) };
}

/** A Unix socket of this machine, by its whole path; it is no host. */
function isSocket({ value }: Need): boolean {
  return /^unix:\/./.test(String(value));
}

/** One host and at most a port. A range or a bare `*` would grant more than a host. */
function checkHost({ value, because }: Need): void {
  if (value === true) return;
  const host = String(value);
  const isName = /^(\*\.)?[\p{L}\p{N}_-]+(\.[\p{L}\p{N}_-]+)*\.?(:\d{1,5})?$/u;
  const isV6 = /^\[[0-9a-f:.]+\](:\d{1,5})?$/i;
  if (isName.test(host) || isV6.test(host)) return;
  throw new AppError(
    "bad_input",
    `Cannot grant ${JSON.stringify(host)}: it is not a host`,
    {
      hint: 'Write a name such as "api.example.com" or "*.example.com"',
      details: { because },
    },
  );
}

/** One variable: a trailing `*` would grant every name that begins so. */
function checkName({ value, because }: Need): void {
  if (value === true || ENV_NAME.test(value)) return;
  throw new AppError(
    "bad_input",
    `Cannot grant the variable ${JSON.stringify(value)}: it is not a name`,
    { details: { because } },
  );
}

/** Names that stand for this machine. */
const LOCAL = /^(.+\.)?localhost$/i;

/** Exact addresses among the granted hosts: they must stay usable. */
export function holesOf(net: readonly Need[]): { v4: string[]; v6: string[] } {
  const hosts = net.flatMap((one) =>
    one.value === true || isSocket(one)
      ? []
      : [one.value.replace(/:\d+$/, "").replace(/\.$/, "")]
  );
  const bracketed = hosts.filter((host) => host.startsWith("["))
    .map((host) => host.slice(1, -1).toLowerCase());
  // `localhost` resolves to both loopback addresses, and one denied address of
  // a name may refuse the name.
  const isLocal = hosts.some((host) => LOCAL.test(host));
  return {
    v4: ["127.0.0.1", ...hosts.filter(isIpv4)],
    v6: isLocal ? ["::1", ...bracketed] : bracketed,
  };
}

/**
 * A name is granted with its port and may come to resolve to an address in a
 * hole: there that port is shut, unless a line names the address itself.
 */
function reboundPlaces(
  net: readonly Need[],
  holes: readonly string[],
): string[] {
  const places = net.flatMap((one) => {
    const { value } = one;
    if (isSocket(one)) return [];
    const [, host = "", port] = /^(.*):(\d+)$/.exec(String(value)) ?? [];
    return port === undefined ? [] : [{ host, port }];
  });
  const isName = (host: string) =>
    !isIpv4(host) && !host.startsWith("[") && !LOCAL.test(host);
  const ports = new Set(
    places.flatMap(({ host, port }) => isName(host) ? [port] : []),
  );
  const isNamed = (hole: string, port: string) =>
    places.some((at) =>
      at.port === port &&
      (at.host === hole || hole.startsWith("127.") && LOCAL.test(at.host))
    );
  return [...new Set(holes)].flatMap((hole) =>
    [...ports].filter((port) => !isNamed(hole, port))
      .map((port) => `${hole}:${port}`)
  );
}

function denials(net: readonly Need[]): Need[] {
  const { v4, v6 } = holesOf(net);
  const closed = [...denyRanges({ holes: v4 }), ...denyAddressesV6(v6)];
  const row = (because: string) => (value: string): Need => ({
    kind: "net",
    value,
    because,
  });
  return [
    ...closed.map(row("not a public address")),
    ...reboundPlaces(net, v4).map(row("no name may come to stand for it")),
  ];
}

/** Whether a line asks for the bare flag. */
export function isBare(list: readonly Need[]): boolean {
  return list.some(({ value }) => value === true);
}

/** All entries of the allow lists. */
export function needsOf(permissions: Permissions): Need[] {
  return KINDS.flatMap((kind) => [...permissions[kind]]);
}

function permissionFlags(permissions: Permissions): string[] {
  const list = (flag: string, needs: readonly Need[]) => {
    if (needs.length === 0) return [];
    if (isBare(needs)) return [flag];
    return [`${flag}=${needs.map(({ value }) => value).join(",")}`];
  };
  return [
    ...KINDS.flatMap((kind) => list(`--allow-${kind}`, permissions[kind])),
    ...list("--deny-net", permissions.denyNet),
  ];
}

/** The whole argv of flags, for `deno run` and `deno compile`. */
export function toFlags(permissions: Permissions): string[] {
  return [
    ...FIXED_FLAGS.map(([flag]) => flag),
    ...permissionFlags(permissions),
  ];
}

/** Where a field is written, as {@linkcode Loaded} says. */
export type Where = (path: string) => string;

/** Every entry with its reason; a configuration field also with its line. */
export function grantsOf(permissions: Permissions, where?: Where): Grant[] {
  const grant = (flag: string, { value, because }: Need): Grant => ({
    flag,
    value: value === true ? "" : value,
    because: located(because, where),
  });
  return [
    ...FIXED_FLAGS.map(([flag, because]) => ({ flag, value: "", because })),
    ...KINDS.flatMap((kind) =>
      permissions[kind].map((one) => grant(`--allow-${kind}`, one))
    ),
    ...permissions.denyNet.map((one) => grant("--deny-net", one)),
  ];
}

function located(because: string, where?: Where): string {
  if (where === undefined) return because;
  return because.split("; ").map((reason) => {
    const path = reason.split(",")[0] ?? "";
    const isField = /^[a-z]\w*(\.[\w-]+)+$/.test(path);
    return isField ? `${reason} (${where(path)})` : reason;
  }).join("; ");
}

/** What a configuration leads to: the flags, and what is wrong with it. */
export interface Plan {
  permissions: Permissions;
  flags: string[];
  grants: Grant[];
  /** Not empty: these are safe-mode flags. */
  problems: readonly Problem[];
}

/**
 * The flags for a verb. The launcher and the service both ask this, so that they
 * agree on what is a bad configuration.
 */
export function planFor(
  verb: string,
  loaded: Loaded<Settings>,
  facts: Facts,
): Plan {
  const { variables = [] } = loaded;
  const known = { ...facts, variables };
  const safe = (problems: readonly Problem[]): Plan => {
    const permissions = safePermissions(verb, known);
    const grants = grantsOf(permissions);
    return { permissions, flags: toFlags(permissions), grants, problems };
  };
  if (!loaded.ok) return safe(loaded.problems);
  try {
    const permissions = permissionsFor(verb, loaded.value, known);
    const grants = grantsOf(permissions, loaded.where);
    return { permissions, flags: toFlags(permissions), grants, problems: [] };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return safe([problemOf(error, loaded)]);
  }
}

function problemOf(
  error: AppError,
  loaded: Loaded<Settings> & { ok: true },
): Problem {
  const because = String(error.details?.["because"] ?? "");
  const path = because.split(",")[0] ?? "";
  const at = /^(.*):(\d+)$/.exec(loaded.where(path));
  return {
    file: at?.[1] !== undefined && !loaded.source.endsWith(at[1])
      ? at[1]
      : loaded.source,
    ...(at === null ? {} : { line: Number(at[2]) }),
    path,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}
