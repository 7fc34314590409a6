/**
 * One HTTP request being answered: who sent it, its signal, its body within
 * limits, and that it counts as in flight until its last byte is sent.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import { decodeUtf8, readBytes } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import type { InFlight, Load } from "./in_flight.ts";
import type { GatewayLimits } from "./limits.ts";
import type { Standing } from "./rate.ts";

/** A stream that goes on. Times are those of `performance.now()`. */
interface Streaming {
  startedAt: number;
  /** When its reader was last given something it has not asked beyond. */
  sentAt: number | undefined;
  isAborted: boolean;
  cut(reason: AppError): void;
}

/** One request. */
export class Call {
  readonly request: Request;
  readonly path: string;
  /** The name it was asked by, which is one of ours. */
  readonly host: string;
  readonly address: string;
  readonly inFlight: InFlight;
  /** Set by the wrapper before any row that is not public runs. */
  principal: Principal | undefined;
  /** The buckets it was charged to, as they stood after it. */
  readonly rates: Standing[] = [];
  #claimed: string | undefined;
  #stream: Streaming | undefined;
  #controller: AbortController | undefined;
  #onClientGone: (() => void) | undefined;

  constructor(
    request: Request,
    options: {
      path: string;
      host: string;
      address: string;
      inFlight: InFlight;
    },
  ) {
    this.request = request;
    this.path = options.path;
    this.host = options.host;
    this.address = options.address;
    this.inFlight = options.inFlight;
    this.inFlight.add(this);
  }

  /** It is this principal's from here on. @throws `rate_limited` */
  identify(principal: Principal, load: Load): void {
    this.inFlight.checkOf(principal.id, load);
    this.inFlight.claim(principal.id);
    this.#claimed = principal.id;
    this.principal = principal;
  }

  /** Whether a stream goes on after the handler returned. */
  get isStreaming(): boolean {
    return this.#stream !== undefined;
  }

  /**
   * A stream goes on after the handler returned.
   *
   * @param cut Ends it from this side, when its reader does not read: says why
   * and closes
   */
  openStream(cut: (reason: AppError) => void): void {
    // One that becomes part of another is that one's to end.
    if (this.#stream !== undefined) return;
    const startedAt = performance.now();
    this.#stream = { startedAt, sentAt: undefined, isAborted: false, cut };
    this.inFlight.sweepStreams();
  }

  /** The stream's reader asks for more: it has taken what was sent. */
  wanted(): void {
    if (this.#stream !== undefined) this.#stream.sentAt = undefined;
  }

  /** Something was handed to the stream's reader. */
  sent(): void {
    if (this.#stream !== undefined) this.#stream.sentAt = performance.now();
  }

  /**
   * Ends a stream that is too old or not read: first by its signal, so that the
   * answer itself says so, and by the next sweep at the latest.
   */
  sweep(now: number, limits: { streamMs: number; unreadMs: number }): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    const isOld = now - stream.startedAt >= limits.streamMs;
    const isUnread = stream.sentAt !== undefined &&
      now - stream.sentAt >= limits.unreadMs;
    if (!isOld && !isUnread) return;
    const reason = new AppError(
      "timeout",
      isOld
        ? `The answer was cut off: it lasted ${limits.streamMs / 1000} s`
        : `The answer was cut off: nobody read it for ${
          limits.unreadMs / 1000
        } s`,
    );
    if (stream.isAborted) {
      stream.cut(reason);
      this.end();
    } else {
      stream.isAborted = true;
      this.abort(reason);
    }
  }

  /** Who sent it. Only rows that are not public may ask. */
  get caller(): Principal {
    if (this.principal === undefined) {
      throw new AppError("unauthorized", "Cannot answer without a token");
    }
    return this.principal;
  }

  /**
   * Aborts when the client leaves, its credential is revoked or the gateway
   * closes. Our own: the runtime's also aborts after a good answer in one mode.
   */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = this.#controller = new AbortController();
      const onGone = this.#onClientGone = () =>
        controller.abort(new AppError("cancelled", "The client left"));
      const own = this.request.signal;
      if (own.aborted) onGone();
      else own.addEventListener("abort", onGone);
    }
    return this.#controller.signal;
  }

  abort(reason: AppError): void {
    void this.signal;
    this.#controller?.abort(reason);
  }

  /** The last byte was sent, or nobody waits for it any more. */
  end(): void {
    if (this.#onClientGone !== undefined) {
      this.request.signal.removeEventListener("abort", this.#onClientGone);
      this.#onClientGone = undefined;
    }
    if (this.#claimed !== undefined) this.inFlight.release(this.#claimed);
    this.#claimed = undefined;
    this.inFlight.delete(this);
  }
}

/** Refuses a body that is not plain JSON by its headers. */
function checkBodyHeaders(request: Request, bytesMax: number): number {
  const { headers } = request;
  const type = headers.get("content-type") ?? "";
  if (
    type !== "application/json" &&
    !/^application\/json\s*(;\s*charset=("?)utf-8\2\s*)?$/i.test(type)
  ) {
    throw new AppError(
      "bad_input",
      "Cannot read the body: its Content-Type is not application/json",
      { details: { status: 415 } },
    );
  }
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding !== "identity") {
    throw new AppError(
      "bad_input",
      "Cannot read the body: compressed bodies are not taken",
      { details: { status: 415 } },
    );
  }
  const length = Number(headers.get("content-length") ?? -1);
  if (length > bytesMax) {
    throw new AppError(
      "too_large",
      `Cannot read the body: it is larger than ${bytesMax} bytes`,
      { details: { bytesMax } },
    );
  }
  return length;
}

/** Reads a JSON body's text within its route's bytes and time. */
export async function readJsonText(
  request: Request,
  options: { bytesMax: number; limits: Pick<GatewayLimits, "bodyMs"> },
): Promise<string> {
  const length = checkBodyHeaders(request, options.bytesMax);
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() =>
    reject(
      new AppError("timeout", "Cannot read the body: it came too slowly", {
        details: { status: 408 },
      }),
    ), options.limits.bodyMs);
  try {
    // A stated length is held by the runtime, so one read is already bounded.
    const bytes = await Promise.race([
      length >= 0 ? request.bytes() : readBytes(request.body, options.bytesMax),
      promise,
    ]);
    return decodeUtf8(bytes);
  } catch (error) {
    if (error instanceof AppError) throw error;
    // The runtime's word for a body that ended before its stated length.
    throw new AppError("bad_input", "Cannot read the body: it broke off", {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}
