/**
 * The service process: checks its sandbox, opens the house, says so, follows
 * the configuration, and stops when told.
 *
 * Never: it serves under a sandbox that did not refuse what it must.
 *
 * @module
 */
import { resolve } from "node:path";
import { EXIT } from "./cli/verb.ts";
import { type Env, recordEnv, systemEnv } from "./config/env.ts";
import { formatProblem } from "./config/problem.ts";
import type { Tokens } from "./auth/tokens.ts";
import { readTokenFile, writeTokenFile } from "./config/token_file.ts";
import { AppError, errorText } from "./core/errors.ts";
import type { Log } from "./core/log.ts";
import type { StatusPayload } from "./core/methods.ts";
import { Secret } from "./core/secret.ts";
import { systemClock } from "./core/time.ts";
import { VERSION } from "./core/version.ts";
import {
  type Ending,
  followConfig,
  read,
  type Reading,
  readTls,
} from "./following.ts";
import { budgetText } from "./guard/budget.ts";
import { type House, type HouseOptions, openHouse } from "./house.ts";
import { banner } from "./ops/banner.ts";
import { openLauncherPipe } from "./ops/launcher_pipe.ts";
import { restMemory } from "./ops/rest.ts";
import { watchLifeline } from "./ops/lifeline.ts";
import { LogRing } from "./ops/log_ring.ts";
import { openLog } from "./ops/logs.ts";
import {
  assertPosture,
  dropGrants,
  postureActs,
  runPosture,
} from "./ops/posture.ts";
import { assertPreflight, runPreflight } from "./ops/preflight.ts";
import {
  holesOf,
  isBare,
  listenAddress,
  needsOf,
  type Plan,
} from "./permissions.ts";
import { programsOf } from "./plan.ts";
import { Settings } from "./settings.ts";

/** The first token's scopes: it is the owner's. */
const OWNER_TOKEN = { scopes: ["admin"], kind: "owner" } as const;

/** A signal that comes again this soon is an echo: systemd tells each process of a unit. */
const SIGNAL_ECHO_MS = 1_000;

const sourceDir = resolve(import.meta.dirname ?? ".", "..");

/** The settings to run with: the configuration's, or defaults in safe mode. */
function settingsOf({ loaded, plan }: Reading, env: Env): {
  settings: Settings;
  safeMode?: string;
} {
  const [problem] = plan.problems;
  if (loaded.ok && problem === undefined) {
    const { value } = loaded;
    const gateway = listenAddress(value.gateway, env);
    return { settings: { ...value, gateway } };
  }
  const defaults = Settings.parse({});
  const port = Number(env.get("CARAPACE_PORT")) || defaults.gateway.port;
  const count = plan.problems.length;
  const more = count > 1 ? ` (and ${count - 1} more)` : "";
  return {
    settings: { ...defaults, gateway: { ...defaults.gateway, port } },
    safeMode: problem === undefined
      ? "the configuration is not valid"
      : `${formatProblem(problem)}${more}`,
  };
}

function grantLists({ permissions }: Plan): Record<string, string[]> {
  const lists: Record<string, string[]> = {};
  for (const { kind, value } of needsOf(permissions)) {
    (lists[kind] ??= []).push(value === true ? "any" : value);
  }
  return lists;
}

async function checkSandbox(
  reading: Reading,
  options: { isOff: boolean; settings: Settings },
): Promise<StatusPayload["posture"]> {
  const { plan, dir } = reading;
  const grants = grantLists(plan);
  if (options.isOff) return { tried: 0, refused: 0, sandboxOff: true, grants };
  const { host, port } = options.settings.gateway;
  const { net, read } = plan.permissions;
  const values = (list: typeof read) =>
    list.flatMap(({ value }) => (value === true ? [] : [value]));
  const posture = await runPosture(postureActs({
    sourceDir,
    isOpen: isBare(net),
    holes: holesOf(net).v4,
    read: values(read),
    sys: values(plan.permissions.sys),
    env: systemEnv,
    os: Deno.build.os,
  }));
  assertPosture(posture);
  const needs = needsOf(plan.permissions);
  assertPreflight(await runPreflight({ host, port, stateDir: dir, needs }));
  const { tried, refused } = posture;
  return { tried, refused, sandboxOff: false, grants };
}

/** The variables that were granted, as they are now: they cannot change. */
function snapshot({ plan, dir }: Reading): Env {
  const record: Record<string, string> = { CARAPACE_STATE_DIR: dir };
  for (const { value } of plan.permissions.env) {
    const text = systemEnv.get(String(value));
    if (text !== undefined) record[String(value)] = text;
  }
  return recordEnv(record);
}

/** What the owner is told of the ways in. */
interface Given {
  token?: string;
  tokenFile?: string;
  isTokenFromEnv: boolean;
}

/** The owner's way in: the environment's token, or one made at the first start. */
async function giveToken(
  tokens: Tokens,
  options: { dir: string; env: Env },
): Promise<Given> {
  const { dir, env } = options;
  const fromEnv = env.get("CARAPACE_TOKEN");
  if (fromEnv !== undefined) {
    await tokens.adopt(fromEnv);
    return { isTokenFromEnv: true };
  }
  await tokens.retireAdopted();
  const isFirst = (await tokens.list()).length === 0;
  if (!isFirst && await readTokenFile(dir) !== undefined) {
    return { isTokenFromEnv: false };
  }
  const cli = await tokens.create({
    ...OWNER_TOKEN,
    name: "command line",
  });
  const secret = new Secret(cli.token, "first start");
  const tokenFile = await writeTokenFile(dir, secret);
  if (!isFirst || !Deno.stdout.isTerminal()) {
    return { tokenFile, isTokenFromEnv: false };
  }
  const owner = await tokens.create({ ...OWNER_TOKEN, name: "owner" });
  return { token: owner.token, tokenFile, isTokenFromEnv: false };
}

