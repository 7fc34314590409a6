/**
 * `/v1/responses`: an agent's turn or a model's answer in the Responses API's
 * dialect, and going on from an earlier one.
 *
 * Never: an answer of one principal is found by another.
 *
 * @module
 */
import type { StartedRun, TurnRequest } from "../../../agent/turns.ts";
import { AppError, errorText } from "../../../core/errors.ts";
import { agentOf, makeId } from "../../../core/ids.ts";
import type { Message } from "../../../core/message.ts";
import type { StoredResponse } from "../../../store/responses.ts";
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
import { checkServing } from "../../serving.ts";
import {
  agentsFor,
  answerPass,
  type ApiBody,
  type ApiDeps,
  openPass,
  passPieces,
  readApiBody,
} from "../target.ts";
import { GrowingResponse, wholePieces } from "./answer.ts";
import {
  fromResponses,
  parseResponses,
  type ResponsesRequest,
} from "./schema.ts";

/** Messages a branch begins with at most. */
const BRANCH_MESSAGES_MAX = 1_000;

/** One request on its way. */
interface Work {
  call: Call;
  on: ApiDeps;
  caller: Caller;
  request: ResponsesRequest;
  previous: StoredResponse | undefined;
  now: number;
}

/** `POST /v1/responses` */
export async function createResponse(
  call: Call,
  on: ApiDeps,
): Promise<Response> {
  const asked = await readApiBody(call, on);
  const agentId = agentOfModel(asked.body.model, agentsFor(call, on));
  const request = parseResponses(asked.body);
  const caller = await Caller.of(call.caller);
  const id = request.previous_response_id;
  const previous = id === undefined
    ? undefined
    : await findOwn({ call, on }, id) ?? refusePrevious();
  const now = on.deps.clock.now();
  const work = { call, on, caller, request, previous, now };
  const answer = agentId === undefined
    ? passThrough(work, asked)
    : runAgent(work, agentId);
  return await answerSoon(answer, {
    call,
    limits: on.limits,
    isStream: request.stream === true,
    dialect: "responses",
  });
}

async function findOwn(
  { call, on }: Pick<Work, "call" | "on">,
  id: string,
): Promise<StoredResponse | undefined> {
  const found = await on.deps.responses?.find(id);
  if (found?.principal !== call.caller.id) return undefined;
  // One principal's keys may differ in the agents they may use.
  const { session } = found;
  const isIts = session === undefined ||
    call.caller.authority.allowsAgent(agentOf(session.key));
  return isIts ? found : undefined;
}

function refusePrevious(): never {
  throw new AppError(
    "bad_input",
    "Cannot go on from that response: there is none, or its conversation is over",
    {
      details: {
        param: "previous_response_id",
        code: "previous_response_not_found",
      },
    },
  );
}

function refuseOther(what: string): never {
  throw new AppError(
    "bad_input",
    `Cannot go on from that response: it is ${what}`,
    { details: { param: "model", code: "invalid_value" } },
  );
}

/**
 * Where an agent goes on: in the session while nothing was said since, else in
 * a branch that begins with what was said until then.
 */
async function goOn(
  { on, caller, previous }: Work,
  agentId: string,
): Promise<Pick<TurnRequest, "sessionKey" | "history">> {
  if (previous?.conversation !== undefined) {
    return { history: previous.conversation };
  }
  const at = previous?.session;
  if (at === undefined) return {};
  if (agentOf(at.key) !== agentId) refuseOther("another agent's");
  caller.checkAgent(agentId);
  const { sessions, messages } = on.deps.store;
  const row = await sessions.find(at.key);
  if (row?.id !== at.id) refusePrevious();
  if (row.seq === at.seq) return { sessionKey: at.key };
  const limit = BRANCH_MESSAGES_MAX;
  const history = await messages.tail(at.id, { limit, beforeSeq: at.seq + 1 });
  return { history: history.map(({ role, parts }) => ({ role, parts })) };
}

async function runAgent(work: Work, agentId: string): Promise<Response> {
  const { call, on, caller, request, now } = work;
  on.rates.turns.take(call.caller, now, call.rates);
  const labels = labelsOf(caller, now);
  const turn = await toTurnRequest(fromResponses(request, labels), {
    caller,
    agentId,
    headers: call.request.headers,
    signal: call.signal,
    attended: on.isAttended(),
    now,
  });
  const before = await goOn(work, turn.agentId ?? agentId);
  const history = [...before.history ?? [], ...turn.history ?? []];
  if (work.previous !== undefined) delete turn.sessionKey;
  let run: StartedRun | undefined;
  const pieces = runPieces(on.deps.turns, {
    ...turn,
    ...before,
    ...(history.length === 0 ? {} : { history }),
  }, (started) => run = started);
  return await answer(work, pieces, async () => {
    const row = run === undefined
      ? undefined
      : await on.deps.store.sessions.find(run.sessionKey);
    if (row?.seq === undefined) return undefined;
    return { session: { key: row.key, id: row.id, seq: row.seq } };
  });
}

