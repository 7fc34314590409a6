/**
 * The open route: a public host that no configuration line names. Its name is
 * resolved here, once; every address it has must be public; and the connection
 * goes to one of the addresses that were checked, with TLS still bound to the
 * name. So the address that was checked is the address connected to, whatever
 * the DNS says a moment later.
 *
 * Never: a second resolution (sockets are opened to an address, never to a
 * name); a pooled connection to an address that this request did not check.
 *
 * @module
 */
import { lookup } from "node:dns";
import { Agent, request } from "node:https";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { connect } from "node:tls";
import { readBytes } from "../core/bounded.ts";
import { ignore } from "../core/errors.ts";
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
  /** Connects to this port instead of the URL's, for a test's own server. */
  port?: number;
  /** Authorities trusted instead of the process's own, for a test's own server. */
  caCerts?: readonly string[];
}

/** A name with more is refused: nobody honest has so many. */
const ADDRESSES_MAX = 64;
/** Addresses tried in turn when one does not take the connection. */
const TRIES_MAX = 3;
/** Agents kept: one to a caller and address. The oldest goes first. */
const AGENTS_MAX = 64;
const IDLE_MS = 30_000;
const SOCKETS_MAX = 8;
const HEADER_BYTES_MAX = 65_536;

/** `node:dns`, which reads the hosts file too, as a promise of plain texts. */
function systemResolve(name: string): Promise<readonly string[]> {
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
          const agent = agents.get(ask, address);
          const port = deps.port ?? portOf(ask.url);
          const message = await sendTo(ask, { port, agent, body });
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
  const faults = found.length > ADDRESSES_MAX
    ? ["too many"]
    : found.map((address) => by.findFault(address));
  const fault = faults.find((text) => text !== undefined);
  if (fault !== undefined) {
    return refused(
      "address",
      `it resolves to an address that is not public (${fault})`,
      "Only hosts of the public internet are reached this way; name the host in egress.hosts if it is meant",
    );
  }
  // IPv4 first: a machine without IPv6 fails at once, but one with half of it hangs.
  return found.toSorted((a, b) =>
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

function sendTo(
  ask: PinnedAsk,
  options: {
    port: number;
    agent: Agent;
    body: Bytes | undefined;
  },
): Promise<IncomingMessage> {
  const { port, agent, body } = options;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request({
    agent,
    method: ask.method,
    hostname: findLiteral(ask.url.hostname) ?? ask.url.hostname,
    port,
    path: `${ask.url.pathname}${ask.url.search}`,
    headers: {
      ...Object.fromEntries(ask.headers),
      host: ask.url.host,
      ...(body === undefined ? {} : { "content-length": String(body.length) }),
    },
    maxHeaderSize: HEADER_BYTES_MAX,
    signal: ask.signal,
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
  // The iterator tells its reader; without a reader nobody has to know.
  message.on("error", ignore("a connection broke before its body was read"));
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

/**
 * An agent whose every socket goes to one checked address. It connects to the
 * address itself, so there is no name left to look up; the certificate is
 * checked against the name of the URL.
 *
 * The sockets are made here and not by the platform's agent, because that one
 * reads the list of root certificates on every connection, which needs a
 * permission (`sys`, bare) that this program does not have.
 */
class PinnedAgent extends Agent {
  readonly #address: string;
  readonly #ca: string[] | undefined;

  constructor(
    address: string,
    options: { keepAlive: boolean; ca: readonly string[] | undefined },
  ) {
    const { keepAlive, ca } = options;
    super({
      keepAlive,
      maxSockets: SOCKETS_MAX,
      maxFreeSockets: 2,
      timeout: IDLE_MS,
    });
    this.#address = address;
    this.#ca = ca === undefined ? undefined : [...ca];
  }

  override createConnection(
    options: { host?: string; port?: number | string },
  ): Duplex {
    const { host = "", port } = options;
    return connect({
      host: this.#address,
      port: Number(port),
      ALPNProtocols: ["http/1.1"],
      ...(host === this.#address ? {} : { servername: host }),
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
    });
  }
}

/** One agent to a caller and an address, so that a pooled socket is a checked one. */
class Agents implements Disposable {
  readonly #agents = new Map<string, Agent>();
  readonly #ca: readonly string[] | undefined;

  constructor(ca: readonly string[] | undefined) {
    this.#ca = ca;
  }

  /**
   * What may have an effect gets a connection of its own: measured on Deno
   * 2.9.6, the platform sends any request again, a POST too, when the server
   * closes the pooled socket it went out on.
   */
  get({ caller, method }: PinnedAsk, address: string): Agent {
    const keepAlive = method === "GET" || method === "HEAD";
    const options = { keepAlive, ca: this.#ca };
    if (!keepAlive) return new PinnedAgent(address, options);
    const key = `${caller}\n${address}`;
    const agent = this.#agents.get(key) ?? new PinnedAgent(address, options);
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
