/**
 * The one admission: whether this principal may talk to this agent at all.
 * Every kind of inbound event passes here before anything else is done for it.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";

/** What is asked for at the door. */
export interface AdmissionRequest {
  authority: Authority;
  agentId: string;
  /** `provider:model`, when the caller names one. */
  model: string | undefined;
}

/** @throws {AppError} `forbidden`, naming the scope or the list that says no */
export function admit(request: AdmissionRequest): void {
  const { authority, agentId, model } = request;
  if (!authority.scopes.has("chat")) {
    throw new AppError("forbidden", 'This needs the scope "chat"', {
      details: { code: "MISSING_SCOPE", scope: "chat" },
      hint:
        'Use a token with that scope: carapace token create NAME --scopes "chat"',
    });
  }
  if (!authority.allowsAgent(agentId)) {
    throw new AppError(
      "forbidden",
      `This credential may not talk to agent "${agentId}"`,
    );
  }
  if (model !== undefined) checkModel(authority, model);
}

/**
 * Another model than the agent's own shows its private data to another vendor,
 * so choosing one needs `write`, at every door.
 *
 * @throws {AppError} `forbidden`
 */
export function checkModelChoice(
  authority: Pick<Authority, "allowsModel" | "scopes">,
  model: string,
): void {
  if (!authority.scopes.has("write")) {
    throw new AppError(
      "forbidden",
      'Cannot choose the agent\'s model: it needs the scope "write"',
      { details: { code: "MISSING_SCOPE", scope: "operator.write" } },
    );
  }
  checkModel(authority, model);
}

/**
 * Whoever chose the model: a key's limits hold for an agent's own one too.
 *
 * @throws {AppError} `forbidden`
 */
export function checkModel(
  authority: Pick<Authority, "allowsModel">,
  model: string,
): void {
  if (authority.allowsModel(model)) return;
  throw new AppError(
    "forbidden",
    `This credential may not use model "${model}"`,
    { hint: "Its token names the models it may use" },
  );
}
