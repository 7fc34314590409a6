/**
 * The open route: a public host that no configuration line names. Its name is
 * resolved here, once; every address it has must be public; and the connection
 * goes to one of the addresses that were checked, with TLS still bound to the
 * name. So the address that was checked is the address connected to, whatever
 * the DNS says a moment later.
 *
 * Never: a second resolution; a pooled connection to an address that this
 * request did not check; a synchronous lookup (a refusal inside one would be an
 * uncaught exception).
 *
 * @module
 */
import { lookup } from "node:dns";
import { Agent, request } from "node:https";
import type { IncomingMessage } from "node:http";
import { rootCertificates } from "node:tls";
import { readBytes } from "../core/bounded.ts";
import { findAddressFault, findLiteral } from "./address.ts";
import { BodyCut } from "./body.ts";
import { portOf, type Refused, refused } from "./rules.ts";

/** All addresses of a name. */
export type Resolve = (name: string) => Promise<readonly string[]>;

type Bytes = Uint8Array<ArrayBuffer>;

/** An answer whose body nobody has decoded or counted. */
export interface RawAnswer {
  status: number;
  statusText: string;
  headers: Headers;
  body: ReadableStream<Bytes> | null;
}

/** What came of a request: an answer, or a refusal behind the rules. */
export type Sent = { kind: "answer"; raw: RawAnswer } | Refused;

/** A request for the open route. */
export interface PinnedAsk {
  caller: string;
  url: URL;
  method: string;
  headers: Headers;
  body: BodyInit | null;
  bodyBytesMax: number;
  signal: AbortSignal;
}

/** The open route. */
export interface Pinned extends Disposable {
  send(ask: PinnedAsk): Promise<Sent>;
}

/** What the open route is made of. */
export interface PinnedDeps {
  /** @default `node:dns` `lookup` */
  resolve?: Resolve;
  /** Why an address may not be connected to. @default {@linkcode findAddressFault} */
  findFault?(address: string): string | undefined;
  caCerts?: readonly string[];
}

/** A name with more is not looked at further: it is refused. */
const ADDRESSES_MAX = 64;
/** Addresses tried in turn when one does not take the connection. */
const TRIES_MAX = 3;
/** Agents kept: one to a caller and address. The oldest goes first. */
const AGENTS_MAX = 64;
const IDLE_MS = 30_000;
const SOCKETS_MAX = 8;
const HEADER_BYTES_MAX = 65_536;

/** `node:dns`, which reads the hosts file too, as a promise of plain texts. */
export function systemResolve(name: string): Promise<readonly string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  lookup(name, { all: true, verbatim: true }, (error, found) => {
    if (error !== null && error !== undefined) reject(error);
    else resolve(found.map(({ address }) => address));
  });
  return promise;
}

/** Makes the open route. Disposing closes its idle connections. */
export function makePinned(deps: PinnedDeps = {}): Pinned {
  const { resolve = systemResolve, findFault = findAddressFault } = deps;
  const agents = new Agents(deps.caCerts);
  return {
    send: async (ask) => {
      const checked = await checkAddresses(ask, { resolve, findFault });
      if (!Array.isArray(checked)) return checked;
      const body = await toBytes(ask);
      let last: unknown;
      for (const address of checked.slice(0, TRIES_MAX)) {
        try {
          const agent = agents.get(ask.caller, address);
          const message = await connect(ask, { address, agent, body });
          return { kind: "answer", raw: toRaw(message) };
        } catch (error) {
          last = error;
          if (ask.signal.aborted || !isConnectFailure(error)) throw error;
        }
      }
      throw last;
    },
    [Symbol.dispose]: () => agents[Symbol.dispose](),
  };
}

async function checkAddresses(
  ask: PinnedAsk,
  by: { resolve: Resolve; findFault(address: string): string | undefined },
): Promise<string[] | Refused> {
  const { hostname } = ask.url;
  const literal = findLiteral(hostname);
  const found = literal === undefined
    ? await untilAborted(by.resolve(hostname), ask.signal)
    : [literal];
  if (found.length === 0) throw new TypeError("dns error: no addresses");
  for (const address of found.slice(0, ADDRESSES_MAX)) {
    const fault = by.findFault(address);
    if (fault !== undefined) {
      return refused(
        "address",
        `it resolves to an address that is not public (${fault})`,
        "Only hosts of the public internet are reached this way; name the host in egress.hosts if it is meant",
      );
    }
  }
  // IPv4 first: a machine without IPv6 fails at once, but one with half of it hangs.
  return found.slice(0, ADDRESSES_MAX).sort((a, b) =>
    Number(a.includes(":")) - Number(b.includes(":"))
  );
}

