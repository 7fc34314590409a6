/**
 * `/v1/models`: agents and models by the names they are called with, in a shape
 * that clients of both dialects read.
 *
 * @module
 */
import type { Call } from "../call.ts";
import { json } from "../http_errors.ts";
import { agentOfModel } from "./chat_completions/agent.ts";
import { checkServing } from "../serving.ts";
import {
  agentsFor,
  type ApiDeps,
  modelNotFound,
  resolveModel,
} from "./target.ts";

function toRow(id: string, ownedBy: string, now: number) {
  return {
    id,
    object: "model",
    created: Math.floor(now / 1000),
    owned_by: ownedBy,
    type: "model",
    display_name: id,
    created_at: new Date(now).toISOString(),
  };
}

/** `GET /v1/models` */
export async function listModels(call: Call, on: ApiDeps): Promise<Response> {
  const { deps } = on;
  const { authority } = call.caller;
  const now = deps.clock.now();
  const row = (id: string, ownedBy: string) => toRow(id, ownedBy, now);
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
  const data = [...own, ...passed];
  return json({
    object: "list",
    data,
    has_more: false,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  });
}

/** `GET /v1/models/:id`; an id's slash stands in the path as it is. */
export function getModel(call: Call, on: ApiDeps): Response {
  const { deps } = on;
  checkServing(deps);
  const { authority } = call.caller;
  const id = call.path.slice("/v1/models/".length);
  const now = deps.clock.now();
  const agentId = agentOfModel(id, agentsFor(call, { deps }));
  if (agentId !== undefined) {
    if (!authority.allowsAgent(agentId)) throw modelNotFound(id);
    return json(toRow(id, "carapace", now));
  }
  const { provider, model } = resolveModel(deps, id);
  if (!authority.allowsModel(`${provider.id}:${model}`)) {
    throw modelNotFound(id);
  }
  return json(toRow(id, provider.id, now));
}
