/// <reference lib="dom" />
/**
 * What the page shows. Text is text: it becomes nodes, never markup.
 *
 * Never: `innerHTML`, or anything else that reads a text as HTML.
 *
 * @module
 */

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

/** Control and direction-changing characters, made visible. */
export function visible(text: string): string {
  return text.replaceAll(
    // deno-lint-ignore no-control-regex
    /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (char) =>
      `\\u{${char.codePointAt(0)?.toString(16).padStart(4, "0") ?? ""}}`,
  );
}

/** A text with its fenced blocks of code set apart; they scroll sideways. */
export function spoken(text: string): (Node | string)[] {
  // Outside, code, outside, …: a fence that is still open ends with the text.
  const parts = text.split(/^```[^\n`]*(?:\n|$)/m);
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
  node.textContent = text;
  node.toggleAttribute("data-bad", isBad);
}