/** A resolver cannot be stopped, but nobody has to wait for it. */
function untilAborted<T>(value: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  return Promise.race([value, promise]).finally(() =>
    signal.removeEventListener("abort", onAbort)
  );
}

async function toBytes(ask: PinnedAsk): Promise<Bytes | undefined> {
  if (ask.body === null) return undefined;
  const { headers, body } = new Response(ask.body);
  const type = headers.get("content-type");
  if (type !== null && !ask.headers.has("content-type")) {
    ask.headers.set("content-type", type);
  }
  try {
    return await readBytes(body, ask.bodyBytesMax);
  } catch (error) {
    throw new BodyCut("request_size", { cause: error });
  }
}

function connect(
  ask: PinnedAsk,
  options: { address: string; agent: Agent; body: Bytes | undefined },
): Promise<IncomingMessage> {
  const { address, agent, body } = options;
  const family = address.includes(":") ? 6 : 4;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request({
    agent,
    method: ask.method,
    hostname: findLiteral(ask.url.hostname) ?? ask.url.hostname,
    port: portOf(ask.url),
    path: `${ask.url.pathname}${ask.url.search}`,
    headers: {
      ...Object.fromEntries(ask.headers),
      host: ask.url.host,
      ...(body === undefined ? {} : { "content-length": String(body.length) }),
    },
    maxHeaderSize: HEADER_BYTES_MAX,
    signal: ask.signal,
    lookup: (_name, lookupOptions, done) => {
      queueMicrotask(() =>
        lookupOptions.all === true
          ? done(null, [{ address, family }])
          : done(null, address, family)
      );
    },
  }, resolve);
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

function isConnectFailure(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    /^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL)$/.test(
      String(error.code),
    );
}

function toRaw(message: IncomingMessage): RawAnswer {
  const headers = new Headers();
  for (let n = 0; n + 1 < message.rawHeaders.length; n += 2) {
    const [name = "", value = ""] = message.rawHeaders.slice(n, n + 2);
    if (/^[\w!#$%&'*+.^`|~-]+$/.test(name)) {
      // deno-lint-ignore no-control-regex
      headers.append(name, value.replaceAll(/[\x00-\x08\x0a-\x1f\x7f]/g, ""));
    }
  }
  return {
    status: message.statusCode ?? 502,
    statusText: "",
    headers,
    body: toStream(message),
  };
}

function toStream(message: IncomingMessage): ReadableStream<Bytes> {
  const chunks = message[Symbol.asyncIterator]();
  return new ReadableStream<Bytes>({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done === true) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
    cancel() {
      message.destroy();
    },
  }, { highWaterMark: 0 });
}

/** One agent to a caller and an address, so that a pooled socket is a checked one. */
class Agents implements Disposable {
  readonly #agents = new Map<string, Agent>();
  readonly #ca: string[] | undefined;

  constructor(caCerts: readonly string[] | undefined) {
    this.#ca = caCerts === undefined
      ? undefined
      : [...rootCertificates, ...caCerts];
  }

  get(caller: string, address: string): Agent {
    const key = `${caller}\n${address}`;
    const agent = this.#agents.get(key) ?? new Agent({
      keepAlive: true,
      maxSockets: SOCKETS_MAX,
      maxFreeSockets: 2,
      timeout: IDLE_MS,
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
    });
    // Set again, so that the map's order is that of use.
    this.#agents.delete(key);
    this.#agents.set(key, agent);
    for (const [oldKey, old] of this.#agents) {
      if (this.#agents.size <= AGENTS_MAX) break;
      this.#agents.delete(oldKey);
      old.destroy();
    }
    return agent;
  }

  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy();
    this.#agents.clear();
  }
}
