/**
 * Where hooks stand in a turn: before anything is decided, with what they wrote
 * labelled as theirs.
 *
 * Never: a call, a result or a reply that a hook changed keeps a label it had
 * before; a hook that fails before an act lets it pass.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { HookEvent, HookOutcome, HookPoint } from "../core/hooks.ts";
import { join, joinAll, type Label, PUBLIC_OWNER } from "../core/label.ts";
import {
  type StoredMessage,
  TextPart,
  type ToolCallPart,
  type ToolResultPart,
} from "../core/message.ts";
import type { TurnEventBody } from "../core/turn.ts";
import type { TextFilter } from "../guard/screen/reply.ts";
import type { Session } from "../store/sessions.ts";
import type { AgentDeps } from "./deps.ts";
import type { LoopEnd } from "./loop.ts";
import type { Turn } from "./turn.ts";
import type { TurnRequest } from "./turns.ts";

/** Tells whoever waits at a point that something happened, and waits for nobody. */
export function tellHooks(
  { hooks }: Pick<AgentDeps, "hooks">,
  point: HookPoint,
  { key, agentId, channel, joined }: Session,
  runId?: string,
): void {
  if (hooks === undefined || !hooks.has(point)) return;
  void hooks.run({
    point,
    label: joined,
    sessionKey: key,
    agentId,
    ...channel === undefined ? {} : { channel },
    ...runId === undefined ? {} : { runId },
  });
}

/**
 * A message as the hooks leave it.
 *
 * @throws {AppError} `forbidden` when one stops it
 */
export async function hookMessage(
  { hooks }: Pick<AgentDeps, "hooks">,
  request: TurnRequest,
): Promise<TurnRequest> {
  const { inbound, signal } = request;
  if (hooks === undefined || !hooks.has("message_received")) return request;
  const { text, label, channel } = inbound;
  const outcome = await hooks.run({
    point: "message_received",
    label,
    text,
    channel,
    ...request.sessionKey === undefined
      ? {}
      : { sessionKey: request.sessionKey },
  }, signal);
  const { cancelled } = outcome;
  if (cancelled !== undefined) {
    throw new AppError(
      "forbidden",
      `The plugin "${cancelled.by}" stopped the message: ${cancelled.reason}`,
    );
  }
  const notes = notesText(outcome);
  if (outcome.text === undefined && notes === "") return request;
  return {
    ...request,
    inbound: {
      ...inbound,
      text: `${outcome.text ?? text}${notes}`,
      label: lower(label, outcome),
    },
  };
}

function lower(label: Label, outcome: HookOutcome): Label {
  return outcome.label === undefined ? label : join(label, outcome.label);
}

function notesText({ notes }: HookOutcome): string {
  return notes.map(({ by, text }) => `\n[The plugin "${by}" notes: ${text}]`)
    .join("");
}

async function run(
  turn: Turn,
  event: Omit<HookEvent, "runId" | "sessionKey" | "agentId" | "channel">,
  signal: AbortSignal,
): Promise<HookOutcome> {
  const { hooks } = turn.deps;
  return await hooks?.run({
    ...event,
    runId: turn.run.id,
    sessionKey: turn.session.key,
    agentId: turn.run.agentId,
    channel: turn.channel,
  }, signal) ?? { notes: [] };
}

/**
 * Before the first step, what the turn is about: changed, annotated, or the end.
 * A turn that goes on after a crash has been through this when it took a step.
 */
export async function hookTurn(
  turn: Turn,
  signal: AbortSignal,
): Promise<LoopEnd | undefined> {
  if (turn.run.step > 0) return undefined;
  const cancelled = await hookInput(turn, { after: 0, signal });
  return cancelled === undefined ? undefined : stopped("turn", cancelled);
}

/**
 * What was said to a turn that runs already. What a hook stops is not shown to
 * the model; the turn goes on.
 */
export async function hookSteering(
  turn: Turn,
  options: { after: number; signal: AbortSignal },
): Promise<void> {
  const cancelled = await hookInput(turn, options);
  if (cancelled === undefined) return;
  turn.deps.log("warn", "turn.steering_stopped", { ...cancelled });
  // Without its reason, which is the plugin's words.
  const text = `[The plugin "${cancelled.by}" stopped this message]`;
  for (const message of inputOf(turn, options.after)) {
    const label = joinAll(message.parts.map((part) => part.label));
    turn.replace(message, [TextPart.parse({ kind: "text", text, label })]);
  }
}

/** What was said to this turn, past a message's number. */
function inputOf(turn: Turn, after: number): StoredMessage[] {
  return turn.history.filter(({ role, runId, seq }) =>
    role === "user" && runId === turn.run.id && seq > after
  );
}

