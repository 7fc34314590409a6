/**
 * Chat commands that are handled at admission, before the lane: they work while
 * a turn runs. Each is a row; none does more than its caller's scopes allow.
 * Those that act on the session encode an act of the common bus.
 *
 * @module
 */
import type { Authority, Scope } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import type {
  ContextAccount,
  MethodInput,
  MethodOutput,
  SessionMethod,
} from "../core/methods.ts";
import type { Answer, Approvals } from "../guard/approvals.ts";

/** What commands act on. */
export interface CommandContext {
  sessionKey: string;
  authority: Authority;
  approvals: Approvals;
  abort(): string[];
  /** An act on this session, with the sender's own scopes. */
  operate<M extends SessionMethod>(
    method: M,
    params: MethodInput<M>,
  ): Promise<MethodOutput<M>>;
  status(): Promise<string>;
  usage(): Promise<string>;
  why(): string | undefined;
}

/** What a command does to the turns that came before it: ends or sets them. */
export type TurnEffect = "ends" | "sets";

/** One command. */
interface Command {
  usage: string;
  about: string;
  scope: Scope;
  /** Absent when it leaves them alone, or waits for its place behind them. */
  onTurns?: TurnEffect;
  run(rest: string, context: CommandContext): Promise<string> | string;
}

const ANSWERS: ReadonlySet<string> = new Set([
  "allow-once",
  "allow-session",
  "allow-always",
  "deny",
]);

async function approve(
  rest: string,
  { approvals, authority, sessionKey }: CommandContext,
): Promise<string> {
  if (authority.kind !== "owner") {
    throw new AppError("forbidden", "Only the owner answers what is asked");
  }
  const [id = "", answer = "allow-once"] = rest.split(/\s+/).filter(Boolean);
  if (id === "") {
    const pending = await approvals.pending(sessionKey);
    if (pending.length === 0) return "Nothing waits for an approval here.";
    return pending.map((row) => [row.id, ...row.card].join("\n  ")).join("\n");
  }
  if (!ANSWERS.has(answer)) {
    throw new AppError("bad_input", `"${answer}" is no answer`, {
      hint:
        "/approve ID allow-once, allow-session, allow-always or deny, as offered",
    });
  }
  const row = await approvals.answer(id, answer as Answer, {
    by: authority.principal,
    sessionKey,
  });
  return answer === "deny"
    ? `Refused: ${row.tool}.`
    : `Allowed ${answer.slice("allow-".length)}: ${row.tool}.`;
}

/** What a context takes, as lines. */
function contextText(account: ContextAccount): string {
  const { sections, usedTokens, windowTokens, messages, counted } = account;
  const share = Math.round(usedTokens / windowTokens * 100);
  const rows = sections.map(({ name, tokens, items, titles }) => {
    const what = titles === undefined ? String(items) : titles.join(", ");
    return `  ${name}: ${tokens} tokens (${what})`;
  });
  return [
    `Context for ${account.model}: about ${usedTokens} of ${windowTokens} tokens (${share} %), ${
      counted === "vendor" ? "by the vendor's last count" : "by estimate"
    }.`,
    ...rows,
    `Messages: ${messages.stored} stored, ${messages.summarised} as notes, ${messages.shown} shown, ${messages.trimmed} of them shortened.`,
  ].join("\n");
}

const MODES = ["queue", "steer", "replace", "collect"] as const;

async function queue(
  rest: string,
  { operate, sessionKey }: CommandContext,
): Promise<string> {
  const mode = MODES.find((name) => name === rest.toLowerCase());
  if (mode === undefined) {
    throw new AppError("bad_input", `"${rest}" is no queue mode`, {
      hint:
        "/queue queue (one after the other), steer (join the running turn), replace (stop it), collect (all that waits as one)",
    });
  }
  await operate("sessions.patch", { key: sessionKey, queueMode: mode });
  return `Messages of the same sender while a turn runs: ${mode}.`;
}

async function compactNow(
  rest: string,
  { operate, sessionKey: key }: CommandContext,
): Promise<string> {
  const done = await operate("sessions.compact", {
    key,
    ...(rest === "" ? {} : { instructions: rest }),
  });
  if (!done.compacted) return "There is nothing to compact here.";
  const dropped = done.dropped === undefined
    ? ""
    : ` Not in them: ${done.dropped}.`;
  return `${done.messages} messages are notes now: ${done.tokensBefore} tokens became ${done.tokensAfter}.${dropped}`;
}

