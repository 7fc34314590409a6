/**
 * Old large tool results and images shown shorter. Only what a model is shown
 * changes; the stored transcript stays whole.
 *
 * @module
 */
import type { Message, Part } from "../../core/message.ts";

const LIMITS = {
  /** A result longer than this is shown by its head and tail. */
  resultCharsMax: 2_000,
  /** Of those characters, what the head takes. */
  headShare: 0.5,
  /** Of those characters, what the tail takes. */
  tailShare: 0.2,
  /** The last exchanges of the present turn stay whole. */
  exchangesKept: 2,
} as const;

function shorten(text: string, charsMax: number): string {
  const headChars = Math.ceil(charsMax * LIMITS.headShare);
  const tailChars = Math.ceil(charsMax * LIMITS.tailShare);
  const head = text.slice(0, headChars).replace(/[\ud800-\udbff]$/, "");
  const tail = text.slice(-tailChars).replace(/^[\udc00-\udfff]/, "");
  const gone = text.length - head.length - tail.length;
  return `${head}\n[${gone} characters left out; call the tool again if they matter]\n${tail}`;
}

function trimPart(part: Part): Part {
  if (part.kind === "image") {
    const text = "[an image that is no longer shown]";
    return { kind: "text", text, label: part.label };
  }
  return part.kind === "tool_result" && part.text.length > LIMITS.resultCharsMax
    ? { ...part, text: shorten(part.text, LIMITS.resultCharsMax) }
    : part;
}

/** A message is trimmed once, so that its size is counted once. */
const trimmed = new WeakMap<Message, Message>();

/** The message with its large results and images shortened, or itself. */
function trimMessage<M extends Message>(message: M): M {
  const known = trimmed.get(message);
  if (known !== undefined) return known as M;
  const parts = message.parts.map(trimPart);
  const isSame = parts.every((part, n) => part === message.parts[n]);
  const result = isSame ? message : { ...message, parts };
  trimmed.set(message, result);
  return result;
}

/** Where the user's last message but one is: what came before it is old. */
function oldUntil(messages: readonly Message[]): number {
  let users = 0;
  for (let n = messages.length - 1; n >= 0; n--) {
    if (messages[n]?.role === "user" && ++users === 2) return n;
  }
  return users === 1 ? messages.findIndex(({ role }) => role === "user") : 0;
}

/** Everything before the last two turns, trimmed. */
export function trimOld<M extends Message>(messages: readonly M[]): M[] {
  const until = oldUntil(messages);
  return messages.map((m, n) => n < until ? trimMessage(m) : m);
}

/** Everything but the last exchanges, trimmed; for one turn that is too long. */
export function trimHard<M extends Message>(messages: readonly M[]): M[] {
  let exchanges = 0;
  return messages.toReversed().map((message) => {
    if (message.role === "tool") exchanges++;
    return exchanges <= LIMITS.exchangesKept ? message : trimMessage(message);
  }).reverse();
}

/** Every result, the newest too, shown by so many characters at most. */
export function squeeze<M extends Message>(
  messages: readonly M[],
  charsMax: number,
): M[] {
  return messages.map((message) => {
    const parts = message.parts.map((part) =>
      part.kind === "tool_result" && part.text.length > charsMax
        ? { ...part, text: shorten(part.text, charsMax) }
        : part
    );
    const isSame = parts.every((part, n) => part === message.parts[n]);
    return isSame ? message : { ...message, parts };
  });
}
