/**
 * The one listener: every request passes the door, is authenticated, counted
 * and routed here, in this order, whatever its path.
 *
 * Never: a route is reached around this wrapper; an unknown path answers
 * anything but 401 to someone without a token.
 *
 * @module
 */
import { Hono } from "@hono/hono";
import type { TailnetPeer } from "../auth/tailnet.ts";
import type { Principal, Scope } from "../core/authority.ts";
import { AppError, errorText, ignore } from "../core/errors.ts";
import { CLOSE, type EventName } from "../core/protocol.ts";
import { makeId } from "../core/ids.ts";
import { verifySecret } from "../core/secret.ts";
import { Call } from "./call.ts";
import { exposedText, isExposed } from "./config.ts";
import type { GatewayDeps } from "./deps.ts";
import { checkHead, Door } from "./door.ts";
import { Health } from "./health.ts";
import { toAppError, toErrorResponse } from "./http_errors.ts";
import { InFlight, type Load, loadOfRequest } from "./in_flight.ts";
import type { Caller } from "./keys.ts";
import { GATEWAY_LIMITS, type GatewayLimits } from "./limits.ts";
import { makeHandlers } from "./methods.ts";
import type { NodeAnswer, NodeAsk } from "./socket/node_calls.ts";
import { parsePath } from "./paths.ts";
import { Peers, type SocketPeer } from "./peers.ts";
import { isWebhook, WebhookDoor } from "./plugins.ts";
import { Rate, RateByKind, tellRates } from "./rate.ts";
import {
  dialectOf,
  fitsPath,
  type RouteDeps,
  ROUTES,
  takesApiKey,
} from "./routes.ts";
import { isOlder, Sockets } from "./socket/sockets.ts";

export type { GatewayDeps } from "./deps.ts";

/** How a gateway stops admitting. */
export interface DrainOptions {
  /** Longest wait for what is in flight. @default 0 */
  limitMs?: number;
  /** It comes back at once: sockets are then closed with 1012, not 1013. */
  isRestart?: boolean;
}

/** The running gateway. Disposing closes sockets, streams, then the server. */
export interface Gateway extends AsyncDisposable {
  /** Where it listens. */
  readonly address: { host: string; port: number };
  /** Whether it speaks TLS. */
  readonly isTls: boolean;
  /**
   * Admits nothing more and tells everyone; resolves when nothing is in flight
   * any more, at the latest after `limitMs`.
   */
  drain(options?: DrainOptions): Promise<void>;
  counts(): {
    sockets: number;
    preAuth: number;
    inFlight: number;
    /** Requests that were refused or failed, by the code of their error. */
    refused: ReadonlyMap<string, number>;
  };
  /** Asks a connected node. @throws {AppError} as `NodeCalls.invoke` */
  invokeNode(ask: NodeAsk): Promise<NodeAnswer>;
  isNodeConnected(nodeId: string): boolean;
  /** Sends an event of another room to those whose scopes allow it. */
  publish(
    event: EventName,
    payload: object,
    to?: (caller: Caller) => boolean,
  ): void;
}

type Env = { Bindings: { call: Call } };

const PUBLIC: ReadonlySet<string> = new Set(
  ROUTES.filter(({ scope }) => scope === "public").map(({ path }) => path),
);

/** What the wrapper works with. */
class Room {
  readonly deps: GatewayDeps;
  readonly limits: GatewayLimits;
  readonly inFlight: InFlight;
  readonly health: Health;
  readonly sockets: Sockets;
  readonly #app: Hono<Env>;
  readonly #requestRate: RateByKind;
  readonly peers: Peers;
  door: Door;
  isDraining = false;
  isRestarting = false;
  isClosing = false;

