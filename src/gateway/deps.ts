/**
 * What the gateway is given. Narrow on purpose: it sees no room above it and
 * builds nothing of what it serves.
 *
 * @module
 */
import type { Turns } from "../agent/turns.ts";
import type { Admitted, Arrival } from "../auth/connect.ts";
import type { TailnetPeer } from "../auth/tailnet.ts";
import type { Authority, Principal } from "../core/authority.ts";
import type { Log } from "../core/log.ts";
import type { StoredMessage, Usage } from "../core/message.ts";
import type {
  MethodInput,
  MethodOutput,
  StatusPayload,
} from "../core/methods.ts";
import type {
  ModelEvent,
  ModelRequest,
  Provider,
  ToolSpec,
} from "../core/model.ts";
import type { ConnectParams } from "../core/protocol.ts";
import type { Clock } from "../core/time.ts";
import type { Spending } from "../guard/spending.ts";
import type { SecretSet } from "../guard/screen/leaks.ts";
import type { UsageDesk } from "../guard/usage_desk.ts";
import type { Responses } from "../store/responses.ts";
import type { GatewayConfig } from "./config.ts";
import type { DeviceDesk } from "./methods/devices.ts";
import type { ConfigActs } from "./methods/config.ts";
import type { GatewayLimits } from "./limits.ts";
import type { ChannelActs } from "./methods/channels.ts";
import type { GuardActs } from "./methods/guard.ts";
import type { NodeDesk } from "./methods/nodes.ts";
import type { AuditBook, LogTail } from "./methods/ops.ts";
import type { SocketPeer } from "./peers.ts";
import type { PluginDesk } from "./plugins.ts";
import type { ScheduleBus } from "../core/methods/schedule.ts";
import type { ToolsDesk } from "./methods/tools.ts";
import type { SessionBus } from "./methods/sessions.ts";

/** A session's row, as much of it as the wire shows. */
export interface SessionRow {
  key: string;
  /** The id its messages are stored under. */
  id: string;
  agentId: string;
  kind: string;
  archived?: { at: number } | undefined;
  updatedAt: number;
  label?: string | undefined;
  title?: string | undefined;
  channel?: string | undefined;
  model?: string | undefined;
  /** The last message's number. */
  seq?: number;
  usage: Usage;
}

/** The sessions and messages that can be read; `store` has more. */
export interface GatewayStore {
  sessions: {
    find(key: string): Promise<SessionRow | undefined>;
    /** Last used first. */
    list(
      query: {
        limit: number;
        offset?: number;
        agentId?: string;
        activeSince?: number;
        search?: string;
        archived?: boolean;
      },
    ): Promise<readonly SessionRow[]>;
    count(): Promise<number>;
  };
  messages: {
    /** The newest messages of a session, oldest first. */
    tail(
      sessionId: string,
      options: { limit: number; beforeSeq?: number },
    ): Promise<readonly StoredMessage[]>;
  };
}

/** A model and whose it is: `provider:id` is its full name. */
export interface ListedModel {
  provider: string;
  id: string;
  label?: string;
}

/** The providers, by the names models are called with; `providers` has more. */
export interface ModelRouter {
  /** @throws {AppError} `not_found`, naming the providers there are */
  resolve(name: string): { provider: Provider; model: string };
  /** The full name, with a stand-in like `auto` replaced by a real model. */
  settle(name: string, signal: AbortSignal): Promise<string>;
  list(signal: AbortSignal): Promise<readonly ListedModel[]>;
  /** One call with retries and breaker. */
  stream(
    name: string,
    request: Omit<ModelRequest, "model">,
    signal: AbortSignal,
  ): AsyncGenerator<ModelEvent, void, undefined>;
}

/** Tokens: made, listed and revoked by `auth`. */
export interface TokenDesk {
  /** @throws {AppError} `forbidden` when it asks for more than its maker has */
  create(
    input: MethodInput<"token.create">,
    maker: Authority,
  ): Promise<MethodOutput<"token.create">>;
  list(): Promise<readonly MethodOutput<"token.list">["tokens"][number][]>;
  /** @throws {AppError} `not_found`; `forbidden` when it outranks its rotator */
  rotate(
    named: string,
    by: Authority,
  ): Promise<MethodOutput<"token.rotate">>;
  /** @throws {AppError} `not_found`; `forbidden` when it outranks its revoker */
  revoke(id: string, by: Authority): Promise<void>;
}

