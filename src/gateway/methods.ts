/**
 * The WebSocket methods' handlers, one for each contract in `core/methods.ts`.
 * Scope and parameters were checked before a handler runs.
 *
 * Never: a session or run of another is read, stopped or waited for; the checks
 * are `Caller`'s.
 *
 * @module
 */
import type { z } from "zod";
import type { RunView, TurnRequest } from "../agent/turns.ts";
import type { Purse } from "../core/authority.ts";
import { dayOf } from "../core/cost.ts";
import { AppError } from "../core/errors.ts";
import { agentOf } from "../core/ids.ts";
import type { ImagePart, StoredMessage } from "../core/message.ts";
import { textOf } from "../core/message.ts";
import {
  type MethodName,
  type MethodOutput,
  METHODS,
  type SessionSummary,
} from "../core/methods.ts";
import { toThinkingTokens } from "../core/model.ts";
import type { GatewayDeps, SessionRow } from "./deps.ts";
import type { Health } from "./health.ts";
import type { Caller } from "./keys.ts";
import type { GatewayLimits } from "./limits.ts";
import { catalogHandlers } from "./methods/catalog.ts";
import { deviceHandlers } from "./methods/devices.ts";
import { channelHandlers } from "./methods/channels.ts";
import { configHandlers } from "./methods/config.ts";
import { guardHandlers } from "./methods/guard.ts";
import type { NodeCalls } from "./socket/node_calls.ts";
import { type ConnectedNode, nodeHandlers } from "./methods/nodes.ts";
import { opsHandlers } from "./methods/ops.ts";
import { pluginHandlers } from "./plugins.ts";
import { toolHandlers } from "./methods/tools.ts";
import { toSummary } from "../agent/sessions/operations.ts";
import { scheduleHandlers } from "./methods/schedule.ts";
import { sessionHandlers, sessionsSaying } from "./methods/sessions.ts";
import {
  checkModelHere,
  labelsOf,
  toInbound,
} from "./api/chat_completions/agent.ts";
import { toImage } from "./api/image.ts";
import type { RateByKind } from "./rate.ts";
import { checkServing } from "./serving.ts";

/** A method's parameters after its schema. */
type Params<M extends MethodName> = z.output<(typeof METHODS)[M]["input"]>;

/** What a handler is given of its connection. */
export interface MethodCall {
  caller: Caller;
  /** Aborts when the socket closes. */
  signal: AbortSignal;
  /** The socket it came over. */
  connId: string;
}

export type Handler<M extends MethodName> = (
  params: Params<M>,
  call: MethodCall,
) => MethodOutput<M> | Promise<MethodOutput<M>>;

/** A row for every method: a missing one does not compile. */
export type Handlers = { readonly [M in MethodName]: Handler<M> };

/** What the handlers work on. */
export interface MethodDeps {
  deps: GatewayDeps;
  limits: GatewayLimits;
  health: Health;
  turnRate: RateByKind;
  startedAt: number;
  presence(caller: Caller): MethodOutput<"system-presence">;
  nodes: Pick<NodeCalls, "invoke" | "take"> & {
    connected(nodeId: string): ConnectedNode | undefined;
  };
  isAttended(): boolean;
  isDraining(): boolean;
}

/** A stored message as the field's clients know it. */
function toHistory(
  message: StoredMessage,
): MethodOutput<"chat.history">["messages"][number] {
  return {
    role: message.role,
    content: message.parts.map((part) => {
      switch (part.kind) {
        case "text":
          return { type: "text", text: part.text };
        case "thinking":
          return { type: "thinking", thinking: part.text };
        case "image":
          return { type: "image", mimeType: part.mime, data: part.data };
        case "tool_call":
          return {
            type: "toolCall",
            id: part.id,
            name: part.name,
            arguments: part.args,
          };
        case "tool_result":
          return {
            type: "toolResult",
            toolCallId: part.callId,
            name: part.name,
            text: part.text,
            isError: part.isError,
          };
        default:
          return part satisfies never;
      }
    }),
    timestamp: message.at,
    seq: message.seq,
    ...(message.runId === undefined ? {} : { runId: message.runId }),
  };
}

function toImages(
  attachments: Params<"chat.send">["attachments"],
  label: ImagePart["label"],
): ImagePart[] {
  return (attachments ?? []).map(({ content, mimeType }) =>
    toImage(
      content.startsWith("data:")
        ? content
        : `data:${mimeType ?? ""};base64,${content}`,
      label,
    )
  );
}

