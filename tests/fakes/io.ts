/** What a verb is run with, when a test reads what it says. */
import type { Io } from "../../src/cli/verb.ts";
import { systemClock } from "../../src/core/time.ts";

/** Arguments and variables in; `text()` is all that was said. */
export function io(
  args: string[],
  env: Record<string, string>,
): Io & { text(): string } {
  let text = "";
  return {
    args,
    env: { get: (name) => env[name] },
    clock: systemClock,
    out: (more) => void (text += more),
    err: (more) => void (text += more),
    isTerminal: false,
    color: false,
    stdin: new ReadableStream(),
    stdinIsTerminal: false,
    onInterrupt: () => ({ [Symbol.dispose]: () => {} }),
    text: () => text,
  };
}
