/**
 * A step's tool calls: each is checked, decided, perhaps asked about, run
 * within limits, and its result labelled.
 *
 * Never: a tool runs that `decide` did not allow for exactly these arguments.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError, errorText, isAbort } from "../core/errors.ts";
import type { Label } from "../core/label.ts";
import type { Part, ToolCallPart, ToolResultPart } from "../core/message.ts";
import { limitSignal } from "../core/time.ts";
import type { Tool, ToolOutput } from "../core/tool.ts";
import type { TurnEventBody } from "../core/turn.ts";
import { type Decision, effectiveEffect } from "../guard/decide.ts";
import { isHidden } from "../guard/policy.ts";
import { toolFacts } from "../guard/rules.ts";
import { screen } from "../guard/screen/screen.ts";
import type { Registry } from "../tools/registry.ts";
import type { AgentSettings } from "./deps.ts";
import { hookCalls, hookResult } from "./hooking.ts";
import {
  decisionRow,
  judge,
  type Judged,
  questionOf,
  resultLabel,
} from "./judging.ts";
import type { Running, Turn } from "./turn.ts";

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
    !isHidden(settings.rules.policy, {
      tool: tool.name,
      effect: effectiveEffect(toolFacts(tool, settings.rules.effects)),
      agent: agentId,
      channel,
      sender: authority.principal,
    })
  );
}

/** The tools this turn's model is shown. */
export function shownTools(turn: Turn): Tool[] {
  const { authority, run: { agentId }, channel } = turn;
  // What was taken away since the turn began is away at its next call.
  const { toolsDenied, agents } = turn.deps.settings();
  const settings = { ...turn.settings, toolsDenied, agents };
  return toolsFor(turn.deps.tools, { settings, agentId, authority, channel });
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
  options: Pick<ToolResultPart, "isError" | "label" | "adds">,
): ToolResultPart {
  return {
    kind: "tool_result",
    callId: call.id,
    name: call.name,
    text,
    ...options,
  };
}

/** Reads untrusted text for orders: marks and counts, decides nothing. */
async function look(
  { turn, deadline }: Running,
  result: ToolResultPart,
): Promise<void> {
  const { guard, log } = turn.deps;
  if (result.label.integrity !== "untrusted" || !turn.settings.rules.screen) {
    return;
  }
  const found = [...screen(result.text)];
  const said = await guard.classifier?.classify(result.text, deadline.signal);
  if (said === "orders") found.push("classifier");
  if (found.length === 0) return;
  guard.meter.add("screened");
  log("warn", "guard.screened", {
    runId: turn.run.id,
    tool: result.name,
    found,
  });
  turn.note(guard.audit.row({
    event: "guard.screened",
    fields: { runId: turn.run.id, callId: result.callId.slice(0, 128), found },
  }));
}