  constructor(deps: GatewayDeps) {
    this.deps = deps;
    const limits = this.limits = { ...GATEWAY_LIMITS, ...deps.limits };
    const startedAt = deps.clock.now();
    this.inFlight = new InFlight(limits);
    this.peers = new Peers(deps.config);
    this.door = new Door(deps.config, deps.config.port);
    this.health = new Health(deps, {
      limits,
      connections: () => this.sockets.count,
      onChange: () => this.sockets.announceHealth(),
    });
    const { identitiesMax } = limits;
    const rate = (name: string, perSecond: number, burst: number) =>
      new Rate({ name, perSecond, burst, identitiesMax });
    this.#requestRate = new RateByKind(
      rate("requests", limits.ownerReadsPerSecond, limits.ownerReadsBurst),
      rate("requests", limits.readsPerSecond, limits.readsBurst),
    );
    this.sockets = new Sockets({
      deps,
      limits,
      inFlight: this.inFlight,
      requestRate: this.#requestRate,
      urgentRate: rate("urgent", limits.urgentPerSecond, limits.urgentBurst),
      health: this.health,
      host: deps.config.host,
      startedAt,
      moreEvents: [
        "config.changed",
        "outbox",
        "plugins.changed",
        "usage.budget",
        "device.pair.requested",
        "device.pair.resolved",
        "node.pair.requested",
        "node.pair.resolved",
        "cron",
        "heartbeat",
      ],
    });
    const turns = new RateByKind(
      rate("turns", limits.ownerTurnsPerSecond, limits.ownerTurnsBurst),
      rate("turns", limits.turnsPerSecond, limits.turnsBurst),
    );
    const isAttended = () => this.sockets.isAttended();
    const isDraining = () => this.isDraining;
    this.sockets.serve(makeHandlers({
      deps,
      limits,
      health: this.health,
      turnRate: turns,
      startedAt,
      presence: (caller) => this.sockets.presence(caller),
      nodes: {
        invoke: (ask) => this.sockets.nodes.invoke(ask),
        take: (result, from) => this.sockets.nodes.take(result, from),
        connected: (nodeId) => this.sockets.connectedNode(nodeId),
      },
      isAttended,
      isDraining,
    }));
    this.#app = makeApp({
      deps,
      limits,
      rates: {
        turns,
        passThrough: rate(
          "models",
          limits.passThroughPerSecond,
          limits.passThroughBurst,
        ),
      },
      isAttended,
      isDraining,
      health: this.health,
      mayRead: (call) => this.#mayRead(call),
      webhooks: new WebhookDoor({
        desk: deps.plugins,
        limits,
        hasScope: (call) => this.#mayCallHooks(call),
      }),
    });
  }

  /** Whether a public row may tell more: a token was sent, and it may read. */
  async #mayRead(call: Call): Promise<boolean> {
    if (!call.request.headers.has("authorization")) return false;
    const { request, address } = call;
    const principal = await this.#authenticate(request, address);
    return principal.authority.scopes.has("read");
  }

  /** Whether a webhook's caller showed a token that may call hooks. */
  async #mayCallHooks({ request, address }: Call): Promise<boolean> {
    const principal = await this.#authenticate(request, address);
    return principal.authority.scopes.has("hooks");
  }

  /** What ended before its call was known to be its was told to nobody. */
  #checkStanding(principal: Principal): void {
    if (this.deps.hasEnded?.(principal) !== true) return;
    throw new AppError("unauthorized", "The credential was revoked");
  }

  /**
   * The connection's other end, where that alone may say who sends a request:
   * never through a proxy, never for what a browser sends for another page.
   */
  #tailnetPeer(
    request: Request,
    { peer, isUpgrade }: { peer: SocketPeer; isUpgrade: boolean },
  ): TailnetPeer | undefined {
    if (this.peers.isProxy(peer.hostname)) return undefined;
    if (!this.door.isOwnClient(request, isUpgrade)) return undefined;
    return this.deps.tailnetPeer?.(peer);
  }

  /** @param path Decides which headers may carry the token */
  async #authenticate(
    request: Request,
    address: string,
    { path = "", tailnet }: {
      path?: string;
      tailnet?: TailnetPeer | undefined;
    } = {},
  ): Promise<Principal> {
    const header = request.headers.get("authorization");
    let token = header === null
      ? undefined
      : /^Bearer +([^\s]{1,512})$/i.exec(header)?.[1];
    if (header !== null && token === undefined) {
      throw new AppError(
        "unauthorized",
        "Cannot read the Authorization header: it is not a Bearer token",
      );
    }
    if (takesApiKey(path)) {
      const key = request.headers.get("x-api-key") ?? undefined;
      const isOther = key !== undefined && token !== undefined &&
        !await verifySecret(key, token);
      if (isOther) {
        throw new AppError(
          "unauthorized",
          "Cannot tell who asks: Authorization and X-Api-Key differ",
        );
      }
      if (key !== undefined && key.length <= 512) token = key;
    }
    return await this.deps.authenticate(
      token === undefined ? { tailnet } : { token },
      { address },
    );
  }

  /** Answers one request; errors become answers here and nowhere else. */
  readonly serve = async (
    request: Request,
    info: Deno.ServeHandlerInfo<Deno.NetAddr>,
  ): Promise<Response> => {
    let call: Call | undefined;
    let path = "";
    try {
      checkHead(request, this.limits);
      const peer = this.deps.peerOf?.(info.remoteAddr) ?? info.remoteAddr;
      const address = this.peers.addressOf(request, peer.hostname);
      const isUpgrade = request.headers.has("upgrade");
      const host = this.door.checkHost(request);
      path = parsePath(request.url, host);
      this.door.checkOrigin(request, isUpgrade);
      if (isUpgrade && (path === "/ws" || path === "/")) {
        return await this.#upgrade(request, { address, peer });
      }
      if (request.method === "OPTIONS" && request.headers.has("origin")) {
        return this.door.dress(this.door.preflight(), request);
      }
      const load = loadOfRequest(request.method, path);
      if (load !== "urgent") this.#admit(load);
      call = new Call(request, {
        path,
        host,
        address,
        inFlight: this.inFlight,
      });
      // A webhook's caller is known by what the plugin's manifest declares.
      if (!PUBLIC.has(path) && !isWebhook(request.method, path)) {
        const principal = await this.#authenticate(request, address, {
          path,
          tailnet: this.#tailnetPeer(request, { peer, isUpgrade }),
        });
        call.identify(principal, load);
        this.#checkStanding(principal);
        this.#requestRate.take(principal, this.deps.clock.now(), call.rates);
      }
      const response = await this.#app.fetch(request, { call });
      const now = this.deps.clock.now();
      response.headers.set("x-request-id", makeId("req", now));
      tellRates(response.headers, call.rates);
      return this.door.dress(response, request);
    } catch (thrown) {
      const refusal = this.#refuse(request, path, thrown);
      tellRates(refusal.headers, call?.rates ?? []);
      return this.door.dress(refusal, request);
    } finally {
      if (call?.isStreaming === false) call.end();
    }
  };

  #admit(load: Load): void {
    if (this.isDraining) {
      throw new AppError(
        "unavailable",
        "Cannot take the request: the gateway is shutting down",
        { retryAfterMs: this.limits.retryAfterMs },
      );
    }
    this.inFlight.check(load);
  }

  #refuse(request: Request, path: string, thrown: unknown): Response {
    // A call that was ended on purpose fails with the reason of its end.
    const error = toAppError(thrown);
    this.inFlight.countRefusal(error.code);
    if (error.code === "internal") {
      this.deps.log("error", "gateway.request_failed", {
        path: path.slice(0, 200),
        method: request.method,
        error: errorText(error.cause),
      });
    }
    return toErrorResponse(error, dialectOf(path));
  }

  async #upgrade(
    request: Request,
    { address, peer }: { address: string; peer: SocketPeer },
  ): Promise<Response> {
    const isNamed = request.headers.has("authorization");
    this.#admit(isNamed ? "read" : "anonymous");
    const principal = isNamed
      ? await this.#authenticate(request, address)
      : undefined;
    const tailnet = this.#tailnetPeer(request, { peer, isUpgrade: true });
    return this.sockets.accept(request, { address, principal, tailnet });
  }

  /**
   * A credential ended: so do its sockets, its requests and its runs. When only
   * texts of it ended, its runs go on: they are still its.
   */
  revoke(credential: string, before?: number): void {
    const sockets = this.sockets.revoke(credential, before);
    this.inFlight.abort(
      new AppError("unauthorized", "The credential was revoked"),
      ({ principal }) =>
        principal?.authority.credential === credential &&
        isOlder(principal, before ?? Infinity),
    );
    const runs = before === undefined
      ? this.deps.turns.abortCredential(credential).length
      : 0;
    this.deps.log("info", "gateway.revoked", { credential, sockets, runs });
  }
}

