/**
 * `carapace audit`: what mattered, and whether the record of it is whole.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 500;

export const audit: Verb = {
  name: "audit",
  about: "List what mattered, and verify the record of it",
  usage: [
    "carapace audit list [--limit N] [--before SEQ] [--event NAME] [--json]",
    "carapace audit verify [--json]",
  ],
  examples: [
    "carapace audit list --event token",
    "carapace audit list --before 1200 --limit 100",
    "carapace audit verify",
  ],
  needs: "gateway",
  run: runAudit,
};

function count(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw usageError(`The value of ${name} is a number from 1 on`);
}

async function runAudit(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    limit: { type: "string" },
    before: { type: "string" },
    event: { type: "string" },
  });
  const [action] = positionals;
  positionalsMax(positionals, 1);
  if (action !== "list" && action !== "verify") {
    throw usageError("Say what to do: list or verify");
  }
  const limit = count(values.limit, "--limit") ?? LIMIT_DEFAULT;
  if (limit > LIMIT_MAX) throw usageError(`--limit is at most ${LIMIT_MAX}`);
  const before = count(values.before, "--before");
  const { event } = values;
  const json = values.json === true;
  using client = await openGateway(io, { roof });
  if (action === "verify") {
    const verdict = await client.call("audit.verify", {});
    const { ok, rows, brokenAt, head } = verdict;
    if (json) io.out(jsonLine(verdict));
    else if (ok) io.out(`whole: ${rows} rows, head ${head}\n`);
    else {io.out(
        `broken at row ${brokenAt}; ${rows} rows before it are whole\n`,
      );}
    return ok ? EXIT.ok : EXIT.failed;
  }
  const page = await client.call("audit.list", {
    limit,
    ...(before === undefined ? {} : { before }),
    ...(event === undefined ? {} : { event }),
  });
  if (json) {
    io.out(jsonLine(page));
    return EXIT.ok;
  }
  const rows = page.rows.map(({ seq, at, event, fields }) => [
    String(seq),
    new Date(at).toISOString().slice(0, 19).replace("T", " "),
    event,
    printableLine(
      Object.entries(fields).map(([name, value]) =>
        `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`
      ).join(" "),
    ),
  ]);
  io.out(table(["SEQ", "AT", "EVENT", "FIELDS"], rows, makePaint(io)));
  if (page.next !== undefined) {
    io.err(`older ones: carapace audit list --before ${page.next}\n`);
  }
  return EXIT.ok;
}
