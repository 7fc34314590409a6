/**
 * Chat requests whose model name means an agent: what the caller wrote becomes
 * one inbound message with its history, and the run's events become an answer.
 *
 * Never: text of a caller enters the system role or names another's session.
 *
 * @module
 */
import type { StartedRun, TurnRequest, Turns } from "../../../agent/turns.ts";
import { checkModelChoice } from "../../../guard/admission.ts";
import { AppError, type ErrorCode } from "../../../core/errors.ts";
import { makeId, peerSegment } from "../../../core/ids.ts";
import { type Label, label } from "../../../core/label.ts";
import { type ImagePart, type Inbound, textOf } from "../../../core/message.ts";
import type { EndReason, TurnEvent } from "../../../core/turn.ts";
import { type Asked, type CallerLabels, splitLast } from "../asked.ts";
import type { Caller } from "../../keys.ts";
import type { FinishReason, Piece } from "./answer.ts";

/** The agent a model's name means, if it means one. */
export function agentOfModel(
  name: string,
  agents: { defaultId: string; agents: readonly { id: string }[] },
): string | undefined {
  if (name === "carapace" || name === "openclaw") return agents.defaultId;
  const id = /^(?:(?:carapace|openclaw)[/:]|agent:)(.+)$/.exec(name)?.[1];
  if (id === undefined) return undefined;
  if (agents.agents.some((agent) => agent.id === id)) return id;
  if (id === "default") return agents.defaultId;
  throw new AppError("not_found", `Cannot find agent "${id}"`, {
    hint: `There are: ${agents.agents.map((agent) => agent.id).join(", ")}`,
    details: { param: "model", code: "model_not_found" },
  });
}

/** A header of ours, or its alias. */
function headerOf(headers: Headers, name: string): string | undefined {
  return headers.get(`x-carapace-${name}`) ??
    headers.get(`x-openclaw-${name}`) ?? undefined;
}

/** The labels of what a caller writes, and of what it merely brings along. */
export function labelsOf(
  caller: Caller,
  at: number,
): CallerLabels {
  const { principal, authority } = caller;
  const origin = {
    kind: caller.isOwner ? "owner" : "client",
    ref: principal.name.slice(0, 512),
    at,
  } as const;
  return {
    user: label(authority.integrity, [principal.id], origin),
    other: label("untrusted", [principal.id], { ...origin, kind: "client" }),
  };
}

/** An inbound message of a client's, by whatever door. */
export function toInbound(
  caller: Caller,
  message: {
    id: string;
    channel: "http" | "ws";
    text: string;
    images: ImagePart[];
    label: Label;
    now: number;
  },
): Inbound {
  const { id, channel, text, images, now } = message;
  return {
    id,
    channel,
    account: caller.segment,
    sender: {
      id: caller.principal.id,
      name: caller.principal.name.slice(0, 256),
    },
    chat: { kind: "direct", id: caller.segment },
    kind: "message",
    text,
    images,
    label: message.label,
    receivedAt: now,
  };
}

/** The session a request names, by header or by `user`. */
async function sessionOf(
  asked: Asked,
  options: { caller: Caller; agentId: string; headers: Headers },
): Promise<string | undefined> {
  const { caller, agentId, headers } = options;
  const named = headerOf(headers, "session-key");
  if (named !== undefined) return await caller.toKey(named, agentId);
  if (asked.user === undefined || asked.user === "") return undefined;
  const segment = await peerSegment("openai", "", asked.user);
  return await caller.toKey(`agent:${agentId}:openai:${segment}`, agentId);
}

/** What a turn is made of beside what was asked. */
export interface TurnOptions {
  caller: Caller;
  agentId: string;
  headers: Headers;
  signal: AbortSignal;
  attended: boolean;
  now: number;
}

