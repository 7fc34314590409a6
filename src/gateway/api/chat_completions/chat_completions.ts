/**
 * `POST /v1/chat/completions` in OpenAI's dialect: an agent's turn, or a model's
 * answer passed through.
 *
 * @module
 */
import { makeId } from "../../../core/ids.ts";
import type { Call } from "../../call.ts";
import { Caller } from "../../keys.ts";
import { answerSoon } from "../late.ts";
import { agentOfModel, labelsOf, runPieces, toTurnRequest } from "./agent.ts";
import {
  type AnswerHead,
  answerJson,
  answerSse,
  type Piece,
} from "./answer.ts";
import { type ChatRequest, fromChat, parseChatRequest } from "./schema.ts";
import {
  checkFields,
  forwardChat,
  replaceModel,
  toModelRequest,
} from "../pass_through.ts";
import {
  agentsFor,
  answerPass,
  type ApiBody,
  type ApiDeps,
  openPass,
  passPieces,
  readApiBody,
} from "../target.ts";

/** `POST /v1/chat/completions` */
export async function chatCompletions(
  call: Call,
  on: ApiDeps,
): Promise<Response> {
  const asked = await readApiBody(call, on);
  const { body } = asked;
  const agentId = agentOfModel(body.model, agentsFor(call, on));
  const answer = agentId === undefined
    ? passThrough(call, on, asked)
    : runAgent(call, on, { agentId, request: parseChatRequest(body) });
  return await answerSoon(answer, {
    call,
    limits: on.limits,
    isStream: body["stream"] === true,
    dialect: "openai",
  });
}

async function runAgent(
  call: Call,
  on: ApiDeps,
  { agentId, request }: { agentId: string; request: ChatRequest },
): Promise<Response> {
  const { deps } = on;
  const principal = call.caller;
  const now = deps.clock.now();
  on.rates.turns.take(principal, now, call.rates);
  const caller = await Caller.of(principal);
  const turn = await toTurnRequest(fromChat(request, labelsOf(caller, now)), {
    caller,
    agentId,
    headers: call.request.headers,
    signal: call.signal,
    attended: on.isAttended(),
    now,
  });
  return await answer(call, on, {
    request,
    pieces: runPieces(deps.turns, turn),
  });
}

async function answer(
  call: Call,
  on: ApiDeps,
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
  on: ApiDeps,
  asked: ApiBody,
): Promise<Response> {
  const pass = await openPass(call, on, asked);
  const { provider, model, onUsage, paid } = pass;
  const { text, body } = asked;
  return await answerPass(call, pass, async () => {
    if (provider.forward !== undefined) {
      checkFields(body, call.caller.authority);
      return await forwardChat(replaceModel(text, body.model, model), {
        call,
        limits: on.limits,
        onUsage,
        onEnd: (bytes) => paid.end(bytes),
        secrets: () => on.deps.secrets?.().byteFilter(),
        forward: provider.forward.bind(provider),
      });
    }
    const request = parseChatRequest(body);
    const modelRequest = toModelRequest(request, on.deps.clock.now());
    const pieces = passPieces(call, on, { pass, request: modelRequest });
    return await answer(call, on, { request, pieces });
  });
}