/** The router, made of the rows. It sees the path the wrapper parsed. */
function makeApp(on: RouteDeps): Hono<Env> {
  const app = new Hono<Env>({
    getPath: (_request, options) =>
      (options as { env: Env["Bindings"] }).env.call.path,
  });
  for (const { method, path, scope, orScope, handle } of ROUTES) {
    app.on(method, path, (c) => {
      const { call } = c.env;
      const mayPass = (one: Scope | undefined) =>
        one !== undefined && call.caller.authority.scopes.has(one);
      if (
        scope !== "public" && scope !== "handshake" &&
        scope !== "manifest" && !mayPass(scope) && !mayPass(orScope)
      ) {
        throw new AppError(
          "forbidden",
          `Cannot ${method} ${path}: it needs the scope "${scope}"`,
          { details: { code: "MISSING_SCOPE", scope: `operator.${scope}` } },
        );
      }
      return handle(call, on);
    });
  }
  app.notFound((c) => {
    const { path } = c.env.call;
    const known = ROUTES.filter((route) => fitsPath(route, path));
    if (known.length === 0) {
      throw new AppError("not_found", "Cannot find anything at that path");
    }
    throw new AppError(
      "bad_input",
      `Cannot ${c.req.method} ${path}: it takes ${
        known.map(({ method }) => method).join(", ")
      }`,
      { details: { status: 405 } },
    );
  });
  app.onError((error) => {
    throw error;
  });
  return app;
}

