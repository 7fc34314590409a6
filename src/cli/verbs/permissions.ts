/**
 * `carapace permissions`: shows the computed sandbox.
 *
 * Never: it changes anything; what it prints is what the launcher uses.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { jsonLine } from "../printable.ts";
import { makePaint, type Paint, table } from "../term.ts";
import { EXIT, type Grant, type Io, type Roof, type Verb } from "../verb.ts";

export const permissions: Verb = {
  name: "permissions",
  about: "Show the computed sandbox and the reason for each entry",
  usage: ["carapace permissions [--flags | --json | --explain]"],
  examples: [
    "carapace permissions",
    "carapace permissions --explain",
    "carapace permissions --flags",
  ],
  needs: "files",
  run: runPermissions,
};

async function runPermissions(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    flags: { type: "boolean" },
    explain: { type: "boolean" },
  });
  positionalsMax(positionals, 0);
  const forms = [values.flags, values.json, values.explain];
  if (forms.filter((form) => form === true).length > 1) {
    throw usageError("Say one of --flags, --json and --explain");
  }
  const { flags, grants } = await roof.permissions();
  const paint = makePaint(io);
  if (values.flags === true) io.out(flags.map((flag) => `${flag}\n`).join(""));
  else if (values.json === true) io.out(jsonLine({ flags, grants }));
  else if (values.explain === true) io.out(explained(grants, paint));
  else io.out(summary(grants, paint));
  return EXIT.ok;
}

/** Every entry but the denied ranges, which are the same for everyone. */
function rows(grants: readonly Grant[]): Grant[] {
  return grants.filter(({ flag }) => flag !== "--deny-net");
}

function explained(grants: readonly Grant[], paint: Paint): string {
  const cells = grants.map(({ flag, value, because }) => [
    flag,
    value === "" ? "" : value,
    because,
  ]);
  return table(["FLAG", "VALUE", "BECAUSE"], cells, paint) +
    openly(grants, paint);
}

/** One line a kind, for people in a hurry. */
function summary(grants: readonly Grant[], paint: Paint): string {
  const byFlag = Map.groupBy(
    rows(grants).filter(({ flag }) => flag.startsWith("--allow-")),
    ({ flag }) => flag.slice("--allow-".length),
  );
  const cells = [...byFlag].map(([kind, list]) => [
    kind,
    list.some(({ value }) => value === "")
      ? "anything"
      : `${list.length} ${list.length === 1 ? "entry" : "entries"}`,
    list.map(({ value }) => value).filter((value) => value !== "").join(" "),
  ]);
  const denied = grants.length - rows(grants).length;
  return table(["MAY", "", "WHAT"], cells, paint) +
    `\nNo other program, library, file, host or variable; ${denied} private ranges are denied.\n` +
    `${paint("dim", "--explain says why, --flags prints the argv.")}\n` +
    openly(grants, paint);
}

/** A bare flag is a door, and is called one. */
function openly(grants: readonly Grant[], paint: Paint): string {
  return grants.filter(({ flag, value }) =>
    value === "" && flag.startsWith("--allow-")
  ).map(({ flag, because }) =>
    `${
      paint("yellow", "open:")
    } ${flag} without a list, because of ${because}\n`
  ).join("");
}
