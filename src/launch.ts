/**
 * The launcher: starts the program in its computed sandbox, with an environment
 * built from empty, and starts the service again when that exits 75, which says
 * that the configuration now needs other flags. It is the only process that may
 * start programs, so it holds no package: what to do is the planner's answer.
 *
 * Never: it reaches the network, listens, parses a configuration, uses a shell.
 * (The runtime itself would ask for a newer version, through any proxy, unless
 * the task that starts this sets `DENO_NO_UPDATE_CHECK`.)
 *
 * @module
 */
import { isTextOnly } from "./cli/text_only.ts";
import { EXIT, type Grant } from "./cli/verb.ts";
import { systemEnv } from "./config/env.ts";
import { AppError, ignore } from "./core/errors.ts";
import { OPEN_FILES, SETTLED_MS } from "./core/exit.ts";
import { systemClock } from "./core/time.ts";
import type { Planned } from "./plan.ts";

/** Within a minute so many services that hardly lived are started again. */
const RESTARTS_MAX = 5;
const RESTARTS_MS = 60_000;

/** A signal that comes twice at once (terminal and task runner) counts once. */
const SIGNAL_ECHO_MS = 250;

/**
 * A module or package that is not needed is not even looked at. Never with
 * `compile`, which would leave it out, and never for the service: it would read
 * next week's module beside the ones it began with, once somebody updated it.
 */
const LAZY = "--unstable-lazy-dynamic-imports";

/** The planner reads files and variables, and can do nothing else. */
const PLANNER_FLAGS = [
  LAZY,
  "--no-prompt",
  "--frozen",
  "--cached-only",
  "--no-remote",
  "--allow-read",
  "--allow-env",
];

/** For a text of the program's own: it may see whether to colour it. */
const TEXT_FLAGS = [
  "--no-prompt",
  "--frozen",
  "--cached-only",
  "--no-remote",
  "--allow-env=NO_COLOR",
  "--ignore-env",
];

/** What the runtime itself reads; the program cannot see these. */
const RUNTIME_NAMES = [
  ["HOME", "DENO_DIR", "XDG_CACHE_HOME", "TZ"],
  ["DENO_CERT", "DENO_TLS_CA_STORE", "SSL_CERT_FILE", "SSL_CERT_DIR"],
  ["SYSTEMROOT", "USERPROFILE", "LOCALAPPDATA", "TEMP"],
].flat();

/** What would change the runtime of a process that reaches no network. */
const STEERING = /^(DENO|DYLD|LD|NODE|NPM|OTEL|V8)_/i;

/** What a test may put in place of the program. */
export interface LaunchOptions {
  /** The module that is started. */
  main?: string;
}

type Plan = Planned & { ok: true };

const src = import.meta.dirname ?? "src";
const config = `${src}/../deno.json`;

/** Asks the planner, a process that ends with its answer. */
async function askPlanner(
  verb: string,
  rest: readonly string[] = [],
): Promise<Plan> {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      ...PLANNER_FLAGS,
      "--config",
      config,
      `${src}/plan.ts`,
      verb,
      ...rest,
    ],
    clearEnv: true,
    env: plannerEnvironment(),
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (code !== 0) {
    throw new AppError("internal", "Cannot plan the start: see above");
  }
  const planned: Planned = JSON.parse(new TextDecoder().decode(stdout));
  if (planned.ok) return planned;
  const { message, hint } = planned;
  throw new AppError("bad_input", message, hint === undefined ? {} : { hint });
}

/** A configuration may refer to any variable, but none steers the planner. */
function plannerEnvironment(): Record<string, string> {
  const names = Object.entries(Deno.env.toObject()).filter(([name]) =>
    RUNTIME_NAMES.includes(name) || !STEERING.test(name)
  );
  return { ...Object.fromEntries(names), DENO_NO_UPDATE_CHECK: "1" };
}

/** From empty: the names that were granted and the runtime's own, where set. */
function environment(plan: Plan): Record<string, string> {
  const env: Record<string, string> = {
    DENO_NO_UPDATE_CHECK: "1",
    DENO_NO_PROMPT: "1",
    // Each of glibc's arenas keeps what it once had; two are enough here.
    MALLOC_ARENA_MAX: "2",
    // It would grow: large blocks that are given back would stay in an arena.
    MALLOC_MMAP_THRESHOLD_: "131072",
  };
  for (const name of [...RUNTIME_NAMES, ...plan.names]) {
    const value = systemEnv.get(name);
    if (value !== undefined) env[name] = value;
  }
  return { ...env, ...plan.env };
}

