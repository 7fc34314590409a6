/**
 * Gives memory back when nothing is going on. The collector lets garbage stand
 * while nobody presses it: after a start that is a sixth of what is resident.
 *
 * Never: a collection while somebody waits for an answer.
 *
 * @module
 */
import { errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { type Clock, repeat } from "../core/time.ts";

/** How often it looks, and how much heap must have grown for it to be worth it. */
export const REST_LIMITS = {
  /** Quiet for two looks in a row. */
  everyMs: 2_500,
  grownBytes: 6_291_456,
} as const;

/** The collector, where `--expose-gc` gives it to the process. */
type Collect = (options: { type: "major"; flavor: "last-resort" }) => void;

/** What resting needs to know. */
export interface RestDeps {
  /** Turns, requests and other work under way. */
  busy(): number;
  /** Bytes of heap set aside. @default the runtime's own count */
  heapBytes?(): number;
  /** @default the process's collector; without one there is no rest */
  collect?: Collect | undefined;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

/** Rests until the signal. */
export async function restMemory(deps: RestDeps): Promise<void> {
  const {
    collect = (globalThis as { gc?: Collect }).gc,
    heapBytes = () => Deno.memoryUsage().heapTotal,
    ...on
  } = deps;
  if (collect === undefined) return;
  let kept = 0;
  let wasQuiet = false;
  await repeat(() => {
    const isQuiet = on.busy() === 0;
    const isDue = isQuiet && wasQuiet &&
      heapBytes() - kept > REST_LIMITS.grownBytes;
    wasQuiet = isQuiet;
    if (!isDue) return Promise.resolve();
    collect({ type: "major", flavor: "last-resort" });
    kept = heapBytes();
    return Promise.resolve();
  }, {
    everyMs: REST_LIMITS.everyMs,
    clock: on.clock,
    signal: on.signal,
    onError: (error) =>
      on.log("warn", "memory.not_rested", { error: errorText(error) }),
  });
}
