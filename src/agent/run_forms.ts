/**
 * A run's row and its other forms: made of a request, shown as an outcome, told
 * again as events.
 *
 * Never: a form that says more than the row it is made of.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import { NO_USAGE } from "../core/message.ts";
import type { TurnEvent } from "../core/turn.ts";
import { sha256HexSync } from "../store/keys.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import { kindOf } from "./sessions/session_desk.ts";
import { inputParts } from "./take_turn.ts";
import type { RunOutcome, TurnRequest } from "./turns.ts";

/**
 * What a request under a chosen id asks for, as a hash: sent again it is the
 * same. Nothing where a network chose the id.
 */
export function askedOf(
  { isKeyed, inbound, ...request }: TurnRequest,
  agentId: string,
): string | undefined {
  if (isKeyed !== true) return undefined;
  const { sessionKey, call, model, preamble } = request;
  const images = inbound.images.map(({ data }) => data);
  const about = { agentId, sessionKey, call, model, preamble };
  // No canonical form: what differs in spelling only was not sent twice.
  return sha256HexSync(JSON.stringify([about, inbound.text, images]));
}

/** @throws {AppError} `conflict` when another thing was asked under the id */
export function checkSame(
  asked: string | undefined,
  before: string | undefined,
): void {
  if (asked === undefined || before === undefined || asked === before) return;
  throw new AppError(
    "conflict",
    "Cannot take the request: its idempotency key was used for another one",
    { hint: "Send each request with a key of its own" },
  );
}

/** A run as it is stored when its turn is accepted. */
export function toRun(
  request: TurnRequest,
  made: { runId: string; now: number; agentId: string; session: Session },
): Run {
  const { inbound, outputTokensMax, temperature, limitMs } = request;
  const { runId, now, agentId, session } = made;
  const options = {
    ...(outputTokensMax === undefined ? {} : { outputTokensMax }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(limitMs === undefined ? {} : { limitMs }),
    ...((request.clientTools?.length ?? 0) > 0 ? { clientTools: true } : {}),
    ...(request.call === undefined ? {} : { invoked: true }),
  };
  return {
    id: runId,
    sessionKey: session.key,
    sessionId: session.id,
    agentId,
    state: "accepted",
    authority: request.authority.toRecord(),
    inbound: {
      channel: inbound.channel,
      account: inbound.account,
      id: inbound.id,
    },
    channel: inbound.channel,
    ...(inbound.replyTo === undefined ? {} : { replyTo: inbound.replyTo }),
    ...(request.deliver === undefined ? {} : { deliver: request.deliver }),
    input: { parts: inputParts(request), sender: inbound.sender.id },
    options,
    step: 0,
    resumes: 0,
    ...(request.model === undefined ? {} : { model: request.model }),
    ...(request.thinkingTokens === undefined
      ? {}
      : { thinkingTokens: request.thinkingTokens }),
    attended: request.attended,
    transient: request.sessionKey === undefined,
    createdAt: now,
    updatedAt: now,
    inFlight: [],
    usage: NO_USAGE,
  };
}

/** A stand-in for a session whose row is gone: its run ends, saying so. */
export function lostSession(run: Run): Omit<Session, "owner"> {
  return {
    key: run.sessionKey,
    id: run.sessionId,
    agentId: run.agentId,
    kind: kindOf(run.sessionKey, run.transient),
    createdAt: run.createdAt,
    updatedAt: run.createdAt,
    seq: 0,
    queueMode: "queue",
    usage: NO_USAGE,
    joined: PUBLIC_OWNER,
  };
}

/** How a stored run ended; none while it is open. */
export function toOutcome(run: Run): RunOutcome | undefined {
  if (run.end === undefined) return undefined;
  return {
    runId: run.id,
    sessionKey: run.sessionKey,
    reason: run.end.reason,
    startedAt: run.startedAt ?? run.createdAt,
    endedAt: run.endedAt ?? run.updatedAt,
    reply: run.reply ?? "",
    usage: run.usage,
    ...(run.end.message === undefined ? {} : { message: run.end.message }),
  };
}

/** A finished run's events: those still kept, else its stored end. */
export async function* replayed(
  run: Run | undefined,
  kept: readonly TurnEvent[],
): AsyncGenerator<TurnEvent, void, undefined> {
  yield* kept;
  if (kept.at(-1)?.kind === "end" || run?.end === undefined) return;
  const at = run.endedAt ?? run.updatedAt;
  const base = { runId: run.id, at };
  const model = run.model ?? "carapace";
  yield { ...base, seq: 1, kind: "reply", text: run.reply ?? "", model };
  yield { ...base, seq: 2, kind: "end", ...run.end, usage: run.usage };
}
