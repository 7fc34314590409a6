/**
 * A call before it runs: what the guard is told of it, what it decided, the row
 * that says so, and the question the owner is asked.
 *
 * Never: a call runs whose decision is in no row.
 *
 * @module
 */
import { z } from "zod";
import { sha256Hex } from "../core/ids.ts";
import { join, type Label } from "../core/label.ts";
import type { Message, ToolCallPart } from "../core/message.ts";
import { SCHEDULE_CHANNEL } from "../core/schedule.ts";
import type { CallPlan, Tool, ToolOutput } from "../core/tool.ts";
import type { Question } from "../guard/approvals.ts";
import { buildCard } from "../guard/card.ts";
import {
  type ContextFacts,
  decide,
  type Decision,
  type DecisionInput,
  effectiveEffect,
  type ToolFacts,
} from "../guard/decide.ts";
import { contextFacts } from "../guard/facts.ts";
import { effectLine, namesTool } from "../guard/policy.ts";
import { type Remembered, sourcesOf } from "../guard/remembered.ts";
import { rulesHash, toolFacts } from "../guard/rules.ts";
import { visible } from "../guard/screen/normalise.ts";
import type { Row } from "../store/journal.ts";
import { summaryMessages } from "./context/context.ts";
import { sectionMessages } from "./context/sections.ts";
import type { Turn } from "./turn.ts";

