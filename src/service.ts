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
import { loadConfig, type Loaded } from "./config/load.ts";
import { formatProblem, type Problem } from "./config/problem.ts";
import { openSecrets, type Secrets, SECRETS_FILE } from "./config/secrets.ts";
import { stateDir, systemPlace } from "./config/state.ts";
import type { Tokens } from "./auth/tokens.ts";
import { readTokenFile, writeTokenFile } from "./config/token_file.ts";
import { watchConfig } from "./config/watch.ts";
import { AppError, errorText, ignore } from "./core/errors.ts";
import { SETTLED_MS } from "./core/exit.ts";
import type { Log } from "./core/log.ts";
import type { StatusPayload } from "./core/methods.ts";
import { changedSecrets, Secret } from "./core/secret.ts";
import { systemClock } from "./core/time.ts";
import { VERSION } from "./core/version.ts";
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
  planFor,
} from "./permissions.ts";
import { findFacts, programsOf } from "./plan.ts";
import { Settings } from "./settings.ts";
import { mcpServersOf } from "./tools/mcp/config.ts";

/** The first token's scopes: it is the owner's. */
const OWNER_TOKEN = { scopes: ["admin"], kind: "owner" } as const;

/** A signal that comes again this soon is an echo: systemd tells each process of a unit. */
const SIGNAL_ECHO_MS = 1_000;

const sourceDir = resolve(import.meta.dirname ?? ".", "..");

/** What the configuration leads to, read anew. */
interface Reading {
  dir: string;
  secrets: Secrets;
  loaded: Loaded<Settings>;
  plan: Plan;
  /** Files whose change matters. */
  files: readonly string[];
}

async function read(env: Env, before?: Reading): Promise<Reading> {
  const dir = await stateDir(env, systemPlace());
  // Kept: the key of a passphrase takes half a second.
  const secrets = before?.secrets ?? openSecrets({ dir, env: env });
  const loaded = await loadConfig(Settings, {
    stateDir: dir,
    env: env,
    findSecret: (name) => secrets.find(name),
  });
  const facts = await findFacts(env, loaded);
  const plan = planFor("start", loaded, facts);
  const files = facts.configFiles.length > 0
    ? facts.configFiles
    : [`${dir}/carapace.jsonc`];
  return {
    ...{ dir, secrets, loaded, plan },
    files: [...files, `${dir}/${SECRETS_FILE}`, ...tlsPaths(loaded)],
  };
}

function tlsPaths(loaded: Loaded<Settings>): string[] {
  const tls = loaded.ok ? loaded.value.gateway.tls : undefined;
  return tls === undefined ? [] : [tls.cert, tls.key];
}

/** What the files of `gateway.tls` hold. @throws {AppError} what is wrong with them */
async function readTls(
  { loaded }: Reading,
  log: Log,
): Promise<HouseOptions["tls"]> {
  const paths = loaded.ok ? loaded.value.gateway.tls : undefined;
  if (paths === undefined) return undefined;
  const { readServerPair } = await import("./config/certificates.ts");
  const { cert, key, facts } = await readServerPair(paths);
  const { names, notAfter } = facts;
  log(notAfter < systemClock.now() ? "error" : "info", "gateway.certificate", {
    names: names.join(" "),
    key: facts.key,
    until: new Date(notAfter).toISOString(),
  });
  return { cert, key };
}

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

