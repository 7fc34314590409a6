/**
 * Which command lines only print a text of the program itself. They need no
 * configuration, so the launcher starts them without asking for a plan.
 *
 * @module
 */

const TEXTS: ReadonlySet<string> = new Set([
  "help",
  "--help",
  "-h",
  "version",
  "--version",
  "-V",
]);

/** Whether what follows a verb asks for its help. */
export function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end === -1 ? args : args.slice(0, end))
    .some((arg) => arg === "--help" || arg === "-h");
}

/** Whether a command line only prints help or the version. */
export function isTextOnly(args: readonly string[]): boolean {
  const [first, ...rest] = args;
  return first === undefined || TEXTS.has(first) || asksForHelp(rest);
}
