/**
 * What can be wrong in a configuration, and how it is written down.
 *
 * Never: a problem quotes a secret.
 *
 * @module
 */

/** One thing wrong in the configuration, and where. */
export interface Problem {
  /** The file, or `CARAPACE_CONFIG_JSON`. */
  file: string;
  line?: number;
  column?: number;
  /** Dotted path of the field: `gateway.port`; empty for the whole. */
  path: string;
  message: string;
  hint?: string;
}

/** One line for a terminal: `file:line:column: path: message (hint)`. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, path, message, hint } = problem;
  const at = line === undefined ? file : `${file}:${line}:${column ?? 1}`;
  return `${at}: ${path === "" ? "" : `${path}: `}${message}` +
    (hint === undefined ? "" : ` (${hint})`);
}

/**
 * The dotted form of a path. A segment with a dot, a quote or nothing in it is
 * written as a JSON string: `routes."api.example.com".key`.
 */
export function dotted(path: readonly PropertyKey[]): string {
  return path.map((segment) => {
    const text = String(segment);
    return /^[^."\s]+$/.test(text) ? text : JSON.stringify(text);
  }).join(".");
}

/** Reads what {@linkcode dotted} writes; `undefined` when it is not a path. */
export function parsePath(text: string): string[] | undefined {
  const path: string[] = [];
  let rest = text;
  while (rest !== "") {
    const match = /^(?:("(?:[^"\\]|\\.)*")|([^."\s]+))(?:\.(?=.)|$)/.exec(rest);
    if (match === null) return undefined;
    try {
      path.push(
        match[1] === undefined ? match[2] ?? "" : JSON.parse(match[1]),
      );
    } catch {
      return undefined; // not a JSON string, so not a path
    }
    rest = rest.slice(match[0].length);
  }
  return path;
}
