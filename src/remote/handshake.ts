/**
 * The first words on a socket: challenge, `connect`, hello; and how frames and
 * errors of the wire are read.
 *
 * Never: a token in an error; a frame from the other side is believed unread.
 *
 * @module
 */
import { parseJson } from "../core/bounded.ts";
import { AppError, type ErrorCode, errorText } from "../core/errors.ts";
import { EXIT } from "../core/exit.ts";
import {
  CLOSE,
  type ConnectParams,
  HelloOk,
  PROTOCOL,
  WireError,
  type WireErrorCode,
} from "../core/protocol.ts";
import type { Secret } from "../core/secret.ts";
import { VERSION } from "../core/version.ts";
import type { Trust } from "../egress/tls.ts";

/** Bounds of what a gateway may send. */
const FRAME_CHARS_MAX = 16_777_216;
/** Shape of what a gateway may send as JSON. */
export const JSON_LIMITS = { depthMax: 64, nodesMax: 1_000_000 } as const;

/** Where a gateway is and what opens it. */
export interface GatewayAddress {
  /** `ws://127.0.0.1:18789/ws` */
  url: string;
  token: Secret | undefined;
  /** What to do when the token is missing or refused. */
  tokenHint: string;
  /** Judges the certificate of a `wss:` address; an authority's word without it. */
  trust?: Trust;
}

/** Asks for a run's events again when the connection is made anew. */
export type Resume = NonNullable<ConnectParams["resume"]>;

const CODE = {
  INVALID_REQUEST: "bad_input",
  NOT_PAIRED: "forbidden",
  NOT_LINKED: "unavailable",
  AGENT_TIMEOUT: "timeout",
  UNAVAILABLE: "unavailable",
  FORBIDDEN: "forbidden",
  UNAUTHORIZED: "unauthorized",
  RATE_LIMITED: "rate_limited",
  NOT_FOUND: "not_found",
  CONFLICT: "conflict",
  PROTOCOL_MISMATCH: "bad_input",
} as const satisfies Record<WireErrorCode, ErrorCode>;

