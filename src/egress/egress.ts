/**
 * The one door out. Whoever needs the network is given a door: a function like
 * `fetch` that knows who calls, where that caller may go and what an answer may
 * cost. Two routes lead out, and a caller does not choose between them:
 *
 * - *named*: hosts that a configuration line names, by the platform's `fetch`.
 *   Deno checks the name against `--allow-net`, and the address it resolved to
 *   against `--deny-net`, when it connects.
 * - *open*: any public host, only with `egress.open` (see `pinned.ts`).
 *
 * With `egress.proxy` both go through the proxy, save what a rule names on this
 * very machine (that does not leave): the rules, redirects, limits
 * and credentials below hold as before, TLS still ends at the host, and names
 * and literal addresses that are not public stay refused; but the proxy
 * resolves the name, so that the address is public is the proxy's promise.
 * `HTTP_PROXY` cannot be ignored from within (`fetch` reads it past every
 * permission): the launcher starts the service with an empty environment.
 *
 * Never: a request without a rule; a redirect that was not checked like a first
 * request; a credential or body on another origin than the one it was meant for.
 *
 * @module
 */
import { CLEAR_TEXT, isClearText, isLoopbackName } from "../core/clear_text.ts";
import { AppError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Secret } from "../core/secret.ts";
import type { Clock } from "../core/time.ts";
import type { EgressConfig } from "./config.ts";
import { type Exchange, runExchange } from "./exchange.ts";
import type { Failure } from "./failures.ts";
import { makePinned, type Pinned, type Resolve } from "./pinned.ts";
import {
  type HostRule,
  isAt,
  parsePlace,
  portOf,
  type Refused,
  Rules,
} from "./rules.ts";

export type { HostRule } from "./rules.ts";
export type { Resolve } from "./pinned.ts";

/** A secret that the door puts on requests to one place, and nowhere else. */
export interface HostCredential {
  /** A host, or `*.example.com` for one level. */
  host: string;
  /** @default any port that the caller's rules admit */
  port?: number;
  /** The header's name. */
  header: string;
  /** Before the secret: `Bearer ` with its blank. @default "" */
  prefix?: string;
  secret: Secret;
  /** @default any that the caller may use */
  methods?: readonly string[];
  /** @default any path */
  pathPrefix?: string;
}

/** What one request may cost. */
export interface DoorLimits {
  /** Until the answer's headers, redirects included. @default 60_000 */
  answerMs?: number;
  /** Until the answer's last byte. @default 600_000 */
  totalMs?: number;
  /** Decoded bytes of an answer. @default 67_108_864 */
  responseBytesMax?: number;
  /** Decoded bytes to each byte on the wire, past the first MiB. @default 100 */
  inflateRatioMax?: number;
  /** Bytes of a request's body on the open route. @default 16_777_216 */
  requestBytesMax?: number;
  /** @default 5 */
  redirectsMax?: number;
}

/** Who calls and where that caller may go. */
export interface DoorOptions {
  /** Who is counted: `provider:NAME`, `tool:web_fetch`, `plugin:ID`. */
  caller: string;
  /** Exact places; `"public"` adds every public host if `egress.open` is set. */
  hosts: readonly (HostRule | "public")[];
  credentials?: readonly HostCredential[];
  limits?: DoorLimits;
  /** The hint for a host that no rule names. @default to add it to egress.hosts */
  fix?(host: string): string;
}

/** How a request came out. `cut` is a body that broke or grew too large. */
export type EgressVerdict =
  | "ok"
  | `refused:${string}`
  | `failed:${Failure}`
  | `cut:${Failure}`;

/** One line of {@linkcode Egress.counts}. */
export interface EgressCount {
  caller: string;
  /** The rule that let it out, `public`, or `unlisted`: never a guest's word. */
  rule: string;
  verdict: EgressVerdict;
  count: number;
}

