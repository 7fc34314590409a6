/**
 * A chat command as a turn: stored before it is acknowledged, done, and its
 * answer stored before it is given.
 *
 * Never: an acknowledged command that a crash loses.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError, errorText } from "../core/errors.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import { NO_USAGE } from "../core/message.ts";
import type { TurnEventBody } from "../core/turn.ts";
import type { Row } from "../store/journal.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import { type CommandContext, findCommand, runCommand } from "./commands.ts";
import { deliveryRows, noticeOf } from "./delivery.ts";
import type { AgentDeps } from "./deps.ts";
import type { Operations } from "./sessions/operations.ts";
import type { Actor } from "./sessions/session_desk.ts";

/** How long /stop waits for what it stops. */
const STOP_MS = 5_000;
/** A command that was taken up this often is given up. */
const RESUMES_MAX = 3;

/** What commands act on besides the stores. */
export interface CommandRooms {
  operate: Operations["run"];
  /** Stops a session's other runs; each is over when its end is stored. */
  abort(
    sessionKey: string,
    by: string,
  ): { runId: string; done: Promise<unknown> }[];
  describe(session: Session): Promise<string>;
  why(sessionKey: string): ReturnType<CommandContext["why"]>;
}

/** Takes commands, new ones and those a crash left open. */
export class CommandTurns {
  readonly #deps: AgentDeps;
  readonly #rooms: CommandRooms;

  constructor(deps: AgentDeps, rooms: CommandRooms) {
    this.#deps = deps;
    this.#rooms = rooms;
  }

  /**
   * Takes a chat command. It is stored before it is acknowledged and its answer
   * before it is given; between the two a crash has it done at the next start.
   */
  async *take(
    command: { name: string; rest: string },
    taken: {
      run: Run;
      session: Session;
      authority: Authority;
      /** Absent when it was stored by a process that is gone. */
      acceptRows?: readonly Row[];
    },
  ): AsyncGenerator<TurnEventBody, void, undefined> {
    const { session, run, acceptRows } = taken;
    const { journal, runs } = this.#deps.store;
    if (acceptRows !== undefined) {
      await journal.commit([...acceptRows, ...runs.rows(run)]);
    }
    const { key: sessionKey, id: sessionId, agentId } = session;
    yield { kind: "accepted", sessionKey, sessionId, agentId };
    const stopped: Promise<unknown>[] = [];
    const end = await this.#run(command, { ...taken, stopped });
    const ended = Promise.all(stopped);
    if (await this.#isSoon(ended)) {
      yield* await this.#end(run, end);
      return;
    }
    // A tool does not let go. Until it does, the command stays to be done.
    void ended.then(() => this.#end(run, end));
    const text = "Stopping: what runs has not let go yet.";
    yield { kind: "text", text };
    yield { kind: "reply", text, model: "carapace" };
    yield { kind: "end", reason: "done", usage: NO_USAGE };
  }

  /** Does it; a failure is an end too. */
  async #run(
    command: { name: string; rest: string },
    { run, session, authority, stopped }: {
      run: Run;
      session: Session;
      authority: Authority;
      /** Gets what ends because of it. */
      stopped: Promise<unknown>[];
    },
  ): Promise<{ reply?: string; end: NonNullable<Run["end"]> }> {
    const { key: sessionKey } = session;
    const actor: Actor = {
      authority,
      channel: run.inbound.channel,
      owns: (key) => key === sessionKey,
    };
    try {
      const reply = await runCommand(command, {
        sessionKey,
        authority,
        operate: (method, params) => this.#rooms.operate(method, params, actor),
        approvals: this.#deps.approvals,
        abort: () => {
          const ended = this.#rooms.abort(sessionKey, run.id);
          stopped.push(...ended.map(({ done }) => done));
          return ended.map(({ runId }) => runId);
        },
        status: () => this.#rooms.describe(session),
        usage: async () =>
          await this.#deps.usageText?.(authority) ?? "Nothing is counted here.",
        why: () => this.#rooms.why(sessionKey),
      });
      return { reply, end: { reason: "done" } };
    } catch (error) {
      const isOurs = error instanceof AppError;
      if (!isOurs) {
        this.#deps.log("error", "command.failed", { error: errorText(error) });
      }
      return {
        end: {
          reason: "error",
          message: isOurs ? errorText(error) : "The command failed",
          ...(isOurs && error.hint !== undefined ? { hint: error.hint } : {}),
        },
      };
    }
  }

  /** Stores how a command came out; its last events. */
  async #end(
    run: Run,
    { reply, end }: { reply?: string; end: NonNullable<Run["end"]> },
  ): Promise<TurnEventBody[]> {
    const { store: { journal, runs }, clock, log } = this.#deps;
    const at = clock.now();
    const { input: _, ...rest } = run;
    const next: Run = {
      ...rest,
      state: end.reason === "done" ? "done" : "failed",
      updatedAt: at,
      endedAt: at,
      end,
      ...(reply === undefined ? {} : { reply }),
    };
    try {
      const text = reply ?? noticeOf(end);
      const said = { text, label: PUBLIC_OWNER };
      await journal.commit([
        ...deliveryRows(this.#deps, run, said),
        ...runs.rows(next, run),
      ]);
    } catch (error) {
      log("error", "command.end_not_stored", {
        runId: run.id,
        error: errorText(error),
      });
      const message = "The end of this command could not be stored";
      const hint = "It is done again at the next start";
      return [{ kind: "end", reason: "error", message, hint, usage: NO_USAGE }];
    }
    const said: TurnEventBody[] = reply === undefined ? [] : [
      { kind: "text", text: reply },
      { kind: "reply", text: reply, model: "carapace" },
    ];
    return [...said, { kind: "end", ...end, usage: NO_USAGE }];
  }

  /** Whether something happens within the time a command waits for it. */
  async #isSoon(wait: Promise<unknown>): Promise<boolean> {
    const late = new AbortController();
    try {
      return await Promise.race([
        wait.then(() => true),
        this.#deps.clock.sleep(STOP_MS, late.signal).then(
          () => false,
          () => false,
        ),
      ]);
    } finally {
      late.abort();
    }
  }

  /** A stored command that nobody knows the end of. */
  async *retake(
    run: Run,
    session: Session,
  ): AsyncGenerator<TurnEventBody, void, undefined> {
    const [part] = run.input?.parts ?? [];
    const command = findCommand(part?.kind === "text" ? part.text : "");
    const why = command === undefined
      ? "this version does not know it"
      : run.resumes > RESUMES_MAX
      ? `the gateway stopped ${RESUMES_MAX} times meanwhile`
      : await this.#deps.isLive(run.authority)
      ? undefined
      : "its credential was revoked meanwhile";
    if (command === undefined || why !== undefined) {
      const { key: sessionKey, id: sessionId, agentId } = session;
      yield { kind: "accepted", sessionKey, sessionId, agentId };
      const message = `The command was not done: ${why}`;
      const reason = "interrupted" as const;
      yield* await this.#end(run, { end: { reason, message } });
      return;
    }
    const { journal, runs } = this.#deps.store;
    await journal.commit(runs.rows(run, run)); // how often it was tried
    const authority = this.#deps.authorityOf(run.authority);
    yield* this.take(command, { run, session, authority });
  }
}
