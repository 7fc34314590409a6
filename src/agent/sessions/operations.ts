/**
 * The one bus of acts on sessions: WebSocket methods, chat commands and the
 * command line all come here with a method's name and its parameters. The
 * contract in `core/methods.ts` says what each takes, answers and needs.
 *
 * Never: an act without its scope; an act on a session the actor does not own.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import { agentOf } from "../../core/ids.ts";
import type { z } from "zod";
import { textOf } from "../../core/message.ts";
import {
  type MethodInput,
  type MethodOutput,
  METHODS,
  type SessionMethod,
  type SessionSummary,
} from "../../core/methods.ts";
import { toThinkingTokens } from "../../core/model.ts";
import type { Session } from "../../store/sessions.ts";
import type { AgentDeps } from "../deps.ts";
import { exportPiece } from "./export.ts";
import type { TranscriptSearch } from "./search.ts";
import type { Actor, SessionDesk } from "./session_desk.ts";

type Params<M extends SessionMethod> = z.output<(typeof METHODS)[M]["input"]>;

type Acts = {
  readonly [M in SessionMethod]: (
    params: Params<M>,
    actor: Actor,
  ) => Promise<MethodOutput<M>>;
};

/** A session's row as lists show it. */
export function toSummary(
  session:
    & Pick<Session, "key" | "id" | "agentId" | "updatedAt" | "usage">
    & { kind: string; archived?: { at: number } | undefined }
    & {
      [
        K in
          | "label"
          | "title"
          | "channel"
          | "model"
          | "context"
          | "thinkingTokens"
          | "queueMode"
      ]?: Session[K] | undefined;
    },
): SessionSummary {
  const { key, kind, id, agentId, updatedAt, usage } = session;
  const { channel, model, context, thinkingTokens, queueMode, archived } =
    session;
  const label = session.label ?? session.title;
  return {
    key,
    kind,
    updatedAt,
    sessionId: id,
    agentId,
    inputTokens: usage.inputTokens,
    outputTokens: usage.outputTokens,
    ...(label === undefined ? {} : { label }),
    ...(channel === undefined ? {} : { channel }),
    ...(model === undefined ? {} : { model }),
    ...(context === undefined ? {} : {
      totalTokens: context.tokens,
      contextTokens: context.windowTokens,
    }),
    ...(thinkingTokens === undefined ? {} : { thinkingTokens }),
    ...(queueMode === undefined ? {} : { queueMode }),
    ...(archived === undefined ? {} : { archivedAt: archived.at }),
  };
}

function changed(session: Session) {
  return { ok: true as const, key: session.key, entry: toSummary(session) };
}

/** Leaves out what is not there. */
function given<T extends object>(values: T): {
  [K in keyof T]: Exclude<T[K], undefined>;
} {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as { [K in keyof T]: Exclude<T[K], undefined> };
}

/** A session is not what it was; who may see it is told. */
export interface SessionChange {
  sessionKey: string;
  agentId: string;
  /** What was done: `patch`, `reset`, `delete` and the like. */
  reason: string;
}

/** Acts that leave everything as it is. */
const READS: ReadonlySet<SessionMethod> = new Set([
  "sessions.preview",
  "sessions.context",
  "sessions.export",
  "sessions.search",
]);

/** The acts by their methods' names. */
export class Operations {
  readonly #desk: SessionDesk;
  readonly #search: TranscriptSearch;
  readonly #store: Pick<AgentDeps["store"], "sessions" | "messages">;
  readonly #acts: Acts;
  readonly #listeners = new Set<(change: SessionChange) => void>();

  constructor(
    desk: SessionDesk,
    options: {
      search: TranscriptSearch;
      store: Pick<AgentDeps["store"], "sessions" | "messages">;
    },
  ) {
    this.#desk = desk;
    this.#search = options.search;
    this.#store = options.store;
    this.#acts = this.#makeActs();
  }

