/**
 * What an owner asks of the guard: what waits, what is remembered, what would
 * be decided and why, what a recorded conversation would be under other rules.
 *
 * Never: an answer from anybody but an owner; a call is run by being explained.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { z } from "zod";
import type {
  ApprovalsFile,
  GUARD_METHODS,
  PendingApproval,
  RememberedLine,
} from "../core/methods/guard.ts";
import { sha256Hex } from "../core/ids.ts";
import { joinAll, type Label } from "../core/label.ts";
import type { Message, StoredMessage } from "../core/message.ts";
import type { Answer } from "../guard/approvals.ts";
import { GuardConfig } from "../guard/config.ts";
import {
  decide,
  type DecisionInput,
  effectiveEffect,
  explain,
} from "../guard/decide.ts";
import { contextFacts } from "../guard/facts.ts";
import { type GuardRules, toolFacts, toRules } from "../guard/rules.ts";
import type { Session } from "../store/sessions.ts";
import { summaryMessages } from "./context/context.ts";
import type { AgentDeps } from "./deps.ts";

type Output<M extends keyof typeof GUARD_METHODS> = z.infer<
  (typeof GUARD_METHODS)[M]["output"]
>;
type Explained = Output<"policy.explain">;
type ApprovalsSnapshot = Output<"exec.approvals.get">;
type Replayed = Output<"policy.replay">["calls"][number];

/** Messages of a session that are read. */
const MESSAGES_MAX = 5_000;

/** The scope `approvals` is not enough: it takes an owner. */
function checkOwner(authority: Authority): void {
  if (authority.kind === "owner" && authority.scopes.has("approvals")) return;
  throw new AppError("forbidden", "Only the owner answers what is asked", {
    hint: "Use an owner's credential with the scope approvals",
  });
}

/** The desk. */
export class GuardDesk {
  readonly #deps: Pick<
    AgentDeps,
    "store" | "tools" | "approvals" | "settings" | "guard"
  >;

  constructor(
    deps: Pick<
      AgentDeps,
      "store" | "tools" | "approvals" | "settings" | "guard"
    >,
  ) {
    this.#deps = deps;
  }

