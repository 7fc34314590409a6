/**
 * Carapace: finds the verb that was called and runs it. Everything else loads
 * when a verb asks for it.
 *
 * Never: importing this does anything.
 *
 * @module
 */
import { resolve } from "node:path";
import { runCli } from "./src/cli/run.ts";
import { openTerminal } from "./src/cli/terminal.ts";
import type { Roof } from "./src/cli/verb.ts";
import { systemEnv } from "./src/config/env.ts";
import type { Loaded } from "./src/config/load.ts";
import { stateDir, systemPlace } from "./src/config/state.ts";
import { AppError } from "./src/core/errors.ts";
import { Ticks } from "./src/core/ticks.ts";
import { systemClock } from "./src/core/time.ts";
import type { Settings } from "./src/settings.ts";

const env = systemEnv;
const ticks = new Ticks();

async function load(): Promise<Loaded<Settings>> {
  const { Settings } = await import("./src/settings.ts");
  const { loadConfig } = await import("./src/config/load.ts");
  const { openSecrets } = await import("./src/config/secrets.ts");
  const dir = await stateDir(env, systemPlace());
  const secrets = openSecrets({ dir, env });
  const findSecret = (name: string) => secrets.find(name);
  return await loadConfig(Settings, { stateDir: dir, env, findSecret });
}

async function permissions(): ReturnType<Roof["permissions"]> {
  const { planFor } = await import("./src/permissions.ts");
  const loaded = await load();
  const named = env.get("CARAPACE_CONFIG_PATH");
  const files = [
    ...(named === undefined ? [] : [resolve(named.trim())]),
    ...loaded.files ?? [],
  ];
  const { flags, grants } = planFor("start", loaded, {
    stateDir: await stateDir(env, systemPlace()),
    sourceDir: import.meta.dirname ?? ".",
    configFiles: [...new Set(files)],
    env,
    os: Deno.build.os,
  });
  return { flags, grants };
}

async function plugins(): ReturnType<NonNullable<Roof["plugins"]>> {
  const { openOfflinePlugins } = await import("./src/offline_plugins.ts");
  return await openOfflinePlugins({
    load: async () => {
      const loaded = await load();
      if (loaded.ok) return loaded.value;
      const [problem] = loaded.problems;
      throw new AppError("bad_input", problem?.message ?? "not valid", {
        hint: "Run: carapace config validate",
      });
    },
    stateDir: await stateDir(env, systemPlace()),
    env,
    clock: systemClock,
  });
}

const roof: Roof = {
  plugins,
  schema: async () => (await import("./src/settings.ts")).Settings,
  load,
  permissions,
  start: async (args) =>
    (await import("./src/service.ts")).startService(args, ticks),
};

async function main(): Promise<void> {
  const io = openTerminal(Deno.args, { env, clock: systemClock });
  Deno.exit(await runCli(io, roof));
}

if (import.meta.main) {
  // A registered cron keeps its process alive, and a host sees only those that
  // are registered here: one, for the one verb that stays.
  if (Deno.args[0] === "start") {
    Deno.cron(
      "tick",
      "* * * * *",
      () => ticks.push(new Date(systemClock.now())),
    );
  }
  void main();
}
