/**
 * A session as a document, JSON or Markdown, in pieces that fit a frame. Put
 * together in order the pieces are the whole document.
 *
 * @module
 */
import type { Message, Part, StoredMessage } from "../../core/message.ts";
import type { Messages } from "../../store/messages.ts";
import type { Session } from "../../store/sessions.ts";

const LIMITS = {
  /** Characters of one piece of an export; the rest comes with the next cursor. */
  chunkChars: 200_000,
  /** Messages read for one piece of an export. */
  messagesMax: 200,
  /** A cursor is a message's `seq` times this, and a piece of it. */
  pieces: 10_000,
} as const;

export type ExportFormat = "json" | "markdown";

function partText(part: Part): string {
  switch (part.kind) {
    case "text":
      return part.text;
    case "thinking":
      return "";
    case "image":
      return `*(image, ${part.mime})*`;
    case "tool_call":
      return `\`${part.name}\` ${
        fenced(JSON.stringify(part.args, null, 2), "json")
      }`;
    case "tool_result":
      return `\`${part.name}\` ${part.isError ? "failed" : "gave"}:\n${
        fenced(part.text)
      }`;
  }
}

/** A fence longer than any inside. */
function fenced(text: string, language = ""): string {
  const longest = Math.max(
    2,
    ...[...text.matchAll(/`{3,}/g)].map(([run]) => run.length),
  );
  const fence = "`".repeat(longest + 1);
  return `\n${fence}${language}\n${text}\n${fence}`;
}

const WHO: Readonly<Record<Message["role"], string>> = {
  user: "User",
  assistant: "Assistant",
  tool: "Tools",
};

function toMarkdown(message: StoredMessage): string {
  const { role, at, sender, model } = message;
  const who = sender === undefined ? WHO[role] : `${WHO[role]} ${sender}`;
  const by = model === undefined ? "" : `, ${model}`;
  const body = message.parts.map(partText).filter((text) => text !== "")
    .join("\n\n");
  const marks = message.parts.some((p) => p.label.integrity === "untrusted")
    ? " *(holds untrusted text)*"
    : "";
  return `\n## ${who}, ${new Date(at).toISOString()}${by}${marks}\n\n${body}\n`;
}

function head(session: Session, format: ExportFormat): string {
  if (format === "json") {
    return `{"session":${JSON.stringify(session)},\n"messages":[`;
  }
  const { key, label, createdAt, seq, agentId } = session;
  return `# ${label ?? key}\n\nSession ${key} of agent ${agentId}, begun ${
    new Date(createdAt).toISOString()
  }, ${seq} messages.\n`;
}

function render(message: StoredMessage, format: ExportFormat): string {
  if (format === "markdown") return toMarkdown(message);
  return `${message.seq === 1 ? "" : ","}\n${JSON.stringify(message)}`;
}

/** The piece of a session's document at a cursor, and where the next one is. */
export async function exportPiece(
  messages: Pick<Messages, "tail">,
  session: Session,
  { format, cursor = 0 }: { format: ExportFormat; cursor?: number },
): Promise<{ chunk: string; next?: number }> {
  const after = Math.floor(cursor / LIMITS.pieces);
  const piece = cursor % LIMITS.pieces;
  let chunk = cursor === 0 ? head(session, format) : "";
  // A message in pieces is named by its own `seq`; else what follows it is next.
  const from = piece > 0 ? after - 1 : after;
  // A cursor of nobody's making: behind the last message there is no more.
  if (from > session.seq) return { chunk };
  const stored = await messages.tail(session.id, {
    limit: LIMITS.messagesMax,
    afterSeq: from,
    beforeSeq: Math.min(session.seq, from + LIMITS.messagesMax) + 1,
  });
  for (const [n, message] of stored.entries()) {
    const text = render(message, format);
    const start = n === 0 && piece > 0 ? piece * LIMITS.chunkChars : 0;
    const room = LIMITS.chunkChars - chunk.length;
    if (n > 0 && text.length - start > room) {
      return { chunk, next: (message.seq - 1) * LIMITS.pieces };
    }
    chunk += text.slice(start, start + LIMITS.chunkChars);
    if (text.length - start > LIMITS.chunkChars) {
      const at = Math.floor(start / LIMITS.chunkChars) + 1;
      return { chunk, next: message.seq * LIMITS.pieces + at };
    }
  }
  const last = stored.at(-1)?.seq ?? session.seq;
  if (last < session.seq && stored.length > 0) {
    return { chunk, next: last * LIMITS.pieces };
  }
  return { chunk: chunk + (format === "json" ? "\n]}\n" : "") };
}
