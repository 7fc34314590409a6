/**
 * The gateway's WebSocket protocol from the calling side: handshake, typed
 * calls, events, and a connection that is made again when it is lost.
 *
 * Never: a token leaves in clear text for another machine; a call that may have
 * had an effect is sent twice, unless the gateway can tell that it was.
 *
 * @module
 */
import { Pipe } from "../core/bounded.ts";
import { AppError, errorText, ignore, isAbort } from "../core/errors.ts";
import {
  type MethodInput,
  type MethodName,
  type MethodOutput,
  METHODS,
} from "../core/methods.ts";
import { CLOSE, type HelloOk } from "../core/protocol.ts";
import { type Clock, limitSignal } from "../core/time.ts";
import { VERSION } from "../core/version.ts";
import {
  type Frame,
  fromWireError,
  type GatewayAddress,
  hangUp,
  type Resume,
  shakeHands,
  unreachable,
} from "./handshake.ts";
import { makeTrust } from "./trust.ts";

/** An event of the gateway, or of the connection itself. */
export type Notice =
  | { kind: "event"; event: string; payload: unknown }
  | { kind: "lost"; reason: string }
  | { kind: "back" }
  | { kind: "failed"; error: AppError };

export interface ClientOptions {
  clock: Clock;
  /** @default 10_000 */
  handshakeMs?: number;
  /** How long a lost connection is sought. @default 60_000 */
  reconnectMs?: number;
  signal?: AbortSignal;
}

const LIMITS = {
  /** Requests without an answer; one more is refused here. */
  pendingMax: 256,
  /** Events nobody took yet; the connection ends beyond it. */
  queuedEventsMax: 20_000,
  /** How often one call is sent again after a lost connection. */
  resendsMax: 3,
  /** How often a gateway may say that it is there, at the most and the least. */
  tickMsMin: 1_000,
  tickMsMax: 600_000,
  /** How long a lost connection is waited for, at first and at the most. */
  backoffFirstMs: 250,
  backoffCapMs: 5_000,
} as const;

/** Beside reads: sending these twice is the same as once. */
const HARMLESS: ReadonlySet<MethodName> = new Set(["agent.wait", "chat.abort"]);

type Pending = {
  text: string;
  /** Whether sending it twice does no harm. */
  isRepeatable: boolean;
  resends: number;
  resolve(payload: unknown): void;
  reject(error: AppError): void;
};

/** A connection to a gateway. Dispose it to end it. */
export class GatewayClient implements Disposable {
  readonly #address: GatewayAddress;
  readonly #options: Required<Omit<ClientOptions, "signal">>;
  readonly #closing = new AbortController();
  readonly #pending = new Map<string, Pending>();
  readonly #listeners = new Set<(notice: Notice) => void>();
  #socket: WebSocket | undefined;
  #hello: HelloOk | undefined;
  #reconnecting: Promise<void> | undefined;
  readonly #followed: (() => Resume | undefined)[] = [];
  #failure: AppError | undefined;
  #watching = new AbortController();
  #heardAt = 0;
  #ids = 0;
  #epoch = 0;

  private constructor(address: GatewayAddress, options: ClientOptions) {
    this.#address = address;
    this.#options = { handshakeMs: 10_000, reconnectMs: 60_000, ...options };
  }

  /**
   * Connects and shakes hands.
   *
   * @throws {AppError} `unavailable` when nobody answers, `unauthorized` when
   * the token is missing or refused
   */
  static async connect(
    address: GatewayAddress,
    options: ClientOptions,
  ): Promise<GatewayClient> {
    const client = new GatewayClient(address, options);
    options.signal?.addEventListener("abort", () => client[Symbol.dispose](), {
      once: true,
    });
    try {
      await client.#open();
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw error;
    }
  }

