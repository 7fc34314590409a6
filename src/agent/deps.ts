/**
 * What the agent is handed by the roof, in the narrowest types that will do.
 *
 * @module
 */
import type { Authority, AuthorityRecord } from "../core/authority.ts";
import type { Hooks } from "../core/hooks.ts";
import type { Label } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { ModelEvent, ModelRequest } from "../core/model.ts";
import type { Clock } from "../core/time.ts";
import type { Approvals } from "../guard/approvals.ts";
import type { StandingGrant } from "../guard/decide.ts";
import type { GuardDeps, GuardRules } from "../guard/rules.ts";
import type { Spending } from "../guard/spending.ts";
import type { Store } from "../store/store.ts";
import type { Outputs } from "../tools/outputs.ts";
import type { RemoteEvent } from "../remote/remotes.ts";
import type { Registry } from "../tools/registry.ts";
import type {
  AgentLimits,
  AgentsConfig,
  Binding,
  SessionsConfig,
} from "./config.ts";
import type { ContextSources } from "./context/sections.ts";

/** One call, before its model is known by the vendor's name. */
export type ModelCall = Omit<ModelRequest, "model"> & {
  /** Another model stands by: then this one is not tried twice. */
  hasFallback?: boolean;
};

/** The models, by `provider:model`. */
export interface Models {
  /** @throws {AppError} `not_found` for a provider nobody configured */
  resolve(name: string): { provider: { id: string }; model: string };
  stream(
    name: string,
    request: ModelCall,
    signal: AbortSignal,
  ): AsyncGenerator<ModelEvent, void, undefined>;
  /** The full name, where `auto` stands for whatever a server lists first. */
  settle(name: string, signal: AbortSignal): Promise<string>;
  /** How many tokens a model can be shown, and who says so. */
  windowOf(name: string): { tokens: number; because: string };
  /** What agents use that name no model, and why. */
  chosen(): Promise<{ model: string; because: string }>;
}

/** What the owner's configuration says now; read anew for every turn. */
export interface AgentSettings {
  agents: AgentsConfig;
  bindings: readonly Binding[];
  sessions: SessionsConfig;
  limits: AgentLimits;
  /** What the guard decides by. */
  rules: GuardRules;
  toolsDenied: readonly string[];
}

/** One turn of ours on another gateway, as `remote` says it. */
export interface RemoteTurns {
  /** What the answers of this gateway are labelled. @throws `not_found` */
  labelOf(name: string): Label;
  turn(
    name: string,
    turn: {
      runId: string;
      sessionKey: string;
      sessionId: string;
      agentId: string | undefined;
      text: string;
    },
    signal: AbortSignal,
  ): AsyncGenerator<RemoteEvent, void, undefined>;
}

export interface AgentDeps {
  store: Pick<
    Store,
    | "journal"
    | "sessions"
    | "messages"
    | "summaries"
    | "runs"
    | "inbound"
    | "outbox"
  >;
  models: Models;
  tools: Registry;
  approvals: Approvals;
  guard: GuardDeps;
  /** Who pays for model calls, and whether there is something left. */
  spending: Pick<Spending, "check" | "reserve" | "reservePass" | "rowsFor">;
  /** What one who spends, or the owner, is told of it. */
  usageText?(authority: Authority): Promise<string>;
  /** What is shown beside the conversation; nothing where it is absent. */
  context?: ContextSources;
  settings(): AgentSettings;
  /** A run's authority again, from its stored record (only `auth` makes one). */
  authorityOf(
    record: AuthorityRecord,
  ): Authority;
  /** Whether a stored run's credential still counts. */
  isLive(record: AuthorityRecord): Promise<boolean> | boolean;
  /** Keeps results that are too long; without it they are cut. */
  outputs?: Pick<Outputs, "keep">;
  /** What the owner lets a job do with nobody to ask, by its runs' inbound ids. */
  grantsOf?(inboundId: string): readonly StandingGrant[];
  /** The other gateways; without it no agent is on one. */
  remotes?: RemoteTurns;
  /** Who looks on, changes or stops; nobody where it is absent. */
  hooks?: Hooks;
  clock: Clock;
  log: Log;
}