async function passThrough(work: Work, asked: ApiBody): Promise<Response> {
  const { call, on, caller, request, previous, now } = work;
  if (previous?.session !== undefined) refuseOther("an agent's");
  const wanted = fromResponses(request, labelsOf(caller, now));
  const messages = [...previous?.conversation ?? [], ...wanted.messages];
  const { max_output_tokens: max_tokens } = request;
  const pass = await openPass(call, on, {
    // What went before is paid for once more, as the vendor counts it.
    text: asked.text + JSON.stringify(previous?.conversation ?? ""),
    body: { ...asked.body, max_tokens },
  });
  return await answerPass(call, pass, async () => {
    const modelRequest = asModelRequest({ ...wanted, messages });
    const pieces = passPieces(call, on, { pass, request: modelRequest });
    return await answer(work, pieces, (parts) => {
      const said: Message = { role: "assistant", parts };
      return Promise.resolve({ conversation: [...messages, said] });
    });
  });
}

type Standing = Pick<StoredResponse, "session" | "conversation">;

/** Answers, and stores the answer before its last event is sent. */
async function answer(
  { call, on, caller, request, now }: Work,
  pieces: AsyncIterable<Piece>,
  standing: (
    parts: GrowingResponse["parts"],
  ) => Promise<Standing | undefined>,
): Promise<Response> {
  const { responses, log } = on.deps;
  const isStored = request.store !== false && responses !== undefined;
  const id = makeId("resp", now);
  const head = { id, created: Math.floor(now / 1000), request, isStored };
  const growing = new GrowingResponse(head, labelsOf(caller, now).other);
  const store = async () => {
    if (responses === undefined || !isStored) return;
    const { id: principal } = caller.principal;
    const body: StoredResponse["body"] = JSON.parse(
      JSON.stringify(growing.toJson()),
    );
    try {
      const stands = await standing(growing.parts);
      if (stands === undefined) return;
      await responses.put({ id, principal, createdAt: now, body, ...stands });
    } catch (error) {
      // The answer is there all the same; going on from it will be refused.
      log("warn", "gateway.response_not_stored", { error: errorText(error) });
    }
  };
  const steps = async function* (from: AsyncIterable<Piece>) {
    let head: string | undefined;
    for await (const piece of from) {
      // In this order: the frames are numbered as they are made.
      const begun = head ??= growing.first();
      const frames = begun + growing.take(piece);
      head = "";
      const isEnd = piece.kind === "end";
      if (isEnd) await store();
      yield { frames, isEnd };
      if (isEnd) return;
    }
  };
  if (request.stream !== true) {
    for await (const { isEnd } of steps(wholePieces(pieces))) {
      if (isEnd) return json(growing.toJson());
    }
    throw new AppError("upstream", "Cannot answer: the answer broke off");
  }
  let isEnded = false;
  return await streamAnswer(steps(pieces), {
    get isEnded() {
      return isEnded;
    },
    first: () => "",
    write: ({ frames, isEnd }) => {
      isEnded = isEnd;
      return frames;
    },
    fail: (error) => growing.fail(error),
  }, { call, limits: on.limits });
}

function idOf(call: Call): string {
  return call.path.slice("/v1/responses/".length);
}

async function getOwn(call: Call, on: ApiDeps): Promise<StoredResponse> {
  checkServing(on.deps);
  const id = idOf(call);
  const found = await findOwn({ call, on }, id);
  if (found !== undefined) return found;
  throw new AppError("not_found", `Cannot find response "${id}"`);
}

/** `GET /v1/responses/:id` */
export async function getResponse(call: Call, on: ApiDeps): Promise<Response> {
  return json((await getOwn(call, on)).body);
}

/** `DELETE /v1/responses/:id`; the conversation itself is not touched. */
export async function deleteResponse(
  call: Call,
  on: ApiDeps,
): Promise<Response> {
  const found = await getOwn(call, on);
  const { id } = found;
  await on.deps.responses?.delete(found);
  return json({ id, object: "response", deleted: true });
}
