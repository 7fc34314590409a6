/**
 * What is being answered now: how much of it, whose it is, and what is refused
 * first when it becomes too much.
 *
 * The order of refusal: sockets of strangers, then whatever begins a model or
 * tool call, then everything that reads. Liveness, stopping, and answering an
 * approval are never refused for load.
 *
 * @module
 */
import { AppError, type ErrorCode } from "../core/errors.ts";
import type { MethodName } from "../core/methods.ts";
import type { Call } from "./call.ts";
import type { GatewayLimits } from "./limits.ts";

/** How dear a request is; the order is that in which load refuses them. */
export type Load = "anonymous" | "work" | "read" | "urgent";

/** Methods that are answered however much is in flight. */
const URGENT: ReadonlySet<string> = new Set<MethodName>([
  "health",
  "status",
  "chat.abort",
  "approval.list",
  "approval.resolve",
  "exec.approval.resolve",
  "token.revoke",
  "device.token.revoke",
]);

/** Methods that begin a model or tool call, or go through much that is stored. */
const WORK: ReadonlySet<string> = new Set<MethodName>([
  "chat.send",
  "agent",
  "send",
  "tools.invoke",
  "plugins.install",
  "plugins.restart",
  "plugins.call",
  "policy.replay",
  "sessions.compact",
  "sessions.export",
  "sessions.fork",
  "sessions.search",
]);

/** What a method's request counts as. */
export function loadOfMethod(method: string): Load {
  return URGENT.has(method) ? "urgent" : WORK.has(method) ? "work" : "read";
}

/** What an HTTP request counts as: every `POST` begins a call of some kind. */
export function loadOfRequest(method: string, path: string): Load {
  if (path === "/health/live" || path === "/health/ready") return "urgent";
  return method === "POST" ? "work" : "read";
}

type Limits = Pick<
  GatewayLimits,
  | "inFlightMax"
  | "inFlightPerPrincipalMax"
  | "workShare"
  | "anonymousShare"
  | "busyRetryMs"
  | "streamMs"
  | "unreadMs"
  | "sweepMs"
>;

/** The requests being answered now. */
export class InFlight {
  readonly #calls = new Set<Call>();
  readonly #refused = new Map<string, number>();
  readonly #byPrincipal = new Map<string, number>();
  readonly #limits: Limits;
  readonly #maxOf: Readonly<Record<Load, number>>;
  #others = 0;
  #idle: (() => void) | undefined;
  #sweeper: ReturnType<typeof setInterval> | undefined;

  constructor(limits: Limits) {
    this.#limits = limits;
    const share = (part: number) => Math.ceil(limits.inFlightMax * part);
    this.#maxOf = {
      anonymous: share(limits.anonymousShare),
      work: share(limits.workShare),
      read: limits.inFlightMax,
      urgent: Infinity,
    };
  }

  get count(): number {
    return this.#calls.size + this.#others;
  }

  /** Requests that were refused or failed, by the code of their error. */
  get refused(): ReadonlyMap<string, number> {
    return this.#refused;
  }

  countRefusal(code: ErrorCode): void {
    this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
  }

  /** @throws {AppError} `unavailable` when there is no room for such a request */
  check(load: Load): void {
    if (this.count < this.#maxOf[load]) return;
    const max = this.#limits.inFlightMax;
    throw new AppError(
      "unavailable",
      `Cannot take another request: ${this.count} of ${max} are being answered`,
      { retryAfterMs: this.#limits.busyRetryMs },
    );
  }

  /** @throws {AppError} `rate_limited` when it has as many as one may have */
  checkOf(principal: string, load: Load): void {
    const count = this.#byPrincipal.get(principal) ?? 0;
    const max = this.#limits.inFlightPerPrincipalMax;
    if (count < max || load === "urgent") return;
    throw new AppError(
      "rate_limited",
      `Cannot take another request: ${count} of yours are being answered`,
      { retryAfterMs: this.#limits.busyRetryMs },
    );
  }

  /** Counts one for a principal. Whoever claims releases. */
  claim(principal: string): void {
    const count = this.#byPrincipal.get(principal) ?? 0;
    this.#byPrincipal.set(principal, count + 1);
  }

  release(principal: string): void {
    const count = (this.#byPrincipal.get(principal) ?? 0) - 1;
    if (count > 0) this.#byPrincipal.set(principal, count);
    else this.#byPrincipal.delete(principal);
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

  /** Streams that are too old, or whose reader stopped reading, end from now on. */
  sweepStreams(): void {
    if (this.#sweeper !== undefined) return;
    const { sweepMs, streamMs, unreadMs } = this.#limits;
    this.#sweeper = setInterval(() => {
      const now = performance.now();
      for (const call of this.#calls) call.sweep(now, { streamMs, unreadMs });
      if (this.#calls.size === 0) this.close();
    }, sweepMs);
  }

  /** Stops the timer. */
  close(): void {
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }
}
