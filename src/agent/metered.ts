/**
 * A model call that is paid for: reserved before it is made, settled when it is
 * over, however it ends.
 *
 * Never: a run calls a model around this.
 *
 * @module
 */
import type { Purse } from "../core/authority.ts";
import type { ContextAccount } from "../core/methods.ts";
import { NO_USAGE, type Usage } from "../core/message.ts";
import {
  ModelError,
  type ModelEvent,
  type ModelRequest,
} from "../core/model.ts";
import { jobOfInbound, SCHEDULE_CHANNEL } from "../core/schedule.ts";
import type { Hold, PaidCall, Spending } from "../guard/spending.ts";
import type { Run } from "../store/runs.ts";
import type { UsageOwner } from "../store/usage.ts";
import type { ModelCall, Models } from "./deps.ts";
import { estimateAll, estimateText } from "./context/tokens.ts";
import type { Turn } from "./turn.ts";

/** What a guess of the input may be short of, in shares of it. */
const MARGIN = { vendor: 1.05, estimate: 1.25 } as const;
const OUTPUT_TOKENS_DEFAULT = 8_192;

/** The job a run belongs to, if it is one's, in whatever session it runs. */
function jobOf({ inbound, sessionKey }: Run): string | undefined {
  if (inbound.channel === SCHEDULE_CHANNEL) return jobOfInbound(inbound.id);
  const [, , kind, job] = sessionKey.split(":");
  return kind === "cron" ? job : undefined;
}

/** Who pays for a run's calls. */
export function payerOf(
  run: Run,
  model: string,
): UsageOwner & Pick<PaidCall, "purses"> {
  const { principal, credential, purses } = run.authority;
  const job = jobOf(run);
  return {
    agent: run.agentId,
    model,
    principal,
    credential,
    session: run.transient ? "-" : run.sessionKey,
    ...(job === undefined ? {} : { job }),
    ...(purses === undefined ? {} : { purses }),
  };
}

/** Input tokens of a request, rather high than low. */
export function inputTokensOf(
  account: Pick<ContextAccount, "usedTokens" | "counted">,
): number {
  return Math.ceil(account.usedTokens * MARGIN[account.counted]);
}

/** The same for a request that was not assembled from a turn's context. */
export function guessInput(request: Omit<ModelRequest, "model">): number {
  const tokens = estimateText(request.system ?? "") +
    estimateAll(request.messages);
  return Math.ceil(tokens * MARGIN.estimate);
}

/** Counts what streamed, for when the vendor does not. */
class Watch {
  usage: Usage = NO_USAGE;
  hasBegun = false;
  hasEnded = false;
  #output = 0;

  take(event: ModelEvent): void {
    this.hasBegun = true;
    switch (event.kind) {
      case "text":
      case "thinking":
        this.#output += estimateText(event.text);
        break;
      case "tool_call":
        this.#output += estimateText(JSON.stringify(event.args) ?? "") + 8;
        break;
      case "usage":
        this.usage = event.usage;
        break;
      case "end":
        this.hasEnded = true;
    }
  }

  /** The vendor's word where it gave one and was not cut off. */
  get isCounted(): boolean {
    return this.hasEnded &&
      this.usage.inputTokens + this.usage.outputTokens > 0;
  }

  /** What was used at least, as far as can be told. */
  guess(inputTokens: number): Usage {
    return {
      ...this.usage,
      inputTokens: this.usage.inputTokens || inputTokens,
      outputTokens: Math.max(this.usage.outputTokens, this.#output),
    };
  }
}

/** Who pays for a call that belongs to no run. */
export interface Payer {
  principal: string;
  credential: string;
  /** Budgets of the key and of those it was made with. */
  purses?: readonly Purse[];
  agent?: string;
  session?: string;
}

/** Models for work outside of runs: notes of a session, a classifier. */
export function paidStream(
  deps: {
    spending: Pick<Spending, "reservePass">;
    models: Pick<Models, "stream">;
  },
  payer: Payer,
): Models["stream"] {
  return async function* (model, request, signal) {
    const inputTokens = guessInput(request);
    const hold = await deps.spending.reservePass({
      ...payer,
      model,
      inputTokens,
      outputTokensMax: (request.outputTokensMax ?? OUTPUT_TOKENS_DEFAULT) +
        (request.thinkingTokens ?? 0),
    });
    const events = deps.models.stream(model, request, signal);
    yield* settled(hold, { events, inputTokens, signal });
  };
}

/** Failures after which the vendor may have worked all the same. */
function mayHaveWorked(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || error instanceof ModelError &&
      error.class === "timeout";
}

/**
 * Streams one call of a turn.
 *
 * @throws {AppError} `budget` before anything is asked, then what the model throws
 */
export async function* meteredStream(
  turn: Turn,
  call: {
    model: string;
    request: ModelCall;
    inputTokens: number;
  },
  signal: AbortSignal,
): AsyncGenerator<ModelEvent, void, undefined> {
  const { spending, models } = turn.deps;
  const { model, request, inputTokens } = call;
  const hold = await spending.reserve({
    ...payerOf(turn.run, model),
    runId: turn.run.id,
    step: turn.run.step,
    inputTokens,
    outputTokensMax: (request.outputTokensMax ?? OUTPUT_TOKENS_DEFAULT) +
      (request.thinkingTokens ?? 0),
  });
  yield* settled(hold, {
    events: models.stream(model, request, signal),
    inputTokens,
    signal,
  });
}

/**
 * Reserves for a turn that another gateway takes; what it says it used is what
 * is settled, its guess otherwise.
 *
 * @throws {AppError} `budget` before anything is asked
 */
export async function reserveRemote(
  turn: Turn,
  { model, text }: { model: string; text: string },
): Promise<{ settle(usage: Usage | undefined, answer: string): void }> {
  const inputTokens = Math.ceil(estimateText(text) * MARGIN.estimate);
  const hold = await turn.deps.spending.reserve({
    ...payerOf(turn.run, model),
    runId: turn.run.id,
    step: turn.run.step,
    inputTokens,
    outputTokensMax: OUTPUT_TOKENS_DEFAULT,
  });
  return {
    settle: (usage, answer) =>
      usage === undefined
        ? hold.settle({
          ...NO_USAGE,
          inputTokens,
          outputTokens: estimateText(answer),
        }, "estimate")
        : hold.settle(usage, "vendor"),
  };
}

/** Streams a call that was reserved, and settles it however it ends. */
async function* settled(
  hold: Hold,
  { events, inputTokens, signal }: {
    events: AsyncIterable<ModelEvent>;
    inputTokens: number;
    signal: AbortSignal;
  },
): AsyncGenerator<ModelEvent, void, undefined> {
  const watch = new Watch();
  let isWorking = true;
  try {
    for await (const event of events) {
      watch.take(event);
      yield event;
    }
  } catch (error) {
    isWorking = watch.hasBegun || mayHaveWorked(error, signal);
    throw error;
  } finally {
    if (watch.isCounted) hold.settle(watch.usage, "vendor");
    else if (isWorking) hold.settle(watch.guess(inputTokens), "estimate");
    else hold.release();
  }
}