/** Refuses what no part of this program does, instead of pretending. */
function checkDelivery(
  params: { deliver?: boolean | undefined; to?: string; channel?: string },
): void {
  const { deliver, to, channel } = params;
  if (
    deliver === true || to !== undefined ||
    (channel !== undefined && channel !== "webchat" && channel !== "ws")
  ) {
    throw new AppError(
      "bad_input",
      "Cannot deliver the reply elsewhere: it goes to the caller",
      { hint: 'Leave out "deliver", "to" and "channel"' },
    );
  }
}

/** Everything the methods do, as functions with names. */
class Work {
  readonly #on: MethodDeps;

  constructor(on: MethodDeps) {
    this.#on = on;
  }

  /** @throws {AppError} `unavailable` while closing or in safe mode */
  #checkAdmitting(caller: Caller): void {
    const { deps, limits, turnRate, isDraining } = this.#on;
    checkServing(deps);
    if (isDraining()) {
      throw new AppError(
        "unavailable",
        "Cannot start a turn: the gateway is shutting down",
        { retryAfterMs: limits.retryAfterMs },
      );
    }
    turnRate.take(caller.principal, deps.clock.now());
  }

  /** A turn request out of what `chat.send` and `agent` have in common. */
  async toTurn(
    caller: Caller,
    params: {
      message: string;
      idempotencyKey: string;
      sessionKey?: string | undefined;
      agentId?: string | undefined;
      thinking?: string | undefined;
      attachments?: Params<"chat.send">["attachments"];
      timeoutMs?: number | undefined;
    },
  ): Promise<TurnRequest> {
    this.#checkAdmitting(caller);
    const { deps, isAttended } = this.#on;
    const now = deps.clock.now();
    const agent = params.agentId ?? deps.agents().defaultId;
    const sessionKey = params.sessionKey === undefined
      ? undefined
      : await caller.toKey(params.sessionKey, agent);
    const agentId = sessionKey === undefined
      ? caller.checkAgent(agent)
      : agentOf(sessionKey);
    if (params.agentId !== undefined && params.agentId !== agentId) {
      throw new AppError(
        "bad_input",
        `Cannot use agent "${params.agentId}": the session is of "${agentId}"`,
      );
    }
    const labels = labelsOf(caller, now);
    return {
      inbound: toInbound(caller, {
        id: params.idempotencyKey,
        channel: "ws",
        text: params.message,
        images: toImages(params.attachments, labels.other),
        label: labels.user,
        now,
      }),
      authority: caller.authority,
      isKeyed: true,
      agentId,
      attended: isAttended(),
      ...(sessionKey === undefined ? {} : { sessionKey }),
      ...(params.thinking === undefined
        ? {}
        : { thinkingTokens: toThinkingTokens(params.thinking) }),
      ...(params.timeoutMs === undefined || params.timeoutMs === 0
        ? {}
        : { limitMs: params.timeoutMs }),
    };
  }

  async history(
    params: Params<"chat.history">,
    caller: Caller,
  ): Promise<MethodOutput<"chat.history">> {
    const { store, agents } = this.#on.deps;
    const sessionKey = await caller.toKey(
      params.sessionKey,
      agents().defaultId,
    );
    const row = await store.sessions.find(sessionKey);
    if (row === undefined) return { sessionKey, sessionId: "", messages: [] };
    const stored = await store.messages.tail(row.id, {
      limit: params.limit ?? 200,
    });
    const messages: MethodOutput<"chat.history">["messages"] = [];
    let chars = 0;
    for (const message of stored.toReversed()) {
      const shown = toHistory(message);
      chars += JSON.stringify(shown).length;
      if (chars > this.#on.limits.historyCharsMax && messages.length > 0) break;
      messages.push(shown);
    }
    return { sessionKey, sessionId: row.id, messages: messages.reverse() };
  }

  /** The caller's sessions that match, last used first. */
  async sessions(
    params: Params<"sessions.list">,
    caller: Caller,
  ): Promise<SessionSummary[]> {
    const { deps, limits } = this.#on;
    const { agentId, activeMinutes, search, offset = 0, limit = 200 } = params;
    const query = {
      ...(agentId === undefined ? {} : { agentId }),
      ...(search === undefined ? {} : { search }),
      ...(activeMinutes === undefined
        ? {}
        : { activeSince: deps.clock.now() - activeMinutes * 60_000 }),
    };
    const { sessions } = deps.store;
    // The store knows no callers: for all but the owner, look and pick.
    const rows = caller.isOwner
      ? await sessions.list({ ...query, limit, offset })
      : await sessions.list({ ...query, limit: limits.sessionsScannedMax });
    const own = rows.filter((row) => caller.ownsSession(row.key));
    const matching = caller.isOwner ? own : own.slice(offset, offset + limit);
    const said = search === undefined || offset > 0 ? [] : await this.#saying(
      search,
      { caller, query, limit: limit - matching.length, known: matching },
    );
    const summaries = [...matching, ...said].map(toSummary);
    if (params.includeLastMessage === true) {
      await Promise.all(summaries.map((summary) => this.#addLast(summary)));
    }
    return summaries;
  }

  /** Sessions in which the words were said, after those that are named so. */
  async #saying(
    words: string,
    { caller, query, limit, known }: {
      caller: Caller;
      query: { agentId?: string; activeSince?: number };
      limit: number;
      known: readonly SessionRow[];
    },
  ): Promise<SessionRow[]> {
    const { deps } = this.#on;
    const has = new Set(known.map(({ key }) => key));
    const keys = await sessionsSaying(deps, { caller, query: words });
    const rows: SessionRow[] = [];
    for (const key of keys.filter((key) => !has.has(key))) {
      if (rows.length >= limit) break;
      const row = await deps.store.sessions.find(key);
      const isWanted = row !== undefined && row.archived === undefined &&
        (query.agentId ?? row.agentId) === row.agentId &&
        row.updatedAt >= (query.activeSince ?? 0);
      if (isWanted) rows.push(row);
    }
    return rows;
  }

  async #addLast(summary: SessionSummary): Promise<void> {
    const [last] = await this.#on.deps.store.messages.tail(
      summary.sessionId,
      { limit: 1 },
    );
    if (last !== undefined) summary.lastMessage = textOf(last).slice(0, 280);
  }

  /** A run the caller may see. @throws `not_found`, also when it may not */
  async run(runId: string, caller: Caller): Promise<RunView> {
    const run = await this.#on.deps.turns.find(runId);
    if (run === undefined || !caller.maySee(run)) {
      throw new AppError("not_found", `Cannot find run "${runId}"`);
    }
    return run;
  }

  /** Stops, and answers when the ends are stored: a crash does not undo it. */
  async abort(
    params: Params<"chat.abort">,
    { caller, signal }: MethodCall,
  ): Promise<MethodOutput<"chat.abort">> {
    const { deps: { turns, agents }, limits: { abortWaitMs } } = this.#on;
    const key = await caller.toKey(params.sessionKey, agents().defaultId);
    const runIds = params.runId === undefined ? turns.abort(key) : turns.abort(
      (await this.run(params.runId, caller)).sessionKey,
      params.runId,
    );
    const wait = { timeoutMs: abortWaitMs, signal };
    await Promise.all(runIds.map((runId) => turns.wait(runId, wait)));
    return { ok: true, aborted: runIds.length > 0, runIds };
  }

  async wait(
    params: Params<"agent.wait">,
    call: MethodCall,
  ): Promise<MethodOutput<"agent.wait">> {
    const { runId } = await this.run(params.runId, call.caller);
    const outcome = await this.#on.deps.turns.wait(runId, {
      timeoutMs: params.timeoutMs ?? 30_000,
      signal: call.signal,
    });
    if (outcome === undefined) return { runId, status: "timeout" };
    const { reason, startedAt, endedAt, reply, usage, message } = outcome;
    return {
      runId,
      status: reason === "done" ? "ok" : "error",
      startedAt,
      endedAt,
      reply,
      usage,
      ...(reason === "done" ? {} : { error: message ?? reason }),
    };
  }

  async status(caller: Caller): Promise<MethodOutput<"status">> {
    const { deps, startedAt } = this.#on;
    const now = deps.clock.now();
    const said = deps.status();
    const recent = await this.sessions({ limit: 10 }, caller);
    return {
      ...said,
      // The paths and hosts behind the sandbox are the owner's business.
      posture: caller.isOwner ? said.posture : { ...said.posture, grants: {} },
      ts: now,
      uptimeMs: now - startedAt,
      sessions: {
        count: caller.isOwner
          ? this.#on.health.brief().sessions.count
          : recent.length,
        recent,
      },
      runs: deps.turns.counts(),
      ...(deps.safeMode === undefined ? {} : { safeMode: deps.safeMode }),
    };
  }
}