/** Why the service ends. */
interface Ending {
  code: number;
  why: string;
  isRestart?: boolean;
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

/** The one secret that is taken up while the service runs. */
const PASSWORD_PATH = "gateway.password";

/** What changed that only a new process can take: everything but these. */
function needsRestart(before: Settings, after: Settings): boolean {
  const cold = (settings: Settings) => {
    const { providers, egress, remotes, store, log, tools } = settings;
    // What a login may do holds at once; where to ask needs a permission.
    const { tailscale, password: _, ...listening } = settings.gateway;
    const gateway = { ...listening, socket: tailscale?.socket };
    // What the launcher may start is read when the service starts.
    const programs = [tools.exec, mcpServersOf(settings)];
    const made = [tools.search, tools.skills, tools.roots.length === 0];
    return JSON.stringify([
      ...[gateway, providers, egress, remotes, store, log],
      ...[programs, made],
    ]);
  };
  // They print alike, so their values are compared; whoever was given one
  // before goes on with it.
  const secrets = changedSecrets(before, after)
    .filter((path) => path !== PASSWORD_PATH);
  return secrets.length > 0 || cold(before) !== cold(after);
}

/**
 * A variable that no line named at the start is not granted, so it looks unset
 * to this process whether it is or not; only a start can tell.
 */
function hintFor(
  problem: Problem | undefined,
  { permissions }: Plan,
): { hint?: string } {
  const [, name] = /^the environment variable (\S+) is not set$/.exec(
    problem?.message ?? "",
  ) ??
    [];
  const isGranted = permissions.env.some(({ value }) => value === name);
  return name === undefined || isGranted ? {} : {
    hint:
      `${name} was not granted at the start: if it was set then, stop and start the gateway`,
  };
}

/** Follows the configuration: hot where it can be, by restart where it must. */
async function followConfig(
  house: House,
  options: {
    reading: Reading;
    env: Env;
    signal: AbortSignal;
    log: Log;
    tls: HouseOptions["tls"];
    end(ending: Ending): void;
  },
): Promise<void> {
  const { signal, log, end, tls } = options;
  let { loaded, plan } = options.reading;
  for await (const _ of watchConfig(options.reading.files, signal)) {
    const next = await read(options.env, options.reading);
    const [problem] = next.plan.problems;
    if (problem !== undefined || !next.loaded.ok) {
      log("error", "config.refused", {
        problem: problem === undefined ? "" : formatProblem(problem),
        kept: "the last good one",
        ...hintFor(problem, plan),
      });
      // A password that is nowhere any more lets nobody in.
      if (next.plan.problems.some(({ path }) => path === PASSWORD_PATH)) {
        house.endPassword();
      }
      continue;
    }
    // At once, whatever else has to wait for a restart.
    house.adoptLogins(next.loaded.value);
    const renewed = await readTls(next, log).catch((error) => {
      log("error", "config.refused", {
        problem: errorText(error),
        kept: "the last good certificate",
      });
      return tls;
    });
    const isRenewed = renewed?.cert !== tls?.cert || renewed?.key !== tls?.key;
    const isWider = plan.flags.join(" ") !== next.plan.flags.join(" ");
    const isCold = !loaded.ok || options.reading.plan.problems.length > 0 ||
      needsRestart(loaded.value, next.loaded.value);
    if (isWider || isCold || isRenewed) {
      const permissions = isWider ? "others" : "the same";
      log("info", "config.restart", { permissions });
      await house.configuration.record("file");
      house.gateway.publish("config.changed", {
        hash: next.loaded.hash,
        restart: true,
      });
      await systemClock.sleep(
        Math.max(0, SETTLED_MS - performance.now()),
        signal,
      )
        .catch(ignore("it stops for another reason"));
      return end({
        code: EXIT.restart,
        why: "the configuration changed",
        isRestart: true,
      });
    }
    const isSame = loaded.ok && loaded.hash === next.loaded.hash &&
      changedSecrets(loaded.value, next.loaded.value).length === 0;
    ({ loaded, plan } = { loaded: next.loaded, plan: next.plan });
    // Sealed anew, or a secret that nothing here refers to.
    if (isSame) continue;
    house.adopt(next.loaded.value);
    log("info", "config.adopted", { hash: next.loaded.hash.slice(0, 12) });
    await house.configuration.record("file");
    house.gateway.publish("config.changed", {
      hash: next.loaded.hash,
      restart: false,
    });
  }
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