function textIn({ parts }: StoredMessage): string {
  return parts.flatMap((part) => part.kind === "text" ? [part.text] : [])
    .join("");
}

/** Each message by itself, so that a change is a change of that one. */
async function hookInput(
  turn: Turn,
  { after, signal }: { after: number; signal: AbortSignal },
): Promise<HookOutcome["cancelled"]> {
  if (!turn.deps.hooks?.has("before_turn")) return undefined;
  for (const message of inputOf(turn, after)) {
    const outcome = await run(turn, {
      point: "before_turn",
      label: turn.joined,
      text: textIn(message),
    }, signal);
    const { cancelled, text } = outcome;
    if (cancelled !== undefined) return cancelled;
    if (text !== undefined) {
      const said = joinAll(message.parts.map((part) => part.label));
      const label = lower(said, outcome);
      // Stored in the other's place: what the model never saw is not shown later.
      turn.replace(message, [
        TextPart.parse({ kind: "text", text, label }),
        ...message.parts.filter(({ kind }) => kind !== "text"),
      ]);
    }
    const notes = notesText(outcome).trim();
    if (notes === "") continue;
    const label = lower(PUBLIC_OWNER, outcome);
    turn.append("user", [TextPart.parse({ kind: "text", text: notes, label })]);
  }
  return undefined;
}

function stopped(
  what: string,
  { by, reason }: { by: string; reason: string },
): LoopEnd {
  return {
    reason: "denied",
    reply: "",
    message: `The plugin "${by}" stopped the ${what}: ${reason}`,
    hint: `See: carapace plugin logs ${by}`,
  };
}

/** A call as the hooks leave it, or why it must not run. */
export interface HookedCall {
  call: ToolCallPart;
  refused?: string;
  notes: string;
}

/** Each call, before it is judged. What a hook wrote, the model has not said. */
export async function hookCalls(
  turn: Turn,
  calls: readonly ToolCallPart[],
  signal: AbortSignal,
): Promise<HookedCall[]> {
  if (!turn.deps.hooks?.has("before_tool_call")) {
    return calls.map((call) => ({ call, notes: "" }));
  }
  const hooked: HookedCall[] = [];
  for (const call of calls) {
    const { name, args } = call;
    const outcome = await run(turn, {
      point: "before_tool_call",
      label: turn.joined,
      tool: { name, args },
    }, signal);
    // The decision rests on all that went into the call: this too.
    if (outcome.label !== undefined) turn.taint(outcome.label);
    const { cancelled } = outcome;
    hooked.push({
      call: outcome.args === undefined
        ? call
        : { ...call, args: outcome.args as ToolCallPart["args"] },
      notes: notesText(outcome),
      ...cancelled === undefined ? {} : {
        refused: `the plugin "${cancelled.by}" stopped it: ${cancelled.reason}`,
      },
    });
  }
  return hooked;
}

/** A result as the hooks leave it. */
export async function hookResult(
  turn: Turn,
  result: ToolResultPart,
  { notes, signal }: { notes: string; signal: AbortSignal },
): Promise<ToolResultPart> {
  if (!turn.deps.hooks?.has("after_tool_call")) {
    return notes === "" ? result : { ...result, text: result.text + notes };
  }
  const { text, label, name } = result;
  const outcome = await run(
    turn,
    { point: "after_tool_call", label, text, tool: { name } },
    signal,
  );
  return {
    ...result,
    text: `${outcome.text ?? text}${notes}${notesText(outcome)}`,
    label: lower(label, outcome),
  };
}

/** Whether words must wait for a hook before anybody sees them. */
export function holdsReply({ hooks }: Pick<AgentDeps, "hooks">): boolean {
  return hooks?.holds("before_reply") ?? false;
}

/**
 * A reply as the hooks leave it; shown only now where one may change it.
 *
 * @param filter of untrusted words: what a hook wrote passes it too
 */
export async function* hookReply(
  turn: Turn,
  end: LoopEnd,
  { signal, filter }: { signal: AbortSignal; filter(): TextFilter },
): AsyncGenerator<TurnEventBody, LoopEnd> {
  if (end.reply === "" || !turn.deps.hooks?.has("before_reply")) return end;
  const held = holdsReply(turn.deps);
  const outcome = await run(
    turn,
    { point: "before_reply", label: turn.joined, text: end.reply },
    signal,
  );
  if (outcome.cancelled !== undefined) {
    return stopped("reply", outcome.cancelled);
  }
  const words = outcome.text === undefined ? undefined : filter();
  const reply = words === undefined
    ? end.reply
    : words.push(outcome.text ?? "") + words.end();
  if (held) yield { kind: "text", text: reply };
  return { ...end, reply };
}
