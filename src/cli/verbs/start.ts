/**
 * `carapace start`: runs the gateway.
 *
 * @module
 */
import type { Verb } from "../verb.ts";

export const start: Verb = {
  name: "start",
  about: "Run the gateway",
  usage: ["carapace start"],
  examples: ["deno task start", "CARAPACE_PORT=19000 deno task start"],
  needs: "store",
  run: (io, roof) => roof.start(io.args),
};
