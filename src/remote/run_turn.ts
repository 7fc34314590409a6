/**
 * Takes one turn through the gateway: sends the message, yields what the run
 * does, and goes on after a lost connection.
 *
 * @module
 */
import { Pipe } from "../core/bounded.ts";
import { AppError, errorText, ignore } from "../core/errors.ts";
import type { MethodOutput } from "../core/methods.ts";
import type { Clock } from "../core/time.ts";
import type { GatewayClient, Notice } from "./client.ts";
import { type RunEnd, type RunEvent, RunFollower } from "./run_events.ts";

/** One message of a person. */
export interface TurnInput {
  sessionKey: string;
  message: string;
  /** `provider:model`, for this turn. */
  model?: string;
  thinking?: string;
  /** A message sent twice under the same key is one. @default a new one */
  idempotencyKey?: string;
}

export interface TurnOptions {
  clock: Clock;
  /** Aborting it stops the run; the generator then yields its end. */
  signal?: AbortSignal;
}

/** A run's events, and what happens to the connection meanwhile. */
export type TurnNotice =
  | RunEvent
  | { kind: "started"; runId: string }
  | { kind: "lost"; reason: string }
  | { kind: "back" };

type Outcome = MethodOutput<"agent.wait">;
type Item = Notice | { kind: "outcome"; outcome: Outcome };

const LIMITS = {
  /** Events of one run that are held for its reader. */
  itemsMax: 20_000,
  /** How long events of an ended run may lag behind its outcome. */
  graceMs: 1000,
  waitMs: 600_000,
  /** A connection that is there again within this is not spoken of. */
  quietMs: 1500,
} as const;

/**
 * Sends a message and yields the run's events; the last one is `end`.
 *
 * @throws {AppError} when the turn was not accepted or the gateway is gone
 */
export async function* runTurn(
  client: GatewayClient,
  input: TurnInput,
  options: TurnOptions,
): AsyncGenerator<TurnNotice, void, undefined> {
  const { clock, signal } = options;
  if (!client.isConnected) yield* awaitConnection(client, clock);
  const pipe = new Pipe<Item>(LIMITS.itemsMax);
  using stack = new DisposableStack();
  stack.use(client.listen((notice) => {
    if (!pipe.push(notice)) pipe.close();
  }));
  const epoch = client.epoch;
  const { runId, status } = await send(client, input);
  const follower = new RunFollower({ runId, sessionKey: input.sessionKey });
  stack.use(client.follow(() => follower.resume()));
  yield { kind: "started", runId };
  const onAbort = () => {
    client.call("chat.abort", { sessionKey: input.sessionKey, runId })
      .catch(ignore("the run ended before it was stopped"));
  };
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  stack.defer(() => signal?.removeEventListener("abort", onAbort));
  // The connection changed while the message was sent, or it was sent before:
  // its first events are missing.
  if (client.epoch !== epoch || status === "duplicate") client.renew();

  for await (const item of pipe) {
    switch (item.kind) {
      case "event": {
        const event = follower.take(item.event, item.payload);
        if (event !== undefined) yield event;
        break;
      }
      case "outcome":
        yield follower.end(toEnd(item.outcome));
        break;
      case "failed":
        throw item.error;
      case "back":
        // If the gateway no longer has the events, it still knows the outcome.
        waitForOutcome(client, { follower, clock })
          .then((outcome) => {
            if (outcome !== undefined) pipe.push({ kind: "outcome", outcome });
          })
          .catch((error) => pipe.push({ kind: "failed", error }));
        yield item;
        break;
      case "lost":
        yield item;
        break;
      default:
        item satisfies never;
    }
    if (follower.hasEnded) return;
  }
  throw new AppError(
    "too_large",
    "Cannot follow the run: its events came faster than they could be shown",
  );
}

/** Waits for a connection, and says so when it takes more than a moment. */
async function* awaitConnection(
  client: GatewayClient,
  clock: Clock,
): AsyncGenerator<TurnNotice, void, undefined> {
  const ready = client.ready();
  ready.catch(ignore("nobody waits for the connection any more"));
  const waiting = new AbortController();
  const slow = clock.sleep(LIMITS.quietMs, waiting.signal).then(() => true);
  slow.catch(ignore("it was not slow"));
  const isSlow = await Promise.race([ready.then(() => false), slow])
    .finally(() => waiting.abort());
  if (!isSlow) return;
  yield { kind: "lost", reason: "The gateway does not answer" };
  await ready;
  yield { kind: "back" };
}

async function send(
  client: GatewayClient,
  input: TurnInput,
): Promise<{ runId: string; status: string }> {
  const { model, idempotencyKey = crypto.randomUUID(), ...message } = input;
  const named = { ...message, idempotencyKey };
  return model === undefined
    ? await client.call("chat.send", named)
    : await client.call("agent", { ...named, model });
}

/** A run's outcome, once its events have had time to come. */
async function waitForOutcome(
  client: GatewayClient,
  options: { follower: RunFollower; clock: Clock },
): Promise<Outcome | undefined> {
  const { follower, clock } = options;
  const { runId } = follower;
  while (!follower.hasEnded) { // ends with the run, which has a time limit
    try {
      const outcome = await client.call("agent.wait", {
        runId,
        timeoutMs: LIMITS.waitMs,
      });
      if (outcome.status === "timeout") continue;
      await clock.sleep(LIMITS.graceMs);
      return follower.hasEnded ? undefined : outcome;
    } catch (error) {
      if (follower.hasEnded) return undefined;
      if (error instanceof AppError && error.code === "unavailable") {
        return undefined; // lost again; the next connection asks again
      }
      throw new AppError(
        "upstream",
        `Cannot follow the run any further: ${errorText(error)}`,
        { hint: "The session's history has what was stored", cause: error },
      );
    }
  }
  return undefined;
}

function toEnd(outcome: Outcome): Omit<RunEnd, "kind"> {
  return {
    state: outcome.status === "ok" ? "final" : "error",
    reply: outcome.reply ?? "",
    ...(outcome.usage === undefined ? {} : { usage: outcome.usage }),
    ...(outcome.error === undefined ? {} : { message: outcome.error }),
  };
}
