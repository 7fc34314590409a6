/**
 * Room for the next step: assembles what a turn's model is shown, and compacts
 * the conversation when it takes too much.
 *
 * Never: half a compaction: notes and what they stand for are stored as one.
 *
 * @module
 */
import type { TurnEventBody } from "../../core/turn.ts";
import { offeredTools } from "../../tools/loading.ts";
import { shownTools } from "../calls.ts";
import { compact, MESSAGES_MAX, planCut, tailTokens } from "./compact.ts";
import {
  assemble,
  type Assembled,
  type ContextInput,
  measure,
  PRESSURE_MAX,
} from "./context.ts";
import { tellHooks } from "../hooking.ts";
import { guessInput, meteredStream } from "../metered.ts";
import { estimateAll } from "./tokens.ts";
import type { Running, Turn } from "../turn.ts";

/** A compaction has to free this share of the history's budget to be worth it. */
const WORTH_SHARE = 0.15;

function toInput(turn: Turn, model: string): ContextInput {
  const { settings, agent, run, session, history, summary, sections } = turn;
  return {
    agentId: run.agentId,
    agent,
    limits: settings.limits,
    session,
    history,
    summary,
    sections,
    tools: [
      ...offeredTools(shownTools(turn), turn.history)
        .map((tool) => turn.deps.tools.spec(tool)),
      ...turn.clientTools,
    ],
    model,
    window: turn.deps.models.windowOf(model),
    outputTokensMax: run.options?.outputTokensMax ??
      settings.limits.outputTokensMax,
    thinkingTokens: run.thinkingTokens ?? session.thinkingTokens ??
      agent.thinkingTokens,
    temperature: run.options?.temperature,
  };
}

/** The request of a turn's next step, and what its sections take. */
export function assembleTurn(turn: Turn, model: string): Assembled {
  return assemble(toInput(turn, model));
}

/**
 * Compacts a turn's history when it is too long, or when the vendor said it
 * was. Whether it did.
 */
export async function* makeRoom(
  { turn, deadline }: Pick<Running, "turn" | "deadline">,
  model: string,
  why: "when_needed" | "overflow",
): AsyncGenerator<TurnEventBody, boolean> {
  const { history, deps, session } = turn;
  const input = toInput(turn, model);
  const before = assemble(input);
  const isLong = history.length > MESSAGES_MAX;
  const isOver = why === "overflow";
  if (
    !isOver &&
    (turn.run.transient || !isLong && before.pressure <= PRESSURE_MAX)
  ) {
    return false;
  }
  const { historyMax } = measure(input);
  const size = estimateAll(history);
  // The vendor counts otherwise than we do: then half of what there was.
  const tokensMax = isOver
    ? Math.min(tailTokens(historyMax), Math.floor(size / 2))
    : tailTokens(historyMax);
  const cut = planCut(history, { tokensMax });
  const freed = estimateAll(history.slice(0, cut));
  const isWorth = isOver || isLong || freed >= historyMax * WORTH_SHARE;
  if (cut === 0 || !isWorth) return false;
  const { summary, usage } = await compact({
    stream: (model, request, signal) => {
      const inputTokens = guessInput(request);
      return meteredStream(turn, { model, request, inputTokens }, signal);
    },
    now: () => deps.clock.now(),
    log: deps.log,
  }, {
    sessionId: session.id,
    history,
    previous: turn.summary,
    unread: turn.unread,
    cut,
    model,
    windowTokens: input.window.tokens,
    historyTokensMax: historyMax,
    canAsk: !turn.run.transient,
  }, deadline.signal);
  turn.shorten(summary);
  turn.spend(usage);
  await turn.save({}, [deps.store.summaries.row(summary)]);
  tellHooks(deps, "compaction", turn.session, turn.run.id);
  yield {
    kind: "compacted",
    messages: cut,
    tokensBefore: before.account.usedTokens,
    tokensAfter: assembleTurn(turn, model).account.usedTokens,
    by: summary.by,
    ...(summary.dropped === undefined ? {} : { dropped: summary.dropped }),
  };
  return true;
}
