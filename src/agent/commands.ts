/**
 * Chat commands that are handled at admission, before the lane: they work while
 * a turn runs. Each is a row; none does more than its caller's scopes allow.
 *
 * @module
 */
import type { Authority, Scope } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import type { Answer, Approvals } from "../guard/approvals.ts";

/** What commands act on. */
export interface CommandContext {
  sessionKey: string;
  authority: Authority;
  approvals: Approvals;
  abort(): string[];
  status(): Promise<string>;
  usage(): Promise<string>;
  why(): string | undefined;
}

/** One command. */
interface Command {
  usage: string;
  about: string;
  scope: Scope;
  run(rest: string, context: CommandContext): Promise<string> | string;
}

const ANSWERS: ReadonlySet<string> = new Set(["allow-once", "deny"]);

async function approve(
  rest: string,
  { approvals, authority, sessionKey }: CommandContext,
): Promise<string> {
  const [id = "", answer = "allow-once"] = rest.split(/\s+/).filter(Boolean);
  if (id === "") {
    const pending = await approvals.pending(sessionKey);
    if (pending.length === 0) return "Nothing waits for an approval here.";
    return pending.map((row) =>
      `${row.id}: ${row.tool} ${JSON.stringify(row.args)} (${row.question})`
    ).join("\n");
  }
  if (!ANSWERS.has(answer)) {
    throw new AppError("bad_input", `"${answer}" is no answer`, {
      hint: "/approve ID allow-once, or /approve ID deny",
    });
  }
  const row = await approvals.answer(id, answer as Answer, {
    by: authority.principal,
    sessionKey,
  });
  return answer === "deny"
    ? `Refused: ${row.tool}.`
    : `Allowed once: ${row.tool}.`;
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
    run: (_, context) => {
      const stopped = context.abort();
      return stopped.length === 0 ? "Nothing was running." : "Stopped.";
    },
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
    usage: "/approve [ID allow-once|deny]",
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
