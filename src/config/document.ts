/**
 * A JSONC text as a tree whose every key and value knows its file, line and
 * column, also after several files were merged into one.
 *
 * Never: a value is changed, a file is read, an input nests without end.
 *
 * @module
 */
import {
  createScanner,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import type { Problem } from "./problem.ts";

/** How deep a configuration may nest. */
export const DEPTH_MAX = 64;

/** Reported mistakes of one text: what follows the first is often its echo. */
const SYNTAX_PROBLEMS_MAX = 3;

/** One text and its name. */
export interface Document {
  /** As people know it: a path, or `CARAPACE_CONFIG_JSON`. */
  readonly name: string;
  readonly text: string;
}

/** A place in a document. */
export interface Spot {
  readonly document: Document;
  readonly offset: number;
}

/** A value with its place. */
export type Tree =
  | { kind: "object"; at: Spot; entries: Map<string, Entry> }
  | { kind: "array"; at: Spot; items: Tree[] }
  | { kind: "scalar"; at: Spot; value: string | number | boolean | null };

/** One member of an object. */
export interface Entry {
  /** Where the key is written. */
  at: Spot;
  value: Tree;
}

/** Line and column of a spot, both from 1. */
export function position(spot: Spot): { line: number; column: number } {
  const { document: { text }, offset } = spot;
  let line = 1;
  let start = 0;
  for (
    let n = text.indexOf("\n");
    n !== -1 && n < offset;
    n = text.indexOf("\n", n + 1)
  ) {
    line++;
    start = n + 1;
  }
  return { line, column: Math.min(offset, text.length) - start + 1 };
}

/** A problem at a spot. */
export function problemAt(
  spot: Spot,
  what: { path?: string; message: string; hint?: string },
): Problem {
  return { file: spot.document.name, ...position(spot), path: "", ...what };
}

const SYNTAX: Readonly<Record<string, string>> = {
  InvalidSymbol: "a word that is not JSON stands here",
  InvalidNumberFormat: "this is not a number",
  PropertyNameExpected: "a key in double quotes belongs here",
  ValueExpected: "a value belongs here",
  ColonExpected: "a colon belongs here",
  CommaExpected: "a comma belongs here",
  CloseBraceExpected: "a closing } is missing",
  CloseBracketExpected: "a closing ] is missing",
  EndOfFileExpected: "nothing may follow the last }",
  InvalidCommentToken: "this is not a comment",
  UnexpectedEndOfComment: "this comment is not closed",
  UnexpectedEndOfString: "this string is not closed",
  UnexpectedEndOfNumber: "this number is not complete",
  InvalidUnicode: "this \\u escape is not four hex digits",
  InvalidEscapeCharacter: "this \\ escape does not exist",
  InvalidCharacter: "this character is not allowed here",
};

/** Where the text nests too deep; found without recursion. */
function tooDeep(text: string): number | undefined {
  const scanner = createScanner(text, true);
  let depth = 0;
  while (true) { // Ends with the text: each scan moves on.
    scanner.scan();
    const offset = scanner.getTokenOffset();
    if (offset >= text.length) return undefined;
    const first = text[offset];
    if (first === "{" || first === "[") {
      if (++depth > DEPTH_MAX) return offset;
    } else if (first === "}" || first === "]") depth--;
  }
}

/** Parses a document: a tree, or problems with their positions. */
export function parseDocument(
  document: Document,
): { tree?: Tree; problems: Problem[] } {
  const at = (offset: number): Spot => ({ document, offset });
  const deep = tooDeep(document.text);
  if (deep !== undefined) {
    const message = `it nests deeper than ${DEPTH_MAX} levels`;
    return { problems: [problemAt(at(deep), { message })] };
  }
  const errors: ParseError[] = [];
  const root = parseTree(document.text, errors, { allowTrailingComma: true });
  if (errors.length > 0 || root === undefined) {
    const [first] = errors;
    if (root === undefined && (first === undefined || errors.length === 1)) {
      return {
        problems: [problemAt(at(first?.offset ?? 0), {
          message: "it holds no JSON value",
          hint: "write {} for a configuration without lines",
        })],
      };
    }
    return {
      problems: errors.slice(0, SYNTAX_PROBLEMS_MAX).map((error) =>
        problemAt(at(error.offset), {
          message: `it is not JSON: ${
            SYNTAX[printParseErrorCode(error.error)] ?? "syntax error"
          }`,
        })
      ),
    };
  }
  const problems: Problem[] = [];
  return { tree: grow(root, { at, problems, path: [] }), problems };
}

interface Growing {
  at(offset: number): Spot;
  problems: Problem[];
  path: readonly string[];
}

function grow(node: Node, growing: Growing): Tree {
  const at = growing.at(node.offset);
  if (node.type === "array") {
    const items = (node.children ?? []).map((item) => grow(item, growing));
    return { kind: "array", at, items };
  }
  if (node.type !== "object") return { kind: "scalar", at, value: node.value };
  const entries = new Map<string, Entry>();
  for (const { children: [key, value] = [] } of node.children ?? []) {
    if (key === undefined || value === undefined) continue;
    const name: string = key.value;
    const keyAt = growing.at(key.offset);
    const path = [...growing.path, name];
    const before = entries.get(name);
    if (name === "__proto__") {
      const message = '"__proto__" cannot be a key';
      growing.problems.push(problemAt(keyAt, { message }));
    } else if (before !== undefined) {
      growing.problems.push(problemAt(keyAt, {
        path: path.join("."),
        message: `${JSON.stringify(name)} is written twice, first in line ${
          position(before.at).line
        }`,
        hint: "keep one",
      }));
    } else {
      entries.set(name, {
        at: keyAt,
        value: grow(value, { ...growing, path }),
      });
    }
  }
  return { kind: "object", at, entries };
}

/** Lays one tree over another: objects are merged, all else is replaced. */
export function overlay(under: Tree, over: Tree): Tree {
  if (under.kind !== "object" || over.kind !== "object") return over;
  const entries = new Map(under.entries);
  for (const [name, entry] of over.entries) {
    const below = entries.get(name);
    entries.set(name, {
      at: entry.at,
      value: below === undefined
        ? entry.value
        : overlay(below.value, entry.value),
    });
  }
  return { kind: "object", at: over.at, entries };
}

/** The value at a path, with the spot of its key; the deepest that is written. */
export function find(
  tree: Tree,
  path: readonly PropertyKey[],
): { tree: Tree; at: Spot; complete: boolean } {
  let here = tree;
  let at = tree.at;
  for (const segment of path) {
    if (here.kind === "object") {
      const entry = here.entries.get(String(segment));
      if (entry === undefined) return { tree: here, at, complete: false };
      here = entry.value;
      at = entry.at;
    } else if (here.kind === "array") {
      const item = here.items[Number(segment)];
      if (item === undefined) return { tree: here, at, complete: false };
      here = item;
      at = item.at;
    } else return { tree: here, at, complete: false };
  }
  return { tree: here, at, complete: true };
}
