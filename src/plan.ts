/**
 * The planner: reads the configuration and says what the launcher is to do. It
 * is a process of its own that ends at once, so that the one process which may
 * start programs holds no parser, no schema and no package.
 *
 * Never: it starts anything, writes anything, reaches the network or unseals a
 * secret.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import type { Grant } from "./cli/verb.ts";
import { type Env, systemEnv, withConfigFile } from "./config/env.ts";
import { loadConfig, type Loaded } from "./config/load.ts";
import { formatProblem, type Problem } from "./config/problem.ts";
import { stateDir, systemPlace } from "./config/state.ts";
import { AppError } from "./core/errors.ts";
import { Secret } from "./core/secret.ts";
import { type Facts, type Plan, planFor } from "./permissions.ts";
import type { Programs } from "./core/command.ts";
import { Settings } from "./settings.ts";
import { templatesOf } from "./tools/exec_config.ts";
import { mcpPrograms, mcpServersOf } from "./tools/mcp/config.ts";

/** What the planner prints, and the launcher reads. */
export type Planned =
  | {
    ok: true;
    flags: string[];
    grants: Grant[];
    /** One line each; not empty means safe mode. */
    problems: string[];
    /** Names the program may see. */
    names: string[];
    /** Variables that are set to another value than the launcher's own. */
    env: Record<string, string>;
    /** What the launcher may start for the service; no secrets in it. */
    programs: Programs;
  }
  | { ok: false; message: string; hint?: string };

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

/** The facts of this process that the flags depend on. */
export async function findFacts(
  env: Env,
  loaded: Loaded<Settings>,
): Promise<Facts> {
  const named = env.get("CARAPACE_CONFIG_PATH");
  const paths = named === undefined ? [] : [resolve(named.trim())];
  paths.push(...loaded.files ?? []);
  const real = await Promise.all(paths.map(realPath));
  return {
    stateDir: await realPath(await stateDir(env, systemPlace())),
    sourceDir: resolve(import.meta.dirname ?? ".", ".."),
    configFiles: [...new Set([...paths, ...real])],
    env,
    os: Deno.build.os,
  };
}

/** What keeps a configuration that loads from being started with. */
export async function startProblems(
  env: Env,
  loaded: Loaded<Settings>,
): Promise<readonly Problem[]> {
  return planFor("start", loaded, await findFacts(env, loaded)).problems;
}

/** Loads the configuration and computes what follows from it for a verb. */
async function makePlan(
  verb: string,
  env: Env,
  args: readonly string[] = [],
): Promise<{ plan: Plan; facts: Facts; programs: Programs }> {
  // Whether a secret is there is the service's question: nothing is unsealed.
  const findSecret = (name: string) =>
    Promise.resolve(new Secret("", `secret ${name}`));
  const loaded = await loadConfig(Settings, {
    stateDir: await realPath(await stateDir(env, systemPlace())),
    env,
    findSecret,
  });
  const facts = { ...await findFacts(env, loaded), args };
  const plan = planFor(verb, loaded, facts);
  const isGood = loaded.ok && plan.problems.length === 0 && verb === "start";
  const programs = isGood
    ? programsOf(loaded.value)
    : { commands: {}, mcp: {} };
  return { plan, facts, programs };
}

/** The programs a configuration names. */
export function programsOf(settings: Settings): Programs {
  return {
    commands: templatesOf(settings.tools.exec),
    mcp: mcpPrograms(mcpServersOf(settings)),
  };
}

/** The environment to plan by: `config validate FILE` is about that file. */
function planEnv(verb: string, args: readonly string[]): Env {
  const [form, file] = args.filter((arg) => !arg.startsWith("-"));
  return verb === "config" && form === "validate" && file !== undefined
    ? withConfigFile(systemEnv, file)
    : systemEnv;
}

async function planned(
  [verb = "", ...args]: readonly string[],
): Promise<Planned> {
  try {
    const env = planEnv(verb, args);
    const { plan, facts, programs } = await makePlan(verb, env, args);
    const named = systemEnv.get("CARAPACE_CONFIG_PATH")?.trim();
    return {
      ok: true,
      flags: plan.flags,
      grants: plan.grants,
      problems: plan.problems.map(formatProblem),
      names: plan.permissions.env.map(({ value }) => String(value)),
      env: {
        CARAPACE_STATE_DIR: facts.stateDir,
        ...named === undefined ? {} : { CARAPACE_CONFIG_PATH: resolve(named) },
      },
      programs,
    };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { message, hint } = error;
    return { ok: false, message, ...hint === undefined ? {} : { hint } };
  }
}

async function main(): Promise<void> {
  const text = JSON.stringify(await planned(Deno.args));
  await new Response(text).body?.pipeTo(Deno.stdout.writable);
}

if (import.meta.main) void main();