/** @throws {AppError} `unavailable` where nothing is counted */
function usageOf(deps: GatewayDeps): NonNullable<GatewayDeps["usage"]> {
  if (deps.usage !== undefined) return deps.usage;
  throw new AppError("unavailable", "Cannot say: nothing is counted here");
}

/** Whose spending a caller may see: the owner all, everyone else their own. */
function spenderOf({ isOwner, principal, authority }: Caller) {
  if (isOwner) return undefined;
  return { principal: principal.id, credential: authority.credential };
}

/** Budgets that keys were made with: all of them for the owner. */
async function pursesOf(
  { tokens }: GatewayDeps,
  { isOwner, authority }: Caller,
): Promise<readonly Purse[]> {
  if (!isOwner) return authority.purses;
  return (await tokens.list()).flatMap(({ id: key, budget }) =>
    budget === undefined ? [] : [{ key, ...budget }]
  );
}

/** The table. */
export function makeHandlers(on: MethodDeps): Handlers {
  const { deps, health } = on;
  const work = new Work(on);
  return {
    health: ({ probe }) =>
      probe === true
        ? health.ready().then(() => health.brief())
        : health.brief(),
    status: (_, { caller }) => work.status(caller),
    "system-presence": (_, { caller }) => on.presence(caller),
    "chat.send": async (params, { caller }) => {
      checkDelivery({ deliver: params.deliver });
      const turn = await work.toTurn(caller, params);
      const { runId, status } = await deps.turns.start(turn);
      return { runId, status };
    },
    "chat.history": (params, { caller }) => work.history(params, caller),
    "chat.abort": (params, call) => work.abort(params, call),
    "sessions.list": async (params, { caller }) => {
      const sessions = await work.sessions(params, caller);
      return { ts: deps.clock.now(), count: sessions.length, sessions };
    },
    agent: async (params, { caller }) => {
      const { deliver, to, channel, model, extraSystemPrompt } = params;
      checkDelivery({
        deliver,
        ...(to === undefined ? {} : { to }),
        ...(channel === undefined ? {} : { channel }),
      });
      if (model !== undefined) checkModelHere(caller, model);
      const { runId } = await deps.turns.start({
        ...await work.toTurn(caller, params),
        ...(model === undefined ? {} : { model }),
        ...(extraSystemPrompt === undefined
          ? {}
          : { preamble: extraSystemPrompt }),
      });
      return { runId, status: "accepted" };
    },
    "agent.wait": (params, call) => work.wait(params, call),
    "usage.status": async (_, { caller }) => {
      const desk = usageOf(deps);
      const ts = deps.clock.now();
      const who = spenderOf(caller);
      const today = await desk.today(who);
      const budgets = desk.budgets(who, await pursesOf(deps, caller));
      return { ts, day: dayOf(ts), today, budgets };
    },
    "usage.cost": async ({ by = "day", days = 7 }, { caller }) => {
      const query = { by, days };
      const cost = await usageOf(deps).cost(query, spenderOf(caller));
      return { ts: deps.clock.now(), by, ...cost };
    },
    "usage.budget": async (_, { caller }) => ({
      ts: deps.clock.now(),
      budgets: usageOf(deps).budgets(
        spenderOf(caller),
        await pursesOf(deps, caller),
      ),
    }),
    // Parsed on the way out: a row's further fields (its hash) stay here.
    "token.create": async (params, { caller }) =>
      METHODS["token.create"].output.parse(
        await deps.tokens.create(params, caller.authority),
      ),
    "token.list": async () =>
      METHODS["token.list"].output.parse({ tokens: await deps.tokens.list() }),
    "token.rotate": ({ id }, { caller }) =>
      deps.tokens.rotate(id, caller.authority),
    "token.revoke": async ({ id }, { caller }) => {
      await deps.tokens.revoke(id, caller.authority);
      return { ok: true, id };
    },
    ...catalogHandlers(on),
    ...opsHandlers(deps),
    ...channelHandlers(deps),
    ...configHandlers(deps.configuration),
    ...guardHandlers(deps.guard),
    ...deviceHandlers(deps.devices),
    ...nodeHandlers(on),
    ...pluginHandlers(deps.plugins),
    ...toolHandlers(deps.toolsDesk),
    ...scheduleHandlers(deps),
    ...sessionHandlers(deps),
  };
}

/** Whether a name is a method's. */
export function isMethod(name: string): name is MethodName {
  return Object.hasOwn(METHODS, name);
}
