/**
 * Turns what the schema refused into problems a person can act on: which line,
 * what is there, what belongs there.
 *
 * Never: a text from a secret field in a message.
 *
 * @module
 */
import type { z } from "zod";
import { Secret } from "../core/secret.ts";
import { find, position, type Tree } from "./document.ts";
import { dotted, type Problem } from "./problem.ts";
import { closest, isSecret, keysAt, pathsTo, shapeAt } from "./shape.ts";

const NAMES: Readonly<Record<string, string>> = {
  string: "a string",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
  null: "null",
};

function got(input: unknown): string {
  if (input === null) return "null";
  if (input instanceof Secret) return "a secret";
  if (Array.isArray(input)) return "a list";
  if (typeof input === "number" && !Number.isSafeInteger(input)) {
    return Number.isFinite(input) ? String(input) : "a number out of range";
  }
  if (typeof input === "boolean") return String(input);
  return NAMES[typeof input] ?? typeof input;
}

function wants(what: string, input: unknown): string {
  return input === undefined
    ? `is missing: it wants ${what}`
    : `wants ${what}, got ${got(input)}`;
}

function bound(
  issue: z.core.$ZodRawIssue<
    z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig
  >,
): string {
  const small = issue.code === "too_small";
  const limit = Number(small ? issue.minimum : issue.maximum);
  if (issue.origin === "string" || issue.origin === "array") {
    if (small && limit === 1) return "must not be empty";
    const unit = issue.origin === "string" ? "characters" : "entries";
    return `must have at ${small ? "least" : "most"} ${limit} ${unit}`;
  }
  const side = issue.inclusive === false
    ? (small ? "more than" : "less than")
    : (small ? "at least" : "at most");
  return `must be ${side} ${limit}, got ${String(issue.input)}`;
}

/** The message of an issue whose schema does not bring its own. */
export function issueText(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return wants(NAMES[issue.expected] ?? issue.expected, issue.input);
    case "invalid_value": {
      const values = issue.values.map((v) => JSON.stringify(v));
      const one = values.length > 1 ? `one of ${values.join(", ")}` : values[0];
      return typeof issue.input === "string" && issue.input.length <= 40
        ? `wants ${one}, got ${JSON.stringify(issue.input)}`
        : wants(one ?? "nothing", issue.input);
    }
    case "too_small":
    case "too_big":
      return bound(
        issue as z.core.$ZodRawIssue<
          z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig
        >,
      );
    case "invalid_format":
      return formatText(
        issue as z.core.$ZodRawIssue<z.core.$ZodIssueInvalidStringFormat>,
      );
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "unrecognized_keys":
      return "is not a key that belongs here";
    default:
      return "is not valid";
  }
}

function formatText(
  issue: z.core.$ZodRawIssue<z.core.$ZodIssueInvalidStringFormat>,
): string {
  switch (issue.format) {
    case "url":
      return 'must be a whole URL, such as "https://example.com"';
    case "regex":
      return `must match ${issue["pattern"]}`;
    case "starts_with":
      return `must begin with ${JSON.stringify(issue["prefix"])}`;
    default:
      return `must be a valid ${issue.format}`;
  }
}

/** One refusal, flattened: unions and keys are resolved. */
interface Flat {
  path: PropertyKey[];
  message: string;
  unknown?: string;
}

function flatten(
  issues: readonly z.core.$ZodIssue[],
  base: PropertyKey[],
): Flat[] {
  return issues.flatMap((issue): Flat[] => {
    const path = [...base, ...issue.path];
    switch (issue.code) {
      case "unrecognized_keys":
        return issue.keys.map((unknown) => ({
          path: [...path, unknown],
          message: `${JSON.stringify(unknown)} is not a key that belongs here`,
          unknown,
        }));
      case "invalid_key":
        return [{
          path,
          message: issue.issues[0]?.message ?? "is not a valid name",
        }];
      case "invalid_union":
        return flattenUnion(issue, path);
      default:
        return [{ path, message: issue.message }];
    }
  });
}

