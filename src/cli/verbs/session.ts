/**
 * `carapace session`: one conversation at a time: show, search, export, copy,
 * begin anew, put away, delete.
 *
 * @module
 */
import type { ContextAccount, SessionSummary } from "../../core/methods.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printable, printableLine } from "../printable.ts";
import { agoText, makePaint, pairs, table, timeText } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const LIMIT_DEFAULT = 20;
const SHOWN_DEFAULT = 20;

export const session: Verb = {
  name: "session",
  about: "Show, search, export, copy and delete conversations",
  usage: [
    "carapace session list [--archived] [--search TEXT] [--json]",
    "carapace session show KEY [--limit N] [--json]",
    "carapace session context KEY [--json]",
    "carapace session search TEXT [--agent ID] [--limit N] [--json]",
    "carapace session export KEY [--format json|markdown]",
    "carapace session label KEY [TEXT]",
    "carapace session fork KEY [--to KEY] [--at SEQ] [--json]",
    "carapace session reset KEY [--settings] [--json]",
    "carapace session compact KEY [--keep TEXT] [--json]",
    "carapace session archive KEY [--json]",
    "carapace session restore KEY [--to KEY] [--json]",
    "carapace session delete KEY --yes [--json]",
    "carapace session purge PRINCIPAL --yes [--json]",
  ],
  examples: [
    "carapace session context main",
    "carapace session search plumber thursday",
    "carapace session export main --format markdown > talk.md",
    "carapace session fork main --at 40",
    "carapace session purge token:tok_01jabc --yes",
  ],
  needs: "gateway",
  run: runSession,
};

type Values = {
  limit?: string;
  agent?: string;
  search?: string;
  format?: string;
  to?: string;
  at?: string;
  keep?: string;
  archived?: boolean;
  settings?: boolean;
  yes?: boolean;
  json?: boolean;
};

interface Call {
  io: Io;
  client: GatewayClient;
  values: Values;
  /** What follows the action. */
  rest: readonly string[];
}

const ACTIONS: Readonly<
  Record<string, { restMax: number; run(call: Call): Promise<void> }>
> = {
  list: { restMax: 0, run: list },
  show: { restMax: 1, run: show },
  context: { restMax: 1, run: context },
  search: { restMax: 64, run: search },
  export: { restMax: 1, run: exportAll },
  label: { restMax: 64, run: label },
  fork: { restMax: 1, run: fork },
  reset: { restMax: 1, run: reset },
  compact: { restMax: 1, run: compact },
  archive: { restMax: 1, run: archive },
  restore: { restMax: 1, run: restore },
  delete: { restMax: 1, run: remove },
  purge: { restMax: 1, run: purge },
};

async function runSession(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    limit: { type: "string", short: "n" },
    agent: { type: "string", short: "a" },
    search: { type: "string" },
    format: { type: "string" },
    to: { type: "string" },
    at: { type: "string" },
    keep: { type: "string" },
    archived: { type: "boolean" },
    settings: { type: "boolean" },
    yes: { type: "boolean" },
  });
  const [name, ...rest] = positionals;
  if (name === undefined) {
    throw usageError(
      `Say what to do: ${Object.keys(ACTIONS).join(", ")}`,
    );
  }
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (action === undefined) {
    throw usageError(`Unknown action "${name}" of "carapace session"`);
  }
  positionalsMax(rest, action.restMax);
  const isMissing = name !== "list" && rest[0] === undefined;
  if (isMissing) throw usageError(`Say which: carapace session ${name} …`);
  const isFinal = name === "delete" || name === "purge";
  if (isFinal && values.yes !== true) {
    throw usageError(
      "This cannot be undone; say --yes",
      name === "delete"
        ? `To keep it: carapace session export ${rest[0]}`
        : "It ends every conversation of that principal, with what is archived",
    );
  }
  using client = await openGateway(io, { roof });
  await action.run({ io, client, values, rest });
  return EXIT.ok;
}