/** A call that was judged. */
export interface Judged {
  call: ToolCallPart;
  tool: Tool | undefined;
  facts: ToolFacts | undefined;
  input: unknown;
  decision: Decision;
  /** Whose private data had been read when it was judged. */
  read: readonly string[];
  /** What it would do, where its tool says so and the owner is asked. */
  plan?: CallPlan | undefined;
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

/** Everything the model is shown, oldest first. */
function shownMessages(turn: Turn): Message[] {
  return [...besideHistory(turn), ...turn.history];
}

/** What a decision needs to know of this turn's conversation. */
export function factsOf(turn: Turn): ContextFacts {
  const { authority, run, session } = turn;
  const isOwnTalk = authority.kind === "peer" && session.kind !== "group" &&
    session.owner === authority.principal;
  return contextFacts(shownMessages(turn), {
    joined: turn.joined,
    agent: run.agentId,
    channel: turn.channel,
    sessionKey: session.key,
    sessionId: session.id,
    blesses: isOwnTalk ? "peer" : "owner",
    fetches: turn.fetches,
    scratch: turn.deps.guard.scratchOf?.(run.agentId),
  });
}

/** The whole of what a decision rests on. */
function decisionInput(
  turn: Turn,
  call: { tool: ToolFacts; args: unknown },
  remembered: readonly Remembered[],
): DecisionInput {
  const { authority, run, session, settings: { rules }, replyTo } = turn;
  return {
    call,
    context: factsOf(turn),
    authority,
    attended: run.attended,
    replyTo,
    trusted: rules.trusted,
    audienceOf: ({ value }) =>
      value === replyTo && session.kind !== "group"
        ? [session.owner, "owner"]
        : "world",
    grants: run.inbound.channel === SCHEDULE_CHANNEL
      ? [...rules.grants, ...turn.deps.grantsOf?.(run.inbound.id) ?? []]
      : rules.grants,
    policy: rules.policy,
    remembered,
    fetchKnownOnly: rules.fetchKnownOnly,
  };
}

function refuse(call: ToolCallPart, rule: string, reason: string): Judged {
  return {
    call,
    tool: undefined,
    facts: undefined,
    input: undefined,
    decision: { verdict: "deny", rule, reason },
    read: [],
  };
}

/** Finds the tool, parses the arguments, and decides. */
export function judge(
  turn: Turn,
  call: ToolCallPart,
  options: { shown: readonly Tool[]; remembered: readonly Remembered[] },
): Judged {
  const { shown, remembered } = options;
  if (call.malformed !== undefined) {
    const why = `The arguments are not JSON: ${call.malformed}`;
    return refuse(call, "arguments", why);
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
    const why = z.prettifyError(parsed.error);
    return refuse(call, "arguments", `The arguments do not fit: ${why}`);
  }
  if (turn.deps.guard.secrets().holds(JSON.stringify(call.args) ?? "")) {
    const why = "its arguments hold a secret of this program";
    return refuse(call, "leak", why);
  }
  const facts = toolFacts(tool, turn.settings.rules.effects);
  const input = decisionInput(
    turn,
    { tool: facts, args: call.args },
    remembered,
  );
  const decision = decide(input);
  // Counted here, so that a step full of fetches is not judged as one.
  if (decision.verdict === "allow" && effectiveEffect(facts) === "fetch") {
    turn.fetches++;
  }
  return {
    call,
    tool,
    facts,
    input: parsed.data,
    decision,
    read: input.context.read,
  };
}

/** The row that tells of a decision: ids and hashes, no content. */
export async function decisionRow(
  turn: Turn,
  { call, facts, decision }: Judged,
): Promise<Row> {
  const { run, authority, joined, deps } = turn;
  deps.guard.meter.decided(decision);
  return deps.guard.audit.row({
    event: `tool.${decision.verdict}`,
    fields: {
      runId: run.id,
      callId: call.id.slice(0, 128),
      tool: call.name.slice(0, 256),
      args: await sha256Hex(JSON.stringify(call.args) ?? ""),
      effect: facts === undefined ? null : effectiveEffect(facts),
      rule: decision.rule,
      principal: authority.principal,
      integrity: joined.integrity,
      attended: run.attended,
    },
  });
}

/** What the owner is asked about a call. */
export async function questionOf(
  turn: Turn,
  { call, tool, facts, decision, plan }: Judged,
): Promise<Question> {
  const { run, session, settings, joined, authority } = turn;
  const { places } = decision;
  return {
    runId: run.id,
    sessionKey: session.key,
    callId: call.id,
    tool: call.name,
    args: call.args,
    label: joined,
    policy: `${await rulesHash(settings.rules)}\n${tool?.binding ?? ""}${
      plan === undefined ? "" : `\n${plan.binding}`
    }`,
    question: decision.reason,
    card: [
      ...buildCard({
        tool: call.name,
        effect: facts === undefined ? "message" : effectiveEffect(facts),
        args: call.args,
        decision,
        messages: shownMessages(turn),
      }),
      ...(plan?.card ?? []).map(visible),
    ],
    limitMs: settings.limits.approvalMs,
    ...(places === undefined || places.length > 64 ? {} : {
      scope: {
        agent: run.agentId,
        principal: authority.principal,
        sessionId: session.id,
        places: [...new Set(places.map(({ value }) => value.slice(0, 4096)))],
        secrecy: [...joined.secrecy],
        sources: sourcesOf(joined).slice(0, 64),
      },
    }),
  };
}

/** Whose private data a tool reads: a paired sender's own, or the owner's. */
function ownerOfResult({ authority }: Turn, tool: Tool): string {
  const isOwn = tool.reach === "own" ||
    tool.reach === undefined && namesTool("group:memory", tool.name);
  return authority.kind === "peer" && !isOwn ? "owner" : authority.principal;
}

/**
 * What a server's or guest's own say counts for beside the owner's line: a line
 * that its results inherit speaks of just that tool, so it is the last word.
 */
function ownersWord(
  tool: Tool,
  line: "inherit" | "untrusted" | undefined,
  said: Label,
): Label {
  return line === "inherit" && tool.implied !== undefined
    ? { ...said, integrity: "owner" }
    : said;
}

/** The label of a result, and whose private data the tool itself read. */
export function resultLabel(
  turn: Turn,
  judged: Judged & { tool: Tool },
  output: ToolOutput,
): { label: Label; adds: readonly string[] } {
  const { tool, facts, read } = judged;
  const line = effectLine(turn.settings.rules.effects, tool.name)?.result;
  const stated = line?.integrity ??
    (tool.implied === undefined ? tool.result.integrity : "untrusted");
  const secrecy = line?.secrecy ?? tool.result.secrecy;
  const inherited = turn.joined;
  const whose = ownerOfResult(turn, tool);
  const own: Label = {
    integrity: stated === "inherit" ? inherited.integrity : stated,
    secrecy: secrecy === "private"
      ? [...new Set([...inherited.secrecy, whose])].sort()
      : inherited.secrecy,
    origins: [{ kind: "tool", ref: tool.name, at: turn.deps.clock.now() }],
  };
  // A fetch was let through because it carries nothing private, so what comes
  // back is made of nothing private either.
  const isFetch = facts !== undefined && effectiveEffect(facts) === "fetch";
  const adds = new Set(isFetch ? [] : read);
  if (secrecy === "private") adds.add(whose);
  for (const principal of output.label?.secrecy ?? []) adds.add(principal);
  return {
    label: output.label === undefined
      ? own
      : join(own, ownersWord(tool, line?.integrity, output.label)),
    adds: [...adds].sort().slice(0, 64),
  };
}