/** One thing readiness depends on. */
export interface ReadyCheck {
  name: string;
  ok: boolean;
  why?: string | undefined;
  /** What repairs it. */
  fix?: string | undefined;
}

/** Everything the gateway needs. */
export interface GatewayDeps {
  config: GatewayConfig;
  /** What `config.tls` names, read: PEM texts. */
  tls?: { cert: string; key: string } | undefined;
  turns: Turns;
  store: GatewayStore;
  /** @throws {AppError} `unauthorized`, `rate_limited` */
  authenticate(
    presented: { token?: string; tailnet?: TailnetPeer | undefined },
    from: { address: string },
  ): Promise<Principal>;
  /** The connection's other end, when the tailnet may be asked who it is. */
  tailnetPeer?(peer: SocketPeer): TailnetPeer | undefined;
  /** Whether what a principal showed ended since; asked once its end is heard. */
  hasEnded?(principal: Principal): boolean;
  /** Who stands behind a `connect`; without it sockets take only tokens. */
  admit?(params: ConnectParams, arrival: Arrival): Promise<Admitted>;
  /** Devices and how they are paired; absent when there are none. */
  devices?: DeviceDesk;
  /** Calls with a credential's id when it, or its texts before a number, end. */
  onRevoked(
    listener: (credential: string, before?: number) => void,
  ): Disposable;
  router: ModelRouter;
  agents(): {
    defaultId: string;
    agents: readonly {
      id: string;
      name: string;
      /** What answers for it, and instead when that cannot be reached. */
      model?: string | undefined;
      fallbacks?: readonly string[];
      workspace?: string | undefined;
    }[];
  };
  tokens: TokenDesk;
  /** The acts on sessions; absent when the agents are off. */
  operations?: SessionBus;
  /** Absent when they are off. */
  guard?: GuardActs;
  plugins?: PluginDesk;
  channels?: ChannelActs;
  toolsDesk?: ToolsDesk;
  schedule?: ScheduleBus;
  /** The tools somebody may call by name; without it there are none. */
  toolsOf?(user: {
    agentId: string;
    authority: Authority;
    channel: string;
  }): readonly ToolSpec[];
  /** The same tools with what they state about themselves. */
  catalogOf?(user: {
    agentId: string;
    authority: Authority;
    channel: string;
  }): MethodOutput<"tools.catalog">["groups"];
  /** The owner's skills; none where no folder is named. */
  skills?(): Promise<
    readonly MethodOutput<"skills.status">["skills"][number][]
  >;
  logs?: LogTail | undefined;
  audit?: AuditBook;
  configuration?: ConfigActs;
  nodes?: NodeDesk;
  /** Answers that can be gone on from; without it none are kept. */
  responses?: Pick<Responses, "find" | "put" | "delete">;
  /** What `status` says beside what the gateway knows itself. */
  status(): Omit<StatusPayload, "ts" | "uptimeMs" | "sessions" | "runs">;
  /** What the sandbox was found to be; told to everyone who connects. */
  posture?: StatusPayload["posture"];
  ready(): Promise<{ ok: boolean; checks: readonly ReadyCheck[] }>;
  /** Why the agents are off, when they are. */
  safeMode?: string | undefined;
  version: string;
  clock: Clock;
  log: Log;
  /** This program's own secrets, as they are now: no vendor's answer shows one. */
  secrets?(): SecretSet;
  /** Who pays for model calls that do not go through the agent. */
  spending?: Pick<Spending, "reservePass">;
  /** What was spent, as it is asked for. */
  usage?: Pick<UsageDesk, "today" | "cost" | "budgets">;
  /** Numbers for Prometheus. */
  metrics?(): Promise<{ type: string; text: string }>;
  /** Who probably holds the port, when it is busy. */
  portHolder?(): string | undefined;
  /** Only tests set these. */
  limits?: Partial<GatewayLimits>;
  /** Where a socket's other end is; only tests stand in for another network. */
  peerOf?: ((peer: SocketPeer) => SocketPeer) | undefined;
}