/**
 * The limit as it is for a child of this process: the runtime raises its own to
 * what the system allows, so a shell's `ulimit -n` says less.
 */
async function tellOpenFiles(env: Record<string, string>): Promise<void> {
  delete env[OPEN_FILES];
  try {
    const { success, stdout } = await new Deno.Command("getconf", {
      args: ["OPEN_MAX"],
      clearEnv: true,
      env: { PATH: "/usr/bin:/bin" },
      stdin: "null",
      stderr: "null",
    }).output();
    if (success) env[OPEN_FILES] = new TextDecoder().decode(stdout).trim();
  } catch (error) {
    ignore("there is no getconf")(error);
  }
}

interface SpawnOptions {
  /** The subcommand and its flags. */
  run: readonly string[];
  /** The module and its arguments. */
  args: readonly string[];
  env: Record<string, string>;
  isService: boolean;
}

/** A started program, as much of it as is used here. */
interface Child {
  kill(signal: Deno.Signal): void;
  readonly code: Promise<number>;
}

const SIGNAL_CODES: Readonly<Record<string, number>> = {
  SIGHUP: 129,
  SIGINT: 130,
  SIGKILL: 137,
  SIGTERM: 143,
};

/**
 * The service with a second pipe, over which it asks for programs. Only when
 * the configuration names some.
 */
async function spawnWithPipe(
  options: SpawnOptions,
  { programs }: Plan,
): Promise<Child> {
  const { spawn } = await import("node:child_process");
  const { ProgramHost } = await import("./programs.ts");
  const { run, args, env } = options;
  const child = spawn(
    Deno.execPath(),
    [...run, "--config", config, ...args],
    {
      env,
      stdio: ["pipe", "inherit", "inherit", "ipc"],
      detached: Deno.build.os !== "windows",
    },
  );
  const host = new ProgramHost(programs, (event) => {
    // The service may have left before its programs.
    if (child.connected) child.send(event);
  });
  child.on("message", (message: unknown) => void host.take(message));
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on("error", reject);
  child.on("exit", (code: number | null, signal: string | null) => {
    host[Symbol.dispose]();
    resolve(code ?? SIGNAL_CODES[signal ?? ""] ?? EXIT.failed);
  });
  return {
    // Its own `kill` says that it ended by the signal, however it ends.
    kill: (signal) => {
      if (child.pid !== undefined) Deno.kill(child.pid, signal);
    },
    code: promise,
  };
}

function spawnPlain(options: SpawnOptions): Child {
  const child = spawn(options);
  return {
    kill: (signal) => child.kill(signal),
    code: child.status.then(({ code }) => code),
  };
}

/** Whether the service may ask for anything at all. */
function hasPrograms({ programs }: Plan): boolean {
  return Object.keys(programs.commands).length > 0 ||
    Object.keys(programs.mcp).length > 0;
}

function spawn(options: SpawnOptions): Deno.ChildProcess {
  const { run, args, env, isService } = options;
  return new Deno.Command(Deno.execPath(), {
    args: [...run, "--config", config, ...args],
    clearEnv: true,
    env,
    // The end of this pipe tells the service that the launcher died.
    stdin: isService ? "piped" : "inherit",
    // In a session of its own the service gets Ctrl-C once, from here.
    detached: isService && Deno.build.os !== "windows",
  }).spawn();
}

/** Passes signals on to whichever child there is; knows whether one came. */
function forwardSignals(
  isService: boolean,
): { child: Child | undefined; stopped: boolean } & Disposable {
  const state = {
    child: undefined as Child | undefined,
    stopped: false,
    [Symbol.dispose]: () => undo.forEach((remove) => remove()),
  };
  const names: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  const undo = names.map((name) => {
    let last = -Infinity;
    const pass = () => {
      const now = systemClock.now();
      if (now - last < SIGNAL_ECHO_MS) return;
      last = now;
      if (name !== "SIGHUP") state.stopped = true;
      // A terminal sends Ctrl-C to a command line's process by itself.
      if (name === "SIGINT" && !isService && Deno.stdin.isTerminal()) return;
      try {
        state.child?.kill(name);
      } catch (error) {
        ignore("the process had ended when a signal came")(error);
      }
    };
    Deno.addSignalListener(name, pass);
    return () => Deno.removeSignalListener(name, pass);
  });
  return state;
}

