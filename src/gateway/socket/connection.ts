/**
 * One WebSocket: handshake, requests, events in order, and what happens when
 * its reader is slow.
 *
 * Never: a frame before its limits were checked; a method before the handshake;
 * a gap in `seq`.
 *
 * @module
 */
import type { z } from "zod";
import type { Admitted, Arrival } from "../../auth/connect.ts";
import type { Principal, Scope } from "../../core/authority.ts";
import { scanJson } from "../../core/bounded.ts";
import { AppError, errorText } from "../../core/errors.ts";
import { METHODS } from "../../core/methods.ts";
import {
  CLOSE,
  ConnectParams,
  type EventName,
  EVENTS,
  type HelloOk,
  PROTOCOL,
  type RequestFrame,
  type StateVersion,
  toWireError,
} from "../../core/protocol.ts";
import {
  checkFrame,
  idOf,
  isBytesOver,
  type Ordered,
  orderOf,
  parseParams,
} from "./frames.ts";
import { toAppError } from "../http_errors.ts";
import { Caller } from "../keys.ts";
import type { GatewayLimits } from "../limits.ts";
import { type Handlers, isMethod, type MethodCall } from "../methods.ts";
import { checkCall } from "../whose.ts";
import {
  mergeDeltas,
  type RunItem,
  toDeltaEvents,
  type WireEvent,
} from "./run_events.ts";
import { type InFlight, loadOfMethod } from "../in_flight.ts";
import type { Rate, RateByKind } from "../rate.ts";
import type { Log } from "../../core/log.ts";

/** How a handshake ends. */
export interface Welcome {
  hello: HelloOk;
  /** What was missed, up to the moment it is asked; the next is live. */
  missed(): readonly WireEvent[];
}

/** What a connection is given of the room. */
export interface ConnectionDeps {
  id: string;
  address: string;
  limits: GatewayLimits;
  handlers: Handlers;
  inFlight: InFlight;
  requestRate: RateByKind;
  urgentRate: Rate;
  log: Log;
  now(): number;
  /** On this machine, or in TLS: nobody reads along. */
  isPrivate: boolean;
  /** Set when the upgrade itself carried a good token. */
  principal: Principal | undefined;
  /** Where it came from, if that alone may say who it is. */
  tailnet: Arrival["tailnet"];
  /** Who connects, by what `connect` shows. */
  admit(params: ConnectParams, arrival: Arrival): Promise<Admitted>;
  /** What `hello-ok` says, and what a resumed run has to be sent again. */
  welcome(
    connection: Connection,
    asked: { caller: Caller; params: ConnectParams; admitted: Admitted },
  ): Promise<Welcome>;
  /** The agent of a session's key that names none. */
  defaultAgent(): string;
  /** The handshake is over: from here on it is sent events. */
  onReady(connection: Connection): void;
}

/** The last request of a session, and the last that sent something. */
interface Lane {
  all: Promise<void>;
  sends: Promise<void> | undefined;
}

/** One client. */
export class Connection {
  readonly id: string;
  readonly socket: WebSocket;
  readonly address: string;
  readonly connectedAt: number;
  /** When its client last asked for something. */
  lastRequestAt: number;
  readonly #deps: ConnectionDeps;
  readonly #controller = new AbortController();
  readonly #held: RunItem[] = [];
  readonly #lanes = new Map<string, Lane>();
  #heldSince = 0;
  #heldTimer: ReturnType<typeof setInterval> | undefined;
  #handshakeTimer: ReturnType<typeof setTimeout> | undefined;
  #isConnecting = false;
  #asked: Arrival["challenge"] = { nonce: "", ts: 0 };
  #isClosed = false;
  #requests = 0;
  #seq = 0;
  /** The server's record of who this is; set as soon as it is known. */
  principal: Principal | undefined;
  /** Every credential whose end closes this socket. */
  credentials: readonly string[] = [];
  /** What a node may be asked for; set for nodes only. */
  node: Admitted["node"];
  /** Set at the end of the handshake. */
  caller: Caller | undefined;
  client: ConnectParams["client"] | undefined;
  protocol: number = PROTOCOL.min;

