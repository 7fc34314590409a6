/// <reference lib="dom" />
/**
 * What the page shows. Text is text: it becomes nodes, never markup.
 *
 * Never: `innerHTML`, or anything else that reads a text as HTML.
 *
 * @module
 */
import { ordered } from "../../core/hidden.ts";

export { visible } from "../../core/hidden.ts";

/** An element with attributes and children. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A button that does something. */
export function button(
  text: string,
  act: () => void,
  attributes: Record<string, string> = {},
): HTMLButtonElement {
  const node = el("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", act);
  return node;
}

/** A text with its fenced blocks of code set apart; they scroll sideways. */
export function spoken(text: string): (Node | string)[] {
  // Outside, code, outside, …: a fence that is still open ends with the text.
  const parts = ordered(text).split(/^```[^\n`]*(?:\n|$)/m);
  return parts.flatMap((part, n): (Node | string)[] => {
    if (part === "") return [];
    if (n % 2 === 1) return [el("pre", {}, part.replace(/\n$/, ""))];
    return [n === parts.length - 1 ? part : part.replace(/\n$/, "")];
  });
}

/** The line that says how things are. */
export function showState(text: string, isBad = false): void {
  const node = document.querySelector<HTMLElement>("#state");
  if (node === null) return;
  node.textContent = ordered(text);
  node.toggleAttribute("data-bad", isBad);
}
