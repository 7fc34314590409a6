/**
 * A step's tool calls: each is checked, decided, perhaps asked about, run
 * within limits, and its result labelled.
 *
 * Never: a tool runs that `decide` did not allow for exactly these arguments.
 *
 * @module
 */
import { z } from "zod";
import { AppError, errorText, isAbort } from "../core/errors.ts";
import { join, type Label } from "../core/label.ts";
import type { Authority } from "../core/authority.ts";
import type {
  Message,
  Part,
  ToolCallPart,
  ToolResultPart,
} from "../core/message.ts";
import { limitSignal } from "../core/time.ts";
import type { Tool, ToolOutput } from "../core/tool.ts";
import type { TurnEventBody } from "../core/turn.ts";
import { decide, type Decision, effectiveEffect } from "../guard/decide.ts";
import { contextFacts } from "../guard/facts.ts";
import { isHidden } from "../guard/policy.ts";
import type { Registry } from "../tools/registry.ts";
import { summaryMessages } from "./context.ts";
import type { AgentSettings } from "./deps.ts";
import { sectionMessages } from "./sections.ts";
import type { Running, Turn } from "./turn.ts";

/** A call that was judged. */
interface Judged {
  call: ToolCallPart;
  tool: Tool | undefined;
  input: unknown;
  decision: Decision;
}

/** Who would use tools, where. */
export interface ToolUser {
  settings: AgentSettings;
  agentId: string;
  authority: Authority;
  channel: string;
}

/** The tools a model is shown for somebody. */
export function toolsFor(registry: Registry, user: ToolUser): Tool[] {
  const { settings, agentId, authority, channel } = user;
  const agent = settings.agents[agentId] ?? settings.agents.main;
  return registry.list((tool) =>
    authority.scopes.has(tool.scope) && authority.allowsTool(tool.name) &&
    (agent.tools === "any" || agent.tools.includes(tool.name)) &&
    !settings.toolsDenied.includes(tool.name) &&
    !isHidden(settings.policy, {
      tool: tool.name,
      agent: agentId,
      channel,
      sender: authority.principal,
    })
  );
}

/** The tools this turn's model is shown. */
export function shownTools(turn: Turn): Tool[] {
  const { settings, authority, run: { agentId }, channel } = turn;
  return toolsFor(turn.deps.tools, { settings, agentId, authority, channel });
}

/**
 * What the model has read beside the history. It blesses no place: nobody typed
 * it in this conversation, so it does not stand in the user's role here.
 */
function besideHistory(turn: Turn): Message[] {
  const shown = [
    ...sectionMessages(turn.sections),
    ...summaryMessages(turn.summary),
  ];
  return shown.map(({ parts }) => ({ role: "tool", parts }));
}

function refuse(call: ToolCallPart, rule: string, reason: string): Judged {
  return {
    call,
    tool: undefined,
    input: undefined,
    decision: { verdict: "deny", rule, reason },
  };
}

/** Finds the tool, parses the arguments, and decides. */
function judge(turn: Turn, call: ToolCallPart, shown: readonly Tool[]): Judged {
  if (call.malformed !== undefined) {
    return refuse(
      call,
      "arguments",
      `The arguments are not JSON: ${call.malformed}`,
    );
  }
  const tool = shown.find((t) => t.name === call.name);
  if (tool === undefined) {
    const names = shown.map((t) => t.name).join(", ");
    return refuse(
      call,
      "unknown",
      `There is no tool "${call.name}" here; there are: ${names || "none"}`,
    );
  }
  const parsed = tool.input.safeParse(call.args);
  if (!parsed.success) {
    return refuse(
      call,
      "arguments",
      `The arguments do not fit: ${z.prettifyError(parsed.error)}`,
    );
  }
  const { authority, run, settings } = turn;
  const decision = decide({
    call: { tool, args: call.args },
    context: contextFacts([...besideHistory(turn), ...turn.history], {
      joined: turn.joined,
      agent: run.agentId,
      channel: turn.channel,
      integrity: authority.kind === "peer" ? "peer" : "owner",
      fetches: turn.fetches,
    }),
    authority,
    attended: run.attended,
    replyTo: turn.replyTo,
    trusted: settings.trusted,
    audienceOf: () => "world",
    grants: [],
    policy: settings.policy,
  });
  return { call, tool, input: parsed.data, decision };
}

function resultLabel(turn: Turn, tool: Tool, output: ToolOutput): Label {
  const at = turn.deps.clock.now();
  const inherited = turn.joined;
  const own: Label = {
    integrity: tool.result.integrity === "inherit"
      ? inherited.integrity
      : tool.result.integrity,
    secrecy: tool.result.secrecy === "private"
      ? [...new Set([...inherited.secrecy, turn.authority.principal])].sort()
      : inherited.secrecy,
    origins: [{ kind: "tool", ref: tool.name, at }],
  };
  return output.label === undefined ? own : join(own, output.label);
}

function cut(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax) return text;
  const bytes = new TextEncoder().encode(text);
  if (bytes.byteLength <= bytesMax) return text;
  const kept = new TextDecoder().decode(bytes.subarray(0, bytesMax));
  return `${
    kept.replace(/\uFFFD$/, "")
  }\n[cut: ${bytes.byteLength} bytes, ${bytesMax} shown]`;
}

function toResult(
  call: ToolCallPart,
  text: string,
  options: { isError: boolean; label: Label },
): ToolResultPart {
  return {
    kind: "tool_result",
    callId: call.id,
    name: call.name,
    text,
    ...options,
  };
}