  /** What the gateway said of itself when we (last) connected. */
  get hello(): HelloOk {
    if (this.#hello === undefined) throw new TypeError("Not connected yet");
    return this.#hello;
  }

  /** Whether there is a connection just now. */
  get isConnected(): boolean {
    return this.#socket !== undefined;
  }

  /** Grows by one with every connection. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Calls a method and checks its answer.
   *
   * @throws {AppError} what the gateway answered, with its hint; `unavailable`
   * when the connection was lost and the call cannot be repeated
   */
  async call<M extends MethodName>(
    method: M,
    params: MethodInput<M>,
  ): Promise<MethodOutput<M>> {
    const contract = METHODS[method];
    const payload = await this.#request(method, params, {
      isRepeatable: contract.scope === "read" || HARMLESS.has(method) ||
        "idempotencyKey" in params,
    });
    const parsed = contract.output.safeParse(payload);
    if (parsed.success) return parsed.data as MethodOutput<M>;
    throw new AppError(
      "upstream",
      `Cannot read the gateway's answer to "${method}": ${
        parsed.error.issues[0]?.path.join(".") ?? ""
      } ${parsed.error.issues[0]?.message ?? ""}`.trim(),
      {
        hint:
          `The gateway is version ${this.hello.server.version}, this program ${VERSION}`,
      },
    );
  }

  /** Calls back for every notice until disposed. */
  listen(listener: (notice: Notice) => void): Disposable {
    this.#listeners.add(listener);
    if (this.#failure !== undefined) {
      listener({ kind: "failed", error: this.#failure });
    }
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Every notice from now on, until the client is disposed or has failed. */
  events(): AsyncIterable<Notice> & Disposable {
    const pipe = new Pipe<Notice>(LIMITS.queuedEventsMax);
    const listening = this.listen((notice) => {
      if (!pipe.push(notice) || notice.kind === "failed") pipe.close();
    });
    const onClosing = () => pipe.close();
    this.#closing.signal.addEventListener("abort", onClosing, { once: true });
    return {
      [Symbol.asyncIterator]: () => pipe[Symbol.asyncIterator](),
      [Symbol.dispose]: () => {
        listening[Symbol.dispose]();
        this.#closing.signal.removeEventListener("abort", onClosing);
        pipe.close();
      },
    };
  }

  /**
   * While undisposed, a new connection asks for this run's missed events. The
   * wire has room for one run: the one followed first.
   */
  follow(resume: () => Resume | undefined): Disposable {
    this.#followed.push(resume);
    if (this.#socket === undefined) this.#reconnect();
    return {
      [Symbol.dispose]: () => {
        const at = this.#followed.indexOf(resume);
        if (at !== -1) this.#followed.splice(at, 1);
      },
    };
  }

  #resume(): Resume | undefined {
    for (const resume of this.#followed) {
      const wanted = resume();
      if (wanted !== undefined) return wanted;
    }
    return undefined;
  }

  /** Waits for a connection, when there is none just now. */
  async ready(): Promise<void> {
    while (this.#socket === undefined && this.#failure === undefined) {
      this.#reconnect(); // bounded by `reconnectMs`: then there is a failure
      await this.#reconnecting;
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Connects anew, so that a followed run's events come from its start. */
  renew(): void {
    if (this.#socket === undefined) return;
    this.#drop();
    this.#reconnect();
  }

  [Symbol.dispose](): void {
    if (this.#closing.signal.aborted) return;
    this.#fail(new AppError("cancelled", "The connection was closed"));
    this.#closing.abort();
    this.#listeners.clear();
  }

  async #request(
    method: string,
    params: unknown,
    options: { isRepeatable: boolean },
  ): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#pending.size >= LIMITS.pendingMax) {
      throw new AppError(
        "rate_limited",
        `Cannot call "${method}": ${LIMITS.pendingMax} calls wait already`,
      );
    }
    const id = String(++this.#ids);
    const text = JSON.stringify({ type: "req", id, method, params });
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { text, ...options, resends: 0, resolve, reject });
    if (this.#socket === undefined) this.#reconnect();
    else this.#socket.send(text);
    return await promise;
  }

  /** One attempt: socket, challenge, connect, hello. */
  async #open(): Promise<void> {
    const { clock, handshakeMs } = this.#options;
    using limit = limitSignal(this.#closing.signal, handshakeMs);
    let socket: WebSocket | undefined;
    try {
      socket = await openSocket(this.#address, limit.signal);
      const hello = await shakeHands(socket, {
        address: this.#address,
        resume: this.#resume(),
        signal: limit.signal,
        // What follows the hello in the same packet must not be lost.
        onFrame: (frame) => this.#take(frame),
      });
      this.#hello = hello;
      this.#socket = socket;
      this.#epoch++;
      this.#heardAt = clock.now();
    } catch (error) {
      if (socket !== undefined) hangUp(socket);
      if (this.#closing.signal.aborted && isAbort(error)) throw error;
      throw error instanceof AppError ? error : unreachable(
        this.#address,
        limit.signal.aborted
          ? `no answer within ${handshakeMs} ms`
          : errorText(error),
      );
    }
    socket.onclose = ({ code, reason }) => {
      if (this.#socket === socket) this.#lost(reason, code);
    };
    socket.onerror = null;
    if (socket.readyState !== WebSocket.OPEN) this.#lost("", CLOSE.tryLater);
    else void this.#watch(socket).catch(ignore("watch of a closed socket"));
  }

  /** A connection that says nothing for two ticks and a half is dead. */
  async #watch(socket: WebSocket): Promise<void> {
    this.#watching.abort();
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    const { tickMsMin, tickMsMax } = LIMITS;
    const told = this.hello.policy.tickIntervalMs;
    // The gateway's word, as far as it makes sense: a timer of years is none.
    const tickMs = Math.min(tickMsMax, Math.max(tickMsMin, told));
    while (this.#socket === socket) {
      await this.#options.clock.sleep(tickMs, signal);
      if (this.#options.clock.now() - this.#heardAt > 2.5 * tickMs) {
        this.#lost("the gateway fell silent", CLOSE.tryLater);
      }
    }
  }

  #take(frame: Frame): void {
    this.#heardAt = this.#options.clock.now();
    if (frame.type === "event") {
      this.#tell({ kind: "event", event: frame.event, payload: frame.payload });
      return;
    }
    const pending = this.#pending.get(frame.id);
    if (pending === undefined) return;
    this.#pending.delete(frame.id);
    if (frame.ok) pending.resolve(frame.payload);
    else pending.reject(fromWireError(frame.error));
  }

  #tell(notice: Notice): void {
    for (const listener of this.#listeners) listener(notice);
  }

  #drop(): void {
    this.#watching.abort();
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket !== undefined) hangUp(socket);
  }

  /** The connection ended; what can be repeated waits for the next one. */
  #lost(reason: string, code: number): void {
    this.#drop();
    const isOurFault = code === CLOSE.policy || code === CLOSE.tooBig ||
      code === CLOSE.protocol;
    const error = new AppError(
      "unavailable",
      `The gateway closed the connection${reason === "" ? "" : `: ${reason}`}`,
      { hint: "It may be restarting; try again" },
    );
    for (const [id, pending] of this.#pending) {
      const resendsMax = isOurFault ? 1 : LIMITS.resendsMax;
      if (pending.isRepeatable && pending.resends++ < resendsMax) continue;
      this.#pending.delete(id);
      pending.reject(error);
    }
    this.#tell({ kind: "lost", reason: error.message });
    // With nobody waiting, the next call connects.
    if (this.#pending.size > 0 || this.#resume() !== undefined) {
      this.#reconnect();
    }
  }

  #reconnect(): void {
    if (this.#reconnecting !== undefined || this.#failure !== undefined) return;
    this.#reconnecting = this.#seek().catch((error) => {
      this.#fail(
        error instanceof AppError
          ? error
          : new AppError("internal", errorText(error), { cause: error }),
      );
    }).finally(() => this.#reconnecting = undefined);
  }

  /** Tries again with growing pauses until the time is up. */
  async #seek(): Promise<void> {
    const { clock, reconnectMs } = this.#options;
    const until = clock.now() + reconnectMs;
    for (let attempt = 0;; attempt++) { // ends at `until` at the latest
      const capMs = Math.min(
        LIMITS.backoffCapMs,
        LIMITS.backoffFirstMs * 2 ** attempt,
      );
      await clock.sleep(capMs * (0.5 + fraction() / 2), this.#closing.signal);
      try {
        await this.#open();
        break;
      } catch (error) {
        const isUnreachable = error instanceof AppError &&
          error.code === "unavailable";
        if (!isUnreachable || clock.now() >= until) throw error;
      }
    }
    if (this.#socket === undefined) return;
    this.#tell({ kind: "back" });
    for (const { text } of this.#pending.values()) this.#socket?.send(text);
  }

  #fail(error: AppError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#drop();
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#tell({ kind: "failed", error });
  }
}

/** A random number from 0 up to 1, for jitter. */
function fraction(): number {
  return (crypto.getRandomValues(new Uint8Array(1))[0] ?? 0) / 256;
}

/** The socket, as far as it can be had before its other side speaks. */
async function openSocket(
  address: GatewayAddress,
  signal: AbortSignal,
): Promise<WebSocket> {
  const url = new URL(address.url);
  try {
    if (url.protocol !== "wss:") return new WebSocket(url);
    const { openTlsWebSocket } = await import("../egress/tls.ts");
    const trust = address.trust ??
      makeTrust({ host: url.host, pin: undefined });
    return await openTlsWebSocket(url, { trust, signal });
  } catch (error) {
    if (error instanceof AppError && error.name === "ConnectError") {
      throw unreachable(address, error.message);
    }
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    throw new AppError(
      "forbidden",
      `Cannot connect to ${address.url}: this process may only reach this machine`,
      {
        hint:
          'Name it with --url or CARAPACE_URL and run the verb with "deno task carapace", which grants that host',
        cause: error,
      },
    );
  }
}
