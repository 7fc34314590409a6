/**
 * What a session would show a model, and the notes that take the place of its
 * older part when somebody asks for them.
 *
 * Never: a message lost, or notes with a lower label than what they are notes of.
 *
 * @module
 */
import { join, label } from "../../core/label.ts";
import { addUsage } from "../../core/message.ts";
import type { ContextAccount } from "../../core/methods.ts";
import type { Session } from "../../store/sessions.ts";
import { toolsFor } from "../calls.ts";
import { compact, type Compacted, planCut, tailTokens } from "./compact.ts";
import {
  assemble,
  charsOfWindow,
  type ContextInput,
  measure,
} from "./context.ts";
import type { AgentDeps } from "../deps.ts";
import { tellHooks } from "../hooking.ts";
import type { Slots } from "../lanes.ts";
import { paidStream } from "../metered.ts";
import type { Past, Pasts } from "./pasts.ts";
import { gatherSections, isPrivateTo } from "./sections.ts";
import type { Actor } from "../sessions/session_desk.ts";
import { estimateAll } from "./tokens.ts";

/** An act on one session may take so long. */
const COMPACT_MS = 180_000;

/** What compaction came to: both accounts, and the notes if any were written. */
export interface CompactedNow {
  before: ContextAccount;
  after: ContextAccount;
  done?: Compacted;
  messages: number;
}

/** What compaction works with. */
interface CompactRooms {
  deps: AgentDeps;
  pasts: Pasts;
  slots: Slots;
}

/** What the next model call of a session would be made of. */
export async function contextInput(
  session: Session,
  { past, actor }: { past: Past; actor: Actor },
  deps: AgentDeps,
): Promise<ContextInput> {
  const { models, settings: read, tools, context, log } = deps;
  const settings = read();
  const { agentId } = session;
  const agent = settings.agents[agentId] ?? settings.agents.main;
  const named = session.model ?? agent.model ?? (await models.chosen()).model;
  const model = await models.settle(named, AbortSignal.timeout(10_000));
  const window = models.windowOf(model);
  const { authority } = actor;
  const channel = session.channel ?? actor.channel;
  const sections = await gatherSections(agent, {
    query: {
      agentId,
      sessionKey: session.key,
      authority,
      isPrivate: isPrivateTo(session, authority),
    },
    sources: context ?? {},
    charsMax: charsOfWindow(window.tokens),
    log,
  });
  const user = { settings, agentId, authority, channel };
  return {
    agentId,
    agent,
    limits: settings.limits,
    session,
    history: past.history,
    summary: past.summary,
    sections,
    tools: toolsFor(tools, user).map((tool) => tools.spec(tool)),
    model,
    window,
    outputTokensMax: settings.limits.outputTokensMax,
    thinkingTokens: session.thinkingTokens ?? agent.thinkingTokens,
  };
}

/** Writes notes of all but the newest part. The lane is the caller's. */
export async function compactNow(
  session: Session,
  options: { actor: Actor; wish?: string },
  { deps, pasts, slots }: CompactRooms,
): Promise<CompactedNow> {
  const past = await pasts.read(session);
  const input = await contextInput(
    session,
    { past, actor: options.actor },
    deps,
  );
  const before = assemble(input).account;
  const { historyMax } = measure(input);
  const { history } = past;
  const tokensMax = Math.min(
    tailTokens(historyMax),
    Math.floor(estimateAll(history) / 2),
  );
  const cut = planCut(history, { tokensMax });
  if (cut === 0) return { before, after: before, messages: 0 };
  const { principal, integrity } = options.actor.authority;
  using _slot = await slots.house.enter(
    AbortSignal.timeout(COMPACT_MS),
  );
  const done = await compact({
    stream: paidStream(deps, {
      principal,
      credential: options.actor.authority.credential,
      purses: options.actor.authority.purses,
      agent: session.agentId,
      session: session.key,
    }),
    now: () => deps.clock.now(),
    log: deps.log,
  }, {
    sessionId: session.id,
    history,
    previous: past.summary,
    unread: past.unread,
    cut,
    model: input.model,
    windowTokens: input.window.tokens,
    historyTokensMax: historyMax,
    wish: options.wish === undefined
      ? undefined
      : { text: options.wish, label: label(integrity, [principal]) },
    canAsk: true,
  }, AbortSignal.timeout(COMPACT_MS));
  const made = { past, input, before, done, cut };
  return await keep(session, made, { deps, pasts });
}

/** Stores the notes, and the session that begins after what they hold. */
async function keep(
  session: Session,
  { past, input, before, done, cut }: {
    past: Past;
    input: ContextInput;
    before: ContextAccount;
    done: Compacted;
    cut: number;
  },
  { deps, pasts }: Pick<CompactRooms, "deps" | "pasts">,
): Promise<CompactedNow> {
  const { sessions, summaries, journal } = deps.store;
  const { summary, usage } = done;
  const next: Session = {
    ...session,
    compactedSeq: summary.throughSeq,
    joined: join(session.joined, summary.label),
    usage: addUsage(session.usage, usage),
  };
  await journal.commit([
    summaries.row(summary),
    ...sessions.rows(next, session),
  ]);
  tellHooks(deps, "compaction", next);
  const history = past.history.slice(cut);
  pasts.hold(next, { history, summary, unread: 0 });
  const after = assemble({ ...input, session: next, history, summary });
  return { before, after: after.account, done, messages: cut };
}
