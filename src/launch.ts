/**
 * The launcher: reads the configuration, computes the sandbox, and starts the
 * program in it with an environment built from empty. It starts the service again
 * when that exits 75, which says that the configuration now needs other flags.
 *
 * Never: it reaches the network, listens, unseals a secret, or uses a shell.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import { EXIT, type Grant } from "./cli/verb.ts";
import { systemEnv } from "./config/env.ts";
import { loadConfig } from "./config/load.ts";
import { formatProblem } from "./config/problem.ts";
import { stateDir, systemPlace } from "./config/state.ts";
import { AppError, ignore } from "./core/errors.ts";
import { Secret } from "./core/secret.ts";
import { systemClock } from "./core/time.ts";
import { diffGrants, type Plan, planFor } from "./permissions.ts";
import { Settings } from "./settings.ts";

/** Restarts within a minute that are still believed to be somebody's wish. */
const RESTARTS_MAX = 5;
const RESTARTS_MS = 60_000;

/** A signal that comes twice at once (terminal and task runner) counts once. */
const SIGNAL_ECHO_MS = 250;

/** What the runtime itself reads; the program cannot see these. */
const RUNTIME_NAMES = [
  ["HOME", "DENO_DIR", "XDG_CACHE_HOME", "TZ"],
  ["DENO_CERT", "DENO_TLS_CA_STORE", "SSL_CERT_FILE", "SSL_CERT_DIR"],
  ["SYSTEMROOT", "USERPROFILE", "LOCALAPPDATA", "TEMP"],
].flat();

/** What a test may put in place of the program. */
export interface LaunchOptions {
  /** The module that is started. */
  main?: string;
}

/** What one start is made of. */
interface Start {
  plan: Plan;
  env: Record<string, string>;
}

const sourceDir = resolve(import.meta.dirname ?? ".", "..");

/** The path with links resolved, as far as it exists. */
async function realPath(path: string): Promise<string> {
  try {
    return await Deno.realPath(path);
  } catch {
    const parent = dirname(path); // not there yet: its parent may be
    return parent === path
      ? path
      : join(await realPath(parent), basename(path));
  }
}

/** Reads the configuration and computes what follows from it. */
async function prepare(verb: string): Promise<Start> {
  const state = await realPath(await stateDir(systemEnv, systemPlace()));
  // Whether a secret is there is the service's question: nothing is unsealed here.
  const findSecret = (name: string) =>
    Promise.resolve(new Secret("", `secret ${name}`));
  const loaded = await loadConfig(Settings, {
    stateDir: state,
    env: systemEnv,
    findSecret,
  });
  const named = systemEnv.get("CARAPACE_CONFIG_PATH");
  const paths = named === undefined ? [] : [resolve(named.trim())];
  if (loaded.ok) paths.push(...loaded.files);
  const configFiles = new Set(paths);
  for (const path of paths) configFiles.add(await realPath(path));
  const plan = planFor(verb, loaded, {
    stateDir: state,
    sourceDir,
    configFiles: [...configFiles],
    env: systemEnv,
    os: Deno.build.os,
  });
  const env = environment(plan);
  env["CARAPACE_STATE_DIR"] = state;
  if (paths[0] !== undefined && named !== undefined) {
    env["CARAPACE_CONFIG_PATH"] = paths[0];
  }
  return { plan, env };
}

/** From empty: the names that were granted and the runtime's own, where set. */
function environment({ permissions }: Plan): Record<string, string> {
  const granted = permissions.env.map(({ value }) => String(value));
  const env: Record<string, string> = {
    DENO_NO_UPDATE_CHECK: "1",
    DENO_NO_PROMPT: "1",
  };
  for (const name of [...RUNTIME_NAMES, ...granted]) {
    const value = systemEnv.get(name);
    if (value !== undefined) env[name] = value;
  }
  return env;
}

interface SpawnOptions {
  /** The subcommand and its flags. */
  run: readonly string[];
  main: string;
  args: readonly string[];
  isService: boolean;
}

function spawn(start: Start, options: SpawnOptions): Deno.ChildProcess {
  const { run, main, args, isService } = options;
  const config = join(sourceDir, "deno.json");
  return new Deno.Command(Deno.execPath(), {
    args: [...run, "--config", config, main, ...args],
    clearEnv: true,
    env: start.env,
    // The end of this pipe tells the service that the launcher died.
    stdin: isService ? "piped" : "inherit",
    // In a session of its own the service gets Ctrl-C once, from here.
    detached: isService && Deno.build.os !== "windows",
  }).spawn();
}

/** Passes signals on to whichever child there is; knows whether one came. */
function forwardSignals(
  isService: boolean,
): { child: Deno.ChildProcess | undefined; stopped: boolean } & Disposable {
  const state = {
    child: undefined as Deno.ChildProcess | undefined,
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
  const { main = join(sourceDir, "main.ts") } = options;
  if (args[0] === "--compile") return await compile(main, args.slice(1));
  const watch = args[0] === "--watch" ? ["--watch", "--no-clear-screen"] : [];
  const [verb = "help", ...rest] = args.slice(watch.length > 0 ? 1 : 0);
  const isService = verb === "start";
  const passed = isService ? [verb, "--supervised", ...rest] : args;
  using signals = forwardSignals(isService);
  const restarts: number[] = [];
  let before: readonly Grant[] | undefined;
  while (true) {
    // Ends with the first exit code but 75, and with RESTARTS_MAX of those.
    const start = await prepare(verb);
    if (isService) report(start.plan, before);
    before = start.plan.grants;
    const run = ["run", ...watch, ...start.plan.flags];
    const child = spawn(start, { run, main, args: passed, isService });
    signals.child = child;
    const { code } = await child.status;
    signals.child = undefined;
    if (!isService || code !== EXIT.restart || signals.stopped) return code;
    const now = systemClock.now();
    restarts.push(now);
    if (restarts.filter((at) => now - at < RESTARTS_MS).length > RESTARTS_MAX) {
      console.error(
        `error: Cannot go on: the service asked for new permissions ${restarts.length} times in a minute`,
      );
      return EXIT.failed;
    }
  }
}

/** Builds one executable that can do what the present configuration needs. */
async function compile(main: string, args: readonly string[]): Promise<number> {
  const { plan, env } = await prepare("start");
  report(plan, undefined);
  if (plan.problems.length > 0) return EXIT.badConfig;
  const denort = systemEnv.get("DENORT_BIN");
  const start = {
    plan,
    env: denort === undefined ? env : { ...env, DENORT_BIN: denort },
  };
  const run = ["compile", ...plan.flags, ...args];
  const { code } = await spawn(start, {
    run,
    main,
    args: ["start"],
    isService: false,
  }).status;
  return code;
}

function report(plan: Plan, before: readonly Grant[] | undefined): void {
  for (const problem of plan.problems) {
    console.error(`error: ${formatProblem(problem)}`);
  }
  if (plan.problems.length > 0) {
    console.error(
      "hint:  starting in safe mode, with the state directory and the default address only",
    );
  }
  if (before === undefined) return;
  const diff = diffGrants(before, plan.grants);
  console.error(
    `restarting with: ${diff.length === 0 ? "the same" : diff.join(" ")}`,
  );
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
