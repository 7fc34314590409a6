/**
 * In which order a session's open runs are taken up after a restart, so that a
 * command that was acknowledged acts before the turns it concerns go on.
 *
 * Never: a turn that a stored command ends is heard of by a model again; one
 * that came after the command is ended by it.
 *
 * @module
 */
import type { Run } from "../store/runs.ts";
import { findCommand, type TurnEffect, turnEffect } from "./commands.ts";

/** One run, and how it is taken up. */
export type Resumption =
  | { run: Run; as: "command" | "turn" }
  /** The runs after it wait for what it does. */
  | { run: Run; as: "first" }
  /** It has its place, and goes on only if the command that follows fails. */
  | { run: Run; as: "held" };

/** What a stored run does to the turns before it; nothing when it is a turn. */
function effectOf(run: Run): TurnEffect | undefined {
  if (run.options?.command !== true) return undefined;
  const [part] = run.input?.parts ?? [];
  const command = findCommand(part?.kind === "text" ? part.text : "");
  return command === undefined ? undefined : turnEffect(command.name);
}

/**
 * The runs of one session as they are to be taken up: up to each command that
 * ends turns, first the commands that set something, then the turns, held,
 * then the command itself; after the last such command the turns go on freely.
 *
 * @param runs In the order they were accepted
 */
export function resumeOrder(runs: readonly Run[]): Resumption[] {
  const order: Resumption[] = [];
  let setters: Resumption[] = [];
  let others: Run[] = [];
  const flush = (turns: "held" | "turn") => {
    order.push(...setters);
    for (const run of others) {
      const as = run.options?.command === true ? "command" : turns;
      order.push({ run, as });
    }
    setters = [];
    others = [];
  };
  for (const run of runs) {
    const effect = effectOf(run);
    if (effect === "ends") {
      flush("held");
      order.push({ run, as: "first" });
    } else if (effect === "sets") setters.push({ run, as: "first" });
    else others.push(run);
  }
  flush("turn");
  return order;
}
