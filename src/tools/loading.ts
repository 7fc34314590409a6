/**
 * Which tools a model is shown in full. Up to a number all are; beyond it only
 * the first and those it asked for, and `tool_search` finds the others.
 *
 * What was asked for is read from the conversation itself, so it holds after a
 * restart and is the same for every step.
 *
 * @module
 */
import { z } from "zod";
import type { Message } from "../core/message.ts";
import { type Tool, tool } from "../core/tool.ts";
import { searchWords } from "./memory_book.ts";

/** With more tools than this, some wait to be asked for. */
export const TOOLS_SHOWN_MAX = 20;
/** Tools that are shown in any case: the first of the registry. */
const FIRST = 16;
/** Of those asked for, the latest. */
const LOADED_MAX = 16;
const HITS = 8;

const NAME = "tool_search";
const LINE = /^- ([A-Za-z0-9_.-]{1,128}): /gm;

/** Names the conversation has asked for or used, latest last. */
function asked(history: readonly Message[]): string[] {
  const names = new Set<string>();
  const add = (name: string) => {
    names.delete(name);
    names.add(name);
  };
  for (const { parts } of history) {
    for (const part of parts) {
      if (part.kind === "tool_call" && part.name !== NAME) add(part.name);
      if (part.kind !== "tool_result" || part.name !== NAME) continue;
      for (const [, name] of part.text.matchAll(LINE)) {
        if (name !== undefined) add(name);
      }
    }
  }
  return [...names];
}

/** The tools whose schemas the model is shown now, in a stable order. */
export function offeredTools(
  tools: readonly Tool[],
  history: readonly Message[],
): Tool[] {
  const others = tools.filter(({ name }) => name !== NAME);
  if (others.length <= TOOLS_SHOWN_MAX) return others;
  const search = tools.filter(({ name }) => name === NAME);
  const later = new Map(others.slice(FIRST).map((one) => [one.name, one]));
  const loaded = asked(history).filter((name) => later.has(name))
    .slice(-LOADED_MAX);
  return [
    ...search,
    ...others.slice(0, FIRST),
    // In the order they were asked for: what stands before stays cached.
    ...loaded.flatMap((name) => later.get(name) ?? []),
  ];
}

/** How well a tool fits some words: by name twice as well as by what it says. */
function score({ name, about }: Tool, words: readonly string[]): number {
  const inName = searchWords(name.replaceAll(/[_.-]/g, " "));
  const inAbout = searchWords(about);
  let sum = 0;
  for (const word of words) {
    const fits = (other: string) =>
      other === word || word.length > 2 && other.startsWith(word) ||
      other.length > 3 && word.startsWith(other);
    if (inName.some(fits)) sum += 2;
    if (inAbout.some(fits)) sum += 1;
  }
  return sum;
}

/** `tool_search`: finds tools that are not shown, and so has them shown. */
export const toolSearch: Tool = tool({
  name: NAME,
  about:
    "Find further tools by what they do; those it names can be called from then on",
  input: z.strictObject({ query: z.string().min(1).max(256) }),
  scope: "chat",
  effect: "none",
  reach: "own",
  result: { integrity: "inherit", secrecy: "inherit" },
  destinations: [],
  run: ({ query }, { tools }) => {
    const words = searchWords(query.replaceAll(/[_.-]/g, " "));
    const all = (tools?.() ?? []).filter(({ name }) => name !== NAME);
    const hits = all.map((one) => ({ one, fit: score(one, words) }))
      .filter(({ fit }) => fit > 0)
      .sort((a, b) => b.fit - a.fit).slice(0, HITS);
    if (hits.length > 0) {
      return hits.map(({ one }) =>
        `- ${one.name}: ${one.about.replaceAll(/\s+/g, " ").slice(0, 200)}`
      ).join("\n");
    }
    const names = all.slice(FIRST).map(({ name }) => name).join(", ");
    return `Nothing fits. There are: ${names.slice(0, 4_000) || "no others"}`;
  },
});
