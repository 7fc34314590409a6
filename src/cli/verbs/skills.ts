/**
 * `carapace skills`: the skills that are found, and why one is not offered.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine } from "../printable.ts";
import { makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const skills: Verb = {
  name: "skills",
  about: "List skills, whose words each is, and what it lacks",
  usage: ["carapace skills [list] [--json]"],
  examples: ["carapace skills", "carapace skills --json"],
  needs: "gateway",
  run: runSkills,
};

async function runSkills(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  positionalsMax(positionals, 1);
  const [form = "list"] = positionals;
  if (form !== "list") throw usageError(`Unknown form "${form.slice(0, 40)}"`);
  using client = await openGateway(io, { roof });
  const { skills } = await client.call("skills.status", {});
  if (values.json === true) io.out(jsonLine({ skills }));
  else if (skills.length === 0) {
    io.err("no skill is found; folders of them are named in tools.skills\n");
  } else {
    const rows = skills.map((one) => [
      one.name,
      one.source,
      one.eligible ? "offered" : `missing: ${one.missing.join("; ")}`,
      one.description.slice(0, 60),
    ]);
    io.out(
      table(["SKILL", "WHOSE", "STATE", "WHAT IT SAYS"], rows, makePaint(io)),
    );
  }
  return EXIT.ok;
}
