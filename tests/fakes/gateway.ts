/**
 * A small gateway for clients' tests: the handshake, runs that follow a script,
 * abort, and sockets that can be cut and resumed; on a real socket. Requests are
 * checked by the protocol's own schemas, runs become events as in the gateway.
 */
import assert from "node:assert/strict";
import {
  ConnectParams,
  HelloOk,
  RequestFrame,
  toWireError,
} from "../../src/core/protocol.ts";
import { replayRun } from "../../src/gateway/socket/run_events.ts";
import { AppError } from "../../src/core/errors.ts";
import { makeId } from "../../src/core/ids.ts";
import { METHODS } from "../../src/core/methods.ts";
import { NO_USAGE } from "../../src/core/message.ts";
import type { TurnEvent, TurnEventBody } from "../../src/core/turn.ts";

/** What a script is given of its run. */
export interface FakeRun {
  runId: string;
  sessionKey: string;
  message: string;
  signal: AbortSignal;
  gateway: FakeGateway;
}

/** Plays a run; what it yields is sent at once. `end` is added when missing. */
export type Script = (run: FakeRun) => AsyncIterable<TurnEventBody>;

type Handler = (params: Record<string, unknown>) => unknown;

export interface FakeGatewayOptions {
  /** @default "test-token" */
  token?: string;
  script?: Script;
  /** Further methods, or other answers to known ones. */
  methods?: Record<string, Handler>;
  /** @default 30_000 */
  tickIntervalMs?: number;
}

interface Run {
  runId: string;
  sessionKey: string;
  events: TurnEvent[];
  reply: string;
  controller: AbortController;
  done: Promise<void>;
}

async function* echo(run: FakeRun): AsyncGenerator<TurnEventBody> {
  const reply = `You said: ${run.message}`;
  yield await Promise.resolve({ kind: "text", text: reply });
  yield { kind: "reply", text: reply, model: "fake:echo" };
}

/** The fake. Dispose it to close its port and sockets. */
export class FakeGateway implements AsyncDisposable {
  /** Every request after the handshake, in order. */
  readonly requests: { method: string; params: Record<string, unknown> }[] = [];
  /** The parameters of every accepted `connect`. */
  readonly connects: ConnectParams[] = [];
  readonly #options: FakeGatewayOptions;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #sockets = new Map<WebSocket, number>();
  readonly #runs = new Map<string, Run>();
  readonly #byKey = new Map<string, string>();
  #busy: { code: number; times: number } | undefined;

