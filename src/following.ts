/**
 * What the configuration leads to, and following it while the service runs.
 *
 * Never: a change that cannot be taken up ends the following; what a login or
 * the password no longer may waits for a restart.
 *
 * @module
 */
import { EXIT } from "./cli/verb.ts";
import type { Env } from "./config/env.ts";
import { loadConfig, type Loaded } from "./config/load.ts";
import { formatProblem, type Problem } from "./config/problem.ts";
import { openSecrets, type Secrets, SECRETS_FILE } from "./config/secrets.ts";
import { stateDir, systemPlace } from "./config/state.ts";
import { watchConfig } from "./config/watch.ts";
import { errorText, ignore } from "./core/errors.ts";
import { SETTLED_MS } from "./core/exit.ts";
import type { Log } from "./core/log.ts";
import { changedSecrets } from "./core/secret.ts";
import { systemClock } from "./core/time.ts";
import type { House, HouseOptions } from "./house.ts";
import { type Plan, planFor } from "./permissions.ts";
import { findFacts } from "./plan.ts";
import { Settings } from "./settings.ts";
import { mcpServersOf } from "./tools/mcp/config.ts";

/** What the configuration leads to, read anew. */
export interface Reading {
  dir: string;
  secrets: Secrets;
  loaded: Loaded<Settings>;
  plan: Plan;
  /** Files whose change matters. */
  files: readonly string[];
}

/** @param before Read earlier; its secrets are opened already */
export async function read(env: Env, before?: Reading): Promise<Reading> {
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
export async function readTls(
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

/** Why the service ends. */
export interface Ending {
  code: number;
  why: string;
  isRestart?: boolean;
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

/** What following works with. */
interface Following {
  /** What the service was started with. */
  reading: Reading;
  env: Env;
  signal: AbortSignal;
  log: Log;
  tls: HouseOptions["tls"];
  end(ending: Ending): void;
}

/** The next good reading; what is wrong with any other is told. */
async function readNext(
  house: House,
  before: Reading,
  { env, log }: Following,
): Promise<(Reading & { loaded: { ok: true } }) | undefined> {
  const refuse = (problem: string, more = {}) =>
    log("error", "config.refused", {
      ...{ problem, kept: "the last good one" },
      ...more,
    });
  let next: Reading;
  try {
    next = await read(env, before);
  } catch (error) {
    // Whoever stopped following would not hear of a password that changed.
    refuse(errorText(error));
    return;
  }
  const { loaded, plan: { problems } } = next;
  const [problem] = problems;
  if (problem === undefined && loaded.ok) return { ...next, loaded };
  refuse(
    problem === undefined ? "" : formatProblem(problem),
    hintFor(problem, before.plan),
  );
  // A password that is nowhere any more lets nobody in.
  if (problems.some(({ path }) => path === PASSWORD_PATH)) house.endPassword();
}

/** Whether a certificate on the disk is another one than is in use. */
async function isRenewed(
  next: Reading,
  { log, tls }: Following,
): Promise<boolean> {
  const found = await readTls(next, log).catch((error) => {
    log("error", "config.refused", {
      problem: errorText(error),
      kept: "the last good certificate",
    });
    return tls;
  });
  return found?.cert !== tls?.cert || found?.key !== tls?.key;
}

/** Follows the configuration: hot where it can be, by restart where it must. */
export async function followConfig(
  house: House,
  following: Following,
): Promise<void> {
  const { reading, signal, log } = following;
  const wasSafe = reading.plan.problems.length > 0;
  let before = reading;
  for await (const _ of watchConfig(reading.files, signal)) {
    const next = await readNext(house, before, following);
    if (next === undefined) continue;
    const { value: settings, hash } = next.loaded;
    // At once, whatever else has to wait for a restart.
    house.adoptLogins(settings);
    const isWider = before.plan.flags.join(" ") !== next.plan.flags.join(" ");
    const isCold = !before.loaded.ok || wasSafe ||
      needsRestart(before.loaded.value, settings);
    if (await isRenewed(next, following) || isWider || isCold) {
      const permissions = isWider ? "others" : "the same";
      log("info", "config.restart", { permissions });
      await house.configuration.record("file");
      house.gateway.publish("config.changed", { hash, restart: true });
      return await endSettled(following);
    }
    const isSame = before.loaded.ok && before.loaded.hash === hash &&
      changedSecrets(before.loaded.value, settings).length === 0;
    before = next;
    // Sealed anew, or a secret that nothing here refers to.
    if (isSame) continue;
    house.adopt(settings);
    log("info", "config.adopted", { hash: hash.slice(0, 12) });
    await house.configuration.record("file");
    house.gateway.publish("config.changed", { hash, restart: false });
  }
}

/** Ends for a restart, not sooner than a launcher believes in. */
async function endSettled({ signal, end }: Following): Promise<void> {
  await systemClock.sleep(Math.max(0, SETTLED_MS - performance.now()), signal)
    .catch(ignore("it stops for another reason"));
  end({
    code: EXIT.restart,
    why: "the configuration changed",
    isRestart: true,
  });
}
