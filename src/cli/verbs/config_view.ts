/**
 * How the configuration is shown: every value, and where it is written.
 *
 * Never: a secret, or a password inside a URL.
 *
 * @module
 */
import type { Loaded } from "../../config/load.ts";
import { dotted } from "../../config/problem.ts";
import { redacted } from "../../config/redact.ts";
import { Secret } from "../../core/secret.ts";
import { printable } from "../printable.ts";
import type { Paint } from "../term.ts";

/** A configuration that loaded. */
export type Good = Extract<Loaded<unknown>, { ok: true }>;

interface Leaf {
  path: string[];
  value: unknown;
}

function isLeaf(value: unknown): boolean {
  return typeof value !== "object" || value === null ||
    value instanceof Secret || Array.isArray(value) ||
    Object.keys(value).length === 0;
}

function* leaves(value: unknown, path: string[]): Generator<Leaf> {
  if (isLeaf(value)) return yield { path, value };
  for (const [name, inner] of Object.entries(value as object)) {
    yield* leaves(inner, [...path, name]);
  }
}

/** Where a leaf is written; nothing for a default. */
function placeOf({ path, value }: Leaf, loaded: Good): string | undefined {
  const where = loaded.where(dotted(path));
  if (where === loaded.source) return undefined;
  return value instanceof Secret ? `${where}, ${value.source}` : where;
}

/** Every written field and its place. */
export function placesOf(loaded: Good): Record<string, string> {
  return Object.fromEntries(
    [...leaves(loaded.value, [])].flatMap((leaf) => {
      const place = placeOf(leaf, loaded);
      return place === undefined ? [] : [[dotted(leaf.path), place]];
    }),
  );
}

/** The whole value as JSONC, with a comment behind each written line. */
export function showConfig(loaded: Good, paint: Paint): string {
  const text = (value: unknown) => printable(JSON.stringify(redacted(value)));
  const render = (value: unknown, path: string[], indent: string): string => {
    const inner = `${indent}  `;
    const entries = Object.entries(value as object)
      .filter(([, member]) => member !== undefined);
    const members = entries.map(([name, member], n) => {
      const comma = n === entries.length - 1 ? "" : ",";
      const key = `${inner}${text(name)}: `;
      const below = [...path, name];
      if (!isLeaf(member)) {
        return `${key}${render(member, below, inner)}${comma}\n`;
      }
      const place = placeOf({ path: below, value: member }, loaded);
      const note = place === undefined
        ? ""
        : paint("dim", `  // ${printable(place)}`);
      return `${key}${text(member)}${comma}${note}\n`;
    });
    return `{\n${members.join("")}${indent}}`;
  };
  const head = paint("dim", `// ${printable(loaded.source)}`);
  return `${head}\n${render(loaded.value, [], "")}\n`;
}