  constructor(options: FakeGatewayOptions = {}) {
    this.#options = options;
    this.#server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      (request) => this.#upgrade(request),
    );
  }

  get port(): number {
    return this.#server.addr.port;
  }
  get url(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }
  get token(): string {
    return this.#options.token ?? "test-token";
  }
  get sockets(): number {
    return this.#sockets.size;
  }

  /** Closes every socket, as a restart (1012) does. */
  cut(code = 1012): void {
    for (const socket of this.#sockets.keys()) socket.close(code, "cut");
    this.#sockets.clear();
  }

  /** Forgets the runs' events, as a new process has. */
  forget(): void {
    for (const run of this.#runs.values()) run.events.length = 0;
  }

  /** Closes the next connections during the handshake. */
  refuse(times: number, code = 1013): void {
    this.#busy = { code, times };
  }

  /** Sends an event to everyone. */
  broadcast(event: string, payload: unknown): void {
    for (const socket of this.#sockets.keys()) {
      this.#event(socket, event, payload);
    }
  }

  /** Sends a text as it is. */
  sendRaw(text: string): void {
    for (const socket of this.#sockets.keys()) socket.send(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const run of this.#runs.values()) run.controller.abort();
    this.cut(1000);
    await this.#server.shutdown();
  }

  #event(socket: WebSocket, event: string, payload: unknown): void {
    const seq = (this.#sockets.get(socket) ?? 0) + 1;
    this.#sockets.set(socket, seq);
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify({ type: "event", event, payload, seq }));
  }

  #upgrade(request: Request): Response {
    const { pathname } = new URL(request.url);
    if (pathname === "/health/ready") return this.#ready(request);
    if (pathname !== "/ws" && pathname !== "/") {
      return new Response(null, { status: 404 });
    }
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onopen = () => {
      if (this.#busy !== undefined && this.#busy.times-- > 0) {
        socket.close(this.#busy.code, "try later");
        return;
      }
      socket.send(JSON.stringify({
        type: "event",
        event: "connect.challenge",
        payload: { nonce: crypto.randomUUID(), ts: Date.now() },
      }));
    };
    socket.onclose = () => this.#sockets.delete(socket);
    socket.onmessage = async ({ data }) => {
      const frame = RequestFrame.parse(JSON.parse(data));
      try {
        const payload = await this.#handle(socket, frame);
        if (socket.readyState !== WebSocket.OPEN) return;
        socket.send(
          JSON.stringify({ type: "res", id: frame.id, ok: true, payload }),
        );
        if (frame.method === "connect") this.#welcome(socket, frame);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        if (socket.readyState !== WebSocket.OPEN) return;
        socket.send(JSON.stringify({
          type: "res",
          id: frame.id,
          ok: false,
          error: toWireError(error, 4),
        }));
        if (frame.method === "connect") socket.close(1008, "unauthorized");
      }
    };
    return response;
  }

  #ready(request: Request): Response {
    const mayRead =
      request.headers.get("authorization") === `Bearer ${this.token}`;
    const checks = [{ name: "store", ok: true }];
    return Response.json({ status: "ok", ...(mayRead ? { checks } : {}) });
  }

  #handle(socket: WebSocket, frame: RequestFrame): unknown {
    if (frame.method === "connect") return this.#connect(frame);
    assert.ok(this.#sockets.has(socket), "a request came before the handshake");
    const contract = METHODS[frame.method as keyof typeof METHODS];
    assert.ok(contract !== undefined, `unknown method ${frame.method}`);
    const params = contract.input.parse(frame.params) as Record<
      string,
      unknown
    >;
    this.requests.push({ method: frame.method, params });
    const own = this.#options.methods?.[frame.method];
    if (own !== undefined) return own(params);
    switch (frame.method) {
      case "chat.send":
      case "agent":
        return this.#start(frame.method, params);
      case "chat.abort":
        return this.#abort(params);
      case "agent.wait":
        return this.#wait(params);
      default:
        throw new AppError(
          "not_found",
          `The fake does not know "${frame.method}"`,
        );
    }
  }

  #connect(frame: RequestFrame): unknown {
    const params = ConnectParams.parse(frame.params);
    if (params.auth?.token !== this.token) {
      throw new AppError("unauthorized", "The token is not known");
    }
    this.connects.push(params);
    return HelloOk.parse({
      type: "hello-ok",
      protocol: 4,
      server: { version: "0.1.0", host: "fake", connId: "c1" },
      features: { methods: Object.keys(METHODS), events: ["chat", "agent"] },
      snapshot: {
        presence: [],
        health: {},
        stateVersion: { presence: 0, health: 0 },
        uptimeMs: 1,
        sessionDefaults: {
          defaultAgentId: "main",
          mainKey: "main",
          mainSessionKey: "agent:main:main",
        },
      },
      auth: { role: "operator", scopes: ["admin"] },
      policy: {
        maxPayload: 524_288,
        maxBufferedBytes: 1_572_864,
        tickIntervalMs: this.#options.tickIntervalMs ?? 30_000,
      },
    });
  }

  #welcome(socket: WebSocket, frame: RequestFrame): void {
    this.#sockets.set(socket, 0);
    const { resume } = ConnectParams.parse(frame.params);
    const run = resume === undefined ? undefined : this.#runs.get(resume.runId);
    if (resume === undefined || run === undefined) return;
    for (const { event, payload } of replayRun(run.events, run, resume)) {
      this.#event(socket, event, payload);
    }
  }

  #start(method: string, params: Record<string, unknown>): unknown {
    const key = String(params["idempotencyKey"]);
    const known = this.#byKey.get(key);
    const isAgent = method === "agent";
    if (known !== undefined) {
      return { runId: known, status: isAgent ? "accepted" : "duplicate" };
    }
    const runId = makeId("run", Date.now());
    const run: Run = {
      runId,
      sessionKey: String(params["sessionKey"] ?? "agent:main:main"),
      events: [],
      reply: "",
      controller: new AbortController(),
      done: Promise.resolve(),
    };
    this.#byKey.set(key, runId);
    this.#runs.set(runId, run);
    run.done = this.#play(run, String(params["message"]));
    return { runId, status: isAgent ? "accepted" : "started" };
  }

  async #play(run: Run, message: string): Promise<void> {
    const { runId, sessionKey, controller } = run;
    const script = this.#options.script ?? echo;
    let hasEnded = false;
    const emit = (body: TurnEventBody) => {
      if (body.kind === "reply") run.reply = body.text;
      hasEnded = body.kind === "end";
      const seq = (run.events.at(-1)?.seq ?? 0) + 1;
      const event = { ...body, runId, seq, at: Date.now() } as TurnEvent;
      run.events.push(event);
      for (const wire of replayRun(run.events, run, { seq: seq - 1 })) {
        this.broadcast(wire.event, wire.payload);
      }
    };
    emit({ kind: "accepted", sessionKey, sessionId: "s1", agentId: "main" });
    const events = script({
      runId,
      sessionKey,
      message,
      signal: controller.signal,
      gateway: this,
    });
    for await (const body of events) emit(body);
    if (!hasEnded) {
      emit({
        kind: "end",
        reason: controller.signal.aborted ? "cancelled" : "done",
        usage: { ...NO_USAGE, inputTokens: 12, outputTokens: 34 },
      });
    }
  }

  #abort(params: Record<string, unknown>): unknown {
    const runIds: string[] = [];
    for (const run of this.#runs.values()) {
      if (run.sessionKey !== params["sessionKey"]) continue;
      run.controller.abort();
      runIds.push(run.runId);
    }
    return { ok: true, aborted: runIds.length > 0, runIds };
  }

  async #wait(params: Record<string, unknown>): Promise<unknown> {
    const run = this.#runs.get(String(params["runId"]));
    if (run === undefined) throw new AppError("not_found", "No such run");
    await run.done;
    return { runId: run.runId, status: "ok", reply: run.reply };
  }
}

/** Waits until a signal aborts; for scripts that run until they are stopped. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}
