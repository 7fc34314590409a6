/**
 * `/v1/messages` in the Messages API's dialect: an agent's turn, or a model's
 * answer, whoever its vendor is.
 *
 * @module
 */
import {
  estimateAll,
  estimateText,
  estimateTools,
} from "../../../agent/context/tokens.ts";
import { makeId } from "../../../core/ids.ts";
import { label } from "../../../core/label.ts";
import { asModelRequest } from "../asked.ts";
import type { Call } from "../../call.ts";
import { json } from "../../http_errors.ts";
import { Caller } from "../../keys.ts";
import { answerSoon } from "../late.ts";
import {
  agentOfModel,
  labelsOf,
  runPieces,
  toTurnRequest,
} from "../chat_completions/agent.ts";
import { type Piece, streamAnswer } from "../chat_completions/answer.ts";
import {
  agentsFor,
  answerPass,
  type ApiBody,
  type ApiDeps,
  openPass,
  passPieces,
  readApiBody,
} from "../target.ts";
import { answerMessage, MessageWriter } from "./answer.ts";
import {
  CountRequest,
  fromMessages,
  MessagesRequest,
  parseMessages,
  toConversation,
} from "./schema.ts";

/** `POST /v1/messages` */
export async function createMessage(
  call: Call,
  on: ApiDeps,
): Promise<Response> {
  const asked = await readApiBody(call, on);
  const agentId = agentOfModel(asked.body.model, agentsFor(call, on));
  const request = parseMessages(MessagesRequest, asked.body);
  const answer = agentId === undefined
    ? passThrough(call, on, { asked, request })
    : runAgent(call, on, { agentId, request });
  return await answerSoon(answer, {
    call,
    limits: on.limits,
    isStream: request.stream === true,
    dialect: "messages",
  });
}

async function runAgent(
  call: Call,
  on: ApiDeps,
  { agentId, request }: { agentId: string; request: MessagesRequest },
): Promise<Response> {
  const { deps } = on;
  const now = deps.clock.now();
  on.rates.turns.take(call.caller, now, call.rates);
  const caller = await Caller.of(call.caller);
  const asked = fromMessages(request, labelsOf(caller, now));
  const turn = await toTurnRequest(asked, {
    caller,
    agentId,
    headers: call.request.headers,
    signal: call.signal,
    attended: on.isAttended(),
    now,
  });
  const pieces = runPieces(deps.turns, turn);
  return await answer(call, on, { request, pieces });
}

async function passThrough(
  call: Call,
  on: ApiDeps,
  { asked, request }: { asked: ApiBody; request: MessagesRequest },
): Promise<Response> {
  const pass = await openPass(call, on, asked);
  return await answerPass(call, pass, async () => {
    const words = wordsLabel(on.deps.clock.now());
    const modelRequest = asModelRequest(
      fromMessages(request, { user: words, other: words }),
    );
    const pieces = passPieces(call, on, { pass, request: modelRequest });
    return await answer(call, on, { request, pieces });
  });
}

/** Nothing of a pass is stored or decided on. */
function wordsLabel(at: number) {
  return label("untrusted", [], { kind: "client", ref: "", at });
}

async function answer(
  call: Call,
  on: ApiDeps,
  asked: { request: MessagesRequest; pieces: AsyncIterable<Piece> },
): Promise<Response> {
  const { request: { model, stream }, pieces } = asked;
  const head = { id: makeId("msg", on.deps.clock.now()), model };
  return stream === true
    ? await streamAnswer(pieces, new MessageWriter(head), {
      call,
      limits: on.limits,
    })
    : await answerMessage(pieces, head);
}

/** `POST /v1/messages/count_tokens`: our own estimate, whoever the vendor is. */
export async function countTokens(
  call: Call,
  on: ApiDeps,
): Promise<Response> {
  const { body } = await readApiBody(call, on);
  const words = wordsLabel(on.deps.clock.now());
  const { system, messages, tools } = toConversation(
    parseMessages(CountRequest, body),
    { user: words, other: words },
  );
  const tokens = estimateText(system) + estimateAll(messages) +
    estimateTools(tools);
  return json({ input_tokens: Math.ceil(tokens) });
}
