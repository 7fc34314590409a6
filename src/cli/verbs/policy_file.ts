/**
 * Which file a `carapace policy` command line names, for the verb that reads it
 * and for the sandbox that lets it.
 *
 * @module
 */

/** The file that a value of `--policy` names; none for a text or `-`. Pure. */
export function rulesFile(named: string): string | undefined {
  return named === "" || named === "-" || named.trimStart().startsWith("{")
    ? undefined
    : named;
}

/** The file that the arguments of `carapace policy` name. Pure. */
export function rulesFileOf(args: readonly string[]): string | undefined {
  for (const [n, arg] of args.entries()) {
    if (arg === "--") return undefined;
    const value = arg === "--policy"
      ? args[n + 1]
      : arg.startsWith("--policy=")
      ? arg.slice("--policy=".length)
      : undefined;
    if (value !== undefined) return rulesFile(value);
  }
  return undefined;
}
