/// <reference lib="dom" />
/**
 * The gateway's protocol as a page speaks it: the challenge signed with this
 * browser's key, requests, events, and coming back after the connection went.
 *
 * Never: the address it connects to comes from anywhere but this page's own.
 *
 * @module
 */
import { type DeviceKey, saveKey, signText } from "./key.ts";

/** A message's or an answer's payload; read field by field. */
// deno-lint-ignore no-explicit-any
export type Payload = any;

/** Why a request failed. */
export class GatewayError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(error: Payload) {
    super(String(error?.message ?? "the gateway refused"));
    this.code = String(error?.code ?? "");
    this.hint = error?.details?.hint;
  }
}

/** What the page is told. */
export interface Listener {
  /** Connected, with what this page may do. */
  onOpen(hello: Payload): void;
  onEvent(event: string, payload: Payload): void;
  /** Not connected; `error` when the gateway said why. */
  onClosed(error: GatewayError | undefined): void;
}

const CLIENT = {
  id: "webchat-ui",
  version: "1",
  platform: "web",
  mode: "webchat",
};
const WAITS_MS = [500, 1_000, 2_000, 5_000, 10_000];
/** Somebody may approve the key meanwhile. */
const REFUSED_WAIT_MS = 15_000;
/** What this page asks to be allowed. */
export const SCOPES = ["read", "write", "approvals"];

/** One connection that comes back by itself. */
export class GatewaySocket {
  readonly #key: DeviceKey;
  readonly #listener: Listener;
  readonly #waiting = new Map<
    string,
    { resolve(payload: Payload): void; reject(error: unknown): void }
  >();
  #code: string | undefined;
  #socket: WebSocket | undefined;
  #number = 0;
  #failures = 0;
  #error: GatewayError | undefined;

  /** @param code The invitation of the link that was opened, once */
  constructor(key: DeviceKey, code: string | undefined, listener: Listener) {
    this.#key = key;
    this.#code = code;
    this.#listener = listener;
    this.#connect();
  }

  /** Asks the gateway. @throws {GatewayError} */
  request(method: string, params: object): Promise<Payload> {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(
        new GatewayError({ message: "not connected; it is tried again" }),
      );
    }
    const id = `${++this.#number}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  #connect(): void {
    const { protocol, host } = location;
    const scheme = protocol === "https:" ? "wss" : "ws";
    const socket = this.#socket = new WebSocket(`${scheme}://${host}/ws`);
    this.#error = undefined;
    socket.onmessage = ({ data }) => this.#read(JSON.parse(String(data)));
    socket.onclose = () => this.#closed();
  }

  #read(frame: Payload): void {
    if (frame.type === "event") {
      if (frame.event === "connect.challenge") {
        this.#shakeHands(frame.payload).catch((error) => {
          this.#error = error;
          this.#socket?.close();
        });
      } else this.#listener.onEvent(frame.event, frame.payload);
      return;
    }
    const waiting = this.#waiting.get(frame.id);
    this.#waiting.delete(frame.id);
    if (frame.ok) waiting?.resolve(frame.payload);
    else waiting?.reject(new GatewayError(frame.error));
  }

  async #shakeHands({ nonce, ts }: Payload): Promise<void> {
    const key = this.#key;
    const code = this.#code;
    const scopes = SCOPES.map((scope) => `operator.${scope}`);
    const text = [
      ...["v3", key.id, CLIENT.id, CLIENT.mode, "operator"],
      ...[scopes.join(","), ts, code ?? "", nonce, CLIENT.platform, ""],
    ].join("|");
    const hello = await this.request("connect", {
      minProtocol: 4,
      maxProtocol: 4,
      client: { ...CLIENT, displayName: browserName() },
      role: "operator",
      scopes,
      device: {
        id: key.id,
        publicKey: key.publicKey,
        signature: await signText(key, text),
        signedAt: ts,
        nonce,
      },
      ...(code === undefined ? {} : { auth: { bootstrapToken: code } }),
    });
    this.#code = undefined; // it works once
    this.#failures = 0;
    if (!key.isPaired) {
      key.isPaired = true;
      await saveKey(key);
    }
    this.#listener.onOpen(hello);
  }

  #closed(): void {
    const error = this.#error;
    for (const { reject } of this.#waiting.values()) {
      reject(new GatewayError({ message: "the connection was lost" }));
    }
    this.#waiting.clear();
    this.#listener.onClosed(error);
    // A used or wrong code stays wrong; the key alone may be paired by now.
    if (error instanceof GatewayError) this.#code = undefined;
    const wait = error instanceof GatewayError
      ? REFUSED_WAIT_MS
      : WAITS_MS[Math.min(this.#failures, WAITS_MS.length - 1)];
    this.#failures++;
    setTimeout(() => this.#connect(), wait);
  }
}

/** What the owner sees in `carapace device list`. */
function browserName(): string {
  const agent = navigator.userAgent;
  const name = /(Firefox|Edg|Chrome|Safari)\//.exec(agent)?.[1] ?? "browser";
  const place = /\((?:X11; )?([^;)]{1,40})/.exec(agent)?.[1] ?? "";
  return `${name === "Edg" ? "Edge" : name} ${place}`.trim();
}
