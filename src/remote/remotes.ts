/**
 * Turns on other gateways, over the protocol every client speaks. A turn is sent
 * under our run's id, so that a second sending finds the first; the other side
 * drives it to its end whether we listen or not.
 *
 * Never: more than the text of the turn leaves; a tool of ours is offered; a
 * turn goes round in a circle; what comes back is believed more than its line says.
 *
 * @module
 */
import { AppError, ignore } from "../core/errors.ts";
import { type Label, label } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { Usage } from "../core/message.ts";
import { EndReason } from "../core/turn.ts";
import type { Clock } from "../core/time.ts";
import type { GatewayClient } from "./client.ts";
import type { RemoteConfig, RemotesConfig } from "./config.ts";
import type { RunEnd } from "./run_events.ts";
import type { TurnNotice } from "./run_turn.ts";

/** Gateways a turn may pass through, one after the other. */
export const HOPS_MAX = 3;
/** How long an aborted turn waits for the other side's word. */
const ABORT_MS = 1_000;

/** One turn to be taken elsewhere. */
export interface RemoteTurn {
  /** Our run: sent as the idempotency key. */
  runId: string;
  /** Our session's key and id: the same conversation there each time. */
  sessionKey: string;
  sessionId: string;
  /** The agent over there. @default "main" */
  agentId: string | undefined;
  text: string;
}

/** What a turn elsewhere says; the last is `end`. */
export type RemoteEvent =
  | { kind: "text"; text: string }
  | { kind: "thinking"; text: string }
  /** It asks its model again: its words begin anew. */
  | { kind: "step" }
  | {
    kind: "end";
    reason: EndReason;
    reply: string;
    message?: string;
    hint?: string;
    usage?: Usage;
  };

/** What {@linkcode Remotes} is made of. */
export interface RemotesDeps {
  config(): RemotesConfig;
  clock: Clock;
  log: Log;
}

/**
 * How many gateways a session's turns came through before this one. The number
 * stands in the key that the gateway before wrote; a key authorises nothing, so
 * whoever writes a smaller one only sends his own turn further round.
 */
export function hopsOf(sessionKey: string): number {
  const match = /:remote:(\d{1,2}):[a-z0-9]{1,40}$/.exec(sessionKey);
  return match === null ? 0 : Number(match[1]);
}

/** The other gateway's key of our conversation. @throws `conflict` in a circle */
export function remoteKey(
  { sessionKey, sessionId, agentId = "main" }: RemoteTurn,
): string {
  const hops = hopsOf(sessionKey) + 1;
  if (hops > HOPS_MAX) {
    throw new AppError(
      "conflict",
      `Cannot hand the turn on: it came through ${HOPS_MAX} gateways already`,
      {
        hint:
          "Agents of two gateways name each other: take one agents.<id>.remote away",
      },
    );
  }
  return `agent:${agentId}:remote:${hops}:${
    sessionId.toLowerCase().replaceAll(/[^a-z0-9]/g, "")
  }`;
}

/**
 * A text that is no command on the other gateway. Commands of people were taken
 * here; there one would be given with our token's rights, whoever wrote it.
 */
export function asWords(text: string): string {
  return text.trimStart().startsWith("/") ? `Message:\n${text}` : text;
}

/** The other gateways. */
export class Remotes {
  readonly #deps: RemotesDeps;

  constructor(deps: RemotesDeps) {
    this.#deps = deps;
  }

  #find(name: string): RemoteConfig {
    const config = this.#deps.config();
    const found = Object.hasOwn(config, name) ? config[name] : undefined;
    if (found !== undefined) return found;
    throw new AppError("not_found", `There is no remote "${name}"`, {
      hint: 'Run "carapace remote list"',
    });
  }

  /** Whose words a remote's answers are, and whose they may tell of. */
  labelOf(name: string): Label {
    const at = this.#deps.clock.now();
    return label(this.#find(name).trust, ["owner"], {
      kind: "tool",
      ref: `remote:${name}`,
      at,
    });
  }

  /** Connects. @throws as `connectRemote` */
  async #connect(name: string, signal: AbortSignal): Promise<GatewayClient> {
    const { clock } = this.#deps;
    const { connectRemote } = await import("./connect.ts");
    return await connectRemote(name, this.#find(name), { clock, signal });
  }

  /**
   * Takes a turn there. Aborting with anything but `unavailable` stops it there
   * too; `unavailable` is our own pause, and it goes on without us.
   *
   * @throws {AppError} `unavailable` when it cannot be reached, or is gone for
   * longer than a minute; `forbidden` for a certificate that is not believed
   */
  async *turn(
    name: string,
    turn: RemoteTurn,
    signal: AbortSignal,
  ): AsyncGenerator<RemoteEvent, void, undefined> {
    const sessionKey = remoteKey(turn);
    const { runTurn } = await import("./run_turn.ts");
    const leaving = new AbortController();
    using client = await this.#connect(name, leaving.signal);
    const stop = new AbortController();
    const gone = Promise.withResolvers<never>();
    gone.promise.catch(ignore("the turn was not aborted"));
    const onAbort = () => {
      const { reason } = signal;
      const isPause = reason instanceof AppError &&
        reason.code === "unavailable";
      if (isPause) return gone.reject(reason);
      stop.abort(reason);
      this.#deps.clock.sleep(ABORT_MS, leaving.signal)
        .then(() => gone.reject(reason), ignore("it answered in time"));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    const events = runTurn(client, {
      sessionKey,
      message: asWords(turn.text),
      idempotencyKey: turn.runId,
    }, { clock: this.#deps.clock, signal: stop.signal });
    try {
      while (true) { // ends with the run, the abort, or a lost gateway
        const { value, done } = await Promise.race([
          events.next(),
          gone.promise,
        ]);
        if (done === true || value === undefined) break;
        this.#note(name, value);
        const event = toRemoteEvent(value);
        if (event?.kind === "end") signal.throwIfAborted();
        if (event !== undefined) yield event;
        if (event?.kind === "end") return;
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      leaving.abort();
      events.return().catch(ignore("the turn was left"));
    }
    throw new AppError("upstream", `The turn on "${name}" has no end`);
  }

  #note(name: string, notice: TurnNotice): void {
    if (notice.kind === "lost") {
      this.#deps.log("warn", "remote.lost", { name, why: notice.reason });
    } else if (notice.kind === "back") {
      this.#deps.log("info", "remote.back", { name });
    }
  }
}

function toRemoteEvent(notice: TurnNotice): RemoteEvent | undefined {
  switch (notice.kind) {
    case "text":
    case "thinking":
      return notice;
    case "step":
      return { kind: "step" };
    case "end":
      return toEnd(notice);
    default:
      // Its tools and its approvals are its own.
      return undefined;
  }
}

function toEnd(end: RunEnd): RemoteEvent {
  const said = EndReason.safeParse(end.reason);
  const reason: EndReason = end.state === "final"
    ? "done"
    : end.state === "aborted"
    ? "cancelled"
    : said.success && said.data !== "done"
    ? said.data
    : "error";
  return {
    kind: "end",
    reason,
    reply: end.reply,
    ...(end.message === undefined ? {} : { message: end.message }),
    ...(end.hint === undefined ? {} : { hint: end.hint }),
    ...(end.usage === undefined ? {} : { usage: end.usage }),
  };
}
