/**
 * `carapace version`.
 *
 * @module
 */
import { VERSION } from "../../core/version.ts";
import { positionalsMax, readArgs } from "../args.ts";
import { jsonLine } from "../printable.ts";
import { EXIT, type Verb } from "../verb.ts";

export const version: Verb = {
  name: "version",
  about: "Print the version",
  usage: ["carapace version [--json]"],
  examples: ["carapace version", "carapace --version"],
  needs: "files",
  run(io) {
    const { values, positionals } = readArgs(io.args, {});
    positionalsMax(positionals, 0);
    const { deno, v8, typescript } = Deno.version;
    const { target } = Deno.build;
    io.out(
      values.json === true
        ? jsonLine({ version: VERSION, deno, v8, typescript, target })
        : `carapace ${VERSION} (deno ${deno}, ${target})\n`,
    );
    return Promise.resolve(EXIT.ok);
  },
};