function count(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value > 0) return value;
  throw usageError(`Cannot use --${name} "${text}": it is a number from 1`);
}

/** Prints a payload as JSON, or says it in words. */
function tell({ io, values }: Call, payload: unknown, words: string): void {
  io.out(
    values.json === true ? jsonLine(payload) : `${printableLine(words)}\n`,
  );
}

function keyOf({ rest }: Call): string {
  return rest[0] ?? "";
}

function rowOf(entry: SessionSummary, now: number): string[] {
  const { totalTokens, contextTokens } = entry;
  return [
    entry.key,
    agoText(entry.updatedAt, now),
    totalTokens === undefined || contextTokens === undefined
      ? ""
      : `${Math.round(totalTokens / contextTokens * 100)} %`,
    entry.label ?? "",
  ];
}

async function list(call: Call): Promise<void> {
  const { io, client, values } = call;
  const limit = count(values.limit, "limit") ?? LIMIT_DEFAULT;
  const params = {
    limit,
    ...(values.agent === undefined ? {} : { agentId: values.agent }),
    ...(values.search === undefined ? {} : { search: values.search }),
  };
  const found = values.archived === true
    ? await client.call("sessions.archives", params)
    : await client.call("sessions.list", params);
  if (values.json === true) return io.out(jsonLine(found));
  const now = io.clock.now();
  io.out(
    table(
      ["SESSION", "USED", "CONTEXT", "LABEL"],
      found.sessions.map((entry) => rowOf(entry, now)),
      makePaint(io),
    ),
  );
}

async function show(call: Call): Promise<void> {
  const { io, client, values } = call;
  const found = await client.call("chat.history", {
    sessionKey: keyOf(call),
    limit: count(values.limit, "limit") ?? SHOWN_DEFAULT,
  });
  if (found.messages.length === 0) {
    // An unknown session has no history either: this one says so.
    await client.call("sessions.context", { key: keyOf(call) });
  }
  if (values.json === true) return io.out(jsonLine(found));
  if (found.messages.length === 0) io.err("no messages\n");
  const paint = makePaint(io);
  for (const { role, timestamp, seq, content } of found.messages) {
    const parts = content as { type: string; text?: string; name?: string }[];
    const text = parts.map((part) =>
      part.type === "text" ? part.text ?? "" : `(${part.name ?? part.type})`
    ).join("");
    io.out(
      `${paint("dim", `${seq} ${timeText(timestamp)} ${role}`)}\n${
        printable(text)
      }\n\n`,
    );
  }
}

/** What a context takes, as a table. */
function contextTable(account: ContextAccount, io: Io): string {
  const paint = makePaint(io);
  const { windowTokens, usedTokens, messages } = account;
  const share = (tokens: number) =>
    `${(tokens / windowTokens * 100).toFixed(1)} %`;
  const head = pairs([
    ["model", account.model],
    ["window", `${windowTokens} tokens (${account.windowBecause})`],
    ["used", `${usedTokens} tokens, ${share(usedTokens)}`],
    [
      "counted",
      account.counted === "vendor"
        ? "by the vendor's count of the last call"
        : "by estimate",
    ],
    ["answer", `${account.answerTokens} tokens kept free`],
    [
      "messages",
      `${messages.stored} stored, ${messages.summarised} as notes, ${messages.shown} shown, ${messages.trimmed} of them shortened`,
    ],
  ], paint);
  return `${head}\n${
    table(
      ["SECTION", "TOKENS", "SHARE", "HOLDS"],
      account.sections.map(({ name, tokens, items, titles }) => [
        name,
        String(tokens),
        share(tokens),
        titles?.join(", ") ?? String(items),
      ]),
      paint,
    )
  }`;
}

async function context(call: Call): Promise<void> {
  const { io, client, values } = call;
  const account = await client.call("sessions.context", { key: keyOf(call) });
  io.out(
    values.json === true ? jsonLine(account) : contextTable(account, io),
  );
}

