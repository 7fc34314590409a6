/**
 * What a schema expects at a path: its keys, whether it is a secret, and which
 * of them a mistyped word may have meant.
 *
 * Never: a value is parsed here.
 *
 * @module
 */
import { z } from "zod";

type Type = z.core.$ZodTypes;

/** A schema without optional, default and the like; a union as its members. */
export function leaves(schema: z.core.$ZodType): z.core.$ZodType[] {
  if (isMarkedSecret(schema)) return [schema];
  const { def } = (schema as Type)._zod;
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "nonoptional":
    case "readonly":
    case "catch":
      return leaves(def.innerType);
    case "pipe":
      return leaves(def.in);
    case "lazy":
      return leaves(def.getter());
    case "union":
      return def.options.flatMap(leaves);
    case "intersection":
      return [...leaves(def.left), ...leaves(def.right)];
    default:
      return [schema];
  }
}

function isMarkedSecret(schema: z.core.$ZodType): boolean {
  return z.globalRegistry.get(schema)?.["secret"] === true;
}

/** Whether a {@linkcode SecretField} may stand where these schemas do. */
export function isSecret(schemas: readonly z.core.$ZodType[]): boolean {
  return schemas.some((schema) => leaves(schema).some(isMarkedSecret));
}

/** The schemas one step further down. */
export function step(
  schemas: readonly z.core.$ZodType[],
  segment: PropertyKey,
): z.core.$ZodType[] {
  return schemas.flatMap(leaves).flatMap((schema): z.core.$ZodType[] => {
    const { def } = (schema as Type)._zod;
    switch (def.type) {
      case "object": {
        const inner = Object.hasOwn(def.shape, segment)
          ? def.shape[String(segment)]
          : def.catchall;
        // A strict object's catch-all takes nothing.
        return inner === undefined || inner._zod.def.type === "never"
          ? []
          : [inner];
      }
      case "record":
        return [def.valueType];
      case "array":
        return [def.element];
      case "tuple": {
        const inner = def.items[Number(segment)] ?? def.rest;
        return inner === undefined || inner === null ? [] : [inner];
      }
      default:
        return [];
    }
  });
}

/** The schemas at a path. */
export function shapeAt(
  schema: z.core.$ZodType,
  path: readonly PropertyKey[],
): z.core.$ZodType[] {
  return path.reduce<z.core.$ZodType[]>(step, [schema]);
}

/** The keys an object may have here; none for a record, which takes any name. */
export function keysAt(schemas: readonly z.core.$ZodType[]): string[] {
  const keys = schemas.flatMap(leaves).flatMap((schema) => {
    const { def } = (schema as Type)._zod;
    return def.type === "object" ? Object.keys(def.shape) : [];
  });
  return [...new Set(keys)].filter((key) => !key.startsWith("$"));
}

/** Dotted paths of known keys with this name, at most four levels down. */
export function pathsTo(schema: z.core.$ZodType, name: string): string[] {
  const found: string[] = [];
  const walk = (schemas: z.core.$ZodType[], path: string[]) => {
    if (path.length >= 4) return;
    for (const key of keysAt(schemas)) {
      if (key === name) found.push([...path, key].join("."));
      walk(step(schemas, key), [...path, key]);
    }
  };
  walk([schema], []);
  return found;
}

/** Words longer than this are not compared. */
const WORD_CHARS_MAX = 64;

/** Edits between two words: insert, delete, replace, swap of neighbours. */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, n) => n)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(
        (rows[i - 1]?.[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (rows[i - 1]?.[j - 1] ?? 0) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (rows[i - 2]?.[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    rows.push(row);
  }
  return rows[a.length]?.[b.length] ?? 0;
}

/** The candidate that was most likely meant, if one is close enough. */
export function closest(
  word: string,
  candidates: readonly string[],
): string | undefined {
  if (word.length > WORD_CHARS_MAX) return undefined;
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_ ]/g, "");
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(plain(word), plain(candidate));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return bestDistance <= Math.max(1, Math.floor(word.length / 3))
    ? best
    : undefined;
}
