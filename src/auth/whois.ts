/**
 * Asks this machine's tailscaled who is behind a connection from the tailnet,
 * and makes of its answer what the configuration says of that login.
 *
 * An answer is kept for seconds and for one connection: another port of the
 * same address may be another's by then. That an address is nobody's is kept
 * for the address, so that whoever knocks again and again asks once.
 *
 * Never: it is asked about an address that is no tailnet's; anything but one
 * whole answer within time and size names anybody; a failure is more than
 * "nobody"; a line of the configuration that is gone still holds.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import { AppError, errorText, ignore } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { type Clock, limitSignal } from "../core/time.ts";
import { askLocal, type LocalAnswer } from "../egress/local_socket.ts";
import type { Store } from "../store/store.ts";
import { Endings, type EndListener } from "./endings.ts";
import { Gate } from "./gate.ts";
import type { FailureLimiter } from "./limiter.ts";
import { tailnetPrincipal } from "./principal.ts";
import { refusal, type Refusals } from "./refusals.ts";
import {
  type Nobody,
  peerText,
  readStatus,
  readWhoIs,
  revisionOf,
  tailnetAddress,
  tailnetCredential,
  type TailnetPeer,
  type TailnetStatus,
  type TailscaleConfig,
} from "./tailnet.ts";

/** The name that tailscaled's local API answers to. */
const HOST = "local-tailscaled.sock";

/** Bounds of the asking. */
export const WHOIS = {
  /** How long one question may take, waiting included; then it is nobody. */
  askMs: 2_000,
  /** Bytes of one answer; a larger one is nobody. */
  answerBytesMax: 262_144,
  /** Questions at once; the next ones wait. */
  atOnceMax: 4,
  /** Questions that wait; the next ones are refused. */
  waitingMax: 64,
  /** Questions about one address that wait; the next ones are refused. */
  waitingPerAddressMax: 8,
  /** How long an answer holds for its connection. */
  keptMs: 10_000,
  /** Connections whose answer is kept; the oldest goes first. */
  keptMax: 1_000,
  /** How long an address that is nobody's is not asked about again. */
  nobodyMs: 5_000,
  /** Such addresses that are kept; the oldest goes first. */
  nobodyMax: 1_000,
  /** The log says one outcome this often at most. */
  toldMs: 10_000,
} as const;

/** How an asking came out. */
export type WhoisOutcome =
  | "known"
  | "unknown_login"
  | "no_match"
  | "too_large"
  | "timeout"
  | "failed"
  | "busy"
  | Nobody;

/** Outcomes that say nothing of who it is: the next connection is asked about. */
const FAILURES: ReadonlySet<WhoisOutcome> = new Set([
  "too_large",
  "timeout",
  "failed",
  "busy",
  "malformed",
]);

/** What the asking is made of. */
export interface WhoisDeps {
  config: TailscaleConfig | undefined;
  store: Pick<Store, "journal" | "audit">;
  clock: Clock;
  log: Log;
  limiter: FailureLimiter;
  refusals: Pick<Refusals, "note">;
  /** Only tests set these. */
  limits?: Partial<Record<keyof typeof WHOIS, number>>;
}

interface Line {
  revision: number;
  principal: Principal;
}

type Found = { login: string } | { nobody: WhoisOutcome };

/** Who is behind a connection from the tailnet. Disposing ends what is asked. */
export class Whois implements Disposable {
  readonly #on: WhoisDeps;
  readonly #limits: Record<keyof typeof WHOIS, number>;
  readonly #gate: Gate;
  readonly #ending = new AbortController();
  readonly #listeners: Endings;
  readonly #kept = new Map<string, { login: string; until: number }>();
  readonly #nobody = new Map<string, number>();
  readonly #asking = new Map<string, Promise<Found>>();
  readonly #counts = new Map<WhoisOutcome, number>();
  readonly #toldAt = new Map<WhoisOutcome, number>();
  #config: TailscaleConfig | undefined;
  #lines = new Map<string, Line>();