/** Runs a command line in its sandbox, to its exit code. */
export async function launch(
  args: readonly string[],
  options: LaunchOptions = {},
): Promise<number> {
  const { main = `${src}/../main.ts` } = options;
  if (args[0] === "--compile") return await compile(main, args.slice(1));
  if (isTextOnly(args)) return await printText(main, args);
  const [verb = "help", ...rest] = args;
  const isService = verb === "start";
  const passed = isService ? [verb, "--supervised", ...rest] : args;
  using signals = forwardSignals(isService);
  const restarts: number[] = [];
  let before: readonly Grant[] | undefined;
  while (true) {
    // Ends with the first exit code but 75, and with RESTARTS_MAX hasty ones.
    const plan = await askPlanner(verb, rest);
    // A service that is told to stop between two of its processes has stopped.
    if (signals.stopped) return isService ? EXIT.ok : EXIT.interrupted;
    if (isService) report(plan, before);
    before = plan.grants;
    const asked: SpawnOptions = {
      run: ["run", ...(isService ? [] : [LAZY]), ...plan.flags],
      args: [main, ...passed],
      env: environment(plan),
      isService,
    };
    if (verb === "doctor") await tellOpenFiles(asked.env);
    const startedAt = systemClock.now();
    const child = isService && hasPrograms(plan)
      ? await spawnWithPipe(asked, plan)
      : spawnPlain(asked);
    signals.child = child;
    const code = await child.code;
    signals.child = undefined;
    if (!isService || code !== EXIT.restart) return code;
    if (signals.stopped) return EXIT.ok;
    const now = systemClock.now();
    // Whoever served for a while was asked to: its owner may ask often.
    if (now - startedAt < SETTLED_MS) restarts.push(now);
    if (restarts.filter((at) => now - at < RESTARTS_MS).length > RESTARTS_MAX) {
      console.error(
        `error: Cannot go on: the service asked for new permissions ${restarts.length} times in a minute`,
      );
      return EXIT.failed;
    }
  }
}

/** Help and version: the same in every configuration, so nothing is planned. */
async function printText(
  main: string,
  args: readonly string[],
): Promise<number> {
  const env: Record<string, string> = { DENO_NO_UPDATE_CHECK: "1" };
  for (const name of [...RUNTIME_NAMES, "NO_COLOR"]) {
    const value = systemEnv.get(name);
    if (value !== undefined) env[name] = value;
  }
  // A comma would begin another entry of the permission.
  const lazy = src.includes(",") ? [] : [LAZY, `--allow-read=${src}`];
  const { code } = await spawn({
    run: ["run", ...lazy, ...TEXT_FLAGS],
    args: [main, ...args],
    env,
    isService: false,
  }).status;
  return code;
}

/** Builds one executable that can do what the present configuration needs. */
async function compile(main: string, args: readonly string[]): Promise<number> {
  const plan = await askPlanner("start");
  report(plan, undefined);
  if (plan.problems.length > 0) return EXIT.badConfig;
  const denort = systemEnv.get("DENORT_BIN");
  const env = environment(plan);
  const { code } = await spawn({
    run: ["compile", ...plan.flags, ...args],
    args: [main, "start"],
    env: denort === undefined ? env : { ...env, DENORT_BIN: denort },
    isService: false,
  }).status;
  return code;
}

function report(plan: Plan, before: readonly Grant[] | undefined): void {
  for (const problem of plan.problems) console.error(`error: ${problem}`);
  if (plan.problems.length > 0) {
    console.error(
      "hint:  in safe mode: the state directory and the default address only",
    );
  }
  if (before === undefined) return;
  const diff = diffGrants(before, plan.grants);
  console.error(
    `restarting with: ${diff.length === 0 ? "the same" : diff.join(" ")}`,
  );
}

/** What changed between two sandboxes: `+api.example.com:443`, `-/srv/notes`. */
function diffGrants(
  before: readonly Grant[],
  after: readonly Grant[],
): string[] {
  const names = (grants: readonly Grant[]) =>
    new Set(
      grants.filter(({ flag }) => flag !== "--deny-net")
        .map(({ flag, value }) => value === "" ? flag : value),
    );
  const old = names(before);
  const now = names(after);
  return [
    ...[...now.difference(old)].map((name) => `+${name}`),
    ...[...old.difference(now)].map((name) => `-${name}`),
  ];
}

async function run(): Promise<void> {
  try {
    Deno.exit(await launch(Deno.args));
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    console.error(`error: ${error.message}`);
    if (error.hint !== undefined) console.error(`hint:  ${error.hint}`);
    Deno.exit(EXIT.failed);
  }
}

if (import.meta.main) void run();
