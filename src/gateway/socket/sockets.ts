/**
 * Every WebSocket of the gateway: the pool of those that have not said who they
 * are, the ones that have, and what is sent to whom.
 *
 * Never: an event to a caller whose run, session or scope it is not.
 *
 * @module
 */
import type { RunView } from "../../agent/turns.ts";
import type { Admitted, Arrival } from "../../auth/connect.ts";
import { canonicalAddress } from "../../auth/limiter.ts";
import type { Principal } from "../../core/authority.ts";
import { AppError, errorText } from "../../core/errors.ts";
import { makeId } from "../../core/ids.ts";
import type { Log } from "../../core/log.ts";
import {
  type MethodName,
  METHODS,
  type PresenceEntry,
} from "../../core/methods.ts";
import {
  CLOSE,
  type ConnectParams,
  type EventName,
  EVENTS,
  type HelloOk,
  type StateVersion,
} from "../../core/protocol.ts";
import { repeat } from "../../core/time.ts";
import type { TurnEvent } from "../../core/turn.ts";
import { isLoopbackHost } from "../config.ts";
import { Connection, type ConnectionDeps, type Welcome } from "./connection.ts";
import { mayCall } from "../whose.ts";
import { NodeCalls } from "./node_calls.ts";
import type { ConnectedNode } from "../methods/nodes.ts";
import type { GatewayDeps } from "../deps.ts";
import type { Health } from "../health.ts";
import type { InFlight } from "../in_flight.ts";
import type { Caller } from "../keys.ts";
import type { GatewayLimits } from "../limits.ts";
import type { Handlers } from "../methods.ts";
import type { Rate, RateByKind } from "../rate.ts";
import {
  Feeds,
  mergeDeltas,
  replayRun,
  type RunItem,
  type TextDelta,
  toDeltaEvents,
  type WireEvent,
} from "./run_events.ts";

/** The events this gateway sends itself; other rooms publish further ones. */
export const OWN_EVENTS: readonly EventName[] = [
  "connect.challenge",
  "tick",
  "shutdown",
  "presence",
  "chat",
  "agent",
  "exec.approval.requested",
  "exec.approval.resolved",
  "sessions.changed",
  "health",
  "posture",
];

/** What the sockets are given. */
export interface SocketsDeps {
  deps: GatewayDeps;
  limits: GatewayLimits;
  inFlight: InFlight;
  requestRate: RateByKind;
  /** For stopping and approving: what else was asked does not use it up. */
  urgentRate: Rate;
  health: Health;
  host: string;
  startedAt: number;
  /** Events further rooms publish, for `hello-ok`. */
  moreEvents: readonly EventName[];
}

/** A delta that waits for more of its kind. */
interface Waiting {
  item: TextDelta;
  run: RunView;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** The gateway's sockets. */
export class Sockets {
  readonly #on: SocketsDeps;
  readonly #log: Log;
  readonly #all = new Set<Connection>();
  readonly #waitingByAddress = new Map<string, number>();
  readonly #feeds: Feeds;
  readonly #waiting = new Map<string, Waiting>();
  readonly #lastDeltaAt = new Map<string, number>();
  /** What connected nodes are asked. */
  readonly nodes: NodeCalls;
  #handlers: Handlers | undefined;
  #preAuth = 0;
  #presenceVersion = 0;
  #healthVersion = 0;
  #presenceTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #ending = new AbortController();

  constructor(on: SocketsDeps) {
    this.#on = on;
    this.#log = on.deps.log;
    this.nodes = new NodeCalls({
      find: (nodeId) => this.#node(nodeId),
      audit: async (event, fields) => {
        const { nodes } = on.deps;
        if (nodes === undefined) {
          throw new AppError("unavailable", "There are no nodes here");
        }
        await nodes.audit(event, fields);
      },
      clock: on.deps.clock,
    });
    this.#feeds = new Feeds(on.limits.feedsMax);
    void repeat(() => this.#tick(), {
      everyMs: on.limits.tickMs,
      clock: on.deps.clock,
      signal: this.#ending.signal,
      onError: (error) =>
        this.#log("error", "gateway.tick_failed", { error: errorText(error) }),
    });
  }

