/**
 * The configuration as the owner reads and writes it from outside.
 *
 * Never: a change takes effect here: the service hears of it from the file.
 *
 * @module
 */
import type { Env } from "../config/env.ts";
import { openSecrets } from "../config/secrets.ts";
import { VERSION } from "../core/version.ts";
import { ConfigDesk } from "../ops/config_desk.ts";
import { programsOf, startProblems } from "../plan.ts";
import { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { HouseOptions } from "./options.ts";

/** The configuration as the owner reads and writes it from outside. */
export function openConfiguration(
  { stateDir, env, clock, log }: HouseOptions,
  { journal, audit, configRevisions: revisions }: Store,
): ConfigDesk<Settings> {
  const secrets = openSecrets({ dir: stateDir, env });
  const placed: Env = {
    get: (name) => name === "CARAPACE_STATE_DIR" ? stateDir : env.get(name),
  };
  return new ConfigDesk<Settings>({
    schema: Settings,
    stateDir,
    env,
    findSecret: (name) => secrets.find(name),
    check: (loaded) => startProblems(placed, loaded),
    programs: (value) => {
      const { commands, mcp } = programsOf(value);
      const named = (kind: string, programs: object) =>
        Object.entries(programs).map(([name, one]) => [`${kind} ${name}`, one]);
      return Object.fromEntries([
        ...named("command", commands),
        ...named("MCP server", mcp),
      ]);
    },
    revisions,
    journal,
    audit,
    version: VERSION,
    clock,
    log,
  });
}
