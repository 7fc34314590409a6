/**
 * `session_list`, `session_read`: other conversations of the owner's. What is
 * read keeps its own labels.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { agentOf, SessionKey } from "../core/ids.ts";
import { joinAll, label } from "../core/label.ts";
import type { StoredMessage } from "../core/message.ts";
import { type Tool, tool, type ToolContext } from "../core/tool.ts";
import type { Messages } from "../store/messages.ts";
import type { Session, Sessions } from "../store/sessions.ts";

/** What these read. */
export interface SessionDeps {
  sessions: Pick<Sessions, "find" | "list">;
  messages: Pick<Messages, "tail">;
}

const MESSAGES_MAX = 50;
const PART_CHARS_MAX = 4_000;

const READS = {
  scope: "read",
  effect: "read_private",
  reach: "owner",
  result: { integrity: "inherit", secrecy: "private" },
  destinations: [],
} as const;

/** A session in a line; a name that a stranger's text may have led to is not shown. */
function line(session: Session): string {
  const { key, kind, updatedAt, seq, joined } = session;
  const name = joined.integrity === "untrusted"
    ? undefined
    : session.label ?? session.title;
  const at = new Date(updatedAt).toISOString().slice(0, 16);
  return `${key} (${kind}, ${seq} messages, ${at})${
    name === undefined ? "" : `: ${name.replaceAll(/\s+/g, " ").slice(0, 120)}`
  }`;
}

function said(message: StoredMessage): string {
  const texts = message.parts.flatMap((part) => {
    switch (part.kind) {
      case "text":
        return [part.text];
      case "tool_call":
        return [`[calls ${part.name}]`];
      case "tool_result":
        return [`[${part.name}] ${part.text}`];
      case "image":
        return ["[an image]"];
      case "thinking":
        return [];
      default:
        return part satisfies never;
    }
  });
  const text = texts.join("\n");
  const cut = text.length > PART_CHARS_MAX
    ? `${text.slice(0, PART_CHARS_MAX)}…`
    : text;
  return `#${message.seq} ${message.role}: ${cut}`;
}

/** @throws {AppError} `not_found`, also for what this caller may not know of */
async function find(
  deps: SessionDeps,
  key: string,
  { authority }: ToolContext,
): Promise<Session> {
  const parsed = SessionKey.safeParse(key);
  const session = parsed.success && authority.allowsAgent(agentOf(key))
    ? await deps.sessions.find(key)
    : undefined;
  if (session !== undefined) return session;
  throw new AppError("not_found", "There is no such session", {
    hint: "session_list shows what there is",
  });
}

/** The session tools. */
export function sessionTools(deps: SessionDeps): Tool[] {
  return [
    tool({
      ...READS,
      name: "session_list",
      about: "List the owner's conversations, last used first",
      input: z.strictObject({
        search: z.string().max(256).optional(),
        limit: z.int().min(1).max(100).optional(),
        offset: z.int().min(0).optional(),
      }),
      run: async ({ search, limit = 20, offset = 0 }, { authority }) => {
        const list = await deps.sessions.list({
          limit,
          offset,
          ...(search === undefined ? {} : { search }),
        });
        const own = list.filter(({ key }) =>
          authority.allowsAgent(agentOf(key))
        );
        return own.map(line).join("\n") || "There are none";
      },
    }),
    tool({
      ...READS,
      name: "session_read",
      about: "Read the last messages of another conversation",
      input: z.strictObject({
        key: z.string().min(1).max(300),
        limit: z.int().min(1).max(MESSAGES_MAX).optional(),
        before: z.int().min(1).optional().describe(
          "Messages before this number",
        ),
      }),
      run: async ({ key, limit = 20, before }, context) => {
        const session = await find(deps, key, context);
        const messages = await deps.messages.tail(session.id, {
          limit,
          ...(before === undefined ? {} : { beforeSeq: before }),
        });
        const labels = messages.flatMap(({ parts }) =>
          parts.map((part) => part.label)
        );
        return {
          text: messages.map(said).join("\n\n") || "It is empty",
          label: joinAll([label("owner", session.joined.secrecy), ...labels]),
        };
      },
    }),
  ];
}