/**
 * @throws {AppError} `bad_input` for clear text off loopback, and for TLS whose
 * files were not read
 */
function checkListening({ config, tls }: GatewayDeps): void {
  if (isExposed(config)) {
    throw new AppError(
      "bad_input",
      `Cannot listen on ${config.host}: ${exposedText(config.host)}`,
    );
  }
  if ((config.tls === undefined) === (tls === undefined)) return;
  throw new TypeError("gateway.tls and the files it names go together");
}

function listen(room: Room): Deno.HttpServer<Deno.NetAddr> {
  const { config, log, portHolder, tls } = room.deps;
  const { host, port } = config;
  checkListening(room.deps);
  try {
    return Deno.serve({
      hostname: host,
      port,
      ...(tls === undefined ? {} : { cert: tls.cert, key: tls.key }),
      onListen: ({ hostname, port }) =>
        log("info", "gateway.listening", {
          host: hostname,
          port,
          tls: tls !== undefined,
        }),
      onError: (error) => {
        log("error", "gateway.serve_failed", { error: errorText(error) });
        return new Response(null, { status: 500 });
      },
    }, room.serve);
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    const holder = portHolder?.();
    throw new AppError(
      "conflict",
      `Cannot listen on ${host}:${port}: another program does` +
        (holder === undefined ? "" : ` (${holder})`),
      {
        cause: error,
        hint: `Stop it (it may be another carapace: "carapace status"), or ` +
          `choose another port: CARAPACE_PORT=${port + 1}`,
      },
    );
  }
}

/**
 * Opens the gateway.
 *
 * @throws {AppError} `conflict` when the port is taken, `bad_input` when what it
 * is to listen on would be in clear text for others
 */
export async function openGateway(deps: GatewayDeps): Promise<Gateway> {
  const room = new Room(deps);
  const { sockets, inFlight, limits } = room;
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    await room.health.prime();
    server = listen(room);
  } catch (error) {
    await sockets.close(CLOSE.tryLater, "");
    throw error;
  }
  const address = { host: server.addr.hostname, port: server.addr.port };
  room.door = new Door(deps.config, address.port);
  const watching = deps.turns.watch((event, run) => sockets.onTurn(event, run));
  const changing = deps.operations?.watch?.((change) =>
    sockets.publish(
      "sessions.changed",
      { ...change, key: change.sessionKey, ts: deps.clock.now() },
      (caller) => caller.ownsSession(change.sessionKey),
    )
  );
  const revoking = deps.onRevoked((credential, before) =>
    room.revoke(credential, before)
  );
  const waitAtMost = async (wait: Promise<unknown>, limitMs: number) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    await Promise.race([wait, promise]);
    clearTimeout(timer);
  };
  return {
    address,
    isTls: deps.tls !== undefined,
    counts: () => ({
      sockets: sockets.count,
      preAuth: sockets.preAuthCount,
      inFlight: inFlight.count,
      refused: inFlight.refused,
    }),
    invokeNode: (ask) => sockets.nodes.invoke(ask),
    isNodeConnected: (nodeId) => sockets.connectedNode(nodeId) !== undefined,
    publish: (event, payload, to) => sockets.publish(event, payload, to),
    drain: async ({ limitMs = 0, isRestart = false } = {}) => {
      if (!room.isDraining) {
        room.isDraining = true;
        room.isRestarting = isRestart;
        sockets.publish("shutdown", {
          reason: isRestart ? "restarting" : "shutting down",
          restartExpectedMs: limits.retryAfterMs,
        });
      }
      await waitAtMost(inFlight.idle(), limitMs);
    },
    [Symbol.asyncDispose]: async () => {
      if (room.isClosing) return;
      room.isClosing = true;
      room.isDraining = true;
      inFlight.close();
      watching[Symbol.dispose]();
      changing?.[Symbol.dispose]();
      revoking[Symbol.dispose]();
      // In this order: the server's own shutdown would close sockets with 1001
      // and wait for ever for a stream that is still open.
      if (room.isRestarting) await sockets.close(CLOSE.restart, "restarting");
      else await sockets.close(CLOSE.tryLater, "shutting down");
      inFlight.abort(
        new AppError("unavailable", "The gateway is shutting down"),
        () => true,
      );
      await waitAtMost(
        server.shutdown().catch(ignore("the server was closing")),
        limits.shutdownMs,
      );
    },
  };
}
