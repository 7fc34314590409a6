/**
 * Every bound of the gateway, in one table. `docs/limits.md` is made from it.
 *
 * @module
 */
import { WIRE_LIMITS } from "../core/protocol.ts";

export const GATEWAY_LIMITS = {
  ...WIRE_LIMITS,
  /** Characters of a request's path, before decoding: 400 beyond it. */
  pathCharsMax: 2_048,
  /** Characters of a request's whole target, query included: 414 beyond it. */
  targetCharsMax: 8_192,
  /** Header fields of a request, and the characters of all: 431 beyond either. */
  headersMax: 100,
  headerCharsMax: 32_768,
  /** A request's body: 413 beyond it, before it is read when its length is stated. */
  bodyBytesMax: 1_048_576,
  /** The same for `/v1/*`. */
  apiBodyBytesMax: 4_194_304,
  /** How long a body may take to arrive: then 408. */
  bodyMs: 30_000,
  /** Values in a body of `/v1/*`: 413 beyond it; other bodies have `nodesMax`. */
  apiNodesMax: 200_000,
  /** Requests being answered at once, HTTP and WebSocket together: then 503. */
  inFlightMax: 512,
  /** Of those, how many one principal may have: 429 beyond it. */
  inFlightPerPrincipalMax: 384,
  /** The share of them beyond which no stranger's socket is taken. */
  anonymousShare: 0.75,
  /** The share of them beyond which nothing is begun that calls models or tools. */
  workShare: 0.875,
  /** Of those, how many one socket may have: RATE_LIMITED beyond it. */
  requestsPerSocketMax: 128,
  /** Sockets in all: the upgrade is 503 beyond it. */
  socketsMax: 1_024,
  /** Sockets that have not authenticated, of all and of one address: then 503. */
  preAuthSocketsMax: 8,
  preAuthPerAddressMax: 4,
  /** A socket with more unread than this is cut at once. */
  unreadBytesMax: 8_388_608,
  /** Events kept back for a slow reader, and how long before it is cut. */
  heldEventsMax: 1_000,
  slowMs: 10_000,
  heldPollMs: 25,
  /** Deltas of a reply longer than this are merged to one each `deltaMs`. */
  deltaCharsMin: 4_096,
  deltaMs: 100,
  /** Runs whose text so far is remembered for cumulative deltas. */
  feedsMax: 2_048,
  /** Characters of one answer of `chat.history`. */
  historyCharsMax: 1_048_576,
  /** Session rows looked through for one `sessions.list`. */
  sessionsScannedMax: 5_000,
  /** Who comes and goes within this is told in one event. */
  presenceMs: 50,
  /** Connections that one `presence` lists, the oldest first. */
  presenceEntriesMax: 100,
  /** A vendor's whole answer, held before it is sent on: 413 beyond it. */
  answerBytesMax: 16_777_216,
  /** A vendor's error that is read to be passed on. */
  errorBytesMax: 65_536,
  /** The end of a streamed answer, kept to find its token counts. */
  tailBytesMax: 8_192,
  /** How long an answer can still fail with a status of its own; then headers go. */
  headMs: 5_000,
  /** How long one streamed answer may last. */
  streamMs: 3_600_000,
  /** How long a streamed answer may wait for its reader to read on. */
  unreadMs: 60_000,
  /** How often streams are looked at for those two. */
  sweepMs: 1_000,
  /** Silence in an event stream or before an answer; then something blank is sent. */
  keepAliveMs: 15_000,
  /** How long one answer of readiness and one count of sessions are good for. */
  readyMs: 1_000,
  countMs: 1_000,
  /** When to come back to a gateway that closes or has no socket left. */
  retryAfterMs: 2_000,
  /** When to come back to a gateway that has too much to do. */
  busyRetryMs: 1_000,
  /** Stopping and approving, per identity: a second's worth and the burst; then 429. */
  urgentPerSecond: 100,
  urgentBurst: 200,
  /** Turns, per identity: the same. */
  turnsPerSecond: 60,
  turnsBurst: 120,
  /** Turns of the owner's own credentials. */
  ownerTurnsPerSecond: 600,
  ownerTurnsBurst: 1_200,
  /** All requests, per identity: the same. */
  readsPerSecond: 20_000,
  readsBurst: 20_000,
  /** All requests of the owner's own credentials. */
  ownerReadsPerSecond: 200_000,
  ownerReadsBurst: 200_000,
  /** Requests passed on to a model, per identity: the same. */
  passThroughPerSecond: 5_000,
  passThroughBurst: 5_000,
  /** Identities whose buckets are remembered; the fullest is forgotten. */
  identitiesMax: 4_096,
  /** How long `chat.abort` waits for the ends of what it stops to be stored. */
  abortWaitMs: 5_000,
  /** Goodbye: close frames, then the server itself. */
  closeMs: 300,
  shutdownMs: 1_000,
} as const;

/** The same bounds, where a test may set others. */
export type GatewayLimits = {
  readonly [K in keyof typeof GATEWAY_LIMITS]: number;
};
