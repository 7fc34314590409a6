/**
 * What a house is made of, as whoever opens one says it.
 *
 * Never: anything is opened here, or anything but types and plain values named.
 *
 * @module
 */
import type { AgentSettings } from "../agent/deps.ts";
import type { Tokens } from "../auth/tokens.ts";
import type { Env } from "../config/env.ts";
import type { Log } from "../core/log.ts";
import type { StatusPayload } from "../core/methods.ts";
import type { Clock } from "../core/time.ts";
import type { GatewayDeps } from "../gateway/deps.ts";
import { toRules } from "../guard/rules.ts";
import type { LogRing } from "../ops/log_ring.ts";
import type { Settings } from "../settings.ts";
import type { ProgramPipe } from "../tools/runner.ts";

/** What a house is made of. */
export interface HouseOptions {
  settings: Settings;
  stateDir: string;
  env: Env;
  clock: Clock;
  log: Log;
  /** Set when the configuration is bad: no agents, only what an owner needs. */
  safeMode?: string;
  /** Gives the owner a way in, before anybody can knock. */
  beforeListening?(tokens: Tokens): Promise<void>;
  /** What `gateway.tls` names, read: PEM texts. */
  tls?: { cert: string; key: string } | undefined;
  /** What the sandbox was found to be. */
  posture: StatusPayload["posture"];
  /** The newest log lines, for an owner who asks. */
  logs?: LogRing | undefined;
  /** The way to the launcher, which runs the programs that are configured. */
  pipe?: ProgramPipe | undefined;
  /** Where a socket's other end is; only tests stand in for another network. */
  peerOf?: GatewayDeps["peerOf"];
  /** Looks at what is due beside the schedule's own timer: every minute. */
  ticks?: AsyncIterable<Date>;
}

export function agentSettings(settings: Settings): AgentSettings {
  return {
    agents: settings.agents,
    bindings: settings.bindings,
    sessions: settings.sessions,
    limits: settings.limits,
    rules: toRules(settings.guard),
    toolsDenied: settings.tools.deny,
  };
}
