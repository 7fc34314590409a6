/**
 * The service's end of the launcher's pipe: requests out, events in, as JSON
 * messages. There is one only when the configuration names programs, and only
 * under the launcher.
 *
 * Never: it means anything for the service's life; that is the other pipe.
 *
 * @module
 */
import process from "node:process";
import type { ProgramEvent, ProgramRequest } from "../core/command.ts";

/** The pipe. */
export interface ProgramPipe {
  send(request: ProgramRequest): void;
  /** Called for each event until disposed. Must not throw. */
  onEvent(listener: (event: ProgramEvent) => void): Disposable;
}

/** The launcher's pipe, if there is one. */
export function openLauncherPipe(): ProgramPipe | undefined {
  if (typeof process.send !== "function") return undefined;
  return {
    send: (request) => void process.send?.(request),
    onEvent: (listener) => {
      const take = (message: unknown) => listener(message as ProgramEvent);
      process.on("message", take);
      return { [Symbol.dispose]: () => void process.off("message", take) };
    },
  };
}
