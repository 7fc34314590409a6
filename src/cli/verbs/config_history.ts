/**
 * `carapace config revisions`, `diff` and `undo`: what the configuration was,
 * as the gateway keeps it.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import { usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printable, printableLine } from "../printable.ts";
import { agoText, makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof } from "../verb.ts";

/** Longer texts are compared in whole. */
const LINES_MAX = 2_000;

interface Asked {
  io: Io;
  roof: Roof;
  json: boolean;
}

function checkId(id: string | undefined): void {
  if (id === undefined || /^rev_[0-9a-z]{10,40}$/.test(id)) return;
  throw usageError(
    `Cannot use "${id.slice(0, 64)}" as a revision`,
    'Run "carapace config revisions" for their ids, like rev_01m81x5nf0000x8s',
  );
}

/** `carapace config revisions` */
export async function showRevisions(
  { io, roof, json }: Asked,
): Promise<number> {
  using client = await openGateway(io, { roof });
  const said = await client.call("config.revisions", { limit: 50 });
  if (json) {
    io.out(jsonLine(said));
    return EXIT.ok;
  }
  const now = io.clock.now();
  const rows = said.revisions.map((one) => [
    one.id,
    agoText(one.at, now),
    one.via,
    printableLine(one.by),
    one.current ? "now" : "",
    printableLine(one.note ?? ""),
  ]);
  io.out(table(["ID", "AT", "VIA", "BY", "", "NOTE"], rows, makePaint(io)));
  return EXIT.ok;
}

/** `carapace config diff [ID]`: from the revision to what is there now. */
export async function diffRevision(
  { io, roof, json }: Asked,
  named: string | undefined,
): Promise<number> {
  checkId(named);
  using client = await openGateway(io, { roof });
  const now = await client.call("config.get", {});
  const id = named ??
    (await client.call("config.revisions", { limit: 50 })).revisions
      .find(({ current }) => !current)?.id;
  if (id === undefined) {
    throw new AppError("not_found", "There is no earlier configuration");
  }
  const before = await client.call("config.revisions", { id });
  const lines = [...diffLines(before.raw ?? "", now.raw ?? "")];
  if (json) io.out(jsonLine({ id, lines }));
  else {
    const paint = makePaint(io);
    for (const line of lines) {
      const style = line.startsWith("+")
        ? "green"
        : line.startsWith("-")
        ? "red"
        : "dim";
      io.out(`${paint(style, printable(line))}\n`);
    }
    if (lines.length === 0) io.err("no difference\n");
  }
  return EXIT.ok;
}

/** `carapace config undo [ID]` */
export async function undoRevision(
  { io, roof, json }: Asked,
  to: string | undefined,
): Promise<number> {
  checkId(to);
  using client = await openGateway(io, { roof });
  const { hash } = await client.call("config.get", {});
  const done = await client.call("config.undo", {
    baseHash: hash,
    ...(to === undefined ? {} : { to }),
  });
  if (json) io.out(jsonLine(done));
  else {
    const what = done.changes.map(({ path }) => path).join(", ");
    io.out(`${printable(done.path)}: taken back (${printableLine(what)})\n`);
  }
  return EXIT.ok;
}

/** The lines that differ, `-` before and `+` after, by their longest common run. */
function* diffLines(before: string, after: string): Generator<string> {
  const a = before.split("\n");
  const b = after.split("\n");
  if (a.length > LINES_MAX || b.length > LINES_MAX) {
    for (const line of a) yield `-${line}`;
    for (const line of b) yield `+${line}`;
    return;
  }
  const lengths = commonLengths(a, b);
  const at = (n: number, m: number) => lengths[n]?.[m] ?? 0;
  let n = 0;
  let m = 0;
  while (n < a.length || m < b.length) {
    const [left, right] = [a[n], b[m]];
    if (left !== undefined && left === right) {
      n++;
      m++;
    } else if (
      right === undefined ||
      (left !== undefined && at(n + 1, m) >= at(n, m + 1))
    ) {
      yield `-${left}`;
      n++;
    } else {
      yield `+${right}`;
      m++;
    }
  }
}

/** For each pair of places the length of what both have in common from there. */
function commonLengths(
  a: readonly string[],
  b: readonly string[],
): Uint16Array[] {
  const rows = Array.from(
    { length: a.length + 1 },
    () => new Uint16Array(b.length + 1),
  );
  for (let n = a.length - 1; n >= 0; n--) {
    const [row, below] = [rows[n], rows[n + 1]];
    if (row === undefined || below === undefined) continue;
    for (let m = b.length - 1; m >= 0; m--) {
      row[m] = a[n] === b[m]
        ? (below[m + 1] ?? 0) + 1
        : Math.max(below[m] ?? 0, row[m + 1] ?? 0);
    }
  }
  return rows;
}
