/**
 * `POST /v1/embeddings`: sent on as it is to a vendor that has them.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { Call } from "../call.ts";
import { answerSoon } from "./late.ts";
import { agentOfModel } from "./chat_completions/agent.ts";
import { checkFields, forwardChat, replaceModel } from "./pass_through.ts";
import {
  agentsFor,
  answerPass,
  type ApiDeps,
  openPass,
  readApiBody,
} from "./target.ts";

/** `POST /v1/embeddings` */
export async function createEmbeddings(
  call: Call,
  on: ApiDeps,
): Promise<Response> {
  const { text, body } = await readApiBody(call, on);
  if (agentOfModel(body.model, agentsFor(call, on)) !== undefined) {
    throw new AppError("bad_input", "Cannot embed with an agent", {
      hint: "Name a model: <provider>/<model>",
      details: { param: "model", code: "invalid_value" },
    });
  }
  // Nothing is written, so nothing is reserved for an answer.
  const pass = await openPass(call, on, {
    text,
    body: { ...body, max_tokens: 1 },
  });
  const answer = answerPass(call, pass, async () => {
    const { provider, model, full, paid, onUsage } = pass;
    if (provider.forward === undefined) {
      throw new AppError(
        "bad_input",
        `Cannot embed with "${full}": its provider is not asked for that`,
        { details: { param: "model", code: "invalid_value" } },
      );
    }
    checkFields(body, call.caller.authority);
    return await forwardChat(replaceModel(text, body.model, model), {
      call,
      limits: on.limits,
      path: "/embeddings",
      onUsage,
      onEnd: (bytes) => paid.end(bytes),
      secrets: () => on.deps.secrets?.().byteFilter(),
      forward: provider.forward.bind(provider),
    });
  });
  return await answerSoon(answer, {
    call,
    limits: on.limits,
    isStream: false,
    dialect: "openai",
  });
}