  constructor(socket: WebSocket, deps: ConnectionDeps) {
    this.socket = socket;
    this.#deps = deps;
    this.id = deps.id;
    this.address = deps.address;
    this.connectedAt = this.lastRequestAt = deps.now();
    this.principal = deps.principal;
    if (deps.principal !== undefined) {
      this.credentials = [deps.principal.authority.credential];
    }
    socket.onopen = () => this.#challenge();
    socket.onmessage = ({ data }) => this.#read(data);
  }

  /** Aborts when the socket is closed. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isReady(): boolean {
    return this.caller !== undefined && !this.#isClosed;
  }

  #challenge(): void {
    const { limits, now } = this.#deps;
    const nonce = crypto.getRandomValues(new Uint8Array(24)).toHex();
    this.#asked = { nonce, ts: now() };
    this.sendEvent("connect.challenge", this.#asked);
    this.#handshakeTimer = setTimeout(
      () => this.close(CLOSE.policy, "handshake too late"),
      limits.handshakeMs,
    );
  }

  /** Closes, once; nothing is sent or read after. */
  close(code: number, reason: string): void {
    if (this.#isClosed) return;
    this.ended();
    try {
      this.socket.close(code, reason.slice(0, 120));
    } catch (error) {
      this.#deps.log("debug", "gateway.close_failed", {
        error: errorText(error),
      });
    }
  }

  /** The socket is gone or going: timers stop, waits end. */
  ended(): void {
    this.#isClosed = true;
    clearTimeout(this.#handshakeTimer);
    clearInterval(this.#heldTimer);
    this.#held.length = 0;
    this.#controller.abort(new AppError("cancelled", "The socket closed"));
  }

  #send(text: string): void {
    if (this.#isClosed || this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > this.#deps.limits.unreadBytesMax) {
      this.close(CLOSE.policy, "reads too slowly");
      return;
    }
    this.socket.send(text);
  }

  /** Sends an event with the next number. `payload` is an object or JSON text. */
  sendEvent(
    event: EventName,
    payload: object | string,
    stateVersion?: StateVersion,
  ): void {
    if (this.#isClosed) return;
    const body = typeof payload === "string"
      ? payload
      : JSON.stringify(payload);
    const version = stateVersion === undefined
      ? ""
      : `,"stateVersion":${JSON.stringify(stateVersion)}`;
    const head = `{"type":"event","event":"${event}"`;
    this.#send(`${head},"payload":${body},"seq":${++this.#seq}${version}}`);
  }

  /** Whether an event is for this caller's scopes. */
  mayHear(event: EventName): boolean {
    const scope: Scope | null = EVENTS[event];
    return this.caller !== undefined &&
      (scope === null || this.caller.authority.scopes.has(scope));
  }

  /**
   * Sends a run's item, or keeps it while the reader is behind; deltas that are
   * kept merge.
   */
  sendItem(
    item: RunItem,
    encoded: readonly (readonly [EventName, string])[],
  ): void {
    if (this.#isClosed) return;
    const { limits, now } = this.#deps;
    const isBehind = this.#held.length > 0 ||
      this.socket.bufferedAmount > limits.bufferedBytesMax;
    if (!isBehind) {
      for (const [event, text] of encoded) {
        if (this.mayHear(event)) this.sendEvent(event, text);
      }
      return;
    }
    if (this.#held.length === 0) {
      this.#heldSince = now();
      this.#heldTimer = setInterval(() => this.#flush(), limits.heldPollMs);
    }
    this.#hold(item);
    if (this.#held.length > limits.heldEventsMax) {
      this.close(CLOSE.policy, "reads too slowly");
    }
  }

  #hold(item: RunItem): void {
    if (item.kind === "text") {
      const at = this.#held.findLastIndex(({ runId }) => runId === item.runId);
      const last = this.#held[at];
      if (last?.kind === "text") {
        this.#held[at] = mergeDeltas(last, item);
        return;
      }
    }
    this.#held.push(item);
  }

  #flush(): void {
    const { limits, now } = this.#deps;
    while (
      this.#held.length > 0 && !this.#isClosed &&
      this.socket.bufferedAmount <= limits.bufferedBytesMax / 2
    ) {
      const item = this.#held.shift();
      if (item === undefined) break;
      this.#heldSince = now();
      for (const wire of item.kind === "text" ? toDeltaEvents(item) : [item]) {
        if (this.mayHear(wire.event)) this.sendEvent(wire.event, wire.payload);
      }
    }
    if (this.#held.length === 0) clearInterval(this.#heldTimer);
    else if (now() - this.#heldSince > limits.slowMs) {
      this.close(CLOSE.policy, "reads too slowly");
    }
  }

  #fail(id: string, error: unknown, method = ""): void {
    if (!(error instanceof AppError)) {
      this.#deps.log("error", "gateway.method_failed", {
        method,
        error: errorText(error),
      });
    }
    const known = toAppError(error);
    this.#deps.inFlight.countRefusal(known.code);
    const wire = toWireError(known, this.protocol);
    this.#send(JSON.stringify({ type: "res", id, ok: false, error: wire }));
  }

  #read(data: unknown): void {
    if (this.#isClosed) return;
    const { limits } = this.#deps;
    if (typeof data !== "string") {
      this.close(CLOSE.policy, "binary frames are not taken");
      return;
    }
    const isReady = this.caller !== undefined;
    const bytesMax = isReady
      ? limits.frameBytesMax
      : limits.handshakeFrameBytesMax;
    if (isBytesOver(data, bytesMax)) {
      this.close(CLOSE.tooBig, `a frame has at most ${bytesMax} bytes`);
      return;
    }
    let value: unknown;
    try {
      scanJson(data, limits);
      value = JSON.parse(data);
    } catch {
      this.close(CLOSE.policy, "the frame is not JSON within the limits");
      return;
    }
    const id = idOf(value);
    if (id === undefined) {
      this.close(CLOSE.policy, "the frame has no usable id");
      return;
    }
    try {
      const frame = checkFrame(value as object);
      if (isReady) this.#request(frame);
      else void this.#handshake(frame);
    } catch (error) {
      this.#fail(id, error);
      if (!isReady) this.close(CLOSE.policy, "bad handshake");
    }
  }

  async #handshake(frame: RequestFrame): Promise<void> {
    try {
      if (frame.method !== "connect" || this.#isConnecting) {
        throw new AppError("bad_input", 'The first request must be "connect"', {
          hint: 'Wait for the answer to "connect"',
        });
      }
      this.#isConnecting = true;
      await this.#connect(frame);
    } catch (error) {
      this.#fail(frame.id, error);
      const isVersion = error instanceof AppError &&
        error.details?.["expectedProtocol"] !== undefined;
      this.close(
        isVersion ? CLOSE.protocol : CLOSE.policy,
        error instanceof AppError ? error.message : "bad handshake",
      );
    }
  }

  async #connect(frame: RequestFrame): Promise<void> {
    const { admit, welcome, onReady } = this.#deps;
    const params = parseParams("connect", ConnectParams, frame.params);
    const protocol = Math.min(PROTOCOL.max, params.maxProtocol);
    if (protocol < Math.max(PROTOCOL.min, params.minProtocol)) {
      this.#mismatch(frame.id);
      return;
    }
    this.protocol = protocol;
    const admitted = await admit(params, {
      address: this.address,
      challenge: this.#asked,
      isPrivate: this.#deps.isPrivate,
      principal: this.principal,
      tailnet: this.#deps.tailnet,
    });
    const { principal } = admitted;
    this.principal = principal;
    this.credentials = admitted.credentials;
    this.node = admitted.node;
    // What ended while it was asked was told to nobody.
    if (admitted.isOver()) {
      throw new AppError("unauthorized", "The credential is over");
    }
    if (params.role === "node" && principal.kind !== "node") {
      throw new AppError("forbidden", 'Cannot connect as "node": not one', {
        hint: 'Leave out "role" or say "operator"',
      });
    }
    const caller = await Caller.of(
      principal,
      params.scopes === undefined
        ? principal.authority
        : principal.authority.narrow({ scopes: params.scopes }),
    );
    this.client = params.client;
    const { hello, missed } = await welcome(this, {
      caller,
      params,
      admitted,
    });
    // Closed meanwhile: the client left, was late, or its token was revoked.
    if (this.#isClosed) return;
    clearTimeout(this.#handshakeTimer);
    // From the look at what was missed to the first live event nothing happens.
    const replay = missed();
    this.caller = caller;
    this.#respond(frame.id, hello);
    for (const { event, payload } of replay) {
      if (this.mayHear(event)) this.sendEvent(event, payload);
    }
    onReady(this);
  }

  #mismatch(id: string): void {
    const error = {
      code: "PROTOCOL_MISMATCH",
      message:
        `This gateway speaks protocols ${PROTOCOL.min} to ${PROTOCOL.max}`,
      details: {
        expectedProtocol: PROTOCOL.max,
        minProtocol: PROTOCOL.min,
        maxProtocol: PROTOCOL.max,
        hint: "Use a client of another version",
      },
    };
    this.#send(JSON.stringify({ type: "res", id, ok: false, error }));
    this.close(CLOSE.protocol, "protocol mismatch");
  }

  #respond(id: string, payload: unknown): void {
    this.#send(
      `{"type":"res","id":${JSON.stringify(id)},"ok":true,"payload":${
        JSON.stringify(payload)
      }}`,
    );
  }

  #request(frame: RequestFrame): void {
    const { inFlight, limits, handlers } = this.#deps;
    const { method, id } = frame;
    const { caller } = this;
    if (caller === undefined) return;
    const load = loadOfMethod(method);
    this.#charge(caller, load === "urgent" && method !== "health");
    if (!isMethod(method)) {
      throw new AppError(
        "bad_input",
        `Cannot call "${method}": unknown method`,
      );
    }
    const contract = METHODS[method];
    checkCall(method, caller);
    this.lastRequestAt = this.#deps.now();
    if (
      this.#requests >= limits.requestsPerSocketMax && load !== "urgent"
    ) {
      throw new AppError("rate_limited", "Too many requests at once", {
        retryAfterMs: 100,
      });
    }
    inFlight.check(load);
    const { id: principal } = caller.principal;
    inFlight.checkOf(principal, load);
    const input: z.ZodType = contract.input;
    const params = parseParams(method, input, frame.params ?? {});
    const handler = handlers[method] as (
      params: unknown,
      call: MethodCall,
    ) => unknown;
    const { signal, id: connId } = this;
    const run = () => handler(params, { caller, signal, connId });
    const order = orderOf(method, params);
    const result = order === undefined
      ? run()
      : this.#inOrder(order, { caller, run });
    // What is known at once is answered at once.
    if (!(result instanceof Promise)) {
      this.#respond(id, result);
      return;
    }
    this.#requests++;
    inFlight.claim(principal);
    inFlight.enter();
    result.then(
      (payload) => this.#respond(id, payload),
      (error) => this.#fail(id, error, method),
    ).finally(() => {
      this.#requests--;
      inFlight.release(principal);
      inFlight.leave();
    });
  }

  #charge({ principal }: Caller, isUrgent: boolean): void {
    const { requestRate, urgentRate, now } = this.#deps;
    if (isUrgent) urgentRate.take(principal.id, now());
    else requestRate.take(principal, now());
  }

  /** One session's requests keep their order; others do not wait for them. */
  async #inOrder<T>(
    { key, agentId, as }: Ordered,
    { caller, run }: { caller: Caller; run: () => T | Promise<T> },
  ): Promise<T> {
    const name = caller.nameOf(key, agentId ?? this.#deps.defaultAgent());
    const before = this.#lanes.get(name);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#lanes.set(name, {
      all: promise,
      sends: as === "change" ? before?.sends : promise,
    });
    try {
      await (as === "stop" ? before?.sends : before?.all);
      return await run();
    } finally {
      resolve();
      if (this.#lanes.get(name)?.all === promise) this.#lanes.delete(name);
    }
  }
}