async function search(call: Call): Promise<void> {
  const { io, client, values, rest } = call;
  const found = await client.call("sessions.search", {
    query: rest.join(" "),
    limit: count(values.limit, "limit") ?? LIMIT_DEFAULT,
    ...(values.agent === undefined ? {} : { agentId: values.agent }),
  });
  if (values.json === true) return io.out(jsonLine(found));
  const paint = makePaint(io);
  const now = io.clock.now();
  for (const { key, seq, role, at, snippet } of found.results) {
    io.out(
      `${printableLine(key)} ${
        paint("dim", `${seq} ${role} ${agoText(at, now)}`)
      }\n  ${printableLine(snippet, { charsMax: 400 })}\n`,
    );
  }
  const part = found.complete ? "" : " (the newest part of all there are)";
  const said =
    `${found.results.length} found in ${found.searched} messages${part}`;
  io.err(`${paint("dim", said)}\n`);
}

async function exportAll(call: Call): Promise<void> {
  const { io, client, values } = call;
  const format = values.format ?? "json";
  if (format !== "json" && format !== "markdown") {
    throw usageError(`Cannot export as "${format}": json or markdown`);
  }
  let cursor: number | undefined;
  do {
    const piece = await client.call("sessions.export", {
      key: keyOf(call),
      format,
      ...(cursor === undefined ? {} : { cursor }),
    });
    // A document for a file stays as it is; on a terminal it is made harmless.
    io.out(io.isTerminal ? printable(piece.chunk) : piece.chunk);
    cursor = piece.next;
  } while (cursor !== undefined);
}

async function label(call: Call): Promise<void> {
  const text = call.rest.slice(1).join(" ").trim();
  const done = await call.client.call("sessions.patch", {
    key: keyOf(call),
    label: text === "" ? null : text,
  });
  tell(call, done, text === "" ? "label removed" : `${done.key} is "${text}"`);
}

async function fork(call: Call): Promise<void> {
  const { values } = call;
  const atSeq = count(values.at, "at");
  const done = await call.client.call("sessions.fork", {
    key: keyOf(call),
    ...(values.to === undefined ? {} : { toKey: values.to }),
    ...(atSeq === undefined ? {} : { atSeq }),
  });
  tell(call, done, done.key);
}

async function reset(call: Call): Promise<void> {
  const done = await call.client.call("sessions.reset", {
    key: keyOf(call),
    reason: call.values.settings === true ? "reset" : "new",
  });
  const old = done.archivedKey;
  tell(
    call,
    done,
    old === undefined ? "begun anew" : `begun anew; the old one is ${old}`,
  );
}

async function compact(call: Call): Promise<void> {
  const { keep } = call.values;
  const done = await call.client.call("sessions.compact", {
    key: keyOf(call),
    ...(keep === undefined ? {} : { instructions: keep }),
  });
  const dropped = done.dropped === undefined ? "" : ` (${done.dropped})`;
  tell(
    call,
    done,
    done.compacted
      ? `${done.messages} messages are notes now: ${done.tokensBefore} tokens became ${done.tokensAfter}${dropped}`
      : "nothing to compact",
  );
}

async function archive(call: Call): Promise<void> {
  const done = await call.client.call("sessions.archive", { key: keyOf(call) });
  tell(call, done, `put away as ${done.key}`);
}

async function restore(call: Call): Promise<void> {
  const { to } = call.values;
  const done = await call.client.call("sessions.restore", {
    key: keyOf(call),
    ...(to === undefined ? {} : { toKey: to }),
  });
  tell(call, done, `back as ${done.key}`);
}

async function remove(call: Call): Promise<void> {
  const done = await call.client.call("sessions.delete", { key: keyOf(call) });
  tell(call, done, `deleted ${done.key}`);
}

async function purge(call: Call): Promise<void> {
  const principal = call.rest[0] ?? "";
  const done = await call.client.call("sessions.purge", { principal });
  tell(call, done, `${done.sessions} sessions of ${principal} deleted`);
}