/** A refusal, for the audit log. */
export interface EgressRefusal {
  at: number;
  caller: string;
  host: string;
  port: number;
  verdict: EgressVerdict;
  reason: string;
  /** 0 for the request itself, else which redirect. */
  hop: number;
}

/** What the door is made of. */
export interface EgressDeps {
  config: EgressConfig;
  clock: Clock;
  log: Log;
  /** Names to addresses, on the open route. @default `node:dns` `lookup` */
  resolve?: Resolve;
  /** Called for every refusal. Must not throw. */
  onVerdict?(row: EgressRefusal): void;
  /**
   * A test's own certificate authorities (PEM). A company's authority is given
   * to the whole process by Deno's `--cert`.
   */
  caCerts?: readonly string[];
  /** The open route; a test hands in one whose table knows its own server. */
  pinned?: Pinned;
}

/** The one door out. */
export interface Egress extends Disposable {
  /**
   * A `fetch` for one caller. It throws `AppError` (`forbidden` for a refusal,
   * `upstream`, `timeout` or `too_large` for a failure) and, when its own signal
   * aborts, that signal's reason.
   *
   * @throws {AppError} `bad_input` for a rule or credential that cannot be one
   */
  door(options: DoorOptions): typeof fetch;
  /** How often what came out how, since the start. */
  counts(): EgressCount[];
}

const LIMITS: Required<DoorLimits> = {
  /** How long the head of an answer may take; then the request ends. */
  answerMs: 60_000,
  /** How long a whole answer may take. */
  totalMs: 600_000,
  /** Bytes of an answer after decompression; it is cut off there. */
  responseBytesMax: 67_108_864,
  /** How much larger decompression may make an answer; then it ends. */
  inflateRatioMax: 100,
  /** Bytes of a request; a larger one is not sent. */
  requestBytesMax: 16_777_216,
  /** Redirects that are followed, each checked anew. */
  redirectsMax: 5,
};

/** Callers and rules come from the configuration; this is for the worst one. */
const COUNTS_MAX = 4096;

/** Opens the door. Disposing closes its idle connections. */
export function makeEgress(deps: EgressDeps): Egress {
  const { config, clock, log } = deps;
  const clients = new Clients(config.proxy, deps.caCerts);
  const pinned = deps.pinned ?? makePinned({
    ...(deps.resolve === undefined ? {} : { resolve: deps.resolve }),
    ...(deps.caCerts === undefined ? {} : { caCerts: deps.caCerts }),
  });
  const counts = new Map<string, EgressCount>();
  const count = (caller: string, rule: string, verdict: EgressVerdict) => {
    let key = `${caller}\n${rule}\n${verdict}`;
    if (!counts.has(key) && counts.size >= COUNTS_MAX) {
      key = verdict;
      [caller, rule] = ["other", "other"];
    }
    const row = counts.get(key) ?? { caller, rule, verdict, count: 0 };
    row.count++;
    counts.set(key, row);
  };
  return {
    door: (options) => {
      const exchange: Exchange = {
        caller: options.caller,
        rules: new Rules(options.hosts, {
          open: config.open,
          ...(options.fix === undefined ? {} : { fix: options.fix }),
        }),
        limits: { ...LIMITS, ...options.limits },
        clock,
        clientFor: (url, options) => clients.get(url, options),
        pinned,
        proxied: config.proxy !== undefined,
        attach: makeAttach(options),
        onOk: (rule) => count(options.caller, rule, "ok"),
        onFailure: (rule, failure, at) => {
          count(options.caller, rule, `failed:${failure}`);
          log("debug", "egress.failed", {
            caller: options.caller,
            at,
            failure,
          });
        },
        onCut: (rule, failure) => count(options.caller, rule, `cut:${failure}`),
        refuse: (url, refusal, hop) => {
          const row = toRow(url, { refusal, hop, caller: options.caller });
          count(options.caller, refusal.rule ?? "unlisted", row.verdict);
          log("warn", "egress.refused", { ...row });
          deps.onVerdict?.({ at: clock.now(), ...row });
          return toError(row, refusal);
        },
      };
      return (input, init) => runExchange(exchange, input, init);
    },
    counts: () => [...counts.values()].map((row) => ({ ...row })),
    [Symbol.dispose]: () => {
      clients[Symbol.dispose]();
      pinned[Symbol.dispose]();
    },
  };
}

