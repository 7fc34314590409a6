/**
 * A configuration's text and tree as they may be shown.
 *
 * Never: what stands where a secret belongs, a password inside a URL.
 *
 * @module
 */
import type { z } from "zod";
import type { Document, Tree } from "./document.ts";
import { parseDocument } from "./document.ts";
import { HIDDEN, redacted } from "./redact.ts";
import { isSecret, step } from "./shape.ts";

const REFERENCE = /^\$\{[^{}]*\}$/;
const STRING = /"(?:[^"\\]|\\.)*"/y;

type Shape = readonly z.core.$ZodType[];

/** What of a tree may not be shown, with what stands instead. */
function* hidden(
  tree: Tree,
  shape: Shape,
): Generator<{ offset: number; instead: string }> {
  if (tree.kind === "array") {
    for (const [n, item] of tree.items.entries()) {
      yield* hidden(item, step(shape, n));
    }
  } else if (tree.kind === "object") {
    for (const [name, { value }] of tree.entries) {
      yield* hidden(value, step(shape, name));
    }
  } else {
    const shown = shownScalar(tree, shape);
    if (shown !== tree.value) {
      yield { offset: tree.at.offset, instead: JSON.stringify(shown) };
    }
  }
}

function shownScalar(
  { value }: Extract<Tree, { kind: "scalar" }>,
  shape: Shape,
): unknown {
  if (isSecret(shape)) return REFERENCE.test(String(value)) ? value : HIDDEN;
  return redacted(value);
}

/** A tree as the value it stands for; references stay, secrets are hidden. */
export function shownTree(tree: Tree, shape: Shape): unknown {
  if (tree.kind === "scalar") return shownScalar(tree, shape);
  if (tree.kind === "array") {
    return tree.items.map((item, n) => shownTree(item, step(shape, n)));
  }
  return Object.fromEntries(
    [...tree.entries].map((
      [name, { value }],
    ) => [name, shownTree(value, step(shape, name))]),
  );
}

/**
 * A document's text, comments and all, with the values hidden that may not be
 * shown. `undefined` when it cannot be read: then nobody knows which those are.
 */
export function shownText(
  document: Document,
  schema: z.core.$ZodType,
): string | undefined {
  const { tree, problems } = parseDocument(document);
  if (tree === undefined || problems.length > 0) return undefined;
  const { text } = document;
  let shown = "";
  let at = 0;
  for (const { offset, instead } of hidden(tree, [schema])) {
    STRING.lastIndex = offset;
    const length = STRING.exec(text)?.[0].length ??
      /^[^\s,\]}/]*/.exec(text.slice(offset))?.[0].length ?? 0;
    shown += text.slice(at, offset) + instead;
    at = offset + length;
  }
  return shown + text.slice(at);
}