  async pending(authority: Authority): Promise<PendingApproval[]> {
    checkOwner(authority);
    return (await this.#deps.approvals.pending())
      .map(({ label: _, state: __, scope: ___, ...row }) => row);
  }

  /** @throws {AppError} `forbidden`, `not_found`, `conflict`, `bad_input` */
  async answer(
    authority: Authority,
    answer: { id: string; decision: Answer; hash?: string | undefined },
  ): Promise<void> {
    checkOwner(authority);
    const { id, decision, hash } = answer;
    await this.#deps.approvals.answer(id, decision, {
      by: authority.principal,
      ...(hash === undefined ? {} : { hash }),
    });
  }

  async lines(authority: Authority): Promise<RememberedLine[]> {
    checkOwner(authority);
    return (await this.#deps.approvals.lines()).map((line) => ({
      ...line,
      for: line.sessionId === undefined ? "always" : "session",
    }));
  }

  /** @throws {AppError} `forbidden`, `not_found` */
  async revoke(authority: Authority, id: string): Promise<void> {
    checkOwner(authority);
    await this.#deps.approvals.revoke(id, authority.principal);
  }

  /** The remembered answers as the field's clients know them. */
  async approvalsFile(authority: Authority): Promise<ApprovalsSnapshot> {
    const lines = await this.lines(authority);
    const agents: ApprovalsFile["agents"] = {};
    for (const { id, agent, tool, places, createdAt } of lines) {
      const pattern = `${tool} ${places.join(", ")}`;
      (agents[agent] ??= { allowlist: [] }).allowlist.push({
        id,
        pattern,
        lastUsedAt: createdAt,
      });
    }
    const file: ApprovalsFile = {
      version: 1,
      defaults: {
        security: "allowlist",
        ask: "on-miss",
        askFallback: "deny",
        autoAllowSkills: false,
      },
      agents,
    };
    const hash = await sha256Hex(JSON.stringify(agents));
    return { path: "policy.list", exists: lines.length > 0, hash, file };
  }

  /**
   * Forgets every remembered answer that is not named. None is added: answers
   * come from asks and from nowhere else.
   *
   * @throws {AppError} `conflict` when it is another list than was looked at,
   * `bad_input` for an entry that nobody ever answered
   */
  async keepOnly(
    authority: Authority,
    asked: { ids: ReadonlySet<string>; baseHash: string | undefined },
  ): Promise<ApprovalsSnapshot> {
    const { ids, baseHash } = asked;
    const now = await this.approvalsFile(authority);
    if (baseHash !== undefined && baseHash !== now.hash) {
      throw new AppError(
        "conflict",
        "Cannot set the approvals: they changed since they were read",
        { hint: "Read them again with exec.approvals.get" },
      );
    }
    const lines = await this.lines(authority);
    const known = new Set(lines.map(({ id }) => id));
    if ([...ids].some((id) => !known.has(id))) {
      throw new AppError(
        "bad_input",
        "Cannot add an approval: only answering an ask with allow-always does",
        { hint: "A policy line of the configuration allows without asking" },
      );
    }
    for (const { id } of lines) {
      if (!ids.has(id)) await this.revoke(authority, id);
    }
    return await this.approvalsFile(authority);
  }

  async #past(
    key: string,
  ): Promise<
    { session: Session; before: Message[]; history: StoredMessage[] }
  > {
    const { store } = this.#deps;
    const session = await store.sessions.find(key);
    if (session === undefined) {
      throw new AppError("not_found", `There is no session "${key}"`);
    }
    const { id, compactedSeq } = session;
    const summary = compactedSeq === undefined
      ? undefined
      : await store.summaries.latest(id, compactedSeq);
    const history = await store.messages.tail(id, {
      limit: MESSAGES_MAX,
      afterSeq: summary?.throughSeq ?? 0,
    });
    const before = summaryMessages(summary)
      .map(({ parts }): Message => ({ role: "tool", parts }));
    return { session, before, history };
  }

  #input(
    call: { tool: string; args: unknown },
    at: {
      session: Session;
      messages: readonly Message[];
      joined: Label;
      authority: Authority;
      attended: boolean;
      rules: GuardRules;
      fetches: number;
    },
  ): DecisionInput {
    const tool = this.#deps.tools.find(call.tool);
    if (tool === undefined) {
      throw new AppError("not_found", `There is no tool "${call.tool}"`);
    }
    const { session, messages, joined, authority, rules, fetches } = at;
    return {
      call: { tool: toolFacts(tool, rules.effects), args: call.args },
      context: contextFacts(messages, {
        joined,
        agent: session.agentId,
        channel: session.channel ?? "ws",
        sessionKey: session.key,
        sessionId: session.id,
        blesses: "owner",
        fetches,
        scratch: this.#deps.guard.scratchOf?.(session.agentId),
      }),
      authority,
      attended: at.attended,
      replyTo: undefined,
      trusted: rules.trusted,
      audienceOf: () => "world",
      grants: rules.grants,
      policy: rules.policy,
      remembered: [],
      fetchKnownOnly: rules.fetchKnownOnly,
    };
  }

  /** What would be decided of a call, and what each rule says. */
  async explain(
    authority: Authority,
    call: {
      tool: string;
      args?: unknown;
      sessionKey: string;
      attended?: boolean | undefined;
    },
  ): Promise<Explained> {
    const { session, before, history } = await this.#past(call.sessionKey);
    const input = this.#input({ tool: call.tool, args: call.args ?? {} }, {
      session,
      messages: [...before, ...history],
      joined: session.joined,
      authority,
      attended: call.attended ?? true,
      rules: this.#deps.settings().rules,
      fetches: 0,
    });
    const remembered = await this.#deps.approvals.remembered();
    const { decision, trace } = explain({ ...input, remembered });
    const { verdict, rule, reason } = decision;
    return {
      verdict,
      rule,
      reason,
      effect: effectiveEffect(input.call.tool),
      integrity: session.joined.integrity,
      trace: [...trace],
    };
  }

  /** A recorded session's calls, decided again. */
  async replay(
    authority: Authority,
    options: { sessionKey: string; guard?: unknown },
  ): Promise<{ calls: Replayed[] }> {
    const rules = options.guard === undefined
      ? this.#deps.settings().rules
      : readRules(options.guard);
    const { session, before, history } = await this.#past(options.sessionKey);
    const calls: Replayed[] = [];
    const shown: Message[] = [...before];
    let joined = joinAll(before.flatMap((m) => m.parts.map((p) => p.label)));
    let fetches = 0;
    let runId: string | undefined;
    for (const message of history) {
      if (message.runId !== runId) fetches = 0;
      runId = message.runId;
      for (const part of message.parts) {
        if (part.kind !== "tool_call") continue;
        if (this.#deps.tools.find(part.name) === undefined) continue;
        const input = this.#input({ tool: part.name, args: part.args }, {
          session,
          messages: [...shown],
          joined,
          authority,
          attended: true,
          rules,
          fetches,
        });
        const { verdict, rule, reason } = decide(input);
        if (effectiveEffect(input.call.tool) === "fetch") fetches++;
        calls.push({
          seq: message.seq,
          tool: part.name,
          then: becameOf(history, { seq: message.seq, callId: part.id }),
          verdict,
          rule,
          reason,
        });
      }
      shown.push(message);
      joined = joinAll([joined, ...message.parts.map((part) => part.label)]);
    }
    return { calls };
  }
}

function readRules(guard: unknown): GuardRules {
  const parsed = GuardConfig.safeParse(guard);
  if (parsed.success) return toRules(parsed.data);
  throw new AppError(
    "bad_input",
    `Cannot decide by that policy: ${z.prettifyError(parsed.error)}`,
    { hint: "It is written as guard is in the configuration" },
  );
}

/** How the loop begins the result of a call that it did not make. */
const REFUSED = /^(Not allowed: |There is no tool "|The arguments )/;

/** Some models begin their calls' ids anew: the first result after it counts. */
function becameOf(
  history: readonly StoredMessage[],
  { seq: after, callId }: { seq: number; callId: string },
): "ran" | "refused" | "open" {
  for (const { seq, parts } of history) {
    if (seq <= after) continue;
    for (const part of parts) {
      if (part.kind !== "tool_result" || part.callId !== callId) continue;
      return part.isError && REFUSED.test(part.text) ? "refused" : "ran";
    }
  }
  return "open";
}
