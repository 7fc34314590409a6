/**
 * `/v1/*` in OpenAI's dialect: which name means what, and what it takes.
 *
 * @module
 */
import { scanJson } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { Usage } from "../core/message.ts";
import { AUTO_MODEL } from "../providers/vendor.ts";
import { type Call, readJsonText } from "./call.ts";
import type { GatewayDeps } from "./deps.ts";
import { json } from "./http_errors.ts";
import { Caller } from "./keys.ts";
import { answerSoon } from "./late.ts";
import type { GatewayLimits } from "./limits.ts";
import { agentOfModel, runPieces, toTurnRequest } from "./openai_agent.ts";
import {
  type AnswerHead,
  answerJson,
  answerSse,
  type Piece,
} from "./openai_answer.ts";
import { type ChatRequest, parseChatRequest } from "./openai_schema.ts";
import { estimateBody, PaidPass } from "./paid.ts";
import {
  forwardChat,
  replaceModel,
  toModelRequest,
  toPieces,
} from "./pass_through.ts";
import type { Rate, RateByKind } from "./rate.ts";

/** What these routes need beside what every one has. */
export interface OpenAiDeps {
  deps: GatewayDeps;
  limits: GatewayLimits;
  rates: { turns: RateByKind; passThrough: Rate };
  /** Whether the owner can answer an ask now. */
  isAttended(): boolean;
}

function modelNotFound(name: string): AppError {
  return new AppError("not_found", `Cannot find model "${name}"`, {
    hint: 'Use "carapace", "carapace/<agent>" or "<provider>/<model>"; ' +
      "GET /v1/models lists them",
    details: { param: "model", code: "model_not_found" },
  });
}

/** @throws {AppError} `unavailable` in safe mode */
export function checkServing(deps: Pick<GatewayDeps, "safeMode">): void {
  if (deps.safeMode === undefined) return;
  throw new AppError(
    "unavailable",
    `Cannot run agents or models: safe mode (${deps.safeMode})`,
    { hint: "Correct the configuration and start again" },
  );
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

/** `POST /v1/chat/completions` */
export async function chatCompletions(
  call: Call,
  on: OpenAiDeps,
): Promise<Response> {
  const { deps, limits } = on;
  checkServing(deps);
  const text = await readJsonText(call.request, {
    bytesMax: limits.apiBodyBytesMax,
    limits,
  });
  const body = parseBody(text, limits);
  const agentId = agentOfModel(body.model, deps.agents());
  const answer = agentId === undefined
    ? passThrough(call, on, { text, body })
    : runAgent(call, on, { agentId, request: parseChatRequest(body) });
  return await answerSoon(answer, {
    call,
    limits,
    isStream: body["stream"] === true,
  });
}

async function runAgent(
  call: Call,
  on: OpenAiDeps,
  asked: { agentId: string; request: ChatRequest },
): Promise<Response> {
  const { deps } = on;
  const principal = call.caller;
  const now = deps.clock.now();
  on.rates.turns.take(principal, now);
  const turn = await toTurnRequest(asked.request, {
    caller: await Caller.of(principal),
    agentId: asked.agentId,
    headers: call.request.headers,
    signal: call.signal,
    attended: on.isAttended(),
    now,
  });
  return await answer(call, on, {
    request: asked.request,
    pieces: runPieces(deps.turns, turn),
  });
}

async function answer(
  call: Call,
  on: OpenAiDeps,
  asked: { request: ChatRequest; pieces: AsyncIterable<Piece> },
): Promise<Response> {
  const { request, pieces } = asked;
  const now = on.deps.clock.now();
  const head: AnswerHead = {
    id: makeId("chatcmpl", now).replace("_", "-"),
    created: Math.floor(now / 1000),
    model: request.model,
  };
  return request.stream === true
    ? await answerSse(pieces, head, {
      call,
      limits: on.limits,
      includeUsage: request.stream_options?.include_usage === true,
    })
    : await answerJson(pieces, head);
}

async function passThrough(
  call: Call,
  on: OpenAiDeps,
  asked: { text: string; body: Record<string, unknown> & { model: string } },
): Promise<Response> {
  const { deps, limits } = on;
  const { authority, id } = call.caller;
  on.rates.passThrough.take(id, deps.clock.now());
  let { provider, model } = resolve(deps, asked.body.model);
  if (model === AUTO_MODEL) {
    const name = await deps.router.settle(asked.body.model, call.signal);
    ({ provider, model } = resolve(deps, name));
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
  const who = { principal: id, credential: authority.credential, model: full };
  const estimate = estimateBody(asked.text, asked.body);
  const hold = await deps.spending?.reservePass({ ...who, ...estimate });
  const paid = new PaidPass(hold, estimate);
  const onUsage = (usage: Usage) => {
    paid.used(usage);
    deps.recordUsage?.({ ...who, usage });
  };
  try {
    if (provider.forward !== undefined) {
      return await forwardChat(
        replaceModel(asked.text, asked.body.model, model),
        {
          call,
          limits,
          onUsage,
          onEnd: (bytes) => paid.end(bytes),
          forward: provider.forward.bind(provider),
        },
      );
    }
    const request = parseChatRequest(asked.body);
    const events = deps.router.stream(
      full,
      toModelRequest(request, deps.clock.now()),
      call.signal,
    );
    const pieces = paid.over(toPieces(events, onUsage));
    return await answer(call, on, { request, pieces });
  } catch (error) {
    // What was settled stays so; a call that never answered cost nothing.
    paid.end(call.signal.aborted ? 1 : 0);
    throw error;
  }
}

function resolve(
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

/** `GET /v1/models` */
export async function listModels(
  call: Call,
  on: OpenAiDeps,
): Promise<Response> {
  const { deps } = on;
  const { authority } = call.caller;
  const created = Math.floor(deps.clock.now() / 1000);
  const row = (id: string, ownedBy: string) => ({
    id,
    object: "model",
    created,
    owned_by: ownedBy,
  });
  const { defaultId, agents } = deps.agents();
  const own = deps.safeMode !== undefined ? [] : [
    ...(authority.allowsAgent(defaultId) ? [row("carapace", "carapace")] : []),
    ...agents.filter((agent) => authority.allowsAgent(agent.id)).map((agent) =>
      row(`carapace/${agent.id}`, "carapace")
    ),
  ];
  const models = deps.safeMode !== undefined
    ? []
    : await deps.router.list(call.signal);
  const passed = models.filter(({ provider, id }) =>
    authority.allowsModel(`${provider}:${id}`)
  ).map(({ provider, id }) => row(`${provider}/${id}`, provider));
  return json({ object: "list", data: [...own, ...passed] });
}
