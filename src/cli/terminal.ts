/**
 * The real terminal as an {@linkcode Io}.
 *
 * @module
 */
import type { Env } from "../config/env.ts";
import type { Clock } from "../core/time.ts";
import { EXIT, type Io } from "./verb.ts";

const encoder = new TextEncoder();

type Output = { writeSync(bytes: Uint8Array): number };

/** Writes all of it; a reader that left (`| head`) ends the program quietly. */
function write(output: Output, text: string): void {
  let bytes = encoder.encode(text);
  try {
    while (bytes.length > 0) bytes = bytes.subarray(output.writeSync(bytes));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(EXIT.ok);
    throw error;
  }
}

/** The process's own streams, colours and Ctrl-C. */
export function openTerminal(
  args: readonly string[],
  options: { env: Env; clock: Clock },
): Io {
  const { env, clock } = options;
  const isTerminal = Deno.stdout.isTerminal();
  const stdinIsTerminal = Deno.stdin.isTerminal();
  return {
    args,
    env,
    clock,
    out: (text) => write(Deno.stdout, text),
    err: (text) => write(Deno.stderr, text),
    isTerminal,
    color: isTerminal && env.get("NO_COLOR") === undefined &&
      env.get("TERM") !== "dumb",
    // A getter: whoever does not read must not hold the stream open.
    get stdin() {
      return Deno.stdin.readable;
    },
    stdinIsTerminal,
    onInterrupt(listener) {
      Deno.addSignalListener("SIGINT", listener);
      return {
        [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", listener),
      };
    },
    ...(stdinIsTerminal
      ? { setRaw: (on: boolean) => Deno.stdin.setRaw(on) }
      : {}),
    ...(isTerminal ? { columns: () => Deno.consoleSize().columns } : {}),
  };
}
