/**
 * What the owner is shown before they answer: the tool, every argument in full
 * with nothing invisible left invisible, and where each argument came from.
 *
 * Never: an argument is cut or shown by a paraphrase; the model's own words are
 * offered as a reason.
 *
 * @module
 */
import type { Origin } from "../core/label.ts";
import type { Message, Part } from "../core/message.ts";
import type { Effect } from "../core/tool.ts";
import type { Decision } from "./decide.ts";
import { textOfPart } from "./links.ts";
import { normalise, screenable, visible } from "./screen/normalise.ts";

const LIMITS = {
  /** Arguments of a call that an approval shows one by one; of the rest, their number. */
  leavesMax: 500,
  /** Levels of arguments that are looked into for it. */
  depthMax: 32,
  /** Shorter values say nothing about where they came from. */
  charsMin: 3,
  /** A passage this long that stands in a part was taken from it. */
  passageChars: 24,
  passagesMax: 200,
} as const;

/** What a card is made of. */
export interface CardInput {
  tool: string;
  effect: Effect;
  args: unknown;
  decision: Decision;
  /** Everything the model was shown, oldest first. */
  messages: readonly Message[];
}

interface Leaf {
  path: string;
  value: unknown;
}

function* leavesOf(
  value: unknown,
  path = "",
  depth = 0,
): Generator<Leaf, void, undefined> {
  const isTree = typeof value === "object" && value !== null;
  if (!isTree || depth >= LIMITS.depthMax || Object.keys(value).length === 0) {
    yield { path, value };
    return;
  }
  for (const [key, inner] of Object.entries(value)) {
    yield* leavesOf(inner, path === "" ? key : `${path}.${key}`, depth + 1);
  }
}

function timeOf(at: number): string {
  return at <= 0 ? "" : ` at ${new Date(at).toTimeString().slice(0, 5)}`;
}

const ORIGIN_ORDER: readonly Origin["kind"][] = [
  "web",
  "mcp",
  "plugin",
  "file",
  "memory",
  "channel",
  "hook",
  "schedule",
  "client",
  "peer",
  "tool",
  "many",
];

/** The most telling origin of a part, in words. */
function originWords(part: Part): string {
  const { origins } = part.label;
  for (const kind of ORIGIN_ORDER) {
    const origin = origins.find((one) => one.kind === kind);
    if (origin === undefined) continue;
    const ref = visible(origin.ref);
    return kind === "many"
      ? `several sources${timeOf(origin.at)}`
      : kind === "web"
      ? `${ref}${timeOf(origin.at)}`
      : `${kind} ${JSON.stringify(ref)}${timeOf(origin.at)}`;
  }
  return part.kind === "tool_result"
    ? `tool ${JSON.stringify(part.name)}`
    : "this conversation";
}

function passagesOf(text: string): string[] {
  if (text.length <= LIMITS.passageChars) return [text];
  const found: string[] = [];
  const step = Math.max(
    LIMITS.passageChars / 2,
    Math.ceil(text.length / LIMITS.passagesMax),
  );
  for (let n = 0; n + LIMITS.passageChars <= text.length; n += step) {
    found.push(text.slice(n, n + LIMITS.passageChars));
  }
  return found;
}

/** Where a value came from, in words for the card. */
function provenance(text: string, messages: readonly Message[]): string {
  if (text.length < LIMITS.charsMin) return "";
  const passages = passagesOf(text);
  const sources = new Set<string>();
  let typed: Part | undefined;
  for (const { role, parts } of messages) {
    if (role === "assistant") continue;
    for (const part of parts) {
      const own = textOfPart(part);
      const isTyped = role === "user" && part.kind === "text" &&
        part.label.integrity === "owner";
      if (isTyped) {
        if (own.includes(text)) typed = part;
      } else if (passages.some((passage) => own.includes(passage))) {
        sources.add(originWords(part));
      }
    }
  }
  if (typed !== undefined) {
    const at = typed.label.origins.find(({ kind }) => kind === "owner")?.at;
    return `written by you${timeOf(at ?? 0)}`;
  }
  const names = [...sources].slice(0, 4);
  return names.length === 0
    ? "composed by the model"
    : `read from ${names.join(" and ")}, not written by you`;
}

function shown(value: unknown): string {
  if (typeof value === "string") return visible(value);
  return visible(JSON.stringify(value) ?? "nothing");
}

/** Letters that pass for others, where the owner has to recognise a name. */
function warning(value: unknown): string {
  if (typeof value !== "string" || value.length > 512) return "";
  const bare = normalise(value);
  // deno-lint-ignore no-control-regex
  const isOdd = /[^\x00-\x7f]/.test(bare) &&
    /[a-z]/.test(screenable(bare)) &&
    // deno-lint-ignore no-control-regex
    !/[^\x00-\x7f]/.test(screenable(bare));
  return isOdd ? "; it has letters that only look like Latin ones" : "";
}

/** The card, one line an element; an argument of many lines takes many. */
export function buildCard(input: CardInput): string[] {
  const { tool, effect, args, decision, messages } = input;
  const lines = [`${visible(tool)} (${effect}): ${visible(decision.reason)}`];
  let count = 0;
  for (const { path, value } of leavesOf(args)) {
    if (path === "" && typeof value === "object") break;
    const text = shown(value);
    const isLong = text.includes("\n") || text.length > 100;
    const from = ++count > LIMITS.leavesMax ? "" : provenance(
      typeof value === "string" ? value : JSON.stringify(value) ?? "",
      messages,
    );
    const note = from + warning(value);
    lines.push(
      isLong
        ? `${visible(path)}:${note === "" ? "" : ` (${note})`}`
        : `${visible(path)}: ${text}${note === "" ? "" : ` (${note})`}`,
    );
    if (isLong) {
      for (const line of text.split("\n")) lines.push(`  | ${line}`);
    }
  }
  if (count === 0) lines.push("(no arguments)");
  return lines;
}
