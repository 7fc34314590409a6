/**
 * `carapace chat`: a conversation in the terminal, or one question from a pipe.
 *
 * @module
 */
import { decodeUtf8, readBytes } from "../../core/bounded.ts";
import { AppError } from "../../core/errors.ts";
import { AgentId } from "../../core/ids.ts";
import { readArgs, usageError } from "../args.ts";
import { ChatSession } from "./chat_session.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { findStateDir, openGateway } from "../gateway.ts";
import { ChatHistory } from "./history.ts";
import { jsonLine, printable } from "../printable.ts";
import { Prompt } from "../prompt.ts";
import type { RunEnd } from "../../remote/run_events.ts";
import { runTurn, type TurnInput } from "../../remote/run_turn.ts";
import { makePaint } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

/** What one message may hold, as the gateway says. */
const MESSAGE_CHARS_MAX = 262_144;

type Target = Omit<TurnInput, "message">;

export const chat: Verb = {
  name: "chat",
  about: "Talk to an agent",
  usage: [
    "carapace chat [--agent ID] [--session KEY] [--model PROVIDER:MODEL] [--thinking LEVEL] [--json] [MESSAGE…]",
    "carapace chat [OPTIONS] -     (the message, or its end, from standard input)",
  ],
  examples: [
    "carapace chat",
    "carapace chat what did I ask you yesterday",
    "echo hi | carapace chat",
    'carapace chat "Summarise this:" - < notes.txt',
    "carapace chat --agent work --session agent:work:review",
    "carapace chat --json hello | jq -r 'select(.kind == \"end\").reply'",
  ],
  needs: "gateway",
  run: runChat,
};

async function runChat(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    agent: { type: "string", short: "a" },
    session: { type: "string", short: "s" },
    model: { type: "string", short: "m" },
    thinking: { type: "string" },
  });
  if (
    values.agent !== undefined && !AgentId.safeParse(values.agent).success
  ) {
    throw usageError(`Cannot use "${values.agent}" as an agent's name`);
  }
  const message = await readMessage(io, positionals);
  using client = await openGateway(io, { roof });
  const target: Target = {
    sessionKey: values.session ?? mainKey(client, values.agent),
    ...(values.model === undefined ? {} : { model: values.model }),
    ...(values.thinking === undefined ? {} : { thinking: values.thinking }),
  };
  if (message === undefined) return await converse(io, client, target);
  const isPlain = values.json === true || !io.isTerminal;
  return isPlain
    ? await answerPlainly(io, client, {
      turn: { ...target, message },
      json: values.json === true,
    })
    : await answerShown(io, client, { ...target, message });
}

function mainKey(client: GatewayClient, agent: string | undefined): string {
  const { sessionDefaults } = client.hello.snapshot;
  return agent === undefined
    ? sessionDefaults.mainSessionKey
    : `agent:${agent}:${sessionDefaults.mainKey}`;
}

/** The message of the command line or a pipe; `undefined` asks for a prompt. */
async function readMessage(
  io: Io,
  positionals: readonly string[],
): Promise<string | undefined> {
  const wantsStdin = positionals.length === 0
    ? !io.stdinIsTerminal
    : positionals.at(-1) === "-";
  const words = positionals.at(-1) === "-"
    ? positionals.slice(0, -1)
    : positionals;
  if (!wantsStdin && words.length === 0) return undefined;
  const parts = words.length === 0 ? [] : [words.join(" ")];
  if (wantsStdin) {
    parts.push(decodeUtf8(await readBytes(io.stdin, 4 * MESSAGE_CHARS_MAX)));
  }
  const message = parts.join("\n\n").trim();
  if (message === "") {
    throw usageError("Cannot send an empty message");
  }
  if (message.length > MESSAGE_CHARS_MAX) {
    throw new AppError(
      "too_large",
      `Cannot send the message: it has more than ${MESSAGE_CHARS_MAX} characters`,
    );
  }
  return message;
}

/** Exit code of a turn; what went wrong goes to standard error. */
function finish(io: Io, end: RunEnd | undefined): number {
  if (end?.state === "final") return EXIT.ok;
  if (end?.state === "aborted") {
    io.err("stopped\n");
    return EXIT.interrupted;
  }
  io.err(`error: ${printable(end?.message ?? "the run failed")}\n`);
  if (end?.hint !== undefined) io.err(`hint:  ${printable(end.hint)}\n`);
  return EXIT.failed;
}