/** How many programs the launcher may be asked for. */
function countPrograms(settings: Settings): number {
  const { commands, mcp } = programsOf(settings);
  return Object.keys(commands).length + Object.keys(mcp).length;
}

/**
 * Calls back at a signal that asks for the end. From the service's first line to
 * its last: a signal that nobody listens to ends a process at once, also between
 * the first answer and the banner, or while the house is closed. A second one,
 * not the echo of the first, is from somebody who does not want to wait.
 */
function watchSignals(end: (ending: Ending) => void): Disposable {
  const stack = new DisposableStack();
  const names: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT"]
    : ["SIGINT", "SIGTERM"];
  let first: number | undefined;
  for (const name of names) {
    const listener = () => {
      const now = systemClock.now();
      first ??= now;
      if (now - first > SIGNAL_ECHO_MS) Deno.exit(EXIT.interrupted);
      end({ code: EXIT.ok, why: name });
    };
    Deno.addSignalListener(name, listener);
    stack.defer(() => Deno.removeSignalListener(name, listener));
  }
  return stack;
}

async function serve(
  house: House,
  options: {
    reading: Reading;
    env: Env;
    log: Log;
    tls: HouseOptions["tls"];
    isSupervised: boolean;
    ended: PromiseWithResolvers<Ending>;
    announce(): Promise<void>;
  },
): Promise<number> {
  const { log, isSupervised, ended } = options;
  const over = new AbortController();
  using _lifeline = isSupervised
    ? watchLifeline(
      Deno.stdin.readable,
      () => ended.resolve({ code: EXIT.ok, why: "the launcher is gone" }),
    )
    : undefined;
  const following = followConfig(house, {
    reading: options.reading,
    env: options.env,
    signal: over.signal,
    log,
    tls: options.tls,
    end: ended.resolve,
  }).catch((error) => {
    log("warn", "config.not_followed", { error: errorText(error) });
  });
  await options.announce();
  const resting = restMemory({
    busy: () => {
      const { running, queued } = house.desk.counts();
      return running + queued + house.gateway.counts().inFlight;
    },
    clock: systemClock,
    log,
    signal: over.signal,
  });
  const ending = await ended.promise;
  over.abort();
  log("info", "service.stopping", { why: ending.why });
  await house.stop({ isRestart: ending.isRestart ?? false });
  await Promise.all([following, resting]);
  return ending.code;
}

/** Runs the gateway to its exit code. */
export async function startService(
  args: readonly string[],
  ticks?: AsyncIterable<Date>,
): Promise<number> {
  const isSupervised = args.includes("--supervised");
  const isOff = args.includes("--unsafe-sandbox-off");
  const ended = Promise.withResolvers<Ending>();
  using _signals = watchSignals(ended.resolve);
  const reading = await read(systemEnv);
  const env = snapshot(reading);
  const { settings, safeMode } = settingsOf(reading, env);
  const encoder = new TextEncoder();
  const logs = new LogRing();
  const log = openLog(settings.log, {
    isTerminal: Deno.stderr.isTerminal(),
    write: (line) => void Deno.stderr.writeSync(encoder.encode(line)),
    ring: logs,
  });
  const posture = await checkSandbox(reading, { isOff, settings });
  // From here on no package can read a key out of the environment.
  if (!isOff) await dropGrants(["env"]);
  const tls = safeMode === undefined ? await readTls(reading, log) : undefined;
  let given: Given = { isTokenFromEnv: false };
  let code: number;
  {
    await using house = await openHouse({
      settings,
      stateDir: reading.dir,
      env,
      clock: systemClock,
      log,
      logs,
      posture,
      tls,
      pipe: openLauncherPipe(),
      ...(ticks === undefined ? {} : { ticks }),
      beforeListening: async (tokens) => {
        given = await giveToken(tokens, { dir: reading.dir, env });
      },
      ...(safeMode === undefined ? {} : { safeMode }),
    });
    if (safeMode === undefined) await house.configuration.record("start");
    const announce = async () => {
      const resumed = await house.resume();
      const { host, port } = house.gateway.address;
      const name = host.includes(":") ? `[${host}]` : host;
      const text = banner({
        version: VERSION,
        address: `${house.gateway.isTls ? "https" : "http"}://${name}:${port}`,
        ...given,
        model: house.model,
        ...(house.setupHint === undefined
          ? {}
          : { setupHint: house.setupHint }),
        budget: budgetText(settings.budgets),
        posture: { ...posture, isOff },
        grants: posture.grants,
        programs: countPrograms(settings),
        stateDir: reading.dir,
        ...(safeMode === undefined ? {} : { safeMode }),
        resumed,
        color: Deno.stdout.isTerminal() && !env.get("NO_COLOR"),
      });
      Deno.stdout.writeSync(encoder.encode(text));
    };
    code = await serve(house, {
      reading,
      env,
      log,
      tls,
      isSupervised,
      ended,
      announce,
    });
  }
  if (code === EXIT.restart && !isSupervised) {
    throw new AppError("unavailable", "The configuration changed", {
      hint: "Start again; under `deno task start` this happens by itself",
    });
  }
  return code;
}
