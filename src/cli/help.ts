/**
 * Help texts, made from the verbs themselves.
 *
 * @module
 */
import { TARGET_USAGE } from "./target.ts";
import type { Paint } from "./term.ts";
import { EXIT, type Verb } from "./verb.ts";
import type { VerbRow } from "./verbs.ts";

/** What each exit code means, in the words of the documentation. */
export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "done",
  failed: "it could not be done; the message says why",
  usage: "the command line is wrong",
  locked: "another process holds the state directory",
  badConfig: "the configuration is invalid",
  unreachable: "no gateway answers",
  unauthorized: "the gateway refused the token",
  restart: "the service asks its launcher for wider permissions",
  interrupted: "stopped by Ctrl-C",
};

/** Exit codes worth naming in a terminal: those a script branches on. */
const SHOWN = [
  "ok",
  "failed",
  "usage",
  "locked",
  "badConfig",
  "unreachable",
  "unauthorized",
  "interrupted",
] as const satisfies readonly (keyof typeof EXIT)[];

/** `carapace --help`. */
export function globalHelp(verbs: readonly VerbRow[], paint: Paint): string {
  const width = Math.max(...verbs.map((row) => row.name.length));
  const lines = verbs.map((row) =>
    `  ${paint("cyan", row.name.padEnd(width))}  ${row.about}`
  );
  return `Carapace, a personal AI assistant gateway.

${paint("bold", "Usage")}
  carapace VERB [ARGUMENTS] [--json]
  carapace VERB --help

${paint("bold", "Verbs")}
${lines.join("\n")}

${paint("bold", "Environment")}
  CARAPACE_URL        gateway to talk to (default http://127.0.0.1:18789)
  CARAPACE_TOKEN      token to show it (default: <state>/cli-token)
  CARAPACE_STATE_DIR  where data and the configuration are
  NO_COLOR            no colours
`;
}

/** Whether a verb can be pointed at another gateway. */
export function takesTarget(verb: Verb): boolean {
  return verb.needs === "gateway" || verb.takesTarget === true;
}

/** `carapace VERB --help`. */
export function verbHelp(verb: Verb, paint: Paint): string {
  const list = (lines: readonly string[]) =>
    lines.map((line) => `  ${line}`).join("\n");
  const codes = SHOWN.filter((name) =>
    verb.needs === "gateway" ||
    (name !== "unreachable" && name !== "unauthorized")
  ).map((name) =>
    `  ${String(EXIT[name]).padStart(3)}  ${EXIT_MEANINGS[name]}`
  );
  return `${verb.about}.

${paint("bold", "Usage")}
${list(verb.usage)}

${paint("bold", "Examples")}
${list(verb.examples)}
${
    takesTarget(verb)
      ? `\n${paint("bold", "Another gateway")}\n${list(TARGET_USAGE)}\n`
      : ""
  }
${paint("bold", "Exit codes")}
${codes.join("\n")}
`;
}

/** How many single-character edits lie between two words (two neighbours swapped count as one). */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, n) => n)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const above = rows[i - 1] ?? [];
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(
        (above[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (above[j - 1] ?? 0) + cost,
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

/** The known name a mistyped one probably meant. */
export function didYouMean(
  name: string,
  known: readonly string[],
): string | undefined {
  const wanted = name.slice(0, 64).toLowerCase();
  const distanceMax = wanted.length <= 3 ? 1 : 2;
  let best: string | undefined;
  let bestDistance = distanceMax + 1;
  for (const candidate of known) {
    const isBeginning = wanted.length >= 3 && candidate.startsWith(wanted);
    // Who stopped typing meant what begins so, before what differs by a letter.
    const distance = isBeginning ? 0.5 : editDistance(wanted, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}
