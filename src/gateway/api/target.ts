/**
 * What every dialect of `/v1/*` begins with: the body, what its model's name
 * means, and a call to a model that goes past the agents: allowed, paid for.
 *
 * Never: a name reaches a model that the credential may not use under another.
 *
 * @module
 */
import { scanJson } from "../../core/bounded.ts";
import { AppError } from "../../core/errors.ts";
import type { Usage } from "../../core/message.ts";
import type { ModelEvent, ModelRequest, Provider } from "../../core/model.ts";
import { AUTO_MODEL } from "../../providers/vendor.ts";
import { type Call, readJsonText } from "../call.ts";
import type { OwnFilter, SecretSet } from "../../guard/screen/leaks.ts";
import type { GatewayDeps } from "../deps.ts";
import { checkServing } from "../serving.ts";
import type { GatewayLimits } from "../limits.ts";
import type { Piece } from "./chat_completions/answer.ts";
import { estimateBody, PaidPass } from "./paid.ts";
import { toPieces } from "./pass_through.ts";
import type { Rate, RateByKind } from "../rate.ts";

/** What these routes need beside what every one has. */
export interface ApiDeps {
  deps: GatewayDeps;
  limits: GatewayLimits;
  rates: { turns: RateByKind; passThrough: Rate };
  /** Whether the owner can answer an ask now. */
  isAttended(): boolean;
}

/** A body that was read: an object with a model's name, and its text. */
export interface ApiBody {
  text: string;
  body: Record<string, unknown> & { model: string };
}

/** Nobody has a model of that name. */
export function modelNotFound(name: string): AppError {
  return new AppError("not_found", `Cannot find model "${name}"`, {
    hint: 'Use "carapace", "carapace/<agent>" or "<provider>/<model>"; ' +
      "GET /v1/models lists them",
    details: { param: "model", code: "model_not_found" },
  });
}

/** The agents there are for a caller: others do not exist for it. */
export function agentsFor(
  { caller }: Pick<Call, "caller">,
  { deps }: { deps: Pick<GatewayDeps, "agents"> },
): ReturnType<GatewayDeps["agents"]> {
  const { defaultId, agents } = deps.agents();
  const { authority } = caller;
  return {
    defaultId,
    agents: agents.filter(({ id }) => authority.allowsAgent(id)),
  };
}

/** Scans and parses a body that must be an object with a model's name. */
function parseBody(
  text: string,
  limits: GatewayLimits,
): Record<string, unknown> & { model: string } {
  scanJson(text, { depthMax: limits.depthMax, nodesMax: limits.apiNodesMax });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new AppError(
      "bad_input",
      `Cannot read JSON: ${(error as SyntaxError).message}`,
      { cause: error, details: { code: "invalid_json" } },
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new AppError("bad_input", "Cannot read the request: not an object");
  }
  const body = value as Record<string, unknown>;
  const model = body["model"];
  if (typeof model !== "string" || model === "" || model.length > 256) {
    throw new AppError(
      "bad_input",
      'Cannot read the request: "model" is not a model\'s name',
      { details: { param: "model", code: "invalid_value" } },
    );
  }
  return { ...body, model };
}

/**
 * Reads a body of these routes.
 *
 * @throws {AppError} `unavailable` in safe mode, `bad_input`, `too_large`
 */
export async function readApiBody(call: Call, on: ApiDeps): Promise<ApiBody> {
  checkServing(on.deps);
  const { limits } = on;
  const text = await readJsonText(call.request, {
    bytesMax: limits.apiBodyBytesMax,
    limits,
  });
  return { text, body: parseBody(text, limits) };
}

/** The provider of a name. @throws `not_found` in the words of these routes */
export function resolveModel(
  deps: GatewayDeps,
  name: string,
): ReturnType<GatewayDeps["router"]["resolve"]> {
  try {
    return deps.router.resolve(name);
  } catch (error) {
    if (error instanceof AppError && error.code === "not_found") {
      throw modelNotFound(name);
    }
    throw error;
  }
}

