/**
 * A program that asks the door for a place it must not reach, to be run under
 * the service's own flags. Its table calls loopback public, so that only Deno's
 * wall is left. Prints the code and message of what came of it.
 */
import { AppError } from "../../src/core/errors.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock } from "../../src/core/time.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { makePinned } from "../../src/egress/pinned.ts";

async function main(): Promise<void> {
  const [route, portText] = Deno.args;
  const port = Number(portText);
  using egress = makeEgress({
    config: EgressConfig.parse({ open: route === "open" }),
    clock: systemClock,
    log: silentLog,
    pinned: makePinned({
      port,
      findFault: () => undefined,
      resolve: () => Promise.resolve(["127.0.0.1"]),
    }),
  });
  const fetch = egress.door({
    caller: "guest",
    hosts: route === "open"
      ? ["public"]
      : [{ host: "localhost", scheme: "https", port }],
  });
  const url = route === "open"
    ? "https://good.example.com/"
    : `https://localhost:${port}/`;
  try {
    await fetch(url);
    console.log("reached");
  } catch (error) {
    console.log(
      error instanceof AppError
        ? `${error.code} ${error.message} (${error.hint})`
        : `thrown ${error}`,
    );
  }
}

if (import.meta.main) main();