/** `none`, `off` and `default` take a setting back. */
function toSetting(rest: string): string | null {
  return rest === "default" || rest === "" ? null : rest;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  help: {
    usage: "/help",
    about: "what can be typed here",
    scope: "chat",
    run: () =>
      Object.values(COMMANDS).map(({ usage, about }) => `${usage}: ${about}`)
        .join("\n"),
  },
  stop: {
    usage: "/stop",
    about: "stop what runs in this session",
    scope: "chat",
    onTurns: "ends",
    run: (_, context) => {
      const stopped = context.abort();
      return stopped.length === 0 ? "Nothing was running." : "Stopped.";
    },
  },
  new: {
    usage: "/new",
    about: "begin anew; what was said is put away",
    scope: "chat",
    onTurns: "ends",
    run: async (_, { operate, sessionKey: key }) => {
      const done = await operate("sessions.reset", { key, reason: "new" });
      return done.archivedKey === undefined
        ? "A new conversation."
        : `A new conversation. The old one is kept as ${done.archivedKey}.`;
    },
  },
  reset: {
    usage: "/reset",
    about: "the same, and model, thinking and queue mode are the agent's again",
    scope: "chat",
    onTurns: "ends",
    run: async (_, { operate, sessionKey: key }) => {
      const done = await operate("sessions.reset", { key, reason: "reset" });
      return done.archivedKey === undefined
        ? "A new conversation with the agent's own settings."
        : `A new conversation with the agent's own settings. The old one is kept as ${done.archivedKey}.`;
    },
  },
  clean: {
    usage: "/clean",
    about: "go on from before the first text of strangers",
    scope: "chat",
    onTurns: "ends",
    run: async (_, { operate, sessionKey: key }) => {
      const done = await operate("sessions.clean", { key });
      return done.archivedKey === undefined
        ? "Nothing here is from strangers."
        : `${done.dropped} messages are left out. All of it is kept as ${done.archivedKey}.`;
    },
  },
  trust: {
    usage: "/trust [MESSAGE.PART]",
    about: "list the texts of strangers here, or take one as your own word",
    scope: "approvals",
    run: async (rest, { operate, sessionKey: key }) => {
      const part = rest === "" ? {} : { part: rest };
      const done = await operate("sessions.trust", { key, ...part });
      if (done.trusted !== undefined) {
        return `Taken as your own word: ${done.trusted}. The rest here stays what it was.`;
      }
      return done.parts.map(({ part, from, text }) =>
        `${part} (${from}): ${text}`
      ).join("\n") || "Nothing here is from strangers.";
    },
  },
  model: {
    usage: "/model [PROVIDER:MODEL|default]",
    about: "the model of this conversation",
    scope: "chat",
    onTurns: "sets",
    run: async (rest, { operate, status, sessionKey: key }) => {
      if (rest === "") return await status();
      const model = toSetting(rest);
      await operate("sessions.patch", { key, model });
      return model === null
        ? "The agent's own model answers from here on."
        : `${model} answers from here on.`;
    },
  },
  think: {
    usage: "/think off|minimal|low|medium|high|xhigh|default",
    about: "how hard the model thinks here",
    scope: "chat",
    onTurns: "sets",
    run: async (rest, { operate, sessionKey: key }) => {
      const thinkingLevel = toSetting(rest);
      await operate("sessions.patch", { key, thinkingLevel });
      return `Thinking: ${thinkingLevel ?? "as the agent is set"}.`;
    },
  },
  queue: {
    usage: "/queue queue|steer|replace|collect",
    about: "what a message does while a turn runs",
    scope: "chat",
    onTurns: "sets",
    run: queue,
  },
  compact: {
    usage: "/compact [what to keep]",
    about: "replace the oldest part with notes, for the model only",
    scope: "chat",
    run: compactNow,
  },
  context: {
    usage: "/context",
    about: "what the model is shown, section by section",
    scope: "chat",
    run: async (_, { operate, sessionKey: key }) =>
      contextText(await operate("sessions.context", { key })),
  },
  status: {
    usage: "/status",
    about: "this session and what runs",
    scope: "chat",
    run: (_, context) => context.status(),
  },
  usage: {
    usage: "/usage",
    about: "what today came to, and what is left",
    scope: "chat",
    run: (_, context) => context.usage(),
  },
  whoami: {
    usage: "/whoami",
    about: "who you are to this gateway",
    scope: "chat",
    run: (_, { authority, sessionKey }) =>
      `You are ${authority.principal} (${authority.kind}), scopes ${
        authority.scopes.list().join(" ")
      }, in ${sessionKey}.`,
  },
  approve: {
    usage: "/approve [ID allow-once|allow-session|allow-always|deny]",
    about: "answer what waits for you, or list it",
    scope: "approvals",
    run: approve,
  },
  why: {
    usage: "/why",
    about: "why the last call here was refused",
    scope: "chat",
    run: (_, context) => context.why() ?? "Nothing was refused here.",
  },
};

/** A command's name and the rest of the line, if the text is one we know. */
export function findCommand(
  text: string,
): { name: string; rest: string } | undefined {
  const match = /^\/([a-z]+)(?:\s+([\s\S]*))?$/.exec(text.trim());
  const name = match?.[1] ?? "";
  return Object.hasOwn(COMMANDS, name)
    ? { name, rest: match?.[2]?.trim() ?? "" }
    : undefined;
}

/** What a command does to the turns before it. */
export function turnEffect(name: string): TurnEffect | undefined {
  return COMMANDS[name]?.onTurns;
}

/** Runs a command; its answer is the program's own words. */
export async function runCommand(
  { name, rest }: { name: string; rest: string },
  context: CommandContext,
): Promise<string> {
  const command = COMMANDS[name];
  if (command === undefined) {
    throw new AppError("not_found", `There is no command "/${name}"`);
  }
  if (!context.authority.scopes.has(command.scope)) {
    throw new AppError(
      "forbidden",
      `"/${name}" needs the scope "${command.scope}"`,
    );
  }
  return await command.run(rest, context);
}