/** A model call past the agents: it may be made, and is reserved. */
export interface Pass {
  provider: Provider;
  /** The vendor's own name, and the full one. */
  model: string;
  full: string;
  paid: PaidPass;
  onUsage(usage: Usage): void;
}

/**
 * Finds the model, asks whether the credential may use it, and reserves what
 * it may cost. Whoever opens a pass ends it.
 *
 * @throws {AppError} `not_found`, `forbidden`, `rate_limited`, `budget`
 */
export async function openPass(
  call: Call,
  on: ApiDeps,
  { text, body }: ApiBody,
): Promise<Pass> {
  const { deps } = on;
  const { authority, id } = call.caller;
  on.rates.passThrough.take(id, deps.clock.now(), call.rates);
  let { provider, model } = resolveModel(deps, body.model);
  if (model === AUTO_MODEL) {
    const name = await deps.router.settle(body.model, call.signal);
    ({ provider, model } = resolveModel(deps, name));
  }
  // On what it resolved to, not on what it was called.
  const full = `${provider.id}:${model}`;
  if (!authority.allowsModel(full)) {
    throw new AppError(
      "forbidden",
      `Cannot use model "${full}": this credential may not`,
      { details: { param: "model", code: "model_not_allowed" } },
    );
  }
  const { credential, purses } = authority;
  const who = { principal: id, credential, purses, model: full };
  const estimate = estimateBody(text, body);
  const hold = await deps.spending?.reservePass({ ...who, ...estimate });
  const paid = new PaidPass(hold, estimate);
  const onUsage = (usage: Usage) => paid.used(usage);
  return { provider, model, full, paid, onUsage };
}

/** Answers a pass; a failure before the answer ends what was reserved. */
export async function answerPass(
  call: Call,
  pass: Pass,
  answer: () => Promise<Response>,
): Promise<Response> {
  try {
    return await answer();
  } catch (error) {
    // What was settled stays so; a call that never answered cost nothing.
    pass.paid.end(call.signal.aborted ? 1 : 0);
    throw error;
  }
}

/** A pass to a provider of another dialect, as pieces of an answer. */
export function passPieces(
  call: Call,
  on: ApiDeps,
  { pass, request }: { pass: Pass; request: Omit<ModelRequest, "model"> },
): AsyncIterable<Piece> {
  const events = withoutSecrets(
    on.deps.router.stream(pass.full, request, call.signal),
    on.deps.secrets?.(),
  );
  return pass.paid.over(toPieces(events, pass.onUsage));
}

/** The same events, none with this program's own secrets in it. */
async function* withoutSecrets(
  events: AsyncIterable<ModelEvent>,
  secrets: SecretSet | undefined,
): AsyncGenerator<ModelEvent, void, undefined> {
  const filter = secrets?.ownFilter();
  if (filter === undefined) return yield* events;
  let kind: "text" | "thinking" = "text";
  for await (const event of events) {
    const isText = event.kind === "text" || event.kind === "thinking";
    if (!isText || event.kind !== kind) {
      const text = filter.end();
      if (text !== "") yield { kind, text };
    }
    if (isText) {
      kind = event.kind;
      const text = filter.push(event.text);
      if (text !== "") yield { ...event, text };
    } else if (event.kind === "tool_call") {
      yield { ...event, args: withoutOwn(event.args, filter) };
    } else yield event;
  }
  const text = filter.end();
  if (text !== "") yield { kind, text };
}

/** Arguments, none with a secret in it, also where it reaches over their parts. */
function withoutOwn(args: unknown, filter: OwnFilter): unknown {
  const text = JSON.stringify(args) ?? "null";
  const clean = filter.all(text);
  if (clean === text) return args;
  try {
    return JSON.parse(clean);
  } catch {
    // It took a quote or half an escape along: what is left is nobody's words.
    return {};
  }
}
