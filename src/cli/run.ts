/**
 * From a command line to an exit code: finds the verb, answers `--help`, and
 * turns whatever is thrown into a message on standard error.
 *
 * @module
 */
import { AppError, errorText, isAbort } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import { usageError } from "./args.ts";
import { didYouMean, globalHelp, takesTarget, verbHelp } from "./help.ts";
import { printable } from "./printable.ts";
import { takeTarget } from "./target.ts";
import { makePaint } from "./term.ts";
import { asksForHelp } from "./text_only.ts";
import { EXIT, type Io, type Roof, type Verb } from "./verb.ts";
import { findVerb, VERBS } from "./verbs.ts";

/** The exit code of an error. */
export function exitCodeOf(error: unknown): number {
  if (isAbort(error)) return EXIT.interrupted;
  if (!(error instanceof AppError)) return EXIT.failed;
  const exit = error.details?.["exit"];
  if (typeof exit === "number") return exit;
  if (error.code === "locked") return EXIT.locked;
  if (error.code === "unauthorized") return EXIT.unauthorized;
  return EXIT.failed;
}

/** Writes an error as people read it: what failed, then what to do. */
function showError(io: Io, error: unknown): void {
  const paint = makePaint(io);
  const message = error instanceof AppError
    ? printable(error.message)
    : printable(unexpected(error));
  io.err(`${paint("red", "error:")} ${message}\n`);
  if (error instanceof AppError && error.hint !== undefined) {
    io.err(`${paint("dim", "hint:")}  ${printable(error.hint)}\n`);
  }
}

function unexpected(error: unknown): string {
  if (error instanceof Deno.errors.NotCapable) {
    return `Cannot do that with the permissions of this process: ${
      errorText(error)
    }`;
  }
  // A programming error: the stack is what helps whoever repairs it.
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

async function loadVerb(name: string): Promise<Verb> {
  const row = findVerb(name);
  if (row !== undefined) return await row.load();
  const meant = didYouMean(name, VERBS.map((verb) => verb.name));
  throw usageError(
    `Unknown verb "${name.slice(0, 64)}"`,
    meant === undefined
      ? 'Run "carapace --help" for the list'
      : `Did you mean "carapace ${meant}"?`,
  );
}

/** Runs a command line to its exit code. Does not throw. */
export async function runCli(io: Io, roof: Roof): Promise<number> {
  const paint = makePaint(io);
  const [first, ...rest] = io.args;
  try {
    if (first === undefined || first === "--help" || first === "-h") {
      const isAsked = first !== undefined;
      (isAsked ? io.out : io.err)(globalHelp(VERBS, paint));
      return isAsked ? EXIT.ok : EXIT.usage;
    }
    if (first === "--version" || first === "-V") {
      io.out(`${VERSION}\n`);
      return EXIT.ok;
    }
    if (first === "help") {
      const [topic] = rest;
      io.out(
        topic === undefined || topic.startsWith("-")
          ? globalHelp(VERBS, paint)
          : verbHelp(await loadVerb(topic), paint),
      );
      return EXIT.ok;
    }
    const verb = await loadVerb(first);
    if (asksForHelp(rest)) {
      io.out(verbHelp(verb, paint));
      return EXIT.ok;
    }
    return await runVerb(verb, withArgs(io, { verb, args: rest }), roof);
  } catch (error) {
    showError(io, error);
    return exitCodeOf(error);
  }
}

/** The same terminal, other arguments. (A spread would open standard input.) */
function withArgs(
  io: Io,
  { verb, args }: { verb: Verb; args: readonly string[] },
): Io {
  if (!takesTarget(verb)) return Object.create(io, { args: { value: args } });
  const { rest, target } = takeTarget(args);
  return Object.create(io, {
    args: { value: rest },
    target: { value: target },
  });
}

async function runVerb(verb: Verb, io: Io, roof: Roof): Promise<number> {
  try {
    return await verb.run(io, roof);
  } catch (error) {
    showError(io, error);
    const code = exitCodeOf(error);
    if (code === EXIT.usage) {
      io.err(`\n${verb.usage.map((line) => `  ${line}\n`).join("")}`);
    }
    return code;
  }
}