/** A wire error as ours, with the hint the gateway gave. */
export function fromWireError(raw: unknown): AppError {
  const parsed = WireError.safeParse(raw);
  if (!parsed.success) {
    return new AppError(
      "upstream",
      "The gateway sent an error nobody can read",
    );
  }
  const { code, message, retryAfterMs, details } = parsed.data;
  const hint = details?.["hint"];
  return new AppError(CODE[code], message, {
    ...(typeof hint === "string" ? { hint } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(details === undefined ? {} : { details: withoutExit(details) }),
  });
}

/** The exit code is ours to choose, not the gateway's. */
function withoutExit(
  details: Record<string, unknown>,
): Record<string, unknown> {
  const { exit: _, ...rest } = details;
  return rest;
}

/** What we read of a frame. */
export type Frame =
  | { type: "event"; event: string; payload: unknown }
  | { type: "res"; id: string; ok: boolean; payload: unknown; error: unknown };

/** Reads what we need of a frame; a newer gateway may say more. */
export function toFrame(data: unknown): Frame | undefined {
  if (typeof data !== "string" || data.length > FRAME_CHARS_MAX) return;
  const raw = parseJson(data, JSON_LIMITS);
  if (typeof raw !== "object" || raw === null) return;
  const frame = raw as Record<string, unknown>;
  const { type, event, id, payload, error } = frame;
  if (type === "event" && typeof event === "string") {
    return { type, event, payload };
  }
  if (type === "res" && typeof id === "string") {
    return { type, id, ok: frame["ok"] === true, payload, error };
  }
}

/** Closes a socket and hears no more of it. */
export function hangUp(socket: WebSocket): void {
  socket.onopen =
    socket.onmessage =
    socket.onclose =
    socket.onerror =
      null;
  try {
    socket.close(CLOSE.done);
  } catch {
    // Closing a socket that never opened throws; it is gone either way.
  }
}

/** Nobody answers at this address, and why. */
export function unreachable(address: GatewayAddress, why: string): AppError {
  return new AppError(
    "unavailable",
    `Cannot reach the gateway at ${address.url}: ${why}`,
    {
      hint:
        'Start it with "deno task start", or set CARAPACE_URL to where it runs',
      details: { exit: EXIT.unreachable },
    },
  );
}

/** What a handshake is made with. */
export interface HandshakeOptions {
  address: GatewayAddress;
  resume: Resume | undefined;
  signal: AbortSignal;
  onFrame(frame: Frame): void;
}

/**
 * Waits for the challenge, answers with `connect`, reads the hello. Frames that
 * follow go to `onFrame`, also those that came with it.
 */
export function shakeHands(
  socket: WebSocket,
  options: HandshakeOptions,
): Promise<HelloOk> {
  const { address, resume, signal, onFrame } = options;
  const { promise, resolve, reject } = Promise.withResolvers<HelloOk>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  let isDone = false;
  socket.onerror = (event) =>
    reject(unreachable(address, socketErrorText(event)));
  socket.onclose = ({ code, reason }) =>
    reject(unreachable(
      address,
      `it closed the connection (${code}${reason === "" ? "" : ` ${reason}`})`,
    ));
  socket.onmessage = ({ data }) => {
    try {
      const frame = toFrame(data);
      if (frame === undefined) return;
      if (isDone) return onFrame(frame);
      if (frame.type === "event" && frame.event === "connect.challenge") {
        socket.send(JSON.stringify({
          type: "req",
          id: "connect",
          method: "connect",
          params: connectParams(address, resume),
        }));
      } else if (frame.type === "res" && frame.id === "connect") {
        isDone = true;
        resolve(toHello(frame, address));
      }
    } catch (error) {
      if (isDone && error instanceof AppError && error.code === "bad_input") {
        return; // one frame that is not JSON is skipped
      }
      reject(error);
    }
  };
  return promise;
}

function toHello(
  frame: Frame & { type: "res" },
  address: GatewayAddress,
): HelloOk {
  if (!frame.ok) throw refusal(fromWireError(frame.error), address);
  const hello = HelloOk.safeParse(frame.payload);
  if (hello.success) return hello.data;
  throw new AppError(
    "upstream",
    `Cannot talk to ${address.url}: it is not a gateway this program knows`,
  );
}

/** A refused handshake: in the end it is the token or the version. */
function refusal(error: AppError, address: GatewayAddress): AppError {
  const isToken = error.code === "unauthorized" || error.code === "forbidden";
  if (!isToken) return error;
  return new AppError(
    "unauthorized",
    address.token === undefined
      ? `The gateway at ${address.url} wants a token and there is none`
      : `The gateway at ${address.url} refused the token (${address.token.source})`,
    { hint: address.tokenHint, details: { exit: EXIT.unauthorized } },
  );
}

function connectParams(
  address: GatewayAddress,
  resume: Resume | undefined,
): ConnectParams {
  return {
    minProtocol: PROTOCOL.min,
    maxProtocol: PROTOCOL.max,
    client: {
      id: "cli",
      displayName: "carapace",
      version: VERSION,
      platform: Deno.build.os,
      mode: "cli",
    },
    role: "operator",
    ...(address.token === undefined
      ? {}
      : { auth: { token: address.token.reveal() } }),
    ...(resume === undefined ? {} : { resume }),
  };
}

/** The runtime's words, without its own prefix. */
function socketErrorText(event: Event): string {
  // Of two kinds: the runtime's own, and the one over a judged connection.
  const { message } = event as Event & { message?: unknown };
  const text = typeof message === "string" ? message : "";
  if (/refused|tcp connect error/i.test(text)) return "nothing listens there";
  if (/status code|handshake|HTTP|Unexpected server response/i.test(text)) {
    return "something answers there, but not as a gateway";
  }
  return text === "" ? "the connection failed" : errorText(text);
}
