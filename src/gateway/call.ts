/**
 * One HTTP request being answered: who sent it, its signal, its body within
 * limits, and that it counts as in flight until its last byte is sent.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import { decodeUtf8, readBytes } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import type { GatewayLimits } from "./limits.ts";

/** The requests being answered now. */
export class InFlight {
  readonly #calls = new Set<Call>();
  #others = 0;
  readonly #max: number;
  #idle: (() => void) | undefined;

  constructor(max: number) {
    this.#max = max;
  }

  get count(): number {
    return this.#calls.size + this.#others;
  }

  /** @throws {AppError} `unavailable` when the gateway has as many as it takes */
  check(): void {
    if (this.count >= this.#max) {
      throw new AppError(
        "unavailable",
        `Cannot take another request: ${this.#max} are being answered`,
        { retryAfterMs: 1000 },
      );
    }
  }

  add(call: Call): void {
    this.#calls.add(call);
  }

  delete(call: Call): void {
    if (this.#calls.delete(call)) this.#settle();
  }

  /** Counts a WebSocket request. */
  enter(): void {
    this.#others++;
  }

  leave(): void {
    this.#others--;
    this.#settle();
  }

  #settle(): void {
    if (this.count === 0) this.#idle?.();
  }

  /** Resolves when nothing is in flight. */
  async idle(): Promise<void> {
    if (this.count === 0) return;
    await new Promise<void>((resolve) => this.#idle = resolve);
  }

  /** Ends the calls a test picks, with a reason. */
  abort(reason: AppError, picks: (call: Call) => boolean): void {
    for (const call of this.#calls) if (picks(call)) call.abort(reason);
  }
}

/** One request. */
export class Call {
  readonly request: Request;
  readonly path: string;
  readonly address: string;
  readonly inFlight: InFlight;
  /** Set by the wrapper before any row that is not public runs. */
  principal: Principal | undefined;
  /** Whether a stream goes on after the handler returned. */
  isStreaming = false;
  #controller: AbortController | undefined;
  #onClientGone: (() => void) | undefined;

  constructor(
    request: Request,
    options: { path: string; address: string; inFlight: InFlight },
  ) {
    this.request = request;
    this.path = options.path;
    this.address = options.address;
    this.inFlight = options.inFlight;
    this.inFlight.add(this);
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
  } finally {
    clearTimeout(timer);
  }
}