  /** The handlers need the sockets (presence), so they come after. */
  serve(handlers: Handlers): void {
    this.#handlers = handlers;
  }

  get count(): number {
    return this.#all.size;
  }

  get preAuthCount(): number {
    return this.#preAuth;
  }

  /** Whether someone is connected who can answer an approval. */
  isAttended(): boolean {
    for (const { caller, isReady } of this.#all) {
      if (
        isReady && caller?.isOwner === true &&
        caller.authority.scopes.has("approvals")
      ) return true;
    }
    return false;
  }

  /**
   * Takes an upgrade. Without a token of its own it needs a place in the pool.
   *
   * @throws {AppError} `unavailable` when there is no place
   */
  accept(
    request: Request,
    from: Pick<ConnectionDeps, "address" | "principal" | "tailnet">,
  ): Response {
    const { limits } = this.#on;
    const { principal } = from;
    const address = canonicalAddress(from.address);
    const waiting = this.#waitingByAddress.get(address) ?? 0;
    const isFull = this.#all.size >= limits.socketsMax ||
      (principal === undefined &&
        (this.#preAuth >= limits.preAuthSocketsMax ||
          waiting >= limits.preAuthPerAddressMax));
    if (isFull) {
      throw new AppError(
        "unavailable",
        "Cannot take another socket: too many are open or not authenticated",
        {
          retryAfterMs: limits.retryAfterMs,
          hint: "Send the token in the upgrade's Authorization header",
        },
      );
    }
    const { socket, response } = upgrade(request);
    const isPooled = principal === undefined;
    if (isPooled) this.#count(address, 1);
    let isWaiting = isPooled;
    const settle = () => {
      if (isWaiting) this.#count(address, -1);
      isWaiting = false;
    };
    const isPrivate = isLoopbackHost(from.address) ||
      this.#on.deps.config.tls !== undefined;
    const connection = this.#open(socket, {
      ...from,
      isPrivate,
      onReady: settle,
    });
    this.#all.add(connection);
    // A peer that never completes the upgrade never opens or closes.
    const opening = setTimeout(() => {
      if (socket.readyState === WebSocket.CONNECTING) gone();
    }, limits.handshakeMs);
    const gone = () => {
      clearTimeout(opening);
      settle();
      connection.ended();
      this.nodes.left(connection.id);
      if (this.#all.delete(connection) && connection.caller !== undefined) {
        this.#announcePresence();
      }
      // The runtime's own timer holds a socket that broke off for up to half a
      // minute after its end: what hangs on it must not be held as well.
      socket.onopen =
        socket.onmessage =
        socket.onclose =
        socket.onerror =
          null;
    };
    socket.onclose = gone;
    socket.onerror = gone;
    connection.signal.addEventListener("abort", settle);
    return response;
  }

  #count(address: string, by: 1 | -1): void {
    this.#preAuth += by;
    const left = (this.#waitingByAddress.get(address) ?? 0) + by;
    if (left > 0) this.#waitingByAddress.set(address, left);
    else this.#waitingByAddress.delete(address);
  }

  #open(
    socket: WebSocket,
    options:
      & Pick<
        ConnectionDeps,
        "address" | "principal" | "tailnet" | "isPrivate"
      >
      & { onReady(): void },
  ): Connection {
    const { deps, limits, inFlight, requestRate, urgentRate } = this.#on;
    const { address, principal, tailnet } = options;
    if (this.#handlers === undefined) {
      throw new AppError("unavailable", "Cannot take sockets yet");
    }
    return new Connection(socket, {
      id: makeId("conn", deps.clock.now()),
      address,
      limits,
      inFlight,
      requestRate,
      urgentRate,
      principal,
      tailnet,
      isPrivate: options.isPrivate,
      handlers: this.#handlers,
      log: this.#log,
      now: () => deps.clock.now(),
      defaultAgent: () => deps.agents().defaultId,
      admit: (params, arrival) => this.#admit(params, arrival),
      welcome: (connection, asked) => this.#welcome(connection, asked),
      onReady: (connection) => {
        options.onReady();
        this.#tellPosture(connection);
        this.#announcePresence();
      },
    });
  }

  /** Without a front there are only tokens. */
  async #admit(params: ConnectParams, arrival: Arrival): Promise<Admitted> {
    const { deps } = this.#on;
    if (deps.admit !== undefined) return await deps.admit(params, arrival);
    const token = params.auth?.token;
    const { address } = arrival;
    const principal = token === undefined && arrival.principal !== undefined
      ? arrival.principal
      : await deps.authenticate(
        token === undefined ? { tailnet: arrival.tailnet } : { token },
        { address },
      );
    return {
      principal,
      credentials: [principal.authority.credential],
      isOver: () => false,
    };
  }

  async #welcome(
    connection: Connection,
    asked: { caller: Caller; params: ConnectParams; admitted: Admitted },
  ): Promise<Welcome> {
    const { caller, params: { resume } } = asked;
    const run = resume === undefined
      ? undefined
      : await this.#on.deps.turns.find(resume.runId);
    const hello = this.#hello(connection, asked);
    // Whose run it is decides, never the session key the client names.
    if (resume === undefined || run === undefined || !caller.maySee(run)) {
      return { hello, missed: () => [] };
    }
    return { hello, missed: () => this.#missed(run, resume.seq) };
  }

  /** What is kept of a run after an event; all of it was sent to the others. */
  #missed(run: RunView, seq: number): WireEvent[] {
    const { runId, sessionKey } = run;
    const waiting = this.#waiting.get(runId);
    if (waiting !== undefined) this.#release(waiting);
    const events = this.#on.deps.turns.replay(sessionKey, runId, 0);
    return replayRun(events, run, { seq, text: this.#feeds.textOf(runId) });
  }

  #hello(
    connection: Connection,
    { caller, admitted }: { caller: Caller; admitted: Admitted },
  ): HelloOk {
    const { deps, limits, health, host, startedAt, moreEvents } = this.#on;
    const { scopes } = caller.authority;
    const { defaultId } = deps.agents();
    const may = (event: EventName) => {
      const scope = EVENTS[event];
      return scope === null || scopes.has(scope);
    };
    return {
      type: "hello-ok",
      protocol: connection.protocol,
      server: { version: deps.version, host, connId: connection.id },
      features: {
        methods: (Object.keys(METHODS) as MethodName[]).filter((method) =>
          mayCall(method, caller)
        ),
        events: [
          ...new Set([...OWN_EVENTS, ...moreEvents]),
          ...caller.principal.kind === "node"
            ? ["node.invoke.request" as const]
            : [],
        ].filter(may),
      },
      snapshot: {
        presence: scopes.has("read") ? this.presence(caller) : [],
        health: scopes.has("read") ? health.brief() : {},
        stateVersion: this.#stateVersion(),
        uptimeMs: Math.max(0, deps.clock.now() - startedAt),
        sessionDefaults: {
          defaultAgentId: defaultId,
          mainKey: "main",
          mainSessionKey: caller.isOwner
            ? `agent:${defaultId}:main`
            : `agent:${defaultId}:client:${caller.segment}:main`,
        },
      },
      auth: {
        role: caller.principal.kind === "node" ? "node" : "operator",
        scopes: scopes.list().map((scope) => `operator.${scope}`),
        ...(admitted.deviceToken === undefined ? {} : {
          deviceToken: admitted.deviceToken,
          issuedAtMs: deps.clock.now(),
        }),
      },
      policy: {
        maxPayload: limits.frameBytesMax,
        maxBufferedBytes: limits.bufferedBytesMax,
        tickIntervalMs: limits.tickMs,
      },
    };
  }

  /** The socket a node came by last. */
  #node(nodeId: string): Connection | undefined {
    return [...this.#all].findLast((one) =>
      one.isReady && one.node?.id === nodeId &&
      one.caller?.principal.kind === "node"
    );
  }

  connectedNode(nodeId: string): ConnectedNode | undefined {
    const link = this.#node(nodeId);
    return link?.node === undefined ? undefined : {
      ...link.node,
      version: link.client?.version ?? "",
      address: link.address,
      connectedAt: link.connectedAt,
    };
  }

  /** Who is connected, as far as this caller may know: the owner all, others themselves. */
  presence(caller: Caller): PresenceEntry[] {
    const entries: PresenceEntry[] = [];
    const now = this.#on.deps.clock.now();
    for (const connection of this.#all) {
      const { id, client, principal, isReady, lastRequestAt } = connection;
      const isShown = caller.isOwner || principal?.id === caller.principal.id;
      if (!isReady || client === undefined || !isShown) continue;
      if (entries.length >= this.#on.limits.presenceEntriesMax) break;
      entries.push({
        host: client.displayName ?? client.id,
        ip: connection.address,
        mode: client.mode,
        lastInputSeconds: Math.max(0, Math.floor((now - lastRequestAt) / 1000)),
        ts: connection.connectedAt,
        connId: id,
        clientId: client.id,
        version: client.version,
        platform: client.platform,
        role: principal?.kind === "node" ? "node" : "operator",
        ...loginOf(principal),
      });
    }
    return entries;
  }

  #announcePresence(): void {
    this.#presenceVersion++;
    if (this.#presenceTimer !== undefined) return;
    this.#presenceTimer = setTimeout(() => {
      this.#presenceTimer = undefined;
      // The owner's sockets are all told the same, so it is written once.
      let ofOwner: string | undefined;
      for (const connection of this.#all) {
        const { caller } = connection;
        if (caller === undefined || !connection.mayHear("presence")) continue;
        const text = caller.isOwner && ofOwner !== undefined
          ? ofOwner
          : JSON.stringify({ presence: this.presence(caller) });
        if (caller.isOwner) ofOwner = text;
        connection.sendEvent("presence", text, this.#stateVersion());
      }
    }, this.#presenceDelayMs());
  }

  /** Everybody is told of everybody, so it is told less often the more there are. */
  #presenceDelayMs(): number {
    const { presenceMs } = this.#on.limits;
    return presenceMs * Math.ceil((this.#all.size + 1) / 50);
  }

  #stateVersion(): StateVersion {
    return { presence: this.#presenceVersion, health: this.#healthVersion };
  }

  /** What readiness found is not what it found before. */
  announceHealth(): void {
    this.#healthVersion++;
    const payload = this.#on.health.brief();
    for (const connection of this.#all) {
      if (connection.caller === undefined) continue;
      if (!connection.mayHear("health")) continue;
      connection.sendEvent("health", payload, this.#stateVersion());
    }
  }

  /** How this process is confined; the paths behind it are the owner's. */
  #tellPosture(connection: Connection): void {
    const { caller } = connection;
    if (caller === undefined || !connection.mayHear("posture")) return;
    const { posture } = this.#on.deps;
    if (posture === undefined) return;
    connection.sendEvent(
      "posture",
      caller.isOwner ? posture : { ...posture, grants: {} },
    );
  }

  #tick(): Promise<void> {
    this.publish("tick", { ts: this.#on.deps.clock.now() });
    // Asked for its comparison with the last answer.
    void this.#on.health.ready();
    return Promise.resolve();
  }

  /** Sends an event to everyone whose scopes allow it, and who passes `to`. */
  publish(
    event: EventName,
    payload: object,
    to: (caller: Caller) => boolean = () => true,
  ): void {
    const text = JSON.stringify(payload);
    for (const connection of this.#all) {
      const { caller } = connection;
      if (caller === undefined || !connection.mayHear(event)) continue;
      if (to(caller)) connection.sendEvent(event, text);
    }
  }

  /** A run's event, to those who may see the run. Never throws. */
  onTurn(event: TurnEvent, run: RunView): void {
    try {
      for (const item of this.#feeds.read(event, run)) this.#item(item, run);
      if (event.kind !== "accepted" && event.kind !== "end") return;
      const { sessionKey, agentId } = run;
      this.publish(
        "sessions.changed",
        { sessionKey, agentId, reason: event.kind, ts: event.at },
        (caller) => caller.maySee(run),
      );
    } catch (error) {
      this.#log("error", "gateway.event_failed", { error: errorText(error) });
    }
  }

  /** Sends an item; deltas of a long text are first merged for a while. */
  #item(item: RunItem, run: RunView): void {
    const { limits, deps } = this.#on;
    const waiting = this.#waiting.get(run.runId);
    if (item.kind !== "text") {
      if (waiting !== undefined) this.#release(waiting);
      if (item.event === "chat") this.#lastDeltaAt.delete(run.runId);
      this.#fan(item, run);
      return;
    }
    if (waiting !== undefined) {
      waiting.item = mergeDeltas(waiting.item, item);
      return;
    }
    const now = deps.clock.now();
    const dueAt = (this.#lastDeltaAt.get(run.runId) ?? 0) + limits.deltaMs;
    if (item.text.length < limits.deltaCharsMin || now >= dueAt) {
      if (item.text.length >= limits.deltaCharsMin) {
        this.#lastDeltaAt.set(run.runId, now);
      }
      this.#fan(item, run);
      return;
    }
    const late: Waiting = { item, run, timer: undefined };
    late.timer = setTimeout(() => this.#release(late), dueAt - now);
    this.#waiting.set(run.runId, late);
  }

  #release(waiting: Waiting): void {
    clearTimeout(waiting.timer);
    this.#waiting.delete(waiting.run.runId);
    this.#lastDeltaAt.set(waiting.run.runId, this.#on.deps.clock.now());
    this.#fan(waiting.item, waiting.run);
  }

  #fan(item: RunItem, run: RunView): void {
    let encoded: (readonly [EventName, string])[] | undefined;
    for (const connection of this.#all) {
      if (!connection.isReady || connection.caller?.maySee(run) !== true) {
        continue;
      }
      // Written once, and only when somebody listens.
      encoded ??= (item.kind === "text" ? toDeltaEvents(item) : [item]).map(
        ({ event, payload }) => [event, JSON.stringify(payload)] as const,
      );
      connection.sendItem(item, encoded);
    }
  }

  /** Closes the sockets of a credential, or of its texts before a number. */
  revoke(credential: string, before = Infinity): number {
    let count = 0;
    for (const connection of this.#all) {
      if (!connection.credentials.includes(credential)) continue;
      if (!isOlder(connection.principal, before)) continue;
      connection.close(CLOSE.policy, "the credential was revoked");
      count++;
    }
    return count;
  }

  /** Stops timers, closes every socket, waits a little for the goodbyes. */
  async close(code: number, reason: string): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#presenceTimer);
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
    const goodbyes = [...this.#all].map((connection) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      connection.socket.addEventListener("close", () => resolve());
      connection.close(code, reason);
      return promise;
    });
    if (goodbyes.length === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#on.limits.closeMs);
    await Promise.race([Promise.all(goodbyes), promise]);
    clearTimeout(timer);
    clearTimeout(this.#presenceTimer);
  }
}

/** The login of the tailnet that somebody came in by. */
function loginOf(principal: Principal | undefined): { login?: string } {
  const credential = principal?.authority.credential ?? "";
  return credential.startsWith("tailscale:") && principal !== undefined
    ? { login: principal.name }
    : {};
}

/** Whether a principal showed a text of its credential before a number. */
export function isOlder(
  principal: Principal | undefined,
  before: number,
): boolean {
  return before === Infinity ||
    principal?.generation !== undefined && principal.generation < before;
}

function upgrade(
  request: Request,
): { socket: WebSocket; response: Response } {
  try {
    return Deno.upgradeWebSocket(request, { idleTimeout: 60 });
  } catch (error) {
    throw new AppError("bad_input", "Cannot upgrade: not a WebSocket request", {
      cause: error,
    });
  }
}