/** Runs an allowed call. Its failure is a result; only the turn's end throws. */
async function runTool(
  running: Running,
  { call, tool, input }: Judged & { tool: Tool },
): Promise<ToolResultPart> {
  const { turn, deadline } = running;
  const { limits } = turn.settings;
  using limit = limitSignal(
    deadline.signal,
    Math.min(limits.toolMs, tool.limitMs ?? limits.toolMs),
  );
  let output: ToolOutput;
  const stopped = Promise.withResolvers<never>();
  stopped.promise.catch(() => {});
  const onAbort = () => stopped.reject(limit.signal.reason);
  limit.signal.addEventListener("abort", onAbort, { once: true });
  try {
    limit.signal.throwIfAborted();
    const ran = await Promise.race([
      tool.run(input, {
        runId: turn.run.id,
        sessionKey: turn.session.key,
        agentId: turn.run.agentId,
        authority: turn.authority,
        label: turn.joined,
        signal: limit.signal,
        now: () => turn.deps.clock.now(),
        tools: () => shownTools(turn),
      }),
      stopped.promise,
    ]);
    output = typeof ran === "string" ? { text: ran } : ran;
  } catch (error) {
    deadline.signal.throwIfAborted();
    const hint = error instanceof AppError && error.hint !== undefined
      ? ` (${error.hint})`
      : "";
    if (!(error instanceof AppError) && !isAbort(error)) {
      turn.deps.log("warn", "tool.failed", {
        tool: tool.name,
        runId: turn.run.id,
        error: errorText(error),
      });
    }
    output = { text: `Failed: ${errorText(error)}${hint}`, isError: true };
  } finally {
    limit.signal.removeEventListener("abort", onAbort);
  }
  return toResult(call, cut(output.text, limits.toolOutputBytesMax), {
    isError: output.isError ?? false,
    label: resultLabel(turn, tool, output),
  });
}

/** Stores the ask, shows it, waits without holding a slot; whether to go on. */
async function* askOwner(
  running: Running,
  { call, decision }: Judged,
): AsyncGenerator<TurnEventBody, Decision> {
  const { turn, deadline, seat } = running;
  const { approvals } = turn.deps;
  // After a restart the ask is there already; it must be about the same call.
  const { row, rows } = await approvals.findOrMake(turn.run.approvalId, {
    runId: turn.run.id,
    sessionKey: turn.session.key,
    callId: call.id,
    tool: call.name,
    args: call.args,
    label: turn.joined,
    question: decision.reason,
    limitMs: turn.settings.limits.approvalMs,
  });
  await turn.save({ state: "waiting_approval", approvalId: row.id }, rows);
  yield {
    kind: "ask",
    approvalId: row.id,
    callId: call.id,
    name: call.name,
    args: call.args,
    question: decision.reason,
    expiresAt: row.expiresAt,
  };
  deadline.pause();
  const settled = await seat.away(() => approvals.wait(row, deadline.signal));
  deadline.resume();
  turn.forgetApproval();
  await turn.save({ state: "running" });
  if (settled === "allowed") {
    return { verdict: "allow", rule: "approval", reason: "the owner said yes" };
  }
  const why = settled === "expired"
    ? "nobody answered in time"
    : settled === "superseded"
    ? "a new message came instead of an answer, which counts as no"
    : "the owner said no";
  return { verdict: "deny", rule: "approval", reason: why };
}

function isEffectFree(judged: Judged): boolean {
  return judged.tool === undefined ||
    judged.decision.verdict === "allow" &&
      ["none", "read_private", "fetch"].includes(
        effectiveEffect(judged.tool),
      );
}

function decided({ call, decision }: Judged): TurnEventBody {
  return {
    kind: "decision",
    callId: call.id,
    name: call.name,
    verdict: decision.verdict,
    reason: decision.reason,
  };
}

/** Runs a step's calls: together when none has an effect, else one by one. */
export async function* runCalls(
  running: Running,
  calls: readonly ToolCallPart[],
): AsyncGenerator<TurnEventBody, ToolResultPart[]> {
  const { turn } = running;
  const shown = shownTools(turn);
  const judged = calls.map((call) => judge(turn, call, shown));
  for (const one of judged) yield decided(one);
  const results: ToolResultPart[] = [];
  if (judged.every(isEffectFree)) {
    results.push(
      ...await Promise.all(judged.map((one) => finish(running, one))),
    );
  } else {
    for (const one of judged) {
      if (one.decision.verdict === "ask") {
        one.decision = yield* askOwner(running, one);
        yield decided(one);
      }
      if (!isEffectFree(one) && one.tool !== undefined) {
        await turn.save({
          inFlight: [{
            callId: one.call.id,
            name: one.call.name,
            effect: effectiveEffect(one.tool),
          }],
        });
      }
      results.push(await finish(running, one));
    }
  }
  for (const result of results) {
    const { callId, name, text, isError } = result;
    yield { kind: "tool_result", callId, name, text, isError };
  }
  return results;
}

/** A judged call's result: what the tool said, or why it did not run. */
async function finish(
  running: Running,
  judged: Judged,
): Promise<ToolResultPart> {
  const { call, tool, decision } = judged;
  if (decision.verdict === "allow" && tool !== undefined) {
    if (effectiveEffect(tool) === "fetch") running.turn.fetches++;
    return await runTool(running, { ...judged, tool });
  }
  const isUnfit = decision.rule === "arguments" || decision.rule === "unknown";
  const text = isUnfit
    ? decision.reason
    : `Not allowed: ${decision.reason}. Do not try another way; say so instead`;
  return toResult(call, text, { isError: true, label: running.turn.joined });
}

/** Results for calls that a crash or a stop left open, so that history is whole. */
export function abandonedResults(
  calls: readonly ToolCallPart[],
  options: { text: string; label: Label },
): Part[] {
  return calls.map((call) =>
    toResult(call, options.text, { isError: true, label: options.label })
  );
}
