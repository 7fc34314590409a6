/**
 * The handlers of the methods that act on sessions: keys from outside become
 * the caller's own, the rest is the agent's common bus.
 *
 * @module
 */
import { type Operations, toSummary } from "../../agent/sessions/operations.ts";
import { AppError } from "../../core/errors.ts";
import type { MethodInput, SessionMethod } from "../../core/methods.ts";
import type { GatewayDeps } from "../deps.ts";
import type { Caller } from "../keys.ts";
import type { Handlers } from "../methods.ts";

/** The acts on sessions; `agent` has more. */
export type SessionBus =
  & Pick<Operations, "run">
  & Partial<
    Pick<Operations, "watch">
  >;

/** Sessions a caller who is not the owner is shown are picked from these. */
const SCANNED_MAX = 2_000;

function busOf({ operations }: GatewayDeps): SessionBus {
  if (operations !== undefined) return operations;
  throw new AppError("unavailable", "The agents are off");
}

function actorOf(caller: Caller) {
  return {
    authority: caller.authority,
    channel: "ws",
    owns: (key: string) => caller.ownsSession(key),
  };
}

/** Sessions whose words match, for a list that searches. */
export async function sessionsSaying(
  deps: GatewayDeps,
  { caller, query }: { caller: Caller; query: string },
): Promise<string[]> {
  if (deps.operations === undefined) return [];
  const found = await deps.operations.run(
    "sessions.search",
    { query, limit: 100 },
    actorOf(caller),
  );
  return [...new Set(found.results.map(({ key }) => key))];
}

async function archives(
  deps: GatewayDeps,
  params: MethodInput<"sessions.archives">,
  caller: Caller,
) {
  const { limit = 200, offset = 0, agentId, search } = params;
  const rows = await deps.store.sessions.list({
    limit: SCANNED_MAX,
    archived: true,
    ...(agentId === undefined ? {} : { agentId }),
    ...(search === undefined ? {} : { search }),
  });
  const own = rows.filter(({ key }) => caller.ownsSession(key));
  const sessions = own.slice(offset, offset + limit)
    .map((row) => toSummary(row));
  return { ts: deps.clock.now(), count: own.length, sessions };
}

/** A handler for every act on sessions. */
export function sessionHandlers(
  deps: GatewayDeps,
): Pick<Handlers, SessionMethod | "sessions.archives"> {
  const key = (text: string, caller: Caller) =>
    caller.toKey(text, deps.agents().defaultId);
  /** An act on the one session its `key` names. */
  const onKey = <M extends SessionMethod>(method: M) =>
  async (
    params: MethodInput<M> & { key: string; toKey?: string | undefined },
    { caller }: { caller: Caller },
  ) => {
    const { toKey } = params;
    return await busOf(deps).run(method, {
      ...params,
      key: await key(params.key, caller),
      ...(toKey === undefined ? {} : { toKey: await key(toKey, caller) }),
    }, actorOf(caller));
  };
  return {
    "sessions.preview": async ({ keys, ...rest }, { caller }) => {
      const full = await Promise.all(keys.map((text) => key(text, caller)));
      const bus = busOf(deps);
      const said = await bus.run(
        "sessions.preview",
        { ...rest, keys: full },
        actorOf(caller),
      );
      return said;
    },
    "sessions.context": onKey("sessions.context"),
    "sessions.create": onKey("sessions.create"),
    "sessions.patch": onKey("sessions.patch"),
    "sessions.reset": onKey("sessions.reset"),
    "sessions.clean": onKey("sessions.clean"),
    "sessions.trust": onKey("sessions.trust"),
    "sessions.fork": onKey("sessions.fork"),
    "sessions.compact": onKey("sessions.compact"),
    "sessions.archive": onKey("sessions.archive"),
    "sessions.restore": onKey("sessions.restore"),
    "sessions.archives": (params, { caller }) => archives(deps, params, caller),
    "sessions.delete": onKey("sessions.delete"),
    "sessions.export": onKey("sessions.export"),
    "sessions.search": async (params, { caller }) =>
      await busOf(deps).run("sessions.search", params, actorOf(caller)),
    "sessions.purge": async (params, { caller }) =>
      await busOf(deps).run("sessions.purge", params, actorOf(caller)),
  };
}