/** What was asked, as a turn. */
export async function toTurnRequest(
  asked: Asked,
  options: TurnOptions,
): Promise<TurnRequest> {
  const { caller, headers, now } = options;
  const agentId = caller.checkAgent(
    headerOf(headers, "agent-id") ?? options.agentId,
  );
  const { user, other } = labelsOf(caller, now);
  const { history, last, images } = splitLast(asked);
  const sessionKey = await sessionOf(asked, { ...options, agentId });
  const model = headerOf(headers, "model");
  if (model !== undefined) checkModelHere(caller, model);
  const { system, tools, outputTokensMax, temperature, thinkingTokens } = asked;
  const clientTools = asked.toolChoice === "none" ? [] : tools;
  return {
    inbound: toInbound(caller, {
      id: headers.get("idempotency-key")?.slice(0, 512) || makeId("req", now),
      channel: "http",
      text: last === undefined ? "" : textOf(last),
      images,
      label: last === undefined ? other : user,
      now,
    }),
    authority: caller.authority,
    ...(headers.has("idempotency-key") ? { isKeyed: true } : {}),
    agentId,
    attended: options.attended,
    signal: options.signal,
    ...(sessionKey === undefined ? {} : { sessionKey }),
    ...(model === undefined ? {} : { model }),
    ...(system === "" ? {} : { preamble: system }),
    ...(history.length === 0 ? {} : { history }),
    ...(clientTools.length === 0 ? {} : { clientTools }),
    ...(outputTokensMax === undefined ? {} : { outputTokensMax }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(thinkingTokens === undefined ? {} : { thinkingTokens }),
  };
}

/** As a caller names it, at whichever door. @throws {AppError} `forbidden` */
export function checkModelHere(caller: Caller, model: string): void {
  checkModelChoice(caller.authority, model);
}

const FAILURE = {
  done: "upstream",
  cancelled: "unavailable",
  error: "upstream",
  loop_detected: "upstream",
  steps: "upstream",
  tokens: "upstream",
  time: "timeout",
  budget: "budget",
  denied: "forbidden",
  interrupted: "unavailable",
} as const satisfies Record<EndReason, ErrorCode>;

const FAILURE_OF_CLASS: Readonly<Record<string, ErrorCode>> = {
  rate: "rate_limited",
  overloaded: "unavailable",
  context_overflow: "bad_input",
  timeout: "timeout",
};

const FINISH: Readonly<Partial<Record<EndReason, FinishReason>>> = {
  steps: "length",
  tokens: "length",
  time: "length",
  denied: "content_filter",
};

type End = Extract<TurnEvent, { kind: "end" }>;

function toFailure(end: End): AppError {
  const byClass = end.errorClass === undefined
    ? undefined
    : FAILURE_OF_CLASS[end.errorClass];
  return new AppError(
    byClass ?? FAILURE[end.reason],
    end.message ?? `The run ended: ${end.reason}`,
    {
      ...(end.hint === undefined ? {} : { hint: end.hint }),
      details: { code: end.errorClass ?? end.reason },
    },
  );
}

/** A run's events as pieces of an answer. */
export async function* runPieces(
  turns: Turns,
  request: TurnRequest,
  onStart?: (run: StartedRun) => void,
): AsyncGenerator<Piece, void, undefined> {
  const own = new Set(request.clientTools?.map((tool) => tool.name));
  const open = new Map<string, Piece>();
  let said = false;
  const run = await turns.start(request);
  onStart?.(run);
  for await (const event of run.events) {
    switch (event.kind) {
      case "text":
        said = true;
        yield { kind: "text", text: event.text };
        break;
      case "thinking":
        yield { kind: "thinking", text: event.text };
        break;
      case "tool_call":
        if (own.has(event.name)) {
          open.set(event.callId, {
            kind: "tool_call",
            id: event.callId,
            name: event.name,
            args: JSON.stringify(event.args),
          });
        }
        break;
      case "tool_result":
        // Answered here after all (refused, say): not the caller's to run.
        open.delete(event.callId);
        break;
      case "reply":
        said = true;
        yield { kind: "reply", text: event.text };
        break;
      case "end": {
        // Ended on purpose (the gateway closes, say): that reason says more.
        request.signal?.throwIfAborted();
        if (event.reason === "done") yield* open.values();
        else if (!said || FINISH[event.reason] === undefined) {
          throw toFailure(event);
        }
        const finish = event.reason === "done" && open.size > 0
          ? "tool_calls"
          : FINISH[event.reason] ?? "stop";
        yield { kind: "end", finish, usage: event.usage };
        return;
      }
    }
  }
  throw new AppError("upstream", "Cannot answer: the run's events broke off");
}