/** For pipes: only the reply on standard output, or an event a line. */
async function answerPlainly(
  io: Io,
  client: GatewayClient,
  options: { turn: TurnInput; json: boolean },
): Promise<number> {
  const { turn, json } = options;
  using stop = stopOnInterrupt(io);
  const events = runTurn(client, turn, {
    clock: io.clock,
    signal: stop.signal,
  });
  let end: RunEnd | undefined;
  for await (const event of events) {
    if (json) io.out(jsonLine(event));
    if (event.kind === "end") end = event;
    else if (event.kind === "ask") {
      io.err(
        `The agent waits for an approval: ${printable(event.question)}\n` +
          `Answer in another chat of this session: /approve ${
            printable(event.approvalId)
          } allow-once (or deny)\n`,
      );
    } else if (event.kind === "lost") {
      io.err(`${printable(event.reason)}; connecting …\n`);
    }
  }
  const reply = printable(end?.reply ?? "");
  if (!json && reply !== "") {
    io.out(reply.endsWith("\n") ? reply : `${reply}\n`);
  }
  return finish(io, end);
}

/** For a terminal: one turn, shown as it happens. */
async function answerShown(
  io: Io,
  client: GatewayClient,
  turn: TurnInput,
): Promise<number> {
  const prompt = io.stdinIsTerminal ? new Prompt(io) : undefined;
  const session = new ChatSession({ io, client, prompt, paint: makePaint(io) });
  try {
    const end = await session.take(turn);
    return end.state === "final"
      ? EXIT.ok
      : end.state === "aborted"
      ? EXIT.interrupted
      : EXIT.failed;
  } finally {
    prompt?.close();
  }
}

/** First Ctrl-C stops the run; the second leaves at once. */
function stopOnInterrupt(io: Io): { signal: AbortSignal } & Disposable {
  const controller = new AbortController();
  const listening = io.onInterrupt(() => {
    if (controller.signal.aborted) Deno.exit(EXIT.interrupted);
    controller.abort();
  });
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => listening[Symbol.dispose](),
  };
}

/** What this program does itself; the gateway's `/help` lists the rest. */
const OWN_COMMANDS: readonly string[] = [
  "/quit: leave (also Ctrl-D, or Ctrl-C twice)",
  "a line that ends with \\ goes on in the next",
  "a line that begins with a space is not kept in the history",
];

async function converse(
  io: Io,
  client: GatewayClient,
  target: Target,
): Promise<number> {
  const paint = makePaint(io);
  const history = await ChatHistory.open(await findStateDir(io));
  const prompt = new Prompt(io);
  const session = new ChatSession({ io, client, prompt, paint });
  io.out(paint(
    "dim",
    `${printable(target.sessionKey)} · /help lists commands, Ctrl-D leaves\n`,
  ));
  try {
    let interrupts = 0;
    while (true) { // ends with Ctrl-D, Ctrl-C twice or /quit
      const answer = await askMessage(prompt, {
        question: paint("bold", "› "),
        more: paint("dim", "… "),
        history: history.lines,
      });
      if (answer.kind === "end") {
        io.out("\n");
        return EXIT.ok;
      }
      if (answer.kind === "interrupt") {
        if (!answer.wasEmpty) continue;
        if (++interrupts === 2) return EXIT.interrupted;
        io.out(paint("dim", "Ctrl-C again leaves\n"));
        continue;
      }
      interrupts = 0;
      const message = answer.text.trim();
      if (message === "") continue;
      await history.add(answer.text);
      if (message === "/quit" || message === "/exit") return EXIT.ok;
      if (message === "/help") {
        io.out(OWN_COMMANDS.map((line) => `${line}\n`).join(""));
      }
      await session.takeCarefully({ ...target, message });
    }
  } finally {
    prompt.close();
  }
}

/** A message; a line that ends with `\` goes on in the next. */
async function askMessage(
  prompt: Prompt,
  options: { question: string; more: string; history: readonly string[] },
) {
  const { question, more, history } = options;
  let text = "";
  let answer = await prompt.ask(question, { history });
  while (answer.kind === "line" && answer.text.endsWith("\\")) {
    text += `${answer.text.slice(0, -1)}\n`;
    answer = await prompt.ask(more);
  }
  return answer.kind === "line"
    ? { kind: answer.kind, text: text + answer.text }
    : answer;
}
