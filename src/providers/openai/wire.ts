/**
 * What OpenAI's two APIs and every server that copies them share: the client,
 * the list of models, the unchanged pass-through, and giving way when a server
 * does not know a parameter.
 *
 * @module
 */
import type OpenaiSdk from "openai";
import { AppError } from "../../core/errors.ts";
import { ModelError, type ModelInfo, type Provider } from "../../core/model.ts";
import type { Place } from "../errors.ts";
import { toNetworkError } from "../errors.ts";
import {
  assertKey,
  fromSdk,
  getJson,
  NO_KEY,
  streamFetch,
  under,
} from "../http.ts";
import type { ProviderDeps } from "../vendor.ts";
import { list, record, text } from "../wire.ts";

/** Facts of the vendor's own service, for the row and for errors. */
export const OPENAI = {
  keyEnv: "OPENAI_API_KEY",
  baseUrlEnv: "OPENAI_BASE_URL",
  baseUrl: "https://api.openai.com/v1",
  needsKey: true,
} as const;

const SDK_TIMEOUT_MS = 3_600_000;
const CONCESSIONS_MAX = 5;
const CONCEDED_MODELS_MAX = 256;

/** A request's body before the SDK gives it a type. */
export type Body = Record<string, unknown>;

/** The SDK's client, loaded with the first call. */
export function openaiClient(
  deps: ProviderDeps,
  place: Place,
): () => Promise<OpenaiSdk> {
  let client: Promise<OpenaiSdk> | undefined;
  const open = async () => {
    const { default: Openai } = await import("openai");
    return new Openai({
      apiKey: deps.apiKey?.reveal() ?? NO_KEY,
      adminAPIKey: null,
      organization: null,
      project: null,
      webhookSecret: null,
      baseURL: deps.baseUrl.href.replace(/\/$/, ""),
      fetch: streamFetch(deps, place),
      maxRetries: 0,
      timeout: SDK_TIMEOUT_MS,
      logLevel: "off",
    });
  };
  return () => {
    assertKey(deps, place.home ?? OPENAI);
    return client ??= open();
  };
}

/** The `Authorization` of every request that is not the SDK's. */
function headersOf(deps: ProviderDeps): Record<string, string> {
  return {
    "authorization": `Bearer ${deps.apiKey?.reveal() ?? NO_KEY}`,
    "content-type": "application/json",
  };
}

/** `GET /models`. */
export async function listOpenaiModels(
  deps: ProviderDeps,
  place: Place,
  signal: AbortSignal,
): Promise<ModelInfo[]> {
  assertKey(deps, place.home ?? OPENAI);
  const body = await getJson(deps, place, {
    url: under(deps.baseUrl, "/models"),
    headers: headersOf(deps),
    signal,
  });
  return list(record(body)["data"]).map((model) => text(record(model)["id"]))
    .filter((id) => id !== "").map((id) => ({ id }));
}

const FORWARDED: ReadonlySet<string> = new Set([
  "/chat/completions",
  "/embeddings",
]);

/**
 * The pass-through: the bytes as they came, the key added, the answer as it
 * comes. Nothing is parsed; a vendor's error answer is an answer.
 */
export function makeForward(
  deps: ProviderDeps,
  place: Place,
  baseUrl: URL = deps.baseUrl,
): NonNullable<Provider["forward"]> {
  const urls = new Map([...FORWARDED].map((path) => [
    path,
    under(baseUrl, path).href,
  ]));
  return async (path, body, signal) => {
    const url = urls.get(path);
    if (url === undefined) {
      throw new AppError(
        "not_found",
        `Cannot pass on "${path}": only ${[...FORWARDED].join(" and ")} are`,
      );
    }
    assertKey(deps, place.home ?? OPENAI);
    try {
      return await deps.fetch(url, {
        method: "POST",
        headers: headersOf(deps),
        body,
        signal,
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw toNetworkError(place, error);
    }
  };
}

/** Parameters a request can do without, or has another name for. */
const DISPENSABLE: readonly string[] = [
  "max_tokens",
  "max_completion_tokens",
  "stream_options",
  "temperature",
  "top_p",
  "stop",
  "reasoning_effort",
  "reasoning",
  "include",
];
const RENAMED: Readonly<Record<string, string>> = {
  max_tokens: "max_completion_tokens",
  max_completion_tokens: "max_tokens",
};
const UNKNOWN_WORDS =
  /unsupported|not supported|does not support|unrecognized|unknown|unexpected|extra|not permitted|forbidden/i;

/**
 * What each model of a server turned out not to accept, so that the next call
 * does not offer it again. Bounded; forgotten with the process.
 */
export class Concessions {
  readonly #byModel = new Map<string, Set<string>>();

  /** The body without what this model refused before. */
  apply(model: string, body: Body): Body {
    const conceded = this.#byModel.get(model);
    if (conceded === undefined) return body;
    const next = { ...body };
    for (const name of conceded) {
      const other = RENAMED[name];
      if (other !== undefined && name in next && !conceded.has(other)) {
        next[other] = next[name];
      }
      delete next[name];
    }
    return next;
  }

  /** Remembers the parameter a refusal was about; false when it was not that. */
  learn(model: string, body: Body, error: unknown): boolean {
    if (!(error instanceof ModelError) || error.class !== "bad_request") {
      return false;
    }
    const param = text(error.details?.["param"]).split(".")[0] ?? "";
    const name = DISPENSABLE.find((one) => one === param && one in body) ??
      DISPENSABLE.find((one) =>
        one in body && UNKNOWN_WORDS.test(error.message) &&
        new RegExp(`\\b${one}\\b`).test(error.message)
      );
    if (name === undefined) return false;
    const conceded = this.#byModel.get(model) ?? new Set();
    if (conceded.has(name) || conceded.size >= CONCESSIONS_MAX) return false;
    if (this.#byModel.size >= CONCEDED_MODELS_MAX) this.#byModel.clear();
    this.#byModel.set(model, conceded.add(name));
    return true;
  }
}

/** Sends a body until the server accepts its parameters. */
export async function sendConceding(
  send: (body: Body) => Promise<Response>,
  options: {
    model: string;
    body: Body;
    concessions: Concessions;
    place: Place;
    signal: AbortSignal;
  },
): Promise<Response> {
  const { model, concessions, place, signal } = options;
  // Ends: every round concedes one more parameter of a short list.
  while (true) {
    const body = concessions.apply(model, options.body);
    try {
      return await send(body);
    } catch (thrown) {
      const error = fromSdk(place, thrown, signal);
      if (!concessions.learn(model, body, error)) throw error;
    }
  }
}
