/**
 * From a model's full name to its provider, and the patience around a call:
 * retries before the first token, limits on silence.
 *
 * Never: a retry after a word was handed on; a list that fails because one
 * vendor is down.
 *
 * @module
 */
import { AppError, errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import {
  ModelError,
  type ModelEvent,
  type ModelInfo,
  type ModelRequest,
  type Provider,
  splitModel,
} from "../core/model.ts";
import { type Clock, limitSignal } from "../core/time.ts";
import { type BreakerLimits, Breakers } from "./breaker.ts";
import type { ProviderEntry } from "./registry.ts";
import { AUTO_MODEL } from "./vendor.ts";
import { isAlive } from "./wire.ts";

const LIMITS = {
  /** The wait before the first retry of a model call; it doubles. */
  backoffFirstMs: 500,
  /** The longest wait before a retry; what asks for more is not waited for. */
  backoffMaxMs: 8000,
  /** A vendor that asks for more is not waited for. */
  retryAfterMaxMs: 60_000,
  /** How long a vendor's list of models may take. */
  listMs: 5000,
  /** How long such a list is good for. */
  listKeptMs: 300_000,
} as const;

/** A model and whose it is. */
export interface ListedModel extends ModelInfo {
  /** The provider's name; `provider:id` is the full name. */
  provider: string;
}

/** A request before its model is known by the vendor's name. */
export type RoutedRequest = Omit<ModelRequest, "model"> & {
  /** Another model stands by: then nothing is tried twice. */
  hasFallback?: boolean;
};

/** What {@linkcode makeRouter} is made of. */
export interface RouterDeps {
  entries: readonly ProviderEntry[];
  clock: Clock;
  log: Log;
  /** From 0 up to 1; spreads retries. */
  random: () => number;
  breaker?: Partial<BreakerLimits>;
}

/** The way to every model. */
export interface Router {
  /** @throws {AppError} `not_found`, naming the providers there are */
  resolve(name: string): { provider: Provider; model: string };
  /** The full name with `auto` replaced by what the server lists first. */
  settle(name: string, signal: AbortSignal): Promise<string>;
  /** What every provider offers; one that is down offers what it last did. */
  list(signal: AbortSignal): Promise<ListedModel[]>;
  /** Streams one call. @throws {ModelError} */
  stream(
    name: string,
    request: RoutedRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ModelEvent, void, undefined>;
}

/** Makes the router over the configured providers. */
export function makeRouter(deps: RouterDeps): Router {
  const byId = new Map(deps.entries.map((one) => [one.provider.id, one]));
  const lists = new Map<string, { at: number; models: ModelInfo[] }>();
  const breakers = new Breakers(deps, deps.breaker);

  const find = (name: string) => {
    const split = splitModel(name);
    const entry = split === undefined ? undefined : byId.get(split.provider);
    if (split !== undefined && entry !== undefined) {
      return { entry, model: split.model };
    }
    const owner = deps.entries.find((one) =>
      one.models.includes(name) ||
      lists.get(one.provider.id)?.models.some(({ id }) => id === name)
    );
    if (owner !== undefined) return { entry: owner, model: name };
    throw unknownProvider(name, split?.provider, [...byId.keys()]);
  };

  const listOne = async (entry: ProviderEntry, signal: AbortSignal) => {
    const { id } = entry.provider;
    const kept = lists.get(id);
    if (
      kept !== undefined && deps.clock.now() - kept.at < LIMITS.listKeptMs
    ) return kept.models;
    using limit = limitSignal(signal, LIMITS.listMs);
    const models = await entry.provider.models(limit.signal);
    lists.set(id, { at: deps.clock.now(), models });
    return models;
  };

  const settle = async (name: string, signal: AbortSignal) => {
    const { entry, model } = find(name);
    if (model !== AUTO_MODEL) return { entry, model };
    const models = await listOne(entry, signal);
    const chosen = models.find(({ id }) => !NOT_CHAT.test(id)) ?? models[0];
    if (chosen === undefined) {
      throw new ModelError(
        "not_found",
        `Cannot choose a model of "${entry.provider.id}": it lists none`,
        { hint: `Load a model there, or name one: ${entry.provider.id}:MODEL` },
      );
    }
    return { entry, model: chosen.id };
  };

  return {
    resolve: (name) => {
      const { entry, model } = find(name);
      return { provider: entry.provider, model };
    },
    settle: async (name, signal) => {
      const { entry, model } = await settle(name, signal);
      return `${entry.provider.id}:${model}`;
    },
    list: async (signal) => {
      const all = await Promise.all(deps.entries.map(async (entry) => {
        const { id } = entry.provider;
        const offered = entry.models.map((model) => ({ id: model }));
        let models: readonly ModelInfo[];
        try {
          models = await listOne(entry, signal);
        } catch (error) {
          signal.throwIfAborted();
          deps.log("warn", "provider.list_failed", {
            provider: id,
            error: errorText(error),
          });
          models = lists.get(id)?.models ?? [];
        }
        const known = new Set(models.map((model) => model.id));
        return [...offered.filter((one) => !known.has(one.id)), ...models]
          .map((model) => ({ ...model, provider: id }));
      }));
      return all.flat();
    },
    async *stream(name, { hasFallback, ...request }, signal) {
      const { entry, model } = await settle(name, signal);
      const retriesMax = hasFallback === true ? 0 : entry.retriesMax;
      const attempt = { deps, breakers, entry, retriesMax, signal };
      yield* streamPatiently(attempt, { ...request, model });
    },
  };
}

/** Models a server lists that do not chat. */
const NOT_CHAT =
  /embed|whisper|tts|transcribe|dall-e|image|moderation|rerank|realtime|audio|sora/i;

interface Attempt {
  deps: RouterDeps;
  breakers: Breakers;
  entry: ProviderEntry;
  retriesMax: number;
  signal: AbortSignal;
}

/** Tries until a word arrives; after that, whatever happens is the answer. */
async function* streamPatiently(
  attempt: Attempt,
  request: ModelRequest,
): AsyncGenerator<ModelEvent, void, undefined> {
  const { deps, breakers, entry, retriesMax, signal } = attempt;
  for (let retries = 0;; retries++) { // ends at retriesMax
    let hasSpoken = false;
    const pass = breakers.enter(`${entry.provider.id}:${request.model}`);
    try {
      for await (const event of streamWatched(attempt, request)) {
        hasSpoken ||= event.kind !== "usage";
        if (event.kind === "end") pass.succeed();
        else if (hasSpoken) pass.hear();
        yield event;
      }
      return;
    } catch (error) {
      if (signal.aborted) throw error;
      const mayHelp = pass.fail(error);
      const waitMs = hasSpoken || retries >= retriesMax || !mayHelp
        ? undefined
        : waitBefore(error, retries, deps.random);
      if (waitMs === undefined) throw error;
      deps.log("warn", "provider.retry", {
        provider: entry.provider.id,
        model: request.model,
        attempt: retries + 1,
        waitMs,
        class: (error as ModelError).class,
      });
      await deps.clock.sleep(waitMs, signal);
    } finally {
      pass.leave();
    }
  }
}

/** How long to wait before another try; `undefined` when there is no point. */
export function waitBefore(
  error: unknown,
  retries: number,
  random: () => number,
): number | undefined {
  if (!(error instanceof ModelError) || !error.isRetryable) return undefined;
  const asked = error.retryAfterMs ?? 0;
  if (asked > LIMITS.retryAfterMaxMs) return undefined;
  const step = Math.min(
    LIMITS.backoffFirstMs * 2 ** retries,
    LIMITS.backoffMaxMs,
  );
  return Math.round(asked + step * (0.5 + random() / 2));
}

/** One try, ended when the vendor is silent for too long. */
async function* streamWatched(
  { deps, entry, signal }: Attempt,
  request: ModelRequest,
): AsyncGenerator<ModelEvent, void, undefined> {
  signal.throwIfAborted();
  const { clock } = deps;
  const call = new AbortController();
  const watch = new AbortController();
  const onAbort = () => call.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  let limitMs = entry.firstTokenMs;
  let isFirst = true;
  let isHeld = false;
  let dueAt = clock.now() + limitMs;
  const guard = async () => {
    // Ends when the call does, or at the limit.
    while (clock.now() < dueAt) {
      await clock.sleep(dueAt - clock.now(), watch.signal);
      // What the reader takes is not the vendor's silence.
      if (isHeld) dueAt = clock.now() + limitMs;
    }
    call.abort(toSilence(entry, { isFirst, limitMs }));
  };
  guard().catch(() => {
    // The call ended first.
  });
  try {
    for await (const event of entry.provider.stream(request, call.signal)) {
      dueAt = clock.now() + limitMs;
      if (isAlive(event)) continue;
      if (event.kind !== "usage" && isFirst) {
        isFirst = false;
        limitMs = entry.idleMs;
      }
      isHeld = true;
      yield event;
      isHeld = false;
      dueAt = clock.now() + limitMs;
    }
  } catch (error) {
    throw call.signal.aborted ? call.signal.reason : error;
  } finally {
    signal.removeEventListener("abort", onAbort);
    watch.abort();
    call.abort();
  }
}

function toSilence(
  entry: ProviderEntry,
  { isFirst, limitMs }: { isFirst: boolean; limitMs: number },
): ModelError {
  const { id } = entry.provider;
  return new ModelError(
    "timeout",
    `${id} said nothing for ${Math.round(limitMs / 100) / 10} s`,
    {
      hint: `Try again, or raise providers.${id}.${
        isFirst ? "firstTokenMs" : "idleMs"
      }`,
      details: { provider: id },
    },
  );
}

function unknownProvider(
  name: string,
  provider: string | undefined,
  known: readonly string[],
): AppError {
  const near = provider === undefined
    ? undefined
    : known.map((id) => ({ id, far: distance(id, provider) }))
      .sort((a, b) => a.far - b.far).find(({ far }) => far <= 2)?.id;
  const guess = near === undefined ? "" : `Did you mean "${near}"? `;
  return new AppError(
    "not_found",
    provider === undefined
      ? `Cannot use model "${name}": it names no provider`
      : `Cannot use model "${name}": there is no provider "${provider}"`,
    {
      hint: `${guess}Write provider:model; the providers are ${
        known.map((id) => `"${id}"`).join(", ") || "none"
      }`,
      details: { providers: known },
    },
  );
}

/** How many letters must change to make one word the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(
        (next[j - 1] ?? 0) + 1,
        (row[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