/** The branch that was most likely meant speaks; if none was, all say a word. */
function flattenUnion(
  issue: z.core.$ZodIssueInvalidUnion,
  path: PropertyKey[],
): Flat[] {
  const { options } = issue as { options?: unknown };
  if (issue.errors.length === 0) {
    const message = Array.isArray(options)
      ? `wants one of ${options.map((o) => JSON.stringify(o)).join(", ")}`
      : "is not valid";
    return [{ path, message }];
  }
  const atRoot = (branch: readonly z.core.$ZodIssue[]) =>
    branch.some((i) => i.path.length === 0 && i.code !== "unrecognized_keys");
  const meant = issue.errors.filter((branch) => !atRoot(branch))
    .sort((a, b) => a.length - b.length)[0];
  if (meant !== undefined) return flatten(meant, path);
  const words = issue.errors.flatMap((branch) => flatten(branch, path))
    .filter((flat) => flat.path.length === path.length)
    .map(({ message }) => /^wants (.+), got (.+)$/.exec(message));
  const got = words.find((w) => w !== null)?.[2];
  const wanted = words.flatMap((w) => w?.[1] ?? []);
  const message = got === undefined || wanted.length < words.length
    ? flatten(issue.errors[0] ?? [], path)[0]?.message ?? "is not valid"
    : `wants ${[...new Set(wanted)].join(" or ")}, got ${got}`;
  return [{ path, message }];
}

/** What the problems are written against. */
export interface Context {
  schema: z.core.$ZodType;
  /** The merged tree; absent when nothing was read. */
  tree: Tree | undefined;
  source: string;
}

/** The problems behind a refusal, each once, in the order of the file. */
export function toProblems(
  issues: readonly z.core.$ZodIssue[],
  context: Context,
): Problem[] {
  return flatten(issues, []).map((flat) => {
    const problem: Problem = {
      file: context.source,
      path: dotted(flat.path),
      message: flat.message,
      ...advise(flat, context),
    };
    if (context.tree === undefined) return problem;
    const { at, tree, complete } = find(context.tree, flat.path);
    // An unknown key is pointed at itself, a wrong value at the value.
    const spot = complete && flat.unknown === undefined ? tree.at : at;
    return { ...problem, file: spot.document.name, ...position(spot) };
  });
}

/** A better message or a hint, where the place says more than the schema does. */
function advise(
  flat: Flat,
  { schema, tree }: Context,
): { message?: string; hint?: string } {
  if (flat.unknown !== undefined) {
    const here = shapeAt(schema, flat.path.slice(0, -1));
    const hint = unknownKeyHint(flat.unknown, keysAt(here), schema);
    return hint === undefined ? {} : { hint };
  }
  const found = tree && find(tree, flat.path);
  if (
    !found?.complete || found.tree.kind !== "scalar" ||
    typeof found.tree.value !== "string" ||
    !isSecret(shapeAt(schema, flat.path))
  ) return {};
  const name = secretNameFor(flat.path);
  return {
    message: "a secret is not written in the configuration",
    hint:
      `run "carapace secret set ${name}" and write "\${secret:${name}}" here, or "\${ENV_NAME}"`,
  };
}

function unknownKeyHint(
  word: string,
  keys: readonly string[],
  schema: z.core.$ZodType,
): string | undefined {
  const near = closest(word, keys);
  if (near !== undefined) return `did you mean ${JSON.stringify(near)}?`;
  const elsewhere = pathsTo(schema, word);
  if (elsewhere.length === 1) return `did you mean "${elsewhere[0]}"?`;
  if (keys.length === 0) return undefined;
  const shown = keys.slice(0, 12).join(", ");
  return `known here: ${shown}${keys.length > 12 ? ", …" : ""}`;
}

/** A name for the secret of this field: `providers.openai.apiKey` → `OPENAI_API_KEY`. */
function secretNameFor(path: readonly PropertyKey[]): string {
  return path.slice(-2).map((segment) =>
    String(segment).replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2")
      .replaceAll(/[^A-Za-z0-9]+/g, "_").toUpperCase()
  ).join("_").replace(/^_+/, "") || "NAME";
}
