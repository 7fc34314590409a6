/**
 * `carapace sessions`: the conversations, last used first.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine } from "../printable.ts";
import { agoText, makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 1000;

export const sessions: Verb = {
  name: "sessions",
  about: "List conversations, last used first",
  usage: [
    "carapace sessions [--agent ID] [--search TEXT] [--limit N] [--offset N] [--json]",
  ],
  examples: [
    "carapace sessions",
    "carapace sessions --search invoices",
    "carapace sessions --json | jq -r '.sessions[].key'",
  ],
  needs: "gateway",
  run: runSessions,
};

function readCount(
  text: string | undefined,
  options: { name: string; least: number; most: number },
): number | undefined {
  if (text === undefined) return undefined;
  const { name, least, most } = options;
  const count = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  if (count >= least && count <= most) return count;
  throw usageError(
    `Cannot use --${name} "${text}": it is a number from ${least} to ${most}`,
  );
}

async function runSessions(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    agent: { type: "string", short: "a" },
    search: { type: "string" },
    limit: { type: "string", short: "n" },
    offset: { type: "string" },
  });
  positionalsMax(positionals, 0);
  const limit = readCount(values.limit, {
    name: "limit",
    least: 1,
    most: LIMIT_MAX,
  }) ?? LIMIT_DEFAULT;
  const offset = readCount(values.offset, {
    name: "offset",
    least: 0,
    most: 1_000_000,
  });
  using client = await openGateway(io, { roof });
  const list = await client.call("sessions.list", {
    limit,
    includeLastMessage: true,
    ...(offset === undefined ? {} : { offset }),
    ...(values.agent === undefined ? {} : { agentId: values.agent }),
    ...(values.search === undefined ? {} : { search: values.search }),
  });
  if (values.json === true) {
    io.out(jsonLine(list));
    return EXIT.ok;
  }
  const paint = makePaint(io);
  if (list.sessions.length === 0) {
    io.err(`${paint("dim", "no sessions")}\n`);
    return EXIT.ok;
  }
  const now = io.clock.now();
  const rows = list.sessions.map((session) => [
    session.key,
    agoText(session.updatedAt, now),
    String((session.inputTokens ?? 0) + (session.outputTokens ?? 0)),
    brief(session.label ?? session.lastMessage ?? ""),
  ]);
  io.out(table(["SESSION", "USED", "TOKENS", "LAST MESSAGE"], rows, paint));
  const shown = (offset ?? 0) + list.sessions.length;
  if (shown < list.count) {
    io.err(
      `${
        paint("dim", `${shown} of ${list.count}; more with --offset ${shown}`)
      }\n`,
    );
  }
  return EXIT.ok;
}

function brief(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}
