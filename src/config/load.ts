/**
 * Reads the configuration: file or environment, includes, references, schema.
 *
 * Never: a wrong configuration throws, stops at its first mistake, or is half
 * believed.
 *
 * @module
 */
import { basename, dirname, relative } from "node:path";
import type { z } from "zod";
import { find, position, type Tree } from "./document.ts";
import { issueText, toProblems } from "./issues.ts";
import { formatProblem, parsePath, type Problem } from "./problem.ts";
import { resolveReferences, type Sources } from "./references.ts";
import { gather, type Gathered, originOf } from "./source.ts";

export type { Problem } from "./problem.ts";

/** More problems than this say nothing new. */
const PROBLEMS_MAX = 100;

/** An invalid configuration is an outcome, not a failure: callers must branch. */
export type Loaded<T> =
  | {
    ok: true;
    value: T;
    /** The file's path, `CARAPACE_CONFIG_JSON`, or `defaults`. */
    source: string;
    /** SHA-256 of what was read, for `baseHash`. */
    hash: string;
    /** Every file that was read, includes too. */
    files: readonly string[];
    /** Names of the variables that its `${ENV}` refer to. */
    variables: readonly string[];
    /** Where a field is written: `carapace.jsonc:12`, else the source. */
    where(path: string): string;
  }
  | {
    ok: false;
    problems: readonly Problem[];
    source: string;
    /** As above, as far as it could be read. */
    files?: readonly string[];
    variables?: readonly string[];
  };

/** What loading needs. */
export interface LoadOptions extends Sources {
  /** Where `carapace.jsonc` is looked for when no variable names another. */
  stateDir: string;
}

/**
 * Loads the configuration from `CARAPACE_CONFIG_JSON` (a text), else the file
 * that `CARAPACE_CONFIG_PATH` names, else `<stateDir>/carapace.jsonc`, else the
 * schema's defaults.
 */
export async function loadConfig<T>(
  schema: z.ZodType<T>,
  options: LoadOptions,
): Promise<Loaded<T>> {
  const gathered = await gather(originOf(options.env, options.stateDir));
  return await judge(schema, gathered, options);
}

/** Holds what was read against the schema. */
export async function judge<T>(
  schema: z.ZodType<T>,
  gathered: Gathered,
  sources: Sources,
): Promise<Loaded<T>> {
  const { tree, source, hash, files } = gathered;
  if (tree === undefined && gathered.problems.length > 0) {
    return { ...refusal(gathered.problems, source), files };
  }
  const resolved = tree === undefined
    ? undefined
    : await resolveReferences(tree, schema, sources);
  const parsed = schema.safeParse(resolved?.value ?? {}, { error: issueText });
  const failed = resolved?.failed ?? new Set();
  const refused = parsed.success
    ? []
    : toProblems(parsed.error.issues, { schema, tree, source });
  const problems = [
    ...gathered.problems,
    ...resolved?.problems ?? [],
    ...refused.filter((problem) => !failed.has(problem.path)),
  ];
  const variables = [...resolved?.variables ?? []].sort();
  if (problems.length > 0 || !parsed.success) {
    return { ...refusal(problems, source), files, variables };
  }
  return {
    ok: true,
    value: parsed.data,
    source,
    hash,
    files,
    variables,
    where: (path) => whereIs(path, tree, source),
  };
}

function refusal(problems: readonly Problem[], source: string): Loaded<never> {
  const files = [...new Set(problems.map(({ file }) => file))];
  // Two braces that are missing are missing at the same place.
  const told = new Map(problems.map((one) => [formatProblem(one), one]));
  const sorted = [...told.values()].sort((a, b) =>
    files.indexOf(a.file) - files.indexOf(b.file) ||
    (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)
  );
  const more = sorted.length - PROBLEMS_MAX;
  if (more > 0) {
    sorted.length = PROBLEMS_MAX;
    sorted.push({ file: source, path: "", message: `and ${more} more` });
  }
  return { ok: false, problems: sorted, source };
}

function whereIs(path: string, tree: Tree | undefined, source: string): string {
  const segments = parsePath(path);
  if (tree === undefined || segments === undefined) return source;
  const { at, complete } = find(tree, segments);
  if (!complete) return source;
  const { name } = at.document;
  const { line } = position(at);
  const short = name === source
    ? basename(name)
    : relative(dirname(source), name);
  return `${short}:${line}`;
}
