/**
 * Turns of one conversation at a terminal: shown, stopped by Ctrl-C, asked
 * about when the gateway asks.
 *
 * @module
 */
import { AppError, ignore, isAbort } from "../../core/errors.ts";
import { ChatView } from "./chat_view.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { printable } from "../printable.ts";
import type { Prompt } from "../prompt.ts";
import type { RunEnd, RunEvent } from "../../remote/run_events.ts";
import { runTurn, type TurnInput } from "../../remote/run_turn.ts";
import type { Paint } from "../term.ts";
import { EXIT, type Io } from "../verb.ts";

export interface ChatSessionOptions {
  io: Io;
  client: GatewayClient;
  /** Without one, nothing can be asked. */
  prompt: Prompt | undefined;
  paint: Paint;
}

/** The answers there are, and how they are typed. */
const ANSWERS: readonly [answer: string, typed: string, shown: string][] = [
  ["allow-once", "yes", "[y]es once"],
  ["allow-session", "session", "for this [s]ession"],
  ["allow-always", "always", "[a]lways"],
  ["deny", "no", "[n]o"],
];

/** The answer to an ask, as `/approve` wants it: by its first letter or whole. */
function toDecision(
  text: string,
  answers: readonly string[],
): string | undefined {
  const typed = text.trim().toLowerCase();
  if (typed === "") return undefined;
  return ANSWERS.find(([answer, word]) =>
    answers.includes(answer) &&
    (typed === word || typed === word[0] || typed === answer)
  )?.[0];
}

/** `allow? [y]es once, [n]o › ` */
function questionOf(answers: readonly string[]): string {
  const shown = ANSWERS.filter(([answer]) => answers.includes(answer));
  return `allow? ${shown.map(([, , text]) => text).join(", ")} › `;
}

type Ask = RunEvent & { kind: "ask" };

/** One conversation's turns, one after the other. */
export class ChatSession {
  readonly #options: ChatSessionOptions;

  constructor(options: ChatSessionOptions) {
    this.#options = options;
  }

  /** Takes a turn; a failure is shown and the conversation goes on. */
  async takeCarefully(turn: TurnInput): Promise<void> {
    const { io, paint } = this.#options;
    try {
      await this.take(turn);
    } catch (error) {
      if (!(error instanceof AppError) || isAbort(error)) throw error;
      const exit = error.details?.["exit"];
      if (exit === EXIT.unreachable || exit === EXIT.unauthorized) throw error;
      io.out(`${paint("red", "error:")} ${printable(error.message)}\n`);
      if (error.hint !== undefined) {
        io.out(`${paint("dim", "hint:")}  ${printable(error.hint)}\n`);
      }
    }
  }

  /**
   * Takes a turn and shows it; the first Ctrl-C stops the run.
   *
   * @throws {AppError} `cancelled` at the second Ctrl-C
   */
  async take(turn: TurnInput): Promise<RunEnd> {
    const { io, client, paint } = this.#options;
    const view = new ChatView({ out: io.out, paint, clock: io.clock });
    const stop = new AbortController();
    const { promise: left, reject: leave } = Promise.withResolvers<never>();
    left.catch(ignore("nobody pressed Ctrl-C twice"));
    const interrupt = () => {
      if (!stop.signal.aborted) {
        view.note("stopping … (Ctrl-C again leaves)");
        return stop.abort();
      }
      leave(new AppError("cancelled", "Left while the run was being stopped"));
    };
    using _listening = io.onInterrupt(interrupt);
    using asking = new Asking(this.#options, { turn, interrupt });
    const events = runTurn(client, turn, {
      clock: io.clock,
      signal: stop.signal,
    });
    try {
      while (true) { // ends with the run
        const { value, done } = await Promise.race([events.next(), left]);
        if (done === true || value === undefined) break;
        if (value.kind !== "thinking" && value.kind !== "text") asking.stop();
        view.show(value);
        if (value.kind === "ask") asking.start(value);
        if (value.kind === "end") return value;
      }
    } finally {
      // Not awaited: a generator that waits for the wire returns when it can.
      events.return().catch(ignore("the turn was left"));
    }
    throw new AppError("upstream", "The run stopped without an end");
  }
}

/** The question that stands open, if one does. */
class Asking implements Disposable {
  readonly #options: ChatSessionOptions;
  readonly #turn: TurnInput;
  readonly #interrupt: () => void;
  #open: AbortController | undefined;

  constructor(
    options: ChatSessionOptions,
    context: { turn: TurnInput; interrupt: () => void },
  ) {
    this.#options = options;
    this.#turn = context.turn;
    this.#interrupt = context.interrupt;
  }

  start(ask: Ask): void {
    this.stop();
    this.#open = new AbortController();
    this.#ask(ask, this.#open.signal).catch((error) => {
      if (isAbort(error)) return;
      const { io, paint } = this.#options;
      const message = error instanceof AppError ? error.message : String(error);
      io.out(`${paint("red", "error:")} ${printable(message)}\n`);
    });
  }

  /** Takes the question back: it was answered, or its run ended. */
  stop(): void {
    if (this.#open === undefined) return;
    if (!this.#open.signal.aborted) this.#open.abort();
    this.#open = undefined;
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  async #ask(ask: Ask, signal: AbortSignal): Promise<void> {
    const { io, prompt, paint } = this.#options;
    if (prompt === undefined) {
      io.err(`Answer with /approve ${printable(ask.approvalId)} allow-once\n`);
      return;
    }
    const question = paint("yellow", questionOf(ask.answers));
    while (true) { // ends with an answer that is taken, or with the run
      const answer = await prompt.ask(question, { signal, isFresh: true });
      if (signal.aborted) return;
      if (answer.kind === "interrupt") return this.#interrupt();
      const decision = answer.kind === "end"
        ? "deny"
        : toDecision(answer.text, ask.answers);
      if (decision === undefined) continue;
      if (await this.#answer(`/approve ${ask.approvalId} ${decision}`)) return;
      if (answer.kind === "end" || signal.aborted) return;
    }
  }

  /** Sends the answer; a refusal is shown. Whether it was taken. */
  async #answer(message: string): Promise<boolean> {
    const { io, client } = this.#options;
    const { sessionKey } = this.#turn;
    const events = runTurn(client, { sessionKey, message }, {
      clock: io.clock,
    });
    try {
      for await (const event of events) {
        if (event.kind !== "end" || event.state === "final") continue;
        this.#refused(event.message ?? "the answer was not taken", event.hint);
        return false;
      }
      return true;
    } catch (error) {
      if (!(error instanceof AppError) || isAbort(error)) throw error;
      this.#refused(error.message, error.hint);
      return false;
    }
  }

  #refused(message: string, hint: string | undefined): void {
    const { io, paint } = this.#options;
    io.out(`${paint("red", "error:")} ${printable(message)}\n`);
    if (hint !== undefined) {
      io.out(`${paint("dim", "hint:")}  ${printable(hint)}\n`);
    }
  }
}