/** `egress.hosts` as rules, for the tools that may reach them. */
export function egressRules(config: EgressConfig): HostRule[] {
  return config.hosts.map((host) => ({ host, scheme: "https" as const }));
}

/** Connections by the proxy, if there is one, and to this machine without it. */
class Clients implements Disposable {
  readonly #made = new Map<string, Deno.HttpClient>();
  readonly #proxy: string | undefined;
  readonly #ca: readonly string[] | undefined;

  constructor(proxy: string | undefined, ca: readonly string[] | undefined) {
    this.#proxy = proxy;
    this.#ca = ca;
  }

  /**
   * A proxy asked for loopback would look on its own machine, so that goes
   * directly. `fresh` keeps no connection.
   */
  get(url: URL, options: { fresh: boolean }): Deno.HttpClient {
    const proxy = isLoopbackName(url.hostname) ? undefined : this.#proxy;
    const key = `${proxy === undefined} ${options.fresh}`;
    const client = this.#made.get(key) ?? Deno.createHttpClient({
      ...(this.#ca === undefined ? {} : { caCerts: [...this.#ca] }),
      ...(proxy === undefined ? {} : { proxy: { url: proxy } }),
      ...(options.fresh ? { poolMaxIdlePerHost: 0 } : {}),
    });
    this.#made.set(key, client);
    return client;
  }

  [Symbol.dispose](): void {
    for (const client of this.#made.values()) client.close();
    this.#made.clear();
  }
}

/** Puts each credential on a request to its place; the last one wins. */
function makeAttach(options: DoorOptions): Exchange["attach"] {
  const places = (options.credentials ?? []).map((credential) => ({
    credential,
    place: parsePlace(credential),
  }));
  return (url, method, headers) => {
    for (const { credential, place } of places) {
      const { header, prefix = "", secret, port = portOf(url) } = credential;
      if (port !== portOf(url) || !isAt(place, url, method)) continue;
      if (isClearText(url)) {
        throw new AppError(
          "forbidden",
          `Cannot attach ${secret.source} for "${url.host}": ${CLEAR_TEXT}`,
        );
      }
      try {
        headers.set(header, `${prefix}${secret.reveal()}`);
      } catch {
        // The platform's error quotes the value, so it goes no further.
        throw new AppError(
          "bad_input",
          `Cannot attach the credential for "${credential.host}": ` +
            `"${header}" or the value of ${secret.source} cannot stand in a header`,
          { hint: "Store the secret again, without line breaks" },
        );
      }
    }
  };
}

type Row = Omit<EgressRefusal, "at">;

function toRow(
  url: URL | undefined,
  options: { refusal: Refused; hop: number; caller: string },
): Row {
  return {
    caller: options.caller,
    host: url?.hostname.slice(0, 253) ?? "",
    port: url === undefined ? 0 : portOf(url),
    verdict: `refused:${options.refusal.why}`,
    reason: options.refusal.text,
    hop: options.hop,
  };
}

function toError(row: Row, refusal: Refused): AppError {
  const at = row.host === "" ? "a URL" : `"${row.host}:${row.port}"`;
  const what = row.hop === 0 ? `reach ${at}` : `follow a redirect to ${at}`;
  return new AppError(
    "forbidden",
    `Cannot ${what} for "${row.caller}": ${row.reason}`,
    {
      hint: refusal.hint,
      details: {
        caller: row.caller,
        host: row.host,
        port: row.port,
        refused: refusal.why,
      },
    },
  );
}