  /**
   * Does what a method says, for somebody. Keys are full ones.
   *
   * @throws {AppError} `forbidden` without the method's scope, `bad_input`,
   * `not_found` (also for a session of another), `conflict`
   */
  async run<M extends SessionMethod>(
    method: M,
    params: MethodInput<M>,
    actor: Actor,
  ): Promise<MethodOutput<M>> {
    const { scope, input } = METHODS[method];
    if (!actor.authority.scopes.has(scope)) {
      throw new AppError(
        "forbidden",
        `"${method}" needs the scope "${scope}"`,
        {
          details: { code: "MISSING_SCOPE", scope },
        },
      );
    }
    const parsed = input.safeParse(params);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new AppError(
        "bad_input",
        `Cannot do "${method}": ${issue?.path.join(".") ?? ""} ${
          issue?.message ?? ""
        }`,
      );
    }
    const done = await this.#acts[method](parsed.data as Params<M>, actor);
    if (!READS.has(method)) this.#tell(method, done, params);
    return done;
  }

  /** Calls after every act that changed a session. Must not throw. */
  watch(listener: (change: SessionChange) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** The keys an act changed: its own, and the one it put something away under. */
  #tell(method: SessionMethod, done: object, params: object): void {
    const reason = method.slice("sessions.".length);
    const { key, archivedKey } = done as { key?: string; archivedKey?: string };
    const { key: asked } = params as { key?: string };
    const keys = [...new Set([key, asked, archivedKey])]
      .filter((one) => one !== undefined);
    for (const sessionKey of keys) {
      const change = { sessionKey, agentId: agentOf(sessionKey), reason };
      for (const listener of this.#listeners) listener(change);
    }
  }

  /** Lets go of what nobody asked for lately. */
  trim(): void {
    this.#search.trim();
  }

  #makeActs(): Acts {
    const desk = this.#desk;
    return {
      "sessions.preview": (params, actor) => this.#preview(params, actor),
      "sessions.context": async ({ key }, actor) => ({
        key,
        ...await desk.context(key, { actor }),
      }),
      "sessions.create": async ({ key, label, model }, actor) =>
        changed(await desk.create(key, { actor, patch: { label, model } })),
      "sessions.patch": async (params, actor) => {
        const { key, thinkingLevel, ...patch } = params;
        const thinkingTokens = typeof thinkingLevel === "string"
          ? toThinkingTokens(thinkingLevel)
          : thinkingLevel;
        return changed(
          await desk.patch(key, { actor, patch: { ...patch, thinkingTokens } }),
        );
      },
      "sessions.reset": async ({ key, reason = "new" }, actor) => {
        const done = await desk.reset(key, { actor, reason });
        const { archivedKey } = done;
        return { ...changed(done.session), ...given({ archivedKey }) };
      },
      "sessions.clean": async ({ key }, actor) => {
        const { session, archivedKey, dropped } = await desk.clean(key, {
          actor,
        });
        return { ...changed(session), dropped, ...given({ archivedKey }) };
      },
      "sessions.trust": async ({ key, part }, actor) => {
        const { session, parts, trusted } = part === undefined
          ? await desk.strangers(key, { actor })
          : await desk.trust(key, { actor, part });
        return { ...changed(session), parts, ...given({ trusted }) };
      },
      "sessions.fork": async ({ key, ...options }, actor) =>
        changed(await desk.fork(key, { actor, ...given(options) })),
      "sessions.compact": (params, actor) => this.#compact(params, actor),
      "sessions.archive": async ({ key }, actor) =>
        changed(await desk.archive(key, { actor })),
      "sessions.restore": async ({ key, toKey }, actor) =>
        changed(await desk.restore(key, { actor, ...given({ toKey }) })),
      "sessions.delete": async ({ key }, actor) => {
        await desk.delete(key, { actor });
        return { ok: true, key, deleted: true, archived: [] };
      },
      "sessions.export": async (params, actor) => {
        const { key, format = "json", cursor = 0 } = params;
        const session = await desk.get(key, actor);
        const piece = await exportPiece(this.#store.messages, session, {
          format,
          cursor,
        });
        return { key, format, ...piece };
      },
      "sessions.search": async ({ query, limit = 20, agentId }, actor) =>
        await this.#search.find(query, {
          limit,
          mayRead: (session) =>
            actor.owns(session.key) &&
            (agentId === undefined || session.agentId === agentId),
        }),
      "sessions.purge": async ({ principal }) => ({
        ok: true,
        sessions: await desk.purge(
          principal,
          (key) => this.#tell("sessions.purge", { key }, {}),
        ),
      }),
    };
  }

  async #preview(
    { keys, limit = 5, maxChars = 240 }: Params<"sessions.preview">,
    actor: Actor,
  ): Promise<MethodOutput<"sessions.preview">> {
    const previews = await Promise.all(keys.map(async (key) => {
      const session = actor.owns(key)
        ? await this.#store.sessions.find(key)
        : undefined;
      if (session === undefined) {
        return { key, status: "missing" as const, items: [] };
      }
      const stored = await this.#store.messages.tail(session.id, { limit });
      const items = stored.map((message) => ({
        role: message.role,
        text: textOf(message).replaceAll(/\s+/g, " ").trim().slice(0, maxChars),
      })).filter(({ text }) => text !== "");
      const status = items.length === 0 ? "empty" as const : "ok" as const;
      return { key, status, items };
    }));
    return { previews };
  }

  async #compact(
    { key, instructions }: Params<"sessions.compact">,
    actor: Actor,
  ): Promise<MethodOutput<"sessions.compact">> {
    const { before, after, done, messages } = await this.#desk.compact(key, {
      actor,
      ...given({ wish: instructions }),
    });
    return {
      ok: true,
      key,
      compacted: done !== undefined,
      messages,
      tokensBefore: before.usedTokens,
      tokensAfter: after.usedTokens,
      ...given({
        by: done?.summary.by,
        dropped: done?.summary.dropped,
      }),
    } as MethodOutput<"sessions.compact">;
  }
}
