/**
 * The handlers of the methods that say what there is, and of `tools.invoke`.
 *
 * Never: a tool, an agent or a model that the caller may not use is listed.
 *
 * @module
 */
import type { CATALOG_METHODS } from "../../core/methods/catalog.ts";
import { AppError } from "../../core/errors.ts";
import { agentOf } from "../../core/ids.ts";
import type { z } from "zod";
import { invokeFor, toolsOf } from "../api/invoke.ts";
import type { Caller } from "../keys.ts";
import type { Handlers, MethodDeps } from "../methods.ts";

type Methods = typeof CATALOG_METHODS;
type Payload<M extends keyof Methods> = z.output<Methods[M]["output"]>;

const CODE = {
  failed: "tool_error",
  denied: "denied",
  unfit: "invalid_request",
} as const;

/** The rows for the table of methods. */
export function catalogHandlers(
  on: MethodDeps,
): Pick<Handlers, keyof Methods> {
  const { deps } = on;
  const agentFor = (caller: Caller, agentId: string | undefined) => {
    const { defaultId, agents } = deps.agents();
    const id = caller.checkAgent(agentId ?? defaultId);
    const agent = agents.find((one) => one.id === id);
    if (agent !== undefined) return agent;
    throw new AppError("not_found", `There is no agent "${id}"`, {
      hint: "agents.list says which there are",
    });
  };
  return {
    "models.list": async (_, { caller, signal }) => {
      const models = deps.safeMode === undefined
        ? await deps.router.list(signal)
        : [];
      return {
        models: models.map(({ provider, id, label }) => ({
          id: `${provider}:${id}`,
          label: label ?? id,
          name: label ?? id,
          provider,
          model: id,
        })).filter(({ id }) => caller.authority.allowsModel(id)),
      };
    },
    "agents.list": (_, { caller }) => {
      const { defaultId, agents } = deps.agents();
      return {
        defaultId,
        mainKey: "main",
        scope: "per-sender",
        agents: agents.filter(({ id }) => caller.authority.allowsAgent(id))
          .map(({ id, name, model, fallbacks = [], workspace }) => ({
            id,
            name,
            identity: { name },
            ...(model === undefined
              ? {}
              : { model: { primary: model, fallbacks: [...fallbacks] } }),
            ...(workspace === undefined || !caller.isOwner
              ? {}
              : { workspace }),
          })),
      };
    },
    "agent.identity.get": async ({ agentId, sessionKey }, { caller }) => {
      const named = sessionKey === undefined ? undefined : agentOf(
        await caller.toKey(sessionKey, agentId ?? deps.agents().defaultId),
      );
      if (agentId !== undefined && named !== undefined && agentId !== named) {
        throw new AppError(
          "bad_input",
          `The session is of agent "${named}", not of "${agentId}"`,
        );
      }
      const { id, name, model } = agentFor(caller, agentId ?? named);
      return {
        agentId: id,
        name,
        ...(model === undefined ? {} : { model }),
      };
    },
    "tools.catalog": ({ agentId, includePlugins = true }, { caller }) => {
      const { id } = agentFor(caller, agentId);
      const { authority } = caller;
      if (deps.catalogOf === undefined) {
        throw new AppError("unavailable", "There are no tools: agents are off");
      }
      const user = { agentId: id, authority, channel: "ws" };
      return {
        agentId: id,
        profiles: [],
        groups: deps.catalogOf(user).filter(({ source }) =>
          includePlugins || source !== "plugin"
        ),
      };
    },
    "tools.invoke": (params, call) => invoke(on, params, call),
    "skills.status": async (_, { caller }) => {
      // They are read from the owner's folders, for the owner's turns.
      const skills = caller.isOwner ? await deps.skills?.() ?? [] : [];
      return { skills: [...skills] };
    },
  };
}

async function invoke(
  on: MethodDeps,
  { name, args = {}, agentId, idempotencyKey }: z.output<
    Methods["tools.invoke"]["input"]
  >,
  { caller, signal }: { caller: Caller; signal: AbortSignal },
): Promise<Payload<"tools.invoke">> {
  if (on.isDraining()) {
    throw new AppError(
      "unavailable",
      "Cannot call a tool: the gateway is shutting down",
      { retryAfterMs: on.limits.retryAfterMs },
    );
  }
  if (agentId !== undefined) caller.checkAgent(agentId);
  const channel = "ws";
  const mine = toolsOf(on, caller, { agentId, channel });
  if (!mine.some((tool) => tool.name === name)) {
    const message = `There is no tool "${name}" for this credential`;
    return { ok: false, toolName: name, error: { code: "not_found", message } };
  }
  const { outcome, text, runId } = await invokeFor(caller, on, {
    name,
    args,
    agentId,
    channel,
    // A turn's key is another's: one never answers for the other.
    id: idempotencyKey === undefined ? undefined : `tool:${idempotencyKey}`,
    signal,
  });
  const content = [{ type: "text" as const, text }];
  return outcome === "done"
    ? { ok: true, toolName: name, runId, output: { content } }
    : {
      ok: false,
      toolName: name,
      runId,
      error: { code: CODE[outcome], message: text },
    };
}