  constructor(deps: WhoisDeps) {
    this.#on = deps;
    this.#limits = { ...WHOIS, ...deps.limits };
    this.#gate = new Gate({
      atOnceMax: this.#limits.atOnceMax,
      waitingMax: this.#limits.waitingMax,
      waitingPerNameMax: this.#limits.waitingPerAddressMax,
    });
    this.#listeners = new Endings(deps.log);
    this.#config = deps.config;
    this.#lines = linesOf(deps.config);
  }

  /** How often what came out how, since the start. */
  counts(): ReadonlyMap<WhoisOutcome, number> {
    return this.#counts;
  }

  /** The connection's other end, when it is one to ask about. */
  peerOf(address: string, port: number): TailnetPeer | undefined {
    const known = this.#config === undefined
      ? undefined
      : tailnetAddress(address);
    return known === undefined ? undefined : { address: known, port };
  }

  /**
   * Who it is.
   *
   * @throws {AppError} `unauthorized` for nobody, `rate_limited` when the
   * address, or all of them, failed too often
   */
  async authenticate(peer: TailnetPeer): Promise<Principal> {
    const known = this.#fresh(peer);
    if (known !== undefined) return known;
    // Before the first await: tries that run together must all be counted.
    const charge = this.#on.limiter.charge(peer.address);
    const found = await this.#find(peer);
    const line = "login" in found ? this.#lines.get(found.login) : undefined;
    if (line !== undefined) {
      charge.refund();
      return line.principal;
    }
    this.#on.refusals.note("tailnet", peer.address);
    const error = refusal(charge.delayMs);
    // Not the caller's failure: it must not make its other tries wait.
    if ("nobody" in found && FAILURES.has(found.nobody)) charge.refund();
    throw error;
  }

  /** Who it is, if anybody. Charges nothing: whoever calls this has. */
  async find(peer: TailnetPeer): Promise<Principal | undefined> {
    const known = this.#fresh(peer);
    if (known !== undefined) return known;
    const found = await this.#find(peer);
    return "login" in found
      ? this.#lines.get(found.login)?.principal
      : undefined;
  }

  /** What was answered about this very connection a moment ago. */
  #fresh(peer: TailnetPeer): Principal | undefined {
    const kept = this.#kept.get(peerText(peer));
    if (kept === undefined || kept.until <= this.#on.clock.now()) return;
    return this.#lines.get(kept.login)?.principal;
  }

  /** Questions about one connection that come together are one. */
  async #find(peer: TailnetPeer): Promise<Found> {
    const key = peerText(peer);
    const running = this.#asking.get(key);
    if (running !== undefined) return await running;
    const until = this.#nobody.get(peer.address) ?? 0;
    if (until > this.#on.clock.now()) return { nobody: "unknown_login" };
    const asking = this.#ask(peer).finally(() => this.#asking.delete(key));
    this.#asking.set(key, asking);
    return await asking;
  }

  async #ask(peer: TailnetPeer): Promise<Found> {
    const { clock } = this.#on;
    const config = this.#config;
    let found: Found;
    try {
      found = config === undefined
        ? { nobody: "failed" }
        : await this.#question(peer, config.socket);
    } catch (error) {
      const nobody = outcomeOf(error);
      this.#tell(nobody, { address: peer.address, why: errorText(error) });
      return { nobody };
    }
    if ("login" in found && this.#lines.has(found.login)) {
      this.#count("known");
      const until = clock.now() + this.#limits.keptMs;
      const { login } = found;
      keep(
        this.#kept,
        [peerText(peer), { login, until }],
        this.#limits.keptMax,
      );
      return found;
    }
    const nobody = "login" in found ? "unknown_login" : found.nobody;
    this.#tell(nobody, {
      address: peer.address,
      ...("login" in found ? { login: shownLogin(found.login) } : {}),
    });
    if (!FAILURES.has(nobody)) {
      const until = clock.now() + this.#limits.nobodyMs;
      keep(this.#nobody, [peer.address, until], this.#limits.nobodyMax);
    }
    return { nobody };
  }

  async #question(peer: TailnetPeer, socket: string): Promise<Found> {
    using limit = limitSignal(this.#ending.signal, this.#limits.askMs);
    const { signal } = limit;
    return await this.#gate.run(peer.address, signal, async () => {
      const addr = encodeURIComponent(peerText(peer));
      const get = (target: string) => this.#get(socket, target, signal);
      // Asked each time: which of the tailnet's machines this is may change.
      const self = await this.#status(socket, signal);
      const whois = await get(`/localapi/v0/whois?addr=${addr}`);
      if (whois.status === 404) return { nobody: "no_match" };
      if (whois.status !== 200) return { nobody: "failed" };
      return readWhoIs(whois.body, { address: peer.address, self });
    });
  }

  #get(
    socket: string,
    target: string,
    signal: AbortSignal,
  ): Promise<LocalAnswer> {
    const bytesMax = this.#limits.answerBytesMax;
    return askLocal({ socket, host: HOST, target, bytesMax }, signal);
  }

  /** @throws {AppError} `upstream` for what is not understood */
  async #status(socket: string, signal: AbortSignal): Promise<TailnetStatus> {
    const target = "/localapi/v0/status?peers=false";
    const { status, body } = await this.#get(socket, target, signal);
    const read = status === 200 ? readStatus(body) : undefined;
    if (read !== undefined) return read;
    throw new AppError(
      "upstream",
      `tailscaled answers ${status}, not its state`,
    );
  }

  /**
   * Whether tailscaled answers and is connected; nothing to say when nothing is
   * configured.
   *
   * @throws {AppError} why not
   */
  async probe(): Promise<void> {
    const socket = this.#config?.socket;
    if (socket === undefined) return;
    using limit = limitSignal(this.#ending.signal, this.#limits.askMs);
    let state: string;
    try {
      state = (await this.#status(socket, limit.signal)).BackendState;
    } catch (error) {
      throw new AppError(
        "unavailable",
        `tailscaled does not answer at ${socket}: ${errorText(error)}`,
        { cause: error },
      );
    }
    if (state === "Running") return;
    throw new AppError(
      "unavailable",
      `tailscaled is not connected: ${shownLogin(state)}`,
    );
  }

  /**
   * Takes other lines. A login that is gone, or may do something else now, ends
   * at once: its sockets, its requests, its runs.
   */
  adopt(config: TailscaleConfig | undefined): void {
    const before = this.#lines;
    this.#config = config;
    this.#lines = linesOf(config);
    // Who was nobody may be somebody by the new lines.
    this.#nobody.clear();
    for (const [login, { revision }] of before) {
      if (this.#lines.get(login)?.revision === revision) continue;
      const credential = tailnetCredential(login);
      this.#audit(credential, this.#lines.has(login) ? "changed" : "removed");
      this.#listeners.tell(credential);
    }
  }

  #audit(credential: string, why: string): void {
    const { store } = this.#on;
    const row = store.audit.row({
      event: "tailnet.login.end",
      fields: { credential, why, by: "configuration" },
    });
    store.journal.commit([row])
      .catch(ignore("the end of a login was not audited"));
  }

  /** How a login's credential stands; `undefined` for one that no line names. */
  standing(credential: string): { revision: number } | undefined {
    const login = credential.replace(/^tailscale:/, "");
    const line = this.#lines.get(login);
    return line === undefined || tailnetCredential(login) !== credential
      ? undefined
      : { revision: line.revision };
  }

  /** Calls with a credential when it ends, until disposed. */
  onEnded(listener: EndListener): Disposable {
    return this.#listeners.on(listener);
  }

  #count(outcome: WhoisOutcome): void {
    this.#counts.set(outcome, (this.#counts.get(outcome) ?? 0) + 1);
  }

  #tell(outcome: WhoisOutcome, fields: Record<string, string>): void {
    this.#count(outcome);
    const now = this.#on.clock.now();
    const toldAt = this.#toldAt.get(outcome);
    if (toldAt !== undefined && now - toldAt < this.#limits.toldMs) return;
    this.#toldAt.set(outcome, now);
    const count = this.#counts.get(outcome) ?? 0;
    this.#on.log("warn", "auth.tailnet.nobody", { outcome, count, ...fields });
  }

  [Symbol.dispose](): void {
    this.#ending.abort(new AppError("cancelled", "The house closes"));
  }
}

function linesOf(config: TailscaleConfig | undefined): Map<string, Line> {
  return new Map(
    Object.entries(config?.users ?? {}).map(([login, user]) => {
      const revision = revisionOf(user);
      const principal = tailnetPrincipal(login, user, revision);
      return [login, { revision, principal }];
    }),
  );
}

function outcomeOf(error: unknown): WhoisOutcome {
  if (error instanceof AppError) {
    if (error.code === "too_large") return "too_large";
    if (error.code === "rate_limited") return "busy";
  }
  const isLate = error instanceof DOMException && error.name === "TimeoutError";
  return isLate ? "timeout" : "failed";
}

/** The newest entry of a map that forgets its oldest. */
function keep<K, V>(
  map: Map<K, V>,
  [key, value]: [K, V],
  entriesMax: number,
): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= entriesMax) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}

const SHOWN_CHARS_MAX = 100;

/** Another's word for the log: what would steer a terminal is shown instead. */
function shownLogin(text: string): string {
  return text.slice(0, SHOWN_CHARS_MAX).replace(
    /[^\x20-\x7e]/gu,
    (one) => `<U+${one.codePointAt(0)?.toString(16).toUpperCase()}>`,
  );
}