/** Runs an allowed call. Its failure is a result; only the turn's end throws. */
async function runTool(
  running: Running,
  judged: Judged & { tool: Tool },
): Promise<ToolResultPart> {
  const { turn, deadline, seat } = running;
  const { call, tool, input } = judged;
  const { limits } = turn.settings;
  using limit = limitSignal(
    deadline.signal,
    tool.waits === true
      ? tool.limitMs ?? limits.toolMs
      : Math.min(limits.toolMs, tool.limitMs ?? limits.toolMs),
  );
  let output: ToolOutput;
  const stopped = Promise.withResolvers<never>();
  stopped.promise.catch(() => {});
  const onAbort = () => stopped.reject(limit.signal.reason);
  limit.signal.addEventListener("abort", onAbort, { once: true });
  try {
    limit.signal.throwIfAborted();
    const run = () =>
      Promise.race([
        tool.run(input, {
          runId: turn.run.id,
          sessionKey: turn.session.key,
          agentId: turn.run.agentId,
          authority: turn.authority,
          label: turn.joined,
          signal: limit.signal,
          plan: judged.plan?.binding,
          now: () => turn.deps.clock.now(),
          tools: () => shownTools(turn),
        }),
        stopped.promise,
      ]);
    const ran = await (tool.waits === true ? seat.away(run) : run());
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
  const { text, found } = turn.deps.guard.secrets().redact(output.text);
  if (found > 0) turn.deps.guard.meter.add("redacted", found);
  const labels = resultLabel(turn, { ...judged, tool }, output);
  const shown = await turn.deps.outputs?.keep({
    text,
    sessionKey: turn.session.key,
    tool: tool.name,
    label: labels.label,
    bytesMax: limits.toolOutputBytesMax,
    now: turn.deps.clock.now(),
  }) ?? cut(text, limits.toolOutputBytesMax);
  const isError = output.isError ?? false;
  const result = toResult(call, shown, { isError, ...labels });
  await look(running, result);
  return result;
}

/** Stores an ask, shows it, waits without holding a slot; whether to go on. */
async function* askOwner(
  running: Running,
  judged: Judged,
): AsyncGenerator<TurnEventBody, Decision> {
  const { turn, deadline, seat } = running;
  const { approvals } = turn.deps;
  const { call, decision } = judged;
  try {
    judged.plan = await judged.tool?.plan?.(judged.input, deadline.signal);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { verdict: "deny", rule: "plan", reason: errorText(error) };
  }
  // After a restart the ask is there already; it must be about the same call.
  const question = await questionOf(turn, judged);
  const { row, rows } = await approvals.findOrMake(
    turn.run.approvalId,
    question,
  );
  await turn.save({ state: "waiting_approval", approvalId: row.id }, rows);
  yield {
    kind: "ask",
    approvalId: row.id,
    callId: call.id,
    name: call.name,
    args: call.args,
    question: decision.reason,
    answers: row.answers,
    card: row.card,
    expiresAt: row.expiresAt,
  };
  deadline.pause();
  const settled = await seat.away(() => approvals.wait(row, deadline.signal));
  deadline.resume();
  turn.forgetApproval();
  if (settled !== "allowed") {
    await turn.save({ state: "running" });
    const why = settled === "expired"
      ? "nobody answered in time"
      : settled === "superseded"
      ? "a new message came instead of an answer, which counts as no"
      : "the owner said no";
    const rule = settled === "denied" ? "approval" : settled;
    return { verdict: "deny", rule, reason: why };
  }
  try {
    // Used up before the effect, for exactly the call as it is now.
    const asked = judged.plan?.binding;
    judged.plan = await judged.tool?.plan?.(judged.input, deadline.signal);
    if (judged.plan?.binding !== asked) {
      throw new AppError(
        "conflict",
        "What would run now is not what the owner was asked about",
      );
    }
    const used = await approvals.use(row.id, await questionOf(turn, judged));
    await turn.save({ state: "running" }, used);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    await turn.save({ state: "running" });
    return { verdict: "deny", rule: "approval", reason: errorText(error) };
  }
  return { verdict: "allow", rule: "approval", reason: "the owner said yes" };
}

/** Asks whether a reply may reach its readers. */
export async function* askReply(
  running: Running,
  text: string,
  decision: Decision,
): AsyncGenerator<TurnEventBody, Decision> {
  const { turn } = running;
  const call: ToolCallPart = {
    kind: "tool_call",
    id: `reply_${turn.session.seq}`,
    name: "reply",
    args: { text },
    label: turn.joined,
  };
  const judged: Judged = {
    call,
    tool: undefined,
    facts: undefined,
    input: undefined,
    decision,
    read: [],
  };
  turn.note(await decisionRow(turn, judged));
  const settled = yield* askOwner(running, judged);
  turn.note(await decisionRow(turn, { ...judged, decision: settled }));
  yield decided({ ...judged, decision: settled });
  return settled;
}

function isEffectFree({ facts, decision, tool }: Judged): boolean {
  if (tool?.waits === true) return false; // a place is given back by one only
  return facts === undefined ||
    decision.verdict === "allow" &&
      ["none", "read_private", "fetch"].includes(effectiveEffect(facts));
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
  const remembered = await turn.deps.approvals.remembered();
  const { signal } = running.deadline;
  const hooked = await hookCalls(turn, calls, signal);
  const judged = hooked.map(({ call, refused }) =>
    refused === undefined
      ? judge(turn, call, { shown, remembered })
      : stoppedByHook(call, refused)
  );
  for (const one of judged) {
    turn.note(await decisionRow(turn, one));
    yield decided(one);
  }
  const results: ToolResultPart[] = [];
  if (judged.every(isEffectFree)) {
    // What leaves this machine is told of before it leaves.
    if (judged.some(leaves)) await turn.save({ state: "running" });
    results.push(
      ...await Promise.all(judged.map((one) => finish(running, one))),
    );
  } else {
    for (const one of judged) results.push(yield* runAlone(running, one));
  }
  for (const [n, result] of results.entries()) {
    const notes = hooked[n]?.notes ?? "";
    results[n] = await hookResult(turn, result, { notes, signal });
  }
  for (const result of results) {
    const { callId, name, text, isError } = result;
    yield { kind: "tool_result", callId, name, text, isError };
  }
  return results;
}

/** A call that a hook does not let through is never judged. */
function stoppedByHook(call: ToolCallPart, reason: string): Judged {
  return {
    call,
    tool: undefined,
    facts: undefined,
    input: undefined,
    decision: { verdict: "deny", rule: "hook", reason },
    read: [],
  };
}

function leaves({ facts, decision }: Judged): boolean {
  return facts !== undefined && decision.verdict === "allow" &&
    effectiveEffect(facts) === "fetch";
}

/** One call of several: asked about if need be, stored before it acts. */
async function* runAlone(
  running: Running,
  one: Judged,
): AsyncGenerator<TurnEventBody, ToolResultPart> {
  const { turn } = running;
  if (one.decision.verdict === "ask") {
    one.decision = yield* askOwner(running, one);
    turn.note(await decisionRow(turn, one));
    yield decided(one);
    const isAllowed = one.decision.verdict === "allow";
    if (isAllowed && one.facts !== undefined && leaves(one)) turn.fetches++;
  }
  const { call, facts, decision } = one;
  if (decision.verdict === "allow" && facts !== undefined) {
    const effect = effectiveEffect(facts);
    await turn.save(
      isEffectFree(one)
        ? { state: "running" }
        : { inFlight: [{ callId: call.id, name: call.name, effect }] },
    );
  }
  return await finish(running, one);
}

/** A judged call's result: what the tool said, or why it did not run. */
async function finish(
  running: Running,
  judged: Judged,
): Promise<ToolResultPart> {
  const { call, tool, decision } = judged;
  if (decision.verdict === "allow" && tool !== undefined) {
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
